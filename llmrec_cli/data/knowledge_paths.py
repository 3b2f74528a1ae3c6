"""Paths in the knowledge graph between an item and a history, to explain recommendations.

    knowledge.parquet      item (int64), relation, inverse (bool), entity_id, title: the neighbours of each item

Shapes: N items, F features of `data.knowledge`, S items of a history.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.knowledge import End, Knowledge, idf
from llmrec_cli.data.tables import Column, read_columns
from llmrec_cli.pinned import PinnedFolder

FILE = "knowledge.parquet"


@dataclass(frozen=True)
class Shared:
    """A neighbour in the graph that an item shares with items of a history.

    Attributes
    ----------
    end : relation, direction and the neighbour's id
    title : the neighbour's title, or its id without a title
    items : int64, the items of the history with the same neighbour by the same relation
    share : share of this neighbour in the total similarity of item and history, above 0 to 1
    """

    end: End
    title: str
    items: np.ndarray
    share: float


class KnowledgePaths:
    """Explains items by the graph. `rows_NF` are IDF weights of the neighbours, each row of length 1."""

    def __init__(self, features: sp.csr_array, ends: Sequence[End], titles: Sequence[str]) -> None:
        rows_NF = idf(features)
        row = np.repeat(np.arange(rows_NF.shape[0]), np.diff(rows_NF.indptr))
        norm_N = np.sqrt(np.bincount(row, rows_NF.data.astype(np.float64)**2, minlength=rows_NF.shape[0]))
        rows_NF.data /= np.where(norm_N > 0, norm_N, 1)[row].astype(np.float32)
        self.rows_NF = rows_NF
        self.ends, self.titles = list(ends), list(titles)

    def explain(self, item: int, history: np.ndarray, most: int = 3) -> list[Shared]:
        """Return at most `most` neighbours that an item shares with items of a history (S,), the strongest first.

        The strength of a neighbour is its contribution to the sum of the item's cosines with the history, over the
        square root of the number of history items that share it: two films of a rare director explain more than forty
        films with some award. Neighbours of all items contribute nothing, and the item itself is ignored. An item added
        later has no row and no paths.
        """
        history = np.asarray(history, np.int64)
        history = history[(history != item) & (history < self.rows_NF.shape[0])]
        if item >= self.rows_NF.shape[0] or not len(history):
            return []
        of_history = self.rows_NF[history]
        own = slice(self.rows_NF.indptr[item], self.rows_NF.indptr[item + 1])
        columns = self.rows_NF.indices[own]
        added = self.rows_NF.data[own] * np.asarray(of_history.sum(axis=0)).ravel()[columns]
        total = float(added.sum())
        num_sharing = np.bincount(of_history.indices, minlength=self.rows_NF.shape[1])[columns]
        best = np.lexsort((columns, -added / np.sqrt(np.maximum(num_sharing, 1))))[:most]
        paths = []
        for n in best[added[best] > 0]:
            column = int(columns[n])
            sharing = np.flatnonzero(np.diff(sp.csc_array(of_history[:, [column]]).tocsr().indptr))
            paths.append(Shared(self.ends[column], self.titles[column], history[sharing], float(added[n]) / total))
        return paths

    def write(self, folder: Path) -> None:
        """Write knowledge.parquet into a folder."""
        row = np.repeat(np.arange(self.rows_NF.shape[0]), np.diff(self.rows_NF.indptr))
        ends = [self.ends[column] for column in self.rows_NF.indices]
        table = pa.table({"item": pa.array(row, pa.int64()),
                          "relation": pa.array([end.relation for end in ends], pa.string()).dictionary_encode(),
                          "inverse": pa.array([end.inverse for end in ends], pa.bool_()),
                          "entity_id": pa.array([end.neighbour for end in ends], pa.string()),
                          "title": pa.array([self.titles[c] for c in self.rows_NF.indices], pa.string())})
        pq.write_table(table, folder / FILE)


def knowledge_paths(knowledge: Knowledge, files: PinnedFolder, items: Catalogue) -> KnowledgePaths:
    """Return the paths of prepared data; titles of neighbours come from entities.parquet or the items."""
    wanted = pa.array([end.neighbour for end in knowledge.ends], pa.string())
    titles: dict[str, str] = {}
    if "links.parquet" in files:
        table = read_columns(files, "links.parquet", {"item": Column("integer", 0, len(items) - 1),
                                                      "entity_id": Column("text")})
        table = table.filter(pc.is_in(table["entity_id"].cast(pa.string()), wanted))
        titles |= {entity: str(items.titles[item]) for item, entity in
                   zip(table["item"].to_pylist(), table["entity_id"].to_pylist(), strict=True)}
    if "entities.parquet" in files:
        table = read_columns(files, "entities.parquet", {"entity_id": Column("text"),
                                                         "title": Column("text", has_nulls=True)})
        table = table.filter(pc.is_in(table["entity_id"], wanted))
        titles |= dict(zip(table["entity_id"].to_pylist(), table["title"].to_pylist(), strict=True))
    return KnowledgePaths(knowledge.features, knowledge.ends,
                          [titles.get(end.neighbour) or end.neighbour for end in knowledge.ends])


def read_paths(files: PinnedFolder, num_items: int) -> KnowledgePaths | None:
    """Read the file of `KnowledgePaths.write`; None if there is no file."""
    if FILE not in files:
        return None
    texts = dict.fromkeys(("relation", "entity_id", "title"), Column("text"))
    table = read_columns(files, FILE, {"item": Column("integer", 0, num_items - 1), "inverse": Column("truth"),
                                       **texts})
    columns = [table[name].to_pylist() for name in ("relation", "inverse", "entity_id")]
    ends = [End(*parts) for parts in zip(*columns, strict=True)]
    place = {end: n for n, end in enumerate(sorted(set(ends)))}
    titles = [""] * len(place)
    for end, title in zip(ends, table["title"].to_pylist(), strict=True):
        titles[place[end]] = title
    where = (table["item"].to_numpy(), np.array([place[end] for end in ends], np.int64))
    return KnowledgePaths(sp.csr_array((np.ones(len(ends), np.float32), where), (num_items, len(place))),
                          list(place), titles)
