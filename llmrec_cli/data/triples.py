"""The triples of a knowledge graph, and which entities are items, in integers.

Shapes: T triples, E entities, R relations, N items.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from llmrec_cli.data.table_checks import Column, read_columns
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
    """What entities are joined to. An end is a relation, the direction it is followed in, and the neighbour; X of them.

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
