"""Candidates from a file: which items each user, or each group, is asked about.

Rows of user_id (or group_id) and item_id, one per candidate; or, as papers publish them, a row per held-out pair with
its `negatives`, the items it was ranked among: a JSON list, or ids divided by spaces. The pair's own item is then no
candidate by itself, for what was held out always is one. A .txt file may be in the format of AGREE (Cao et al. 2018),
groupRatingNegative.txt and userRatingNegative.txt: `(group,item) negative negative ...`.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain

import numpy as np

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.beside import Rows, read_rows
from llmrec_cli.ingest.lines import lines
from llmrec_cli.ingest.sources import Source, find
from llmrec_cli.settings.base import nearest

KEY = "candidates"
# Ids written as numbers keep the digits they were written with.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_PAIR = re.compile(r"\(([^(),]+),([^(),]+)\)\s*(.*)")


def read_candidates(named: str, who: str) -> tuple[np.ndarray, np.ndarray]:
    """Return whom and what the file that `candidates` names pairs, two object arrays (num_pairs,) of ids.

    `who` is whose candidates they are: user | group.
    """
    paths = find(named, KEY)
    if all(".txt" in path.suffixes[-2:] for path in paths):
        found = [pair for path in paths for pair in _published(Source(path))]
    else:
        found = _of_rows(read_rows(named, KEY, (f"{who}_id", "item_id", "negatives")), who)
    ids = [one for one, items in found for _ in items]
    return _objects(ids), _objects(list(chain.from_iterable(items for _, items in found)))


def _of_rows(rows: Rows, who: str) -> list[tuple[str, list[str]]]:
    several = "negatives" in rows.columns
    column = "negatives" if several else "item_id"
    for name in (f"{who}_id", column):
        if name not in rows.columns:
            raise DataError(f"{rows.paths[0]}: no column '{name}'; there are {', '.join(rows.columns)}; candidates of "
                            f"{who}s are rows of {who}_id and item_id, or of {who}_id and negatives"
                            f"{nearest(name, rows.columns)}")
    found = []
    for row, (one, said) in enumerate(zip(rows.texts(f"{who}_id"), rows.texts(column), strict=True)):
        items = _items(said, rows.where(row)) if several else [said]
        if not one or not items or not items[0]:
            raise DataError(f"{rows.where(row)}: {column if one else f'{who}_id'} is empty; every row needs one")
        found.append((one, items))
    return found


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


def _published(source: Source) -> Iterator[tuple[str, list[str]]]:
    """Yield whom and the negatives of each line of a file in AGREE's format."""
    number = 0
    for number, line in enumerate(lines(source), start=1):
        if not line.strip():
            continue
        found = _PAIR.fullmatch(line.strip())
        if found is None or not found[3].split():
            raise DataError(f"{source.path}: line {number}: '{line.strip()[:60]}' is not `(id,item) negative negative "
                            f"...`; candidates in a .txt file are written so, others as CSV, JSONL or Parquet")
        yield found[1].strip(), found[3].split()
    if not number:
        raise DataError(f"{source.path}: is empty; it needs a line `(id,item) negative negative ...` per pair")


def _objects(values: list[str]) -> np.ndarray:
    return np.array([*values, None], object)[:-1]
