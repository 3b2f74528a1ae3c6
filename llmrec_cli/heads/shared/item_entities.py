"""Entity vectors of items, centred and of length 1, and the gate that adds them to text vectors.

Vectors of a graph are cached across runs, so that the members of a fusion and nightly runs reuse them:

    <cache>/entities/<SHA-256 of graph, settings and seed>.<SHA-256 of the content>.safetensors

Files are written atomically. A damaged file is removed with a warning, and its vectors are learned again. The size
limit of `encoders.vector_cache` applies, which removes the least recently used files.

Shapes of `EntityGate`: M items, R selected items, E size of an item vector, D size of an entity vector. Shapes of the
functions: N items, E entities, D size of a vector.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import nn
from torch.nn import functional

from llmrec_cli.atomic_files import write_bytes
from llmrec_cli.data.knowledge import Triples
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.heads.base import Context
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.entities import EntitySettings
from llmrec_cli.training.entity_vectors import learn_entity_vectors
from llmrec_cli.training.link_prediction import Ids


class EntityGate(nn.Module):
    """text + s(G [text, W entity] + b) * W entity, with a gate per dimension.

    The gated fusion of two modalities (Arevalo et al. 2017), but the text always enters in full. An item without an
    entity has a zero entity vector, so only its text counts. The gate starts half open.
    """

    vectors_ND: torch.Tensor

    def __init__(self, vectors_ND: torch.Tensor, size: int) -> None:
        super().__init__()
        self.register_buffer("vectors_ND", vectors_ND)
        self.entity = nn.Linear(vectors_ND.shape[1], size, bias=False)
        self.gate = nn.Linear(2 * size, size)
        nn.init.normal_(self.entity.weight, std=vectors_ND.shape[1]**-0.5)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, text_RE: torch.Tensor, rows_R: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors (R, E) of items `rows_R` (None for all); items added after training have no entity."""
        num_items = len(self.vectors_ND)
        if rows_R is None:
            vectors_RD = functional.pad(self.vectors_ND, (0, 0, 0, len(text_RE) - num_items))
        else:
            has_entity_R1 = (rows_R < num_items)[:, None]
            vectors_RD = self.vectors_ND.index_select(0, rows_R.clamp_max(num_items - 1)) * has_entity_R1
        entity_RE = self.entity(vectors_RD)
        gate_RE = self.gate(torch.cat([text_RE, entity_RE], dim=1)).sigmoid()
        out: torch.Tensor = text_RE + gate_RE * entity_RE
        return out


_FORMAT = 2


def item_entities(settings: EntitySettings | None, data: TrainingData, context: Context, setting: str) -> np.ndarray:
    """Return vectors of the items' entities, float32 (N, D), of length 1; zeros for items without entities.

    Centred by the items in training. `setting` is the setting that needs them, named in errors.
    """
    if settings is None:
        raise ConfigError(f"{setting}: needs vectors of entities; choose entities=transe")
    triples = None if data.knowledge is None else data.knowledge.triples
    if triples is None:
        raise DataError(f"{setting}: the prepared data has no knowledge graph; prepare with dataset.knowledge=<file> "
                        f"and dataset.links=<file>, or remove the setting")
    if not len(triples) or not triples.links.nnz:
        raise DataError(f"{setting}: the knowledge graph has {len(triples)} triples and {triples.links.nnz} links from "
                        f"items to its entities; prepare with dataset.knowledge=<file> and dataset.links=<file> that "
                        f"name the same entities, or remove the setting")
    vectors_ED = entity_vectors(settings, triples, context)
    has_vector_E: np.ndarray = np.asarray(vectors_ED.any(axis=1), np.float32)
    links = sp.csr_array(triples.links * has_vector_E[None])
    counts_N: np.ndarray = np.bincount(links.tocoo().row, links.data, minlength=links.shape[0])
    linked_N = counts_N > 0
    sum_ND: Any = links @ vectors_ED
    mean_ND = sum_ND / counts_N.clip(1)[:, None]
    trained_N = linked_N & (data.interactions.item_counts > 0)
    mean_D = mean_ND[trained_N if trained_N.any() else linked_N].mean(axis=0)
    centred_ND: np.ndarray = (mean_ND - mean_D) * linked_N[:, None]
    length_N = np.linalg.norm(centred_ND, axis=1)
    return (centred_ND / np.maximum(length_N, 1e-9)[:, None]).astype(np.float32)


def entity_vectors(settings: EntitySettings, triples: Triples, context: Context) -> np.ndarray:
    """Return vectors of a graph's entities, float32 (E, D), from this run's memo or the cache, else learned."""
    key = _key(settings, triples, context.seed)
    if key not in context.memo:
        vectors_ED = None if context.cache is None else _read_cache(context.cache / "entities", key)
        if vectors_ED is None:
            vectors_ED = learn_entity_vectors(Ids(triples.head, triples.relation, triples.tail), len(triples.entities),
                                              len(triples.relations), settings, context.seed, context.device,
                                              context.log)
            if context.cache is not None:
                content = save({"vectors": vectors_ED})
                name = f"{key}.{hashlib.sha256(content).hexdigest()}.safetensors"
                write_bytes(context.cache / "entities" / name, content)
        else:
            context.log("entity_vectors", model=settings.kind, entities=len(vectors_ED), read=True)
        context.memo[key] = vectors_ED
    return context.memo[key]


def _key(settings: EntitySettings, triples: Triples, seed: int) -> str:
    """Return a hash of everything that determines the vectors: entity numbers, but not entity names."""
    facts = (_FORMAT, sorted(to_plain(settings).items()), seed, len(triples.entities), len(triples.relations))
    key = hashlib.sha256(str(facts).encode())
    for column in (triples.head, triples.relation, triples.tail):
        key.update(np.ascontiguousarray(column, np.int64).data)
    return key.hexdigest()


def _read_cache(folder: Path, key: str) -> np.ndarray | None:
    """Return the cached vectors of a key; None if there are none or they are damaged."""
    for file in sorted(folder.glob(f"{key}.*.safetensors")):
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            continue  # Another run removed it to make room in the cache.
        try:
            tensors = load(content) if hashlib.sha256(content).hexdigest() == file.name.split(".")[1] else {}
        except SafetensorError:
            tensors = {}
        if "vectors" in tensors:
            os.utime(file)
            vectors_ED: np.ndarray = tensors["vectors"]
            return vectors_ED
        print(f"warning: {file}: damaged, so it is removed and its vectors are learned again", file=sys.stderr)
        file.unlink(missing_ok=True)
    return None
