"""Recency of a query's history, for heads that add up what the history's items say."""

from collections.abc import Iterator
from dataclasses import dataclass

from llmrec_cli.settings.heads.base import HeadSettings

RECENCIES = ("none", "place", "time")


@dataclass
class RecencySettings(HeadSettings):
    """Settings of heads that can weigh a history by recency when they score."""

    recency: str = "none"
    """none | place | time: weights of the interactions of a history when scoring, relative to the newest one of the
    same history. place: by the number of later interactions; those at the same time keep the order of the prepared
    data. time: by the days between them; interactions given in a query have no time and count as the newest. none: all
    count the same. `decay` is another thing: it weighs the fit too, from the newest interaction of all users."""
    recency_half_life: float = 10.0
    """With recency=place or time: places or days after which an interaction counts half, above 0. Weights stop falling
    after 20 half-lives."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("recency", among=RECENCIES)
        yield from self.check("recency_half_life", above=0)
        if self.recency == "none":
            yield from self.without_effect("recency_half_life",
                                           why="with recency=none; set recency=place or recency=time")

    def uses_times(self) -> bool:
        return super().uses_times() or self.recency == "time"

    def needs_moments(self) -> bool:
        return super().needs_moments() or self.recency == "time"

    def needs_order(self) -> bool:
        return super().needs_order() or self.recency == "place"

    def recency_of_histories(self) -> tuple[str, float]:
        return self.recency, self.recency_half_life
