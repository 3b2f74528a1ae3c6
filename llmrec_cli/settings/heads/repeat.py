"""Repeat consumption."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.heads.recency import RecencySettings

COUNTS = ("auto", "values", "none")


@dataclass
class RepeatSettings(RecencySettings):
    """Items that a user had before, by the share of users who had them again, and by recency (Anderson et al. 2014)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.repeat.Repeat"
    ranks_seen_only: ClassVar[bool] = True
    kind: str = "repeat"
    recency: str = "place"
    """none | place | time: weights of the interactions of a history when scoring, relative to the newest one of the
    same history. place: by the number of later interactions; those at the same time keep the order of the prepared
    data. time: by the days between them; interactions given in a query have no time and count as the newest. none: all
    count the same."""
    counts: str = "auto"
    """auto | values | none: where the number of times comes from that a user had an item. values: the value of an
    interaction (dataset.duplicates=sum); 2 and more are a repeat. none: it is unknown, so all items have the same
    share. auto: values if they are strengths (dataset.values), whole numbers of at least 1 and not all 1, else none."""
    shrinkage: float = 10.0
    """Users with the average share that are added to each item's, at least 0; higher damps the shares of rare items."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("counts", among=COUNTS)
        yield from self.check("shrinkage", least=0)
        if self.counts == "none":
            yield from self.without_effect("shrinkage", why="with counts=none; set counts=values")
