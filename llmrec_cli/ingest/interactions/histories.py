"""Histories of users as text: the titles of their training interactions."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_SEPARATOR = "; "
_ROWS = 1 << 17
_MOST_BYTES = 1 << 22


@dataclass(frozen=True)
class Histories:
    """The newest training interactions of each user.

    Attributes
    ----------
    users : int64 (num_rows,), the user of each interaction, ascending
    items : int64 (num_rows,), the item of each interaction, oldest first within a user
    titles : strings (num_items,), the title of each item
    """

    users: np.ndarray
    items: np.ndarray
    titles: pa.LargeStringArray

    @cached_property
    def _sizes(self) -> np.ndarray:
        """Bytes of the titles before each interaction, (num_rows + 1,)."""
        lengths = pc.fill_null(pc.binary_length(self.titles), 0).to_numpy() + len(_SEPARATOR)
        return np.concatenate([[0], np.cumsum(lengths[self.items])])

    def between(self, start: int, stop: int) -> Iterator[str]:
        """Yield the history of each user from `start` to before `stop`: titles joined by "; ", "" for no history."""
        ends = np.searchsorted(self.users, np.arange(start, stop + 1))
        first = 0
        while first < stop - start:
            # Limited by bytes, since titles may be long.
            last = int(np.searchsorted(self._sizes[ends], self._sizes[ends[first]] + _MOST_BYTES, side="right")) - 1
            last = max(last, first + 1)
            titles = self.titles.take(pa.array(self.items[ends[first]:ends[last]])).cast(pa.string())
            lists = pa.ListArray.from_arrays(pa.array(ends[first:last + 1] - ends[first], pa.int32()), titles)
            yield from pc.binary_join(lists, _SEPARATOR).to_pylist()
            first = last


def training_titles(interactions_file: Path, items_file: Path, most: int) -> Histories:
    """Return the newest `most` training interactions of each user, oldest first.

    `interactions_file` is interactions.parquet, sorted by user and time; `items_file` is items.parquet. Needs memory
    for `most` interactions per user and for the titles.
    """
    users, items = [], []
    waiting = (np.zeros(0, np.int64), np.zeros(0, np.int64))
    for batch in pq.ParquetFile(interactions_file).iter_batches(_ROWS, columns=["user", "item", "split"]):
        trained = batch.filter(pc.equal(batch["split"], "train"))
        newest = _newest(np.concatenate([waiting[0], trained["user"].to_numpy()]),
                        np.concatenate([waiting[1], trained["item"].to_numpy()]), most)
        # The last user may continue in the next batch.
        last = int(np.searchsorted(newest[0], newest[0][-1])) if len(newest[0]) else 0
        users.append(newest[0][:last])
        items.append(newest[1][:last])
        waiting = (newest[0][last:], newest[1][last:])
    titles = pq.read_table(items_file, columns=["title"])["title"].cast(pa.large_string()).combine_chunks()
    return Histories(np.concatenate([*users, waiting[0]]), np.concatenate([*items, waiting[1]]), titles)


def _newest(users: np.ndarray, items: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the last `most` of each run of equal `users` (num_rows,), with their `items`."""
    ends = np.append(np.flatnonzero(np.diff(users)) + 1, len(users)) if len(users) else np.zeros(0, np.int64)
    recent = np.repeat(ends, np.diff(ends, prepend=0)) - np.arange(len(users)) <= most
    return users[recent], items[recent]
