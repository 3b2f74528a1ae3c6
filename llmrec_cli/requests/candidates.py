"""Candidates from a file: the items that are ranked, one list for all queries or one list each.

The columns say which of the forms a file has:

    item_id                        one list of items, the same for all queries; a .txt file has one id a line
    user_id, item_id               one candidate a row; the rows of a user are one list
    user_id, item_id, negatives    as papers publish them: every row is a list of its own, the held-out item among its
                                   negatives, a JSON list or ids divided by spaces
    user_id, negatives             the same without the item's name, one row per user

`group_id` or `query_id` may stand for `user_id`. A .txt file may be in the format of AGREE (Cao et al. 2018),
groupRatingNegative.txt and userRatingNegative.txt: `(group,item) negative negative ...`, a list a row.

Shapes: Q queries, N items.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Candidates
from llmrec_cli.errors import DataError, counted
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.sources import Source, find
from llmrec_cli.requests.files import Rows, line_of, read_ids, read_rows
from llmrec_cli.requests.queries import RawQueries
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.recommend import RecommendConfig

_KEY = "candidates"
_OWNERS = ("user_id", "group_id", "query_id")
"""Columns that say whose candidates a row has."""
# Ids written as numbers keep the digits they were written with.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_PAIR = re.compile(r"\(([^(),]+),([^(),]+)\)\s*(.*)")


@dataclass(frozen=True)
class _Row:
    """A row of a file: `where` names it in an error."""

    owner: str
    target: str
    items: list[str]
    where: str


def read_candidates(named: str, owners: Sequence[str] = _OWNERS) -> Candidates:
    """Return the candidates in the file, or the files of the pattern, that the setting `candidates` names.

    `owners` are the columns that may say whose candidates a row has. A column without effect is refused.
    """
    paths = find(named, _KEY)
    if all(".txt" in path.suffixes[-2:] for path in paths):
        if any(_is_published(path) for path in paths):
            return _lists(owners[0], [row for path in paths for row in _published(Source(path))])
        return _for_all(read_ids(named, _KEY, "item_id"))
    rows = read_rows(named, _KEY, (*_OWNERS, "item_id", "negatives"))
    owner = _owner(rows, owners)
    if not owner:
        return _for_all([row.items[0] for row in _pairs(rows, "")])
    if "negatives" in rows.columns:
        return _lists(owner, list(_with_negatives(rows, owner)))
    pairs: dict[str, list[str]] = {}
    for row in _pairs(rows, owner):
        pairs.setdefault(row.owner, []).extend(row.items)
    return _stacked(owner, list(pairs), [""] * len(pairs), list(pairs.values()))


def _owner(rows: Rows, owners: Sequence[str]) -> str:
    """Return the column that says whose candidates a row has, "" without one; refuse columns without effect."""
    known = (*owners, "item_id", "negatives")
    for name in rows.columns:
        if name not in known:
            other = f"; audience={name[:-3]}s ranks for {name[:-3]}s" if name in ("user_id", "group_id") else ""
            raise DataError(f"{rows.paths[0]}: column '{name}' has no effect on candidates, which have "
                            f"{', '.join(known)}{nearest(name, known)}{other}; rename the column or leave it out")
    there = [name for name in owners if name in rows.columns]
    if there[1:]:
        raise DataError(f"{rows.paths[0]}: columns '{there[0]}' and '{there[1]}' both say whose candidates a row has; "
                        f"leave one of them out")
    if not {"item_id", "negatives"} & {*rows.columns}:
        raise DataError(f"{rows.paths[0]}: no column 'item_id'; there are {', '.join(rows.columns)}; candidates are "
                        f"rows of item_id (the same for all), of {owners[0]} and item_id, or of {owners[0]}, item_id "
                        f"and negatives")
    if "negatives" in rows.columns and not there:
        raise DataError(f"{rows.paths[0]}: no column '{owners[0]}'; there are {', '.join(rows.columns)}; negatives are "
                        f"those of one {owners[0].removesuffix('_id')}, so add one of {', '.join(owners)}")
    return there[0] if there else ""


def _pairs(rows: Rows, owner: str) -> Iterator[_Row]:
    """Yield the rows of item_id, beside their owner where there is one."""
    for row, item in enumerate(rows.texts("item_id")):
        one = rows.columns[owner][row] if owner else ""
        if not item or (owner and not one):
            raise DataError(f"{rows.where(row)}: {owner if item else 'item_id'} is empty; every row needs one")
        yield _Row(one or "", "", [item], rows.where(row))


def _with_negatives(rows: Rows, owner: str) -> Iterator[_Row]:
    targets, negatives = rows.texts("item_id"), rows.texts("negatives")
    for row, one in enumerate(rows.texts(owner)):
        items = _items(negatives[row], rows.where(row))
        if not one or not items:
            raise DataError(f"{rows.where(row)}: {'negatives' if one else owner} is empty; every row needs one")
        yield _Row(one, targets[row], items, rows.where(row))


def _items(text: str, where: str) -> list[str]:
    """Return the ids in `text`, a JSON list or divided by spaces; `where` names the row in an error."""
    if not text.startswith("["):
        return text.split()
    try:
        found = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: negatives '{text[:60]}' is not a JSON list ({error}); write [\"50\", \"172\"], or "
                        f"50 172") from error
    if not all(isinstance(item, str) and item for item in found):
        raise DataError(f"{where}: negatives '{text[:60]}' is not a list of item ids alone; write [\"50\", \"172\"]")
    return list(found)


def _is_published(path: Path) -> bool:
    """Return True if the first line of a .txt file is in AGREE's format, and not an item id."""
    first = next((line.strip() for line in lines(Source(path)) if line.strip()), "")
    return re.match(r"\([^(),]+,[^(),]+\)", first) is not None


def _published(source: Source) -> Iterator[_Row]:
    """Yield the rows of a file in AGREE's format."""
    for number, line in enumerate(lines(source), start=1):
        if not line.strip():
            continue
        found = _PAIR.fullmatch(line.strip())
        if found is None or not found[3].split():
            raise DataError(f"{source.path}: line {number}: '{line.strip()[:60]}' is not `(id,item) negative negative "
                            f"...`; candidates in a .txt file are written so, others as CSV, JSONL or Parquet")
        yield _Row(found[1].strip(), found[2].strip(), found[3].split(), f"{source.path}: line {number}")


def _lists(owner: str, rows: list[_Row]) -> Candidates:
    """Return the candidates of rows that are lists of their own."""
    first: dict[str, _Row] = {}
    for row in rows:
        earlier = first.setdefault(row.owner, row)
        if earlier is not row and not (row.target and earlier.target):
            nameless, other = (row, earlier) if not row.target else (earlier, row)
            raise DataError(f"{nameless.where}: {owner} '{row.owner}' has candidates in another row too "
                            f"({other.where}), and no item_id says which held-out item this row is about; name it in "
                            f"the column item_id")
    return _stacked(owner, [row.owner for row in rows], [row.target for row in rows], [row.items for row in rows])


def _for_all(items: list[str]) -> Candidates:
    return _stacked("", [""], [""], [items])


def _stacked(column: str, ids: list[str], targets: list[str], items: list[list[str]]) -> Candidates:
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in items], dtype=np.int64)])
    return Candidates(column, _objects(ids), _objects(targets), _objects(list(chain.from_iterable(items))), offsets)


def _objects(values: list[str]) -> np.ndarray:
    return np.array([*values, None], object)[:-1]


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


def allowed_items(cfg: RecommendConfig, queries: RawQueries, items: Catalogue, listed_N: np.ndarray) -> AllowedItems:
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


def _add_candidates(found: AllowedItems, cfg: RecommendConfig, queries: RawQueries, items: Catalogue) -> None:
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
                 queries: RawQueries) -> None:
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
