"""Candidates from a file: which items are ranked, for all queries alike or for each by itself.

The columns say which of the forms a file has:

    item_id                        one list of items, the same for all queries; a .txt file has one id a line
    user_id, item_id               one candidate a row; the rows of a user are one list
    user_id, item_id, negatives    as papers publish them: every row is a list of its own, the held-out item among its
                                   negatives, a JSON list or ids divided by spaces
    user_id, negatives             the same without the item's name, one row per user

`group_id` or `query_id` may stand for `user_id`. A .txt file may be in the format of AGREE (Cao et al. 2018),
groupRatingNegative.txt and userRatingNegative.txt: `(group,item) negative negative ...`, a list a row.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from llmrec_cli.data.candidates import Candidates
from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.sources import Source, find
from llmrec_cli.requests.beside import Rows, read_ids, read_rows
from llmrec_cli.settings.base import nearest

KEY = "candidates"
OWNERS = ("user_id", "group_id", "query_id")
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


def read_candidates(named: str, owners: Sequence[str] = OWNERS) -> Candidates:
    """Return the candidates in the file, or the files of the pattern, that the setting `candidates` names.

    `owners` are the columns that may say whose candidates a row has. A column without effect is refused.
    """
    paths = find(named, KEY)
    if all(".txt" in path.suffixes[-2:] for path in paths):
        if any(_is_published(path) for path in paths):
            return _lists(owners[0], [row for path in paths for row in _published(Source(path))])
        return _for_all(read_ids(named, KEY, "item_id"))
    rows = read_rows(named, KEY, (*OWNERS, "item_id", "negatives"))
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
