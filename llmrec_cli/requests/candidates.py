"""Candidate files: the items to rank, one list for all queries or one list per query.

The columns determine the form of a file:

    item_id                        one list of items, the same for all queries; a .txt file has one id a line
    user_id, item_id               one candidate per row; the rows of a user are one list
    user_id, item_id, negatives    published format: each row is a list with the held-out item and its negatives, a JSON
                                   list or ids separated by spaces
    user_id, negatives             the same without the held-out item, one row per user

`group_id` or `query_id` may replace `user_id`. A .txt file may be in the format of AGREE (Cao et al. 2018),
groupRatingNegative.txt and userRatingNegative.txt: `(group,item) negative negative ...`, one list per row.

Shapes: Q queries, N items.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.file_rules import FileRules, prepared_columns, rules_for
from llmrec_cli.data.queries import Candidates
from llmrec_cli.errors import DataError, format_count
from llmrec_cli.ingest.readers.sources import Source, find
from llmrec_cli.requests.files import Rows, line_of, read_ids, read_rows
from llmrec_cli.requests.queries import RawQueries
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.recommend import RecommendConfig

_KEY = "candidates"
_OWNERS = ("user_id", "group_id", "query_id")
"""Columns with the owner of a row."""
_MAPPED = ("user_id", "group_id", "item_id")
"""Columns that may have their name in the prepared files."""
# Ids written as numbers keep the digits they were written with.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_PAIR = re.compile(r"\(([^(),]+),([^(),]+)\)\s*(.*)")


@dataclass(frozen=True)
class _Row:
    """A row of a file; `where` is its file and line for errors."""

    owner: str
    target: str
    items: list[str]
    where: str


def read_candidates(path: str, owners: Sequence[str] = _OWNERS,
                    rules: Mapping[str, FileRules] | None = None) -> Candidates:
    """Read the candidates from the file, or the files of a pattern, in the setting `candidates`.

    `owners` are the allowed owner columns. A column without effect is refused, unless the file is one of items or
    interactions as `prepare` read it, by `rules`.
    """
    paths = find(path, _KEY)
    if all(".txt" in path.suffixes[-2:] for path in paths):
        if any(_is_published(path) for path in paths):
            return _lists(owners[0], [row for path in paths for row in _published(Source(path))])
        return _for_all(read_ids(path, _KEY, "item_id"))
    prepared = rules_for(rules, "items", "interactions")
    rows = read_rows(path, _KEY, (*_OWNERS, "item_id", "negatives"), rules=prepared, mapped=_MAPPED)
    ignored = set(prepared_columns(prepared)) - {*_OWNERS, "item_id", "negatives"}
    rows = replace(rows, columns={name: values for name, values in rows.columns.items() if name not in ignored})
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
    """Return the owner column, "" without one; refuse columns without effect."""
    allowed = (*owners, "item_id", "negatives")
    for name in rows.columns:
        if name not in allowed:
            other = f"; audience={name[:-3]}s ranks for {name[:-3]}s" if name in ("user_id", "group_id") else ""
            raise DataError(f"{rows.paths[0]}: column '{name}' has no effect on candidates; columns are "
                            f"{', '.join(allowed)}{nearest(name, allowed)}{other}; rename the column or leave it out")
    owner_columns = [name for name in owners if name in rows.columns]
    if owner_columns[1:]:
        raise DataError(f"{rows.paths[0]}: columns '{owner_columns[0]}' and '{owner_columns[1]}' both name the owner "
                        f"of a row; leave one of them out")
    if not {"item_id", "negatives"} & {*rows.columns}:
        raise DataError(f"{rows.paths[0]}: no column 'item_id'; there are {', '.join(rows.columns)}; candidates are "
                        f"rows of item_id (the same for all), of {owners[0]} and item_id, or of {owners[0]}, item_id "
                        f"and negatives")
    if "negatives" in rows.columns and not owner_columns:
        raise DataError(f"{rows.paths[0]}: no column '{owners[0]}'; there are {', '.join(rows.columns)}; negatives "
                        f"belong to one {owners[0].removesuffix('_id')}, so add one of {', '.join(owners)}")
    return owner_columns[0] if owner_columns else ""


def _pairs(rows: Rows, owner: str) -> Iterator[_Row]:
    """Yield the rows with item_id and, if there is an owner column, the owner."""
    for row, item in enumerate(rows.texts("item_id")):
        row_owner = rows.columns[owner][row] if owner else ""
        if not item or (owner and not row_owner):
            raise DataError(f"{rows.where(row)}: {owner if item else 'item_id'} is empty; every row needs one")
        yield _Row(row_owner or "", "", [item], rows.where(row))


def _with_negatives(rows: Rows, owner: str) -> Iterator[_Row]:
    targets, negatives = rows.texts("item_id"), rows.texts("negatives")
    for row, row_owner in enumerate(rows.texts(owner)):
        items = _items(negatives[row], rows.where(row))
        if not row_owner or not items:
            raise DataError(f"{rows.where(row)}: {'negatives' if row_owner else owner} is empty; every row needs one")
        yield _Row(row_owner, targets[row], items, rows.where(row))


def _items(text: str, where: str) -> list[str]:
    """Parse ids from a JSON list or a text with spaces; `where` is the row for errors."""
    if not text.startswith("["):
        return text.split()
    try:
        items = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: negatives '{text[:60]}' is not a JSON list ({error}); write [\"50\", \"172\"], or "
                        f"50 172") from error
    if not all(isinstance(item, str) and item for item in items):
        raise DataError(f"{where}: negatives '{text[:60]}' has entries that are not item ids; write [\"50\", \"172\"]")
    return list(items)


def _is_published(path: Path) -> bool:
    """Return True if the first line of a .txt file is in AGREE's format."""
    from llmrec_cli.ingest.readers.lines import lines

    first = next((line.strip() for line in lines(Source(path)) if line.strip()), "")
    return re.match(r"\([^(),]+,[^(),]+\)", first) is not None


def _published(source: Source) -> Iterator[_Row]:
    """Yield the rows of a file in AGREE's format."""
    from llmrec_cli.ingest.readers.lines import lines

    for number, line in enumerate(lines(source), start=1):
        if not line.strip():
            continue
        match = _PAIR.fullmatch(line.strip())
        if match is None or not match[3].split():
            raise DataError(f"{source.path}: line {number}: '{line.strip()[:60]}' is not `(id,item) negative negative "
                            f"...`; use this format in a .txt file, or CSV, JSONL or Parquet")
        yield _Row(match[1].strip(), match[2].strip(), match[3].split(), f"{source.path}: line {number}")


def _lists(owner: str, rows: list[_Row]) -> Candidates:
    """Return candidates in which each row is a list of its own."""
    first: dict[str, _Row] = {}
    for row in rows:
        earlier = first.setdefault(row.owner, row)
        if earlier is not row and not (row.target and earlier.target):
            incomplete, other = (row, earlier) if not row.target else (earlier, row)
            raise DataError(f"{incomplete.where}: {owner} '{row.owner}' also has candidates in {other.where}, "
                            f"and this row does not name its held-out item; add it in the column item_id")
    return _stacked(owner, [row.owner for row in rows], [row.target for row in rows], [row.items for row in rows])


def _for_all(items: list[str]) -> Candidates:
    return _stacked("", [""], [""], [items])


def _stacked(column: str, ids: list[str], targets: list[str], items: list[list[str]]) -> Candidates:
    offsets = np.concatenate([[0], np.cumsum([len(row_owner) for row_owner in items], dtype=np.int64)])
    return Candidates(column, _objects(ids), _objects(targets), _objects(list(chain.from_iterable(items))), offsets)


def _objects(values: list[str]) -> np.ndarray:
    return np.array([*values, None], object)[:-1]


@dataclass
class AllowedItems:
    """Items that may be recommended.

    Attributes
    ----------
    allowed_N : bool (N,), items that may be on any list; None for all items
    own : CSR (lists, N) of 1s, lists of candidates, the last one empty; None if all queries have the same candidates
    row_Q : int64 (Q,), the row of `own` of each query
    num_without : number of queries without candidates
    notes : sentences about ignored rows and items
    """

    allowed_N: np.ndarray | None = None
    own: sp.csr_array | None = None
    row_Q: np.ndarray | None = None
    num_without: int = 0
    notes: list[str] = field(default_factory=list)

    def own_candidates(self, start: int, stop: int) -> sp.csr_array | None:
        """Return the candidates of the queries from `start` up to `stop`; None if all have the same."""
        return None if self.own is None or self.row_Q is None else self.own[self.row_Q[start:stop]]


def allowed_items(cfg: RecommendConfig, queries: RawQueries, items: Catalogue, listed_N: np.ndarray,
                  rules: Mapping[str, FileRules] | None = None) -> AllowedItems:
    """Return what the settings `candidates` and `delisted` allow.

    `items` are the model's and those that were added, `listed_N` (bool) says which the catalogue still has, and `rules`
    how `prepare` read its files.
    """
    allowed = AllowedItems()
    if cfg.delisted == "drop" and not listed_N.all():
        allowed.allowed_N = listed_N
        gone = np.flatnonzero(~listed_N)
        allowed.notes.append(f"items left out, not in the item file (removed, or not yet listed): "
                             f"{format_count(len(gone), items.ids[gone])}; recommend.delisted=keep keeps them")
        if not listed_N.any():
            raise DataError("recommend.delisted=drop: none of the model's items is in the catalogue that the data was "
                            "prepared with; check that both use the same item ids, or set recommend.delisted=keep")
    if cfg.candidates:
        _add_candidates(allowed, cfg, queries, items, rules)
    return allowed


def _add_candidates(allowed: AllowedItems, cfg: RecommendConfig, queries: RawQueries, items: Catalogue,
                    rules: Mapping[str, FileRules] | None) -> None:
    # The held-out item of a published file is also a candidate here, since recommend holds nothing out.
    candidates = read_candidates(cfg.candidates, rules=rules)
    lengths = np.diff(candidates.offsets)
    item_ids = np.concatenate([candidates.items, candidates.targets[candidates.targets != ""]])
    list_of = np.concatenate([np.repeat(np.arange(len(lengths)), lengths), np.flatnonzero(candidates.targets != "")])
    item = items.find(item_ids)
    _note_unknown(allowed, cfg, item_ids, item, rules)
    is_known = item >= 0
    if not candidates.column:
        is_candidate = np.zeros(len(items), bool)
        is_candidate[item[is_known]] = True
        allowed.allowed_N = is_candidate if allowed.allowed_N is None else allowed.allowed_N & is_candidate
        return
    owners = {name: n for n, name in enumerate(dict.fromkeys(candidates.ids))}
    row = np.array([owners[name] for name in candidates.ids], np.int64)[list_of]
    # The additional last row is for queries without candidates.
    allowed.own = sp.csr_array((np.ones(int(is_known.sum()), np.float32), (row[is_known], item[is_known])),
                               shape=(len(owners) + 1, len(items)))
    allowed.own.sum_duplicates()
    allowed.own.data[:] = 1
    names = {"query_id": queries.ids, "user_id": queries.user_ids, "group_id": queries.group_ids}[candidates.column]
    allowed.row_Q = np.array([owners.get(name, len(owners)) for name in names], np.int64)
    _note_owners(allowed, cfg, candidates.column, owners, names, queries)


def _note_owners(allowed: AllowedItems, cfg: RecommendConfig, column: str, owners: dict[str, int], names: np.ndarray,
                 queries: RawQueries) -> None:
    """Note queries without candidates and candidates without a query; raise DataError if no query has candidates."""
    without = np.flatnonzero(allowed.row_Q == len(owners))
    if len(without) == len(queries) and not any(names):
        raise DataError(f"candidates={cfg.candidates}: has a column {column}, but the queries have no {column}; add "
                        f"{column} to the queries, or use query_id in the candidates; query_ids: "
                        f"{format_count(len(queries), queries.ids)}")
    if len(without) == len(queries):
        raise DataError(f"candidates={cfg.candidates}: none of the {len(queries):,} queries has candidates; "
                        f"{column}s of the file: {format_count(len(owners), list(owners))}; of the queries: "
                        f"{format_count(len(names), names)}; use the same ids in both")
    if len(without):
        allowed.num_without = len(without)
        allowed.notes.append(f"queries without candidates in {cfg.candidates} get no list: "
                             f"{format_count(len(without), queries.ids[without])}")
    query_names = set(names)
    if unused := [name for name in owners if name not in query_names]:
        allowed.notes.append(f"candidates={cfg.candidates}: {column}s ignored, not in the queries: "
                             f"{format_count(len(unused), unused)}")


def _note_unknown(allowed: AllowedItems, cfg: RecommendConfig, item_ids: np.ndarray, item: np.ndarray,
                  rules: Mapping[str, FileRules] | None) -> None:
    """Note ids that the model does not know, or raise DataError."""
    unknown = list(dict.fromkeys(item_ids[item < 0]))
    if not unknown:
        return
    what = f"candidates={cfg.candidates}: "
    if (item < 0).all():
        raise DataError(f"{what}none of the {len(unknown):,} ids is an item of the model: "
                        f"{format_count(len(unknown), unknown)}; check that the ids are from the model's catalogue, "
                        f"or add new items with items=<file>")
    if cfg.on_unknown == "error":
        place = line_of(cfg.candidates, "candidates", ("item_id", "negatives"), unknown[0],
                        rules_for(rules, "items", "interactions"))
        raise DataError(f"{place}: '{unknown[0]}' is not an item of the model, one of {len(unknown):,} unknown ids in "
                        f"the file; add them with items=<file>, or leave out on_unknown=error")
    allowed.notes.append(f"{what}ids ignored, not items of the model: {format_count(len(unknown), unknown)}; "
                         f"items=<file> adds them")
