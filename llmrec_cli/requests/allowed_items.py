"""Items that `recommend` may put on lists: items still in the catalogue, restricted to the candidates.

Shapes: Q queries, N items.
"""

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.entities import Entities
from llmrec_cli.errors import DataError, counted
from llmrec_cli.requests.asked import Asked
from llmrec_cli.requests.beside import line_of
from llmrec_cli.requests.candidates import read_candidates
from llmrec_cli.settings.stages import RecommendConfig


@dataclass
class AllowedItems:
    """Items that may be recommended.

    Attributes
    ----------
    allowed_N : bool (N,), items that may be on any list; None for all items
    own : CSR (lists, N) of 1s, lists of candidates, the last one empty; None where all queries have the same candidates
    row_Q : int64 (Q,), the row of `own` of each query
    num_without : queries without candidates
    notes : sentences about what was passed over
    """

    allowed_N: np.ndarray | None = None
    own: sp.csr_array | None = None
    row_Q: np.ndarray | None = None
    num_without: int = 0
    notes: list[str] = field(default_factory=list)

    def own_candidates(self, start: int, stop: int) -> sp.csr_array | None:
        """Return the candidates of the queries from `start` up to `stop`, None where they are the same for all."""
        return None if self.own is None or self.row_Q is None else self.own[self.row_Q[start:stop]]


def allowed_items(cfg: RecommendConfig, queries: Asked, items: Entities, listed_N: np.ndarray) -> AllowedItems:
    """Return what the settings `candidates` and `delisted` allow.

    `items` are the model's and those that were added, `listed_N` (bool) says which the catalogue still has.
    """
    found = AllowedItems()
    if cfg.delisted == "drop" and not listed_N.all():
        found.allowed_N = listed_N
        gone = np.flatnonzero(~listed_N)
        found.notes.append(f"items that the catalogue no longer has, so left out: {counted(len(gone), items.ids[gone])}"
                           f"; recommend.delisted=keep keeps them")
        if not listed_N.any():
            raise DataError("recommend.delisted=drop: none of the model's items is in the catalogue that the data was "
                            "prepared with; are its ids those of the log? Set recommend.delisted=keep to go on")
    if cfg.candidates:
        _add_candidates(found, cfg, queries, items)
    return found


def _add_candidates(found: AllowedItems, cfg: RecommendConfig, queries: Asked, items: Entities) -> None:
    # What a published file names as held out is one of the candidates: nobody says here what was held out.
    given = read_candidates(cfg.candidates)
    lengths = np.diff(given.offsets)
    item_ids = np.concatenate([given.items, given.targets[given.targets != ""]])
    list_of = np.concatenate([np.repeat(np.arange(len(lengths)), lengths), np.flatnonzero(given.targets != "")])
    item = items.find(item_ids)
    _tell_unknown(found, cfg, item_ids, item)
    known = item >= 0
    if not given.column:
        chosen = np.zeros(len(items), bool)
        chosen[item[known]] = True
        found.allowed_N = chosen if found.allowed_N is None else found.allowed_N & chosen
        return
    owners = {name: n for n, name in enumerate(dict.fromkeys(given.ids))}
    row = np.array([owners[name] for name in given.ids], np.int64)[list_of]
    # One more for those who have none.
    found.own = sp.csr_array((np.ones(int(known.sum()), np.float32), (row[known], item[known])),
                             shape=(len(owners) + 1, len(items)))
    found.own.sum_duplicates()
    found.own.data[:] = 1
    names = {"query_id": queries.ids, "user_id": queries.user_ids, "group_id": queries.group_ids}[given.column]
    found.row_Q = np.array([owners.get(name, len(owners)) for name in names], np.int64)
    _tell_owners(found, cfg, given.column, owners, names, queries)


def _tell_owners(found: AllowedItems, cfg: RecommendConfig, column: str, owners: dict[str, int], names: np.ndarray,
                 queries: Asked) -> None:
    """Note queries without candidates and candidates without a query; raise DataError where no query has any."""
    without = np.flatnonzero(found.row_Q == len(owners))
    if len(without) == len(queries) and not any(names):
        raise DataError(f"candidates={cfg.candidates}: names a {column} for each candidate, but the queries have no "
                        f"{column}; add that column to the queries, or name candidates by query_id, which are "
                        f"{counted(len(queries), queries.ids)}")
    if len(without) == len(queries):
        raise DataError(f"candidates={cfg.candidates}: none of the {len(queries):,} queries has candidates; its "
                        f"{column}s begin with {counted(len(owners), list(owners))}, and those of the queries with "
                        f"{counted(len(names), names)}")
    if len(without):
        found.num_without = len(without)
        found.notes.append(f"queries that have no candidates in {cfg.candidates}, and so no list: "
                           f"{counted(len(without), queries.ids[without])}")
    asked = set(names)
    if unused := [name for name in owners if name not in asked]:
        found.notes.append(f"candidates={cfg.candidates}: {column}s that no query has, so ignored: "
                           f"{counted(len(unused), unused)}")


def _tell_unknown(found: AllowedItems, cfg: RecommendConfig, item_ids: np.ndarray, item: np.ndarray) -> None:
    """Note the ids that the model does not know, or raise DataError."""
    unknown = list(dict.fromkeys(item_ids[item < 0]))
    if not unknown:
        return
    what = f"candidates={cfg.candidates}: "
    if (item < 0).all():
        raise DataError(f"{what}none of the {len(unknown):,} ids is an item of the model: "
                        f"{counted(len(unknown), unknown)}; are these the ids of another catalogue? items=<file> adds "
                        f"new items")
    if cfg.on_unknown == "error":
        place = line_of(cfg.candidates, "candidates", ("item_id", "negatives"), unknown[0])
        raise DataError(f"{place}: '{unknown[0]}' is no item of the model, one of {len(unknown):,} such ids in the "
                        f"file; add them with items=<file>, or leave out on_unknown=error")
    found.notes.append(f"{what}not items of the model, so ignored: {counted(len(unknown), unknown)}; items=<file> adds "
                       f"them")
