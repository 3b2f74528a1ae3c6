"""Knowledge that says less than it seems to, to see what of a gain is knowledge, and what of the graph is of items.

Shapes: N items, E entities, R relations.
"""

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.knowledge import Knowledge, knowledge_of
from llmrec_cli.data.triples import Triples


def swapped(triples: Triples, count_N: np.ndarray, rng: np.random.Generator) -> Knowledge:
    """Return the knowledge where each linked item has that of another linked item of like popularity.

    Linked items are put in the order of `count_N`, their training interactions, equal ones by chance, and each two
    neighbours change places; the last of an odd number joins the pair before it. Whether an item is linked stays, and
    how much is known of items as popular; what is known is of another item.
    """
    linked = np.flatnonzero(np.diff(triples.links.indptr))
    order = linked[np.lexsort((rng.random(len(linked)), count_N[linked]))]
    other = order.copy()
    pairs = len(order) // 2 * 2
    other[0:pairs:2], other[1:pairs:2] = order[1:pairs:2], order[0:pairs:2]
    if len(order) % 2 and len(order) > 1:
        other[-3:] = np.roll(order[-3:], 1)
    item_N = np.arange(len(count_N))
    item_N[order] = other
    return knowledge_of(triples.relinked(item_N))


def counts_alone(triples: Triples) -> Knowledge:
    """Return knowledge that says of an item in how many triples it is, in classes by powers of two."""
    num_N = num_triples(triples)
    known = np.flatnonzero(num_N)
    level = np.floor(np.log2(num_N[known])).astype(np.int64)
    levels, column = np.unique(level, return_inverse=True)
    features: Any = sp.csr_array((np.ones(len(known), np.float32), (known, column)), (len(num_N), len(levels)))
    return Knowledge(features, [f"triples>{2**level}" for level in levels])


def num_triples(triples: Triples) -> np.ndarray:
    """Return in how many triples each item is, int64 (N,)."""
    degree_E = np.bincount(np.concatenate([triples.head, triples.tail]), minlength=len(triples.entities))
    return np.asarray(triples.links @ degree_E).astype(np.int64)


def coverage(triples: Triples, knowledge: Knowledge, count_N: np.ndarray) -> dict[str, Any]:
    """Return how much of the catalogue, and of its interactions `count_N`, the graph tells of, and each relation.

    Relations come by the number of items that have them. `shared` is the features of a relation that at least two items
    have: of the others no head learns anything. Relations that join the same entities, such as one and its inverse, say
    the same: they are told of once, by the first of their names, the others being `twins`.
    """
    linked = np.diff(triples.links.indptr) > 0
    num_N = num_triples(triples)
    is_item = np.zeros(len(triples.entities), bool)
    is_item[triples.links.indices] = True
    relations: list[dict[str, Any]] = []
    shared = Counter(end.relation for end in knowledge.ends)
    for name, *others in twins(triples):
        n = triples.relations.index(name).as_py()
        of = triples.relation == n
        ends = [triples.head[of], triples.tail[of]]
        about = is_item[ends[0]] | is_item[ends[1]]
        has_E = np.bincount(np.concatenate(ends), minlength=len(is_item)) > 0
        items = int((triples.links @ has_E.astype(np.float32) > 0).sum())
        relations.append({"relation": name, "twins": others, "triples": int(of.sum()),
                          "triples_of_items": int(about.sum()), "items": items, "shared": shared[name]})
    relations.sort(key=lambda one: (-one["items"], one["relation"]))
    total = float(count_N.sum())
    return {"items": len(linked), "linked": int(linked.sum()), "linked_share": float(linked.mean()),
            "interactions_share": float(count_N[linked].sum() / total) if total else 0.0,
            "triples": len(triples), "triples_per_linked_item": float(num_N[linked].mean()) if linked.any() else 0.0,
            "relations": relations}


def twins(triples: Triples) -> list[list[str]]:
    """Return the relations, those together that join the same pairs of entities, or their inverse."""
    together: dict[bytes, list[str]] = {}
    for n, name in enumerate(triples.relations.to_pylist()):
        of = triples.relation == n
        head, tail = triples.head[of], triples.tail[of]
        # All pairs one way or all of them the other: the smaller digest is that of both.
        digests = (hashlib.sha256(np.unique(one * len(triples.entities) + other).tobytes()).digest()
                   for one, other in ((head, tail), (tail, head)))
        together.setdefault(min(digests), []).append(name)
    return list(together.values())
