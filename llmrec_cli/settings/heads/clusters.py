"""Clusters of users."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.heads.base import HeadSettings


@dataclass
class ClustersSettings(HeadSettings):
    """Clusters of users by behaviour and profile, for users without a history: a new user gets the recommendations of
    the clusters that match the profile and the first clicks.

    Settings that are null are chosen on users hidden from training, given their profile and 0, 1, 3 and 5 interactions.
    """

    implementation: ClassVar[str] = "llmrec_cli.heads.clusters.head.Clusters"
    kind: str = "clusters"
    num_clusters: int | None = None
    """Number of clusters, at least 1; null: chosen on hidden users. A single cluster ranks by the popularity of
    interactions after `first_clicks`."""
    first_clicks: int | None = None
    """Number of first interactions that are used only to assign a user to clusters, at least 0; a cluster's behaviour
    is then counted from its members' later interactions. 0: all interactions are used for both. null: 0 or 5, chosen on
    hidden users."""
    click_weight: float | None = None
    """Weight of an interaction in the assignment of a user to clusters, above 0. 1 treats interactions as independent;
    they are not, so less is usual. null: chosen on hidden users."""
    vector_size: int = 32
    """Size of the behaviour vectors that are clustered, at least 1."""
    attributes: float = 0.5
    """Weight of user attributes in the clustering, relative to a behaviour vector of length 1, at least 0. New users
    are assigned by their attributes in any case."""
    text: float = 0.0
    """Weight of the vector of a user's text in the clustering, at least 0; 0 ignores texts. If no user has a text, the
    mean of the user's item vectors is used."""
    smoothing: float = 5.0
    """Pseudo-count of average users added to each cluster, at least 0; higher pulls rankings towards popularity."""
    click_smoothing: float = 300.0
    """Pseudo-count of average interactions added to each cluster when users are assigned, above 0."""
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
