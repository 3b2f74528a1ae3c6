"""Files of queries with their relevant items, to measure recommenders on or to choose settings with.

Each row is a query as for `recommend` (`requests.queries`), with the list `relevant` of the items that should be
recommended. It is ranked as given: its history is the one in the file, and of several rows of a user each counts.

Shapes: Q rows, M items of the prepared data.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from glob import glob
from itertools import chain
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.file_rules import FileRules
from llmrec_cli.data.manifest import sha256
from llmrec_cli.errors import DataError
from llmrec_cli.requests.files import Rows
from llmrec_cli.requests.queries import QUERY_COLUMNS, RawQueries, id_lists, queries_in, query_rows

_DIVIDERS = re.compile(r"[\s,;]+")
_RELEVANT = "relevant"


@dataclass(frozen=True)
class QueryRows:
    """Queries with their relevant items.

    Attributes
    ----------
    file, sha256 : name and hash of the file; of several files, the name of the pattern and the hash of their hashes
    queries : the rows with at least one relevant item of the data
    relevant_QM : CSR of 1s, the relevant items of each row
    gives_history : True if the file has a column `history`, so that a row without one has an empty history
    counts : what was left out or repeats, by name (`report.query_rows`), for metrics.json
    """

    file: str
    sha256: str
    queries: RawQueries
    relevant_QM: sp.csr_array
    gives_history: bool
    counts: dict[str, int]

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def owners(self) -> np.ndarray:
        """The user or group of each row, object (Q,); of a row without either its own id."""
        raw = self.queries
        named = np.where(raw.group_ids != "", raw.group_ids, raw.user_ids)
        owners: np.ndarray = np.where(named != "", named, raw.ids)
        return owners

    @property
    def are_of_groups(self) -> bool:
        """True if rows are of groups, False if they are of users."""
        return bool((self.queries.group_ids != "").any() or len(self.queries.members))


def read_query_rows(path: str, key: str, items: Catalogue, rules: Mapping[str, FileRules] | None = None) -> QueryRows:
    """Read the rows of the file in the setting `key`; `items` are those of the prepared data.

    Relevant items that the data lacks are left out and counted, and so are rows without any other. Raises DataError for
    a row without relevant items, for rows of users beside rows of groups, and if no row is left.
    """
    rows = query_rows(path, key, (*QUERY_COLUMNS, _RELEVANT), rules)
    rows.filled(_RELEVANT)
    relevant, raw = id_lists(rows, _RELEVANT), queries_in(rows)
    for row, ids in enumerate(relevant):
        if not ids:
            raise DataError(f"{rows.where(row)}: relevant is empty; name the items that should be recommended")
    is_group = (raw.group_ids != "") | (np.diff(raw.member_offsets) > 0)
    if is_group.any() and not is_group.all():
        row = int(np.flatnonzero(is_group != is_group[0])[0])
        raise DataError(f"{rows.where(row)}: is of a {'group' if is_group[row] else 'user'}, unlike the first row; "
                        f"write a file of users and a file of groups")
    row_R = np.repeat(np.arange(len(raw)), [len(ids) for ids in relevant])
    item_R = items.find(np.array([*chain.from_iterable(relevant), None], object)[:-1])
    history_H, row_H = items.find(raw.history), np.repeat(np.arange(len(raw)), np.diff(raw.offsets))
    _refuse_joined(rows, _RELEVANT, list(chain.from_iterable(relevant)), item_R, row_R, items)
    _refuse_joined(rows, "history", raw.history, history_H, row_H, items)
    shape = (len(raw), len(items))
    relevant_QM = _presence(row_R[item_R >= 0], item_R[item_R >= 0], shape)
    used = np.flatnonzero(np.diff(relevant_QM.indptr))
    if not len(used):
        raise DataError(f"{rows.where(0)}: none of the {len(row_R):,} relevant items is an item of the data; the first "
                        f"is '{relevant[0][0]}'; use item_ids of the data")
    known = history_H >= 0
    history_QM = _presence(row_H[known], history_H[known], shape)
    counts = {"rows": len(raw), "rows_left_out": len(raw) - len(used),
              "unknown_relevant": int((item_R < 0).sum()),
              "repeated_relevant": int((item_R >= 0).sum()) - relevant_QM.nnz,
              "unknown_history": int((~known).sum()), "repeated_history": int(known.sum()) - history_QM.nnz,
              "relevant_in_history": int(history_QM.multiply(relevant_QM).sum())}
    return QueryRows(Path(path).name, _hash(rows.paths), _rows(_known_history(raw, known), used), relevant_QM[used],
                     "history" in rows.columns, counts)


def _refuse_joined(rows: Rows, column: str, ids_I: Sequence[str] | np.ndarray, item_I: np.ndarray, row_I: np.ndarray,
                   items: Catalogue) -> None:
    """Raise DataError for an unknown id that is several known ones, divided by blanks, commas or semicolons."""
    for place in np.flatnonzero(item_I < 0).tolist():
        parts = _DIVIDERS.split(ids_I[place].strip())
        if len(parts) > 1 and (items.find(np.array(parts, object)) >= 0).all():
            raise DataError(f"{rows.where(int(row_I[place]))}: {column} '{ids_I[place][:60]}' is several items; write "
                            f"{'|'.join(parts)[:60]}, or a JSON list")


def _hash(paths: list[Path]) -> str:
    hashes = [sha256(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def num_lines(path: str) -> int:
    """Return about how many rows the files of a pattern have, for an estimate of memory."""
    return sum(_num_lines(Path(name)) for name in (glob(path) or [path]) if Path(name).is_file())


def _num_lines(file: Path) -> int:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(file).num_rows)
    with file.open("rb") as content:
        return sum(block.count(b"\n") for block in iter(lambda: content.read(2**20), b""))


def _presence(row: np.ndarray, item: np.ndarray, shape: tuple[int, int]) -> sp.csr_array:
    """Return CSR of 1s with the distinct pairs."""
    matrix = sp.csr_array((np.ones(len(row), np.float32), (row, item)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _known_history(raw: RawQueries, known: np.ndarray) -> RawQueries:
    """Return the queries with the items of a mask (H,) in their histories."""
    return replace(raw, history=raw.history[known], offsets=np.concatenate([[0], np.cumsum(known)])[raw.offsets])


def _rows(raw: RawQueries, rows: np.ndarray) -> RawQueries:
    """Return some of the queries."""
    if len(rows) == len(raw):
        return raw
    history, offsets = _lists(raw.history, raw.offsets, rows)
    members, member_offsets = _lists(raw.members, raw.member_offsets, rows)
    return RawQueries(raw.ids[rows], raw.user_ids[rows], raw.texts[rows], history, offsets, raw.group_ids[rows],
                      members, member_offsets)


def _lists(values: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return some of the lists between `offsets`, as values and offsets."""
    lengths = np.diff(offsets)
    is_used = np.zeros(len(lengths), bool)
    is_used[rows] = True
    return values[np.repeat(is_used, lengths)], np.concatenate([[0], np.cumsum(lengths[rows])])
