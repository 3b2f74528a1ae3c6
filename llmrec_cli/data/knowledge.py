"""The knowledge graph: its triples in integers, and item features made of them.

Shapes: T triples, E entities, R relations, N items.

Shapes: N items, E entities, F features of one hop, G of two.
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
    """A knowledge graph; a triple joins two different entities.

    Attributes
    ----------
    head, relation, tail : int64 (T,), places in `entities` and `relations`
    entities : strings (E,), the ids of all that is in a triple, sorted
    relations : strings (R,), sorted
    links : CSR (N, E) of 1s: the entities that an item is, usually one or none
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
        """Return the graph without the triples of some relations; entities keep their places."""
        places = pc.index_in(pa.array(relations, pa.string()), self.relations)
        assert places.null_count == 0
        kept = ~np.isin(self.relation, places.to_numpy())
        return replace(self, head=self.head[kept], relation=self.relation[kept], tail=self.tail[kept])

    def relinked(self, item_N: np.ndarray) -> "Triples":
        """Return the graph where item n is what item `item_N[n]` is here."""
        return replace(self, links=sp.csr_array(self.links[item_N]))

    def edges(self, of_E: np.ndarray | None = None) -> "Edges":
        """Return the triples as seen from each end, of the entities where `of_E` (bool) is true, or of all."""
        source, target = np.concatenate([self.head, self.tail]), np.concatenate([self.tail, self.head])
        way = np.concatenate([2 * self.relation + 1, 2 * self.relation])
        if of_E is not None:
            kept = of_E[source]
            source, way, target = source[kept], way[kept], target[kept]
        codes, end = np.unique(way * len(self.entities) + target, return_inverse=True)
        ends = sp.csr_array((np.ones(len(source), np.float32), (source, end)), (len(self.entities), len(codes)))
        ends.sum_duplicates()
        ends.data[:] = 1
        return Edges(ends, *np.divmod(codes, len(self.entities)))


@dataclass(frozen=True)
class Edges:
    """Neighbours of entities. An end is a relation, the direction it is followed in, and the neighbour; X of them.

    Attributes
    ----------
    ends : CSR (E, X) of 1s
    way : int64 (X,), 2 * relation + 1 where it is followed from head to tail, 2 * relation from tail to head
    target : int64 (X,), the neighbour
    """

    ends: sp.csr_array
    way: np.ndarray
    target: np.ndarray


def read_triples(files: PinnedFolder, num_items: int) -> Triples | None:
    """Return the knowledge graph of prepared data, None where it has none. What joins an entity to itself is left out.

    Ids are read as places in a dictionary, so that a name is held once, whatever number of triples has it.
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
    known = np.asarray(entity.is_valid())
    item, entity = links["item"].to_numpy()[known], entity.fill_null(0).to_numpy()[known]
    matrix = sp.csr_array((np.ones(len(item), np.float32), (item, entity)), (num_items, len(entities)))
    return Triples(head[differ], relation[differ], tail[differ], entities, relations, matrix)


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.StringArray]:
    """Return the place of each row's name, and the names."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    # Of no rows there is no chunk, and so no dictionary.
    whole = column.unify_dictionaries().combine_chunks() if column.num_chunks else pa.array([], column.type)
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    return whole.indices.to_numpy(), whole.dictionary.cast(pa.string())


def _sorted(names: pa.StringArray) -> pa.StringArray:
    return names.take(pc.sort_indices(names))


def _places(codes: np.ndarray, names: pa.StringArray, among: pa.StringArray) -> np.ndarray:
    return pc.index_in(names, among).to_numpy().astype(np.int64)[codes]


HUB = 1000
"""Most neighbours of an entity that two hops lead through: what half the catalogue has in common (a language, a
genre) joins everything with everything."""
_MOST_ENTRIES = 50_000_000
"""Most entries of all items' features of two hops together; each item keeps its share of the strongest."""
_MOST_AT_ONCE = 20_000_000
"""Most paths of two hops that are summed at a time."""


class End(NamedTuple):
    """One end of a triple, seen from an item: the relation, whether the item is the tail, and the other entity's id."""

    relation: str
    inverse: bool
    neighbour: str


@dataclass(frozen=True)
class Knowledge:
    """Knowledge graph features of each item.

    Attributes
    ----------
    features : CSR (N, F) of 0/1: an item has a feature where a triple joins one of its entities to a neighbour. A
        feature is a relation, the direction it is followed in, and the neighbour; only those of at least two items are
        kept, since one that a single item has tells nothing of another
    names : list of `relation>neighbour`, or `relation<neighbour` where the item is the tail; one per feature
    triples : the graph that it was made of
    ends : the same as `names`, in parts
    """

    features: sp.csr_array
    names: list[str]
    triples: Triples | None = None
    ends: list[End] = field(default_factory=list)

    @cached_property
    def two_hops(self) -> sp.csr_array:
        """Ends of the neighbours of each item, CSR float32 (N, G); empty without triples."""
        if self.triples is None:
            nothing: Any = sp.csr_array((self.features.shape[0], 0), dtype=np.float32)
            return nothing
        return two_hops(self.triples)


def read_knowledge(files: PinnedFolder, num_items: int) -> Knowledge | None:
    """Return the knowledge of prepared data, None where it has none."""
    triples = read_triples(files, num_items)
    return None if triples is None else knowledge_of(triples)


def knowledge_of(triples: Triples) -> Knowledge:
    """Return what a graph says of the items that are linked to it."""
    edges = triples.edges(_joined(triples.links))
    features = sp.csr_array(triples.links @ edges.ends)
    features.data[:] = 1
    shared = _shared(features)
    kept = sp.csr_array(features[:, shared])
    kept.sort_indices()
    relations = triples.relations.take(pa.array(edges.way[shared] // 2)).to_pylist()
    neighbours = triples.entities.take(pa.array(edges.target[shared])).to_pylist()
    ends = [End(relation, not way, neighbour) for relation, way, neighbour in
            zip(relations, edges.way[shared] % 2, neighbours, strict=True)]
    names = [f"{relation}{'<' if inverse else '>'}{neighbour}" for relation, inverse, neighbour in ends]
    return Knowledge(kept, names, triples, ends)


def two_hops(triples: Triples, most_entries: int = _MOST_ENTRIES, most_at_once: int = _MOST_AT_ONCE) -> sp.csr_array:
    """Return what the neighbours of each item are joined to: relation, direction and entity, CSR float32 (N, G).

    The value of a feature is the sum over the neighbours that it is reached by of their IDF, log(N / items that have
    the neighbour). Neighbours with more than HUB neighbours lead nowhere, and no item is its own neighbour's neighbour.
    Memory is bounded, in a graph of any shape: items are treated a block at a time, and each keeps at most
    `most_entries` / linked items of its features, the ones of the highest value. Only features of at least two items
    are kept.
    """
    links = triples.links
    num_items, linked = links.shape[0], np.flatnonzero(np.diff(links.indptr))
    edges = triples.edges(_joined(links))
    # Which neighbours an item has, by whatever relation: NE = links x ends x the entity that an end is.
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
    # A block of no items, since there may be none.
    blocks: list[Any] = [sp.csr_array((0, beyond.ends.shape[1]), dtype=np.float32)]
    start = 0
    while start < num_items:
        stop = max(start + 1, int(np.searchsorted(paths_N, paths_N[start] + most_at_once, "right")) - 1)
        reached = sp.csr_array(neighbours_NE[start:stop] @ beyond.ends)
        reached = sp.csr_array(reached - reached.multiply(links[start:stop] @ own_EG))
        reached.eliminate_zeros()
        blocks.append(_strongest(reached, most))
        start = stop
    found: Any = sp.vstack(blocks, format="csr", dtype=np.float32)
    kept = sp.csr_array(found[:, _shared(found)])
    kept.sort_indices()
    return kept


def idf(matrix_NF: sp.csr_array, trained_N: np.ndarray | None = None) -> sp.csr_array:
    """Return features times log(items / items that have the feature), both counted among `trained_N` (bool), or all.

    A feature that none of them has gets 0.
    """
    trained_N = np.ones(matrix_NF.shape[0], bool) if trained_N is None else trained_N
    is_counted = np.repeat(trained_N, np.diff(matrix_NF.indptr))
    frequency_F = np.bincount(matrix_NF.indices[is_counted], minlength=matrix_NF.shape[1])
    idf_F = np.log(max(1, trained_N.sum()) / np.maximum(frequency_F, 1)).astype(np.float32) * (frequency_F > 0)
    return sp.csr_array((matrix_NF.data * idf_F[matrix_NF.indices], matrix_NF.indices, matrix_NF.indptr),
                        shape=matrix_NF.shape)


def _joined(links: sp.csr_array) -> np.ndarray:
    """Return bool (E,): which entities are items."""
    found = np.zeros(links.shape[1], bool)
    found[links.indices] = True
    return found


def _shared(features: sp.csr_array) -> np.ndarray:
    """Return the columns that at least two items have."""
    return np.flatnonzero(np.bincount(features.indices, minlength=features.shape[1]) >= 2)


def _one_each(place: np.ndarray, num_places: int) -> sp.csr_array:
    """Return CSR (len(place), num_places) with a 1 in each row."""
    return sp.csr_array((np.ones(len(place), np.float32), place, np.arange(len(place) + 1)), (len(place), num_places))


def _strongest(matrix: sp.csr_array, most: int) -> sp.csr_array:
    """Return the matrix with at most `most` entries of a row, the largest; of equal ones those that come first."""
    length = np.diff(matrix.indptr)
    if not len(length) or length.max() <= most:
        return matrix
    matrix.sort_indices()
    row = np.repeat(np.arange(len(length)), length)
    order = np.lexsort((-matrix.data, row))
    place = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], length)
    kept = np.sort(order[place < most])
    indptr = np.concatenate([[0], np.minimum(length, most).cumsum()])
    return sp.csr_array((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)
