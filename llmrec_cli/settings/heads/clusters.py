"""Clusters of users."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.heads.base import HeadSettings


@dataclass
class ClustersSettings(HeadSettings):
    """For users without a history: users clustered by behaviour and profile, a new one served by the clusters that
    profile and first clicks point to.

    What is null is chosen on users hidden from training, asked for with their profile and 0, 1, 3 and 5 interactions.
    """

    implementation: ClassVar[str] = "llmrec_cli.heads.clusters.head.Clusters"
    kind: str = "clusters"
    num_clusters: int | None = None
    """Clusters, at least 1; null to choose. One cluster is the popularity of what comes after `first_clicks`."""
    first_clicks: int | None = None
    """Interactions at the beginning of a history that place a user, and nothing else, at least 0: the behaviour of a
    cluster is what its members did after them. With 0 all do both. Null to choose between 0 and 5."""
    click_weight: float | None = None
    """How far an interaction moves a user between clusters, above 0: 1 as if interactions were independent, less since
    they are not; null to choose."""
    vector_size: int = 32
    """Size of the vectors of behaviour that are clustered, at least 1."""
    attributes: float = 0.5
    """Weight of user attributes beside a vector of behaviour of length 1 in the clustering, at least 0. They place a
    new user either way."""
    text: float = 0.0
    """Weight of the vector of a user's text in the clustering, at least 0; 0 leaves texts out. Where no user has a
    text, a user's vector is the mean of those of the items."""
    smoothing: float = 5.0
    """Members like the average user that each cluster has beside its own, at least 0."""
    click_smoothing: float = 300.0
    """Interactions like the average ones that each cluster has beside its own when a user is placed, above 0."""
    l2: float = 3.0
    """Ridge penalty of the logistic regression from a profile to the clusters, above 0."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.num_clusters=4", "head.first_clicks=2", "head.click_weight=0.6", "head.click_smoothing=5"],
                "text": ["head.text=0.5", "head.click_smoothing=5"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("num_clusters", "vector_size", least=1)
        yield from self.check("first_clicks", "attributes", "text", "smoothing", least=0)
        yield from self.check("click_weight", "click_smoothing", "l2", above=0)

    def uses(self) -> set[str]:
        return {"encoder"} if self.text > 0 else set()
