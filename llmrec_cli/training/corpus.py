"""Pretraining corpus: item texts, users' training histories, and sentences from a knowledge graph."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.settings.objective import LanguageSettings


@dataclass(frozen=True)
class Corpus:
    """Distinct training and held-out texts; no text is in both."""

    train: list[str]
    held_out: list[str]


def build_corpus(data: TrainingData, settings: LanguageSettings, seed: int) -> Corpus:
    """Return the corpus; a hash of each text decides if it is held out, so the split is stable as data grows.

    A history text has up to `history_length` titles of a user's training items, oldest first. Training histories leave
    out titles of items whose text is held out. `seed` draws the histories. The knowledge text of an item is held out
    with the item's text.
    """
    texts = [str(text) for text in data.items.texts]
    item_is_held_out = held_out(texts, settings.holdout_share)
    documents = [f"{title}. {facts}" if facts else "" for title, facts
                 in zip(data.items.titles, knowledge_documents(data), strict=True)] if settings.knowledge else []
    train = [t for t, out in zip(texts, item_is_held_out, strict=True) if not out]
    held = [t for t, out in zip(texts, item_is_held_out, strict=True) if out]
    for document, out in zip(documents, item_is_held_out, strict=bool(documents)):
        (held if out else train).append(document)
    if settings.histories:
        chunks = history_chunks(data.interactions.matrix, settings.history_length, settings.max_histories, seed)
        whole = [as_text(data.items.titles[items]) for items in chunks]
        for items, text, out in zip(chunks, whole, held_out(whole, settings.holdout_share), strict=True):
            if out:
                held.append(text)
            else:
                train.append(as_text(data.items.titles[items[~item_is_held_out[items]]]))
    train = [text for text in dict.fromkeys(train) if text.strip()]
    trained = set(train)
    held = [text for text in dict.fromkeys(held) if text.strip() and text not in trained]
    if not train or not held:
        raise DataError(f"the corpus has {len(train)} training texts and {len(held)} held out, but needs both; "
                        f"prepare items with texts (dataset.item_text), or raise objective.holdout_share="
                        f"{settings.holdout_share}")
    return Corpus(train, held)


def held_out(texts: Sequence[str], share: float) -> np.ndarray:
    """Return bool (num_texts,): True if the hash of a text is in the lowest `share` of all hashes."""
    numbers = [int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8]) for text in texts]
    return np.array(numbers, np.float64) < share * 2.0 ** 64


def history_chunks(matrix: sp.csr_array, length: int, most: int, seed: int) -> list[np.ndarray]:
    """Return at most `most` runs of at most `length` items from the rows of a CSR matrix, drawn at random."""
    per_row = -(-np.diff(matrix.indptr) // length)
    rows = np.repeat(np.arange(len(per_row)), per_row)
    order_in_row = np.arange(len(rows)) - np.repeat(np.cumsum(per_row) - per_row, per_row)
    starts = matrix.indptr[rows] + order_in_row * length
    stops = np.minimum(starts + length, matrix.indptr[rows + 1])
    if len(starts) > most:
        sample = np.sort(np.random.default_rng(seed).choice(len(starts), most, replace=False))
        starts, stops = starts[sample], stops[sample]
    return [matrix.indices[start:stop] for start, stop in zip(starts, stops, strict=True)]


def knowledge_documents(data: TrainingData) -> list[str]:
    """Return the knowledge-graph facts of each item as text without the title, "" without facts.

    Relations with their neighbours, such as "film director: Ridley Scott; film genre: Horror, Space". Neighbours have
    the names of the triples; only neighbours of at least two items are used (data/knowledge.py).
    """
    if data.knowledge is None:
        raise DataError("the prepared data has no knowledge graph for texts; prepare it with "
                        "dataset.knowledge=<file> (and dataset.links), or choose objective.knowledge=false and other "
                        "objective.views")
    features, names = data.knowledge.features, data.knowledge.names
    return [_facts([names[n] for n in features.indices[start:stop]])
            for start, stop in pairwise(features.indptr.tolist())]


def _facts(names: Sequence[str]) -> str:
    """Return relations and neighbours, `relation>neighbour` or `relation<neighbour` each, as text."""
    neighbours_of: dict[str, list[str]] = {}
    for name in names:
        relation, _, neighbour = name.replace("<", ">", 1).partition(">")
        neighbours_of.setdefault(relation.replace("_", " ").replace(".", " "), []).append(neighbour.replace("_", " "))
    return "; ".join(f"{relation}: {', '.join(neighbours)}" for relation, neighbours in neighbours_of.items())


def as_text(titles: np.ndarray) -> str:
    """Return a history as text."""
    return "; ".join(str(title) for title in titles if title)
