"""Group recommendation by attention over members."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.heads.trained_groups import TrainedGroups


@dataclass
class GroupAttention(TrainedGroups):
    """Members' votes for an item, weighted by an attention that depends on the item."""

    implementation: ClassVar[str] = "llmrec_cli.heads.groups.attention.GroupAttention"
    kind: str = "group_attention"
    attention_size: int = 16
    """Size of the keys and queries of the attention, at least 1."""
    sharpness: float = 4.0
    """Most that the logarithm of a member's weight moves either way, above 0: with 4 nobody weighs more than e^8 times
    another."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("attention_size", least=1)
        yield from self.check("sharpness", above=0, most=20)
