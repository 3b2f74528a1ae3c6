"""The knowledge graph: its triples as integers, and item features made from them.

Shapes: T triples, E entities, R relations, N items, F features of one hop, G features of two hops.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from llmrec_cli.data.tables import Column, read_columns
from llmrec_cli.pinned import PinnedFolder


@dataclass(frozen=True)
class Triples:
    """A knowledge graph. Head and tail of a triple differ.

    Attributes
    ----------
    head, relation, tail : int64 (T,), places in `entities` and `relations`
    entities : strings (E,), the ids of all heads and tails, sorted
    relations : strings (R,), sorted
    links : CSR (N, E) of 1s, the entities linked to an item, usually one or none
    """

    head: np.ndarray
    relation: np.ndarray
    tail: np.ndarray
    entities: pa.StringArray
    relations: pa.StringArray
    links: sp.csr_array

    def __len__(self) -> int:
        return len(self.head)

    def without(self, *relations: str) -> "Triples":
        """Return the graph without the triples of these relations; entities keep their places."""
        places = pc.index_in(pa.array(relations, pa.string()), self.relations)
        assert places.null_count == 0
        is_kept = ~np.isin(self.relation, places.to_numpy())
        return replace(self, head=self.head[is_kept], relation=self.relation[is_kept], tail=self.tail[is_kept])

    def relinked(self, item_N: np.ndarray) -> "Triples":
        """Return the graph with the links of item `item_N[n]` for item n."""
        return replace(self, links=sp.csr_array(self.links[item_N]))

    def edges(self, of_E: np.ndarray | None = None) -> "Edges":
        """Return the neighbours of the entities of the mask `of_E` (bool), or of all entities."""
        source, target = np.concatenate([self.head, self.tail]), np.concatenate([self.tail, self.head])
        way = np.concatenate([2 * self.relation + 1, 2 * self.relation])
        if of_E is not None:
            is_source = of_E[source]
            source, way, target = source[is_source], way[is_source], target[is_source]
        codes, end = np.unique(way * len(self.entities) + target, return_inverse=True)
        ends = sp.csr_array((np.ones(len(source), np.float32), (source, end)), (len(self.entities), len(codes)))
        ends.sum_duplicates()
        ends.data[:] = 1
        return Edges(ends, *np.divmod(codes, len(self.entities)))


@dataclass(frozen=True)
class Edges:
    """Neighbours of entities. Each of the X ends is a relation, a direction, and the neighbour.

    Attributes
    ----------
    ends : CSR (E, X) of 1s
    way : int64 (X,), 2 * relation + 1 from head to tail, 2 * relation from tail to head
    target : int64 (X,), the neighbour
    """

    ends: sp.csr_array
    way: np.ndarray
    target: np.ndarray


def read_triples(files: PinnedFolder, num_items: int) -> Triples | None:
    """Return the knowledge graph of prepared data, None if it has none. Triples of an entity with itself are dropped.

    Ids are read as a dictionary, so each is in memory once.
    """
    if "triples.parquet" not in files:
        return None
    columns = ["head", "relation", "tail"]
    table = read_columns(files, "triples.parquet", dict.fromkeys(columns, Column("text")),
                         read_dictionary=columns).unify_dictionaries()
    coded = {name: _coded(table[name]) for name in columns}
    names = [coded["head"][1], coded["tail"][1]]
    entities = _sorted(pc.unique(pa.concat_arrays(names)))
    relations = _sorted(coded["relation"][1])
    head, tail = (_places(*coded[name], entities) for name in ("head", "tail"))
    relation = _places(*coded["relation"], relations)
    differ = head != tail
    links = read_columns(files, "links.parquet", {"item": Column("integer", 0, num_items - 1),
                                                  "entity_id": Column("text")})
    entity = pc.index_in(links["entity_id"].combine_chunks().cast(pa.string()), entities)
    is_known = np.asarray(entity.is_valid())
    item, entity = links["item"].to_numpy()[is_known], entity.fill_null(0).to_numpy()[is_known]
    matrix = sp.csr_array((np.ones(len(item), np.float32), (item, entity)), (num_items, len(entities)))
    return Triples(head[differ], relation[differ], tail[differ], entities, relations, matrix)


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.StringArray]:
    """Return the code of each row, and the names of the codes."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    # Without rows there is no chunk and so no dictionary.
    whole = column.unify_dictionaries().combine_chunks() if column.num_chunks else pa.array([], column.type)
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    return whole.indices.to_numpy(), whole.dictionary.cast(pa.string())


def _sorted(names: pa.StringArray) -> pa.StringArray:
    return names.take(pc.sort_indices(names))


def _places(codes: np.ndarray, names: pa.StringArray, among: pa.StringArray) -> np.ndarray:
    return pc.index_in(names, among).to_numpy().astype(np.int64)[codes]


HUB = 1000
"""Most neighbours of an entity on a path of two hops; what half the catalogue shares (a language, a genre) would join
everything with everything."""
_MOST_ENTRIES = 50_000_000
"""Most entries of the two-hop features of all items; each item keeps an equal share, its largest."""
_MOST_AT_ONCE = 20_000_000
"""Most two-hop paths summed at a time."""


class End(NamedTuple):
    """Relation and other entity of a triple, seen from an item; `inverse` is True if the item is the tail."""

    relation: str
    inverse: bool
    neighbour: str


@dataclass(frozen=True)
class Knowledge:
    """Knowledge graph features of each item.

    Attributes
    ----------
    features : CSR (N, F) of 0/1, the neighbours of each item's entities. A feature is a relation, a direction, and a
        neighbour; only features of at least two items are kept, since others relate no items
    names : list of `relation>neighbour`, or `relation<neighbour` if the item is the tail; one per feature
    triples : the graph from which the features were made
    ends : the parts of each of `names`
    """

    features: sp.csr_array
    names: list[str]
    triples: Triples | None = None
    ends: list[End] = field(default_factory=list)

    @cached_property
    def two_hops(self) -> sp.csr_array:
        """Two-hop features of each item, CSR float32 (N, G); empty without triples."""
        if self.triples is None:
            nothing: Any = sp.csr_array((self.features.shape[0], 0), dtype=np.float32)
            return nothing
        return two_hops(self.triples)


def read_knowledge(files: PinnedFolder, num_items: int) -> Knowledge | None:
    """Return the knowledge features of prepared data, None if it has no graph."""
    triples = read_triples(files, num_items)
    return None if triples is None else knowledge_of(triples)


def knowledge_of(triples: Triples) -> Knowledge:
    """Return the features of the items linked to a graph."""
    edges = triples.edges(_joined(triples.links))
    features = sp.csr_array(triples.links @ edges.ends)
    features.data[:] = 1
    shared = _shared(features)
    shared_features = sp.csr_array(features[:, shared])
    shared_features.sort_indices()
    relations = triples.relations.take(pa.array(edges.way[shared] // 2)).to_pylist()
    neighbours = triples.entities.take(pa.array(edges.target[shared])).to_pylist()
    ends = [End(relation, not way, neighbour) for relation, way, neighbour in
            zip(relations, edges.way[shared] % 2, neighbours, strict=True)]
    names = [f"{relation}{'<' if inverse else '>'}{neighbour}" for relation, inverse, neighbour in ends]
    return Knowledge(shared_features, names, triples, ends)


def two_hops(triples: Triples, most_entries: int = _MOST_ENTRIES, most_at_once: int = _MOST_AT_ONCE) -> sp.csr_array:
    """Return the neighbours (relation, direction, entity) of each item's neighbours, CSR float32 (N, G).

    The value of a feature is the sum of the IDF, log(N / items with the neighbour), of the neighbours that lead to it.
    Neighbours with more than HUB neighbours are skipped, and no item is its own two-hop neighbour. Memory is bounded:
    items are processed in blocks, and each item keeps the features with the highest values, at most `most_entries`
    divided by the number of linked items. Only features of at least two items are kept.
    """
    links = triples.links
    num_items, linked = links.shape[0], np.flatnonzero(np.diff(links.indptr))
    edges = triples.edges(_joined(links))
    # Neighbours of each item over any relation: NE = links x ends x the entity of an end.
    target_XE = _one_each(edges.target, len(triples.entities))
    neighbours_NE = sp.csr_array(links @ sp.csr_array(edges.ends @ target_XE))
    neighbours_NE.data[:] = 1
    items_E = np.bincount(neighbours_NE.indices, minlength=len(triples.entities))
    degree_E = np.bincount(np.concatenate([triples.head, triples.tail]), minlength=len(triples.entities))
    weight_E = np.where((items_E > 0) & (degree_E <= HUB), np.log(num_items / np.maximum(items_E, 1)), 0)
    neighbours_NE.data[:] = weight_E[neighbours_NE.indices]
    neighbours_NE.eliminate_zeros()
    beyond = triples.edges(weight_E > 0)
    own_EG = sp.csr_array(_one_each(beyond.target, len(triples.entities)).T)
    paths_N = np.zeros(num_items + 1, np.int64)
    row = np.repeat(np.arange(num_items), np.diff(neighbours_NE.indptr))
    paths_N[1:] = np.bincount(row, degree_E[neighbours_NE.indices], minlength=num_items).cumsum()
    most = max(1, most_entries // max(len(linked), 1))
    # An empty block, since there may be no items.
    blocks: list[Any] = [sp.csr_array((0, beyond.ends.shape[1]), dtype=np.float32)]
    start = 0
    while start < num_items:
        stop = max(start + 1, int(np.searchsorted(paths_N, paths_N[start] + most_at_once, "right")) - 1)
        reached = sp.csr_array(neighbours_NE[start:stop] @ beyond.ends)
        reached = sp.csr_array(reached - reached.multiply(links[start:stop] @ own_EG))
        reached.eliminate_zeros()
        blocks.append(_strongest(reached, most))
        start = stop
    features: Any = sp.vstack(blocks, format="csr", dtype=np.float32)
    shared_features = sp.csr_array(features[:, _shared(features)])
    shared_features.sort_indices()
    return shared_features


def idf(matrix_NF: sp.csr_array, trained_N: np.ndarray | None = None) -> sp.csr_array:
    """Return features times log(items / items with the feature), counted among the items `trained_N` (bool), or all.

    A feature that no counted item has gets 0.
    """
    trained_N = np.ones(matrix_NF.shape[0], bool) if trained_N is None else trained_N
    is_counted = np.repeat(trained_N, np.diff(matrix_NF.indptr))
    frequency_F = np.bincount(matrix_NF.indices[is_counted], minlength=matrix_NF.shape[1])
    idf_F = np.log(max(1, trained_N.sum()) / np.maximum(frequency_F, 1)).astype(np.float32) * (frequency_F > 0)
    return sp.csr_array((matrix_NF.data * idf_F[matrix_NF.indices], matrix_NF.indices, matrix_NF.indptr),
                        shape=matrix_NF.shape)


def _joined(links: sp.csr_array) -> np.ndarray:
    """Return the mask of the entities linked to an item, bool (E,)."""
    is_linked = np.zeros(links.shape[1], bool)
    is_linked[links.indices] = True
    return is_linked


def _shared(features: sp.csr_array) -> np.ndarray:
    """Return the columns that at least two items have."""
    return np.flatnonzero(np.bincount(features.indices, minlength=features.shape[1]) >= 2)


def _one_each(place: np.ndarray, num_places: int) -> sp.csr_array:
    """Return CSR (len(place), num_places) with a 1 in each row."""
    return sp.csr_array((np.ones(len(place), np.float32), place, np.arange(len(place) + 1)), (len(place), num_places))


def _strongest(matrix: sp.csr_array, most: int) -> sp.csr_array:
    """Return the matrix with at most `most` entries per row, the largest; of equal entries the first ones."""
    length = np.diff(matrix.indptr)
    if not len(length) or length.max() <= most:
        return matrix
    matrix.sort_indices()
    row = np.repeat(np.arange(len(length)), length)
    order = np.lexsort((-matrix.data, row))
    place = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], length)
    largest = np.sort(order[place < most])
    indptr = np.concatenate([[0], np.minimum(length, most).cumsum()])
    return sp.csr_array((matrix.data[largest], matrix.indices[largest], indptr), shape=matrix.shape)
