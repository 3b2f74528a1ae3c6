"""Group recommendation over a hypergraph of members, items and groups."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.heads.trained_groups import TrainedGroups


@dataclass
class GroupHypergraph(TrainedGroups):
    """A consensus of three views of a group: its members, its items, and the groups that overlap with it."""

    implementation: ClassVar[str] = "llmrec_cli.heads.groups.hypergraph.GroupHypergraph"
    kind: str = "group_hypergraph"
    layers: int = 1
    """Steps along the groups that overlap, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("layers", least=1, most=4)
