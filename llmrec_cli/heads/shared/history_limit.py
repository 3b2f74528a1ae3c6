"""Histories longer than a head reads: counted, so that nothing is cut off in silence."""

from dataclasses import dataclass

import numpy as np

from llmrec_cli.data.queries import Queries


@dataclass
class CutHistories:
    """Counts of histories that a head reads in part.

    Attributes
    ----------
    limit : number of newest items of a history that the head reads; None where it reads all
    num_histories : histories longer than that
    num_items : their items that are not read
    """

    limit: int | None
    num_histories: int = 0
    num_items: int = 0

    def add(self, lengths: np.ndarray) -> None:
        """Count histories by their lengths."""
        if self.limit is not None:
            self.num_histories += int((lengths > self.limit).sum())
            self.num_items += int(np.maximum(lengths - self.limit, 0).sum())

    def add_queries(self, queries: Queries) -> None:
        """Count the histories of queries, and of their members."""
        self.add(np.diff(queries.history.indptr))
        if queries.groups is not None:
            self.add(np.diff(queries.groups.members.history.indptr))

    def sentence(self, kind: str) -> str:
        """Return what was cut off, for a person; "" for nothing. `kind` is the head's."""
        if not self.num_histories:
            return ""
        return (f"head={kind} reads the newest {self.limit:,} items of a history (head.recency=true): "
                f"{self.num_histories:,} histories are longer, and {self.num_items:,} of their oldest items are not "
                f"read")
