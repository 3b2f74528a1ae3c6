"""The knowledge graph as features of items.

Shapes: N items, F features.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scipy.sparse as sp


@dataclass(frozen=True)
class Knowledge:
    """What the graph says directly of each item.

    Attributes
    ----------
    features : CSR (N, F) of 0/1: an item has a feature where a triple joins one of its entities to a neighbour. A
        feature is a relation, the direction it is followed in, and the neighbour; only those of at least two items are
        kept, since one that a single item has tells nothing of another
    names : list of `relation>neighbour`, or `relation<neighbour` where the item is the tail; one per feature
    """

    features: sp.csr_array
    names: list[str]


def read_knowledge(folder: Path, num_items: int) -> Knowledge | None:
    """Return the knowledge of prepared data, None where it has none."""
    if not (folder / "triples.parquet").is_file():
        return None
    triples, links = pq.read_table(folder / "triples.parquet"), pq.read_table(folder / "links.parquet")
    links = links.select(["item", "entity_id"])
    parts = []
    for own, other, sign in (("head", "tail", ">"), ("tail", "head", "<")):
        joined = links.join(triples, "entity_id", own, join_type="inner")
        name = pc.binary_join_element_wise(joined["relation"].cast(pa.string()), joined[other].cast(pa.string()), sign)
        parts.append(pa.table({"item": joined["item"], "name": name}))
    rows = pa.concat_tables(parts)
    coded = rows["name"].dictionary_encode().unify_dictionaries().combine_chunks()
    item, code, num_names = rows["item"].to_numpy(), coded.indices.to_numpy(), len(coded.dictionary)
    features = sp.csr_array((np.ones(len(code), np.float32), (item, code)), shape=(num_items, num_names))
    features.sum_duplicates()
    features.data[:] = 1
    shared = np.flatnonzero(np.bincount(features.indices, minlength=num_names) >= 2)
    names = np.array(coded.dictionary.take(pa.array(shared)).to_pylist(), object)
    # A join gives its rows in any order; by name the columns are the same every time.
    order = np.argsort(names)
    kept = sp.csr_array(features[:, shared[order]])
    kept.sort_indices()
    return Knowledge(kept, [str(name) for name in names[order]])
