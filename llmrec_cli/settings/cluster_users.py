"""Groups of similar users, built by `prepare` for data without groups."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.base import Settings

_TEXT_ENCODERS = ("lsa", "tfidf", "minilm", "e5")


@dataclass
class ClusterUsersSettings(Settings):
    """Synthetic groups: clusters of users by training interactions, attributes and texts."""

    shorthand: ClassVar[str] = "on"
    """dataset.cluster_users=true means dataset.cluster_users.on=true."""
    on: bool = False
    """Make each cluster of users a group. The manifest marks these groups as synthetic."""
    num_clusters: int | None = None
    """Number of clusters, at least 2. null: chosen as in head=clusters, on users hidden from training."""
    share: float = 0.2
    """Share of a cluster's members (at least two members) that must have an item for the group to have it, above 0 to
    1."""
    encoder: str = "lsa"
    """lsa | tfidf | minilm | e5: encoder of the users' texts; used only with dataset.user_text."""
    seed: int = 42
    """Seed of the clustering, at least 0."""

    def problems(self) -> Iterator[str]:
        yield from self.check("num_clusters", least=2)
        yield from self.check("share", above=0, most=1)
        yield from self.check("encoder", among=_TEXT_ENCODERS)
        yield from self.check("seed", least=0)
        if not self.on:
            yield from self.without_effect("num_clusters", "share", "encoder", "seed",
                                           why="without dataset.cluster_users=true")
