"""What was asked, in ids as they came, and matching it with what a model knows.

Shapes: Q queries, N items, H items of all given histories together.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.queries import Queries

Pairs = tuple[np.ndarray, np.ndarray]
"""Rows and items, each int64 (num_pairs,), in order of time within a row."""


@dataclass(frozen=True)
class Asked:
    """Queries as they were written down.

    Attributes
    ----------
    ids : object array (num_queries,) of str, unique
    user_ids, texts : object arrays (num_queries,) of str, "" where there is none
    history : object array (H,) of item ids, the given histories one after the other, oldest first
    offsets : int64 (num_queries + 1,), where each history begins and ends
    """

    ids: np.ndarray
    user_ids: np.ndarray
    texts: np.ndarray
    history: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, start: int, stop: int) -> "Asked":
        """Return the queries from `start` up to, not including, `stop`."""
        offsets = self.offsets[start:stop + 1]
        return Asked(self.ids[start:stop], self.user_ids[start:stop], self.texts[start:stop],
                     self.history[offsets[0]:offsets[-1]], offsets - offsets[0])


@dataclass(frozen=True)
class Matched:
    """Queries that a model can be asked.

    Attributes
    ----------
    gave_history : bool (num_queries,), whether the query itself named an item that is in the catalogue
    unknown : object array of the item ids in histories that are not
    """

    queries: Queries
    gave_history: np.ndarray
    unknown: np.ndarray


def asked(user_ids: list[str], texts: list[str] | None = None, histories: list[list[str]] | None = None,
          ids: list[str] | None = None) -> Asked:
    """Return queries from lists, one entry per query; without `ids` a query is called as its user is."""
    size = len(user_ids)
    lengths = [len(history) for history in histories] if histories else [0] * size
    flat = [item for history in histories or [] for item in history]
    return Asked(_column(ids or user_ids), _column(user_ids), _column(texts or [""] * size), _column(flat),
                 np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64))


def match(asked: Asked, users: Entities, items: Entities, history: sp.csr_array, seen: sp.csr_array) -> Matched:
    """Return the queries with everything the model knows of them added.

    `history` and `seen` are by the users that the model knows; `users` and `items` may go on with ones that it does
    not know. What a query says of a known user's history is added to what the model knows, as the newest; an item named
    twice counts where it was named last. Without any history a user's own text stands in for a text.
    """
    num_known, num_items = history.shape[0], len(items)
    place_Q = users.find(asked.user_ids)
    user_Q = np.where(place_Q < num_known, place_Q, -1)
    row_H = np.repeat(np.arange(len(asked)), np.diff(asked.offsets))
    item_H = items.find(asked.history)
    given = row_H[item_H >= 0], item_H[item_H >= 0]
    shape = (len(asked), num_items)
    history_QN = _matrix(_known(history, user_Q), given, shape)
    texts = asked.texts.copy()
    mute = np.flatnonzero((texts == "") & (np.diff(history_QN.indptr) == 0) & (place_Q >= 0))
    texts[mute] = users.texts[place_Q[mute]]
    queries = Queries(asked.ids, asked.user_ids, user_Q, history_QN, _matrix(_known(seen, user_Q), given, shape), texts)
    return Matched(queries, np.bincount(given[0], minlength=len(asked)) > 0, asked.history[item_H < 0])


def _known(matrix: sp.csr_array, user_Q: np.ndarray) -> Pairs:
    """Return the pairs of the users' rows, for those the model knows."""
    known = np.flatnonzero(user_Q >= 0)
    chosen = matrix[user_Q[known]]
    return np.repeat(known, np.diff(chosen.indptr)), chosen.indices.astype(np.int64)


def _matrix(known: Pairs, given: Pairs, shape: tuple[int, int]) -> sp.csr_array:
    """Return a CSR of 1s: known, then given, each pair at its last place; built by hand to keep the order."""
    row, item = (np.concatenate(parts) for parts in zip(known, given, strict=True))
    order = np.argsort(row, kind="stable")
    row, item = row[order], item[order]
    _, from_end = np.unique((row * shape[1] + item)[::-1], return_index=True)
    kept = np.sort(len(row) - 1 - from_end)
    indptr = np.zeros(shape[0] + 1, np.int64)
    np.cumsum(np.bincount(row[kept], minlength=shape[0]), out=indptr[1:])
    return sp.csr_array((np.ones(len(kept), np.float32), item[kept], indptr), shape=shape)


def _column(values: list[str]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array
