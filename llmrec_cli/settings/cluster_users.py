"""Groups of similar users, made by `prepare` for data without groups."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.base import Settings

_TEXT_ENCODERS = ("lsa", "tfidf", "minilm")


@dataclass
class ClusterUsersSettings(Settings):
    """Groups where data has none: clusters of users by what they do in training, their attributes and texts."""

    shorthand: ClassVar[str] = "on"
    """dataset.cluster_users=true means dataset.cluster_users.on=true."""
    on: bool = False
    """Make each cluster of users a group. Nobody observed these groups: the manifest calls them synthetic."""
    num_clusters: int | None = None
    """Clusters, at least 2; null to choose the number as head=clusters does, on users hidden from training."""
    share: float = 0.2
    """Share of the members, two at least, that must have an item for the cluster to have it, above 0 to 1."""
    encoder: str = "lsa"
    """lsa | tfidf | minilm: what makes vectors of the users' texts, where dataset.user_text gives them any."""
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
