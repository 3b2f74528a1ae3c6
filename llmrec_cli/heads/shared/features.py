"""Item features as weighted rows: texts, words, attributes, entities and documents.

Shapes: N items, D dimensions of a text vector, F sparse features.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue, Documents
from llmrec_cli.data.knowledge import Knowledge, idf
from llmrec_cli.data.tensors import FLOAT, INTEGER, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.encoders.base import encoder_class, open_encoder
from llmrec_cli.encoders.tfidf import BYTES_OF_A_CHARACTER, Words
from llmrec_cli.encoders.vector_cache import encode_cached
from llmrec_cli.encoders.whitening import fit_whitening
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.shared.item_entities import item_entities
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.heads.shared.text_memory import VECTOR_COPIES, encoder_memory
from llmrec_cli.settings.encoder import EncoderSettings
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.peft import FrozenSettings, PeftSettings


def document_vectors(documents: Documents, num_items: int, settings: EncoderSettings, in_training: np.ndarray,
                     device: torch.device, context: Context) -> np.ndarray:
    """Return the mean vector over all pieces of an item's documents, float32 (N, D).

    Centred, whitened if the encoder's settings say so, and of length 1, like vectors of item texts. The encoder is
    frozen; `in_training` (bool, N) marks the items for centring and for fitting encoders that learn from texts. An item
    without documents has zeros. A long document has more pieces, so it counts more than a short one.
    """
    encoder = open_encoder(settings, device, context.cache)
    pieces = [encoder.pieces(text) for text in documents.texts]
    item_C = np.repeat(documents.item, [len(parts) for parts in pieces])
    texts_C = np.array([piece for parts in pieces for piece in parts] + [None], object)[:-1]
    own_C = in_training[item_C]
    if not own_C.any():
        raise DataError("features.documents: no item in training has a document; prepare with documents of more items, "
                        "or set features.documents=0")
    encoder.fit(list(texts_C[own_C]))
    vectors_CD = encode_cached(encoder, list(texts_C), context.cache, context.log)
    counts_N = np.bincount(item_C, minlength=num_items)
    has_document_N = counts_N > 0
    pooled_NC = sp.csr_array((np.ones(len(item_C), np.float32), (item_C, np.arange(len(item_C)))),
                             (num_items, len(item_C)))
    means_ND = (pooled_NC @ vectors_CD) / np.maximum(counts_N, 1).astype(np.float32)[:, None]
    whitening = fit_whitening(settings, means_ND, has_document_N & in_training)
    centred_ND = whitening.apply(means_ND) * has_document_N[:, None]
    lengths_N1 = np.linalg.norm(centred_ND, axis=1, keepdims=True)
    context.log("documents", items=int(has_document_N.sum()), documents=len(documents.texts), pieces=len(item_C))
    return (centred_ND / np.where(lengths_N1 > 0, lengths_N1, 1)).astype(np.float32)


class ItemFeatures:
    """Item features; each kind is normalised to length 1 per item and multiplied by its weight.

    text: centred vectors of an encoder, frozen or trained, dense; frozen_text: those of the frozen encoder beside
    trained ones. documents: vectors of texts about the items, dense. words: TF-IDF of the text's words, limited to
    words of items in training. attributes: unchanged. knowledge: IDF of the neighbours in the knowledge graph;
    two_hops: IDF of the neighbours' neighbours (`data.knowledge`); entities: centred vectors of the graph's entities,
    dense. New items have no documents, knowledge, two_hops or entities, and only the words and
    attributes that items in training have too. An item without a kind of feature has zeros there.

    Attributes
    ----------
    dense_ND : float32 (N, D), text, frozen_text, documents and entities concatenated; (N, 0) without any
    sparse_NF : CSR float32 (N, F), words, attributes and knowledge concatenated
    """

    def __init__(self, weights: FeatureWeightsSettings, config: ModelConfig, device: torch.device) -> None:
        for key in ("text", "documents"):
            if getattr(weights, key) > 0 and config.encoder is None:
                raise ConfigError(f"features.{key}={getattr(weights, key)}: needs a text encoder; choose "
                                  f"encoder=minilm")
        self.weights, self.config, self.device = weights, config, device
        self.peft: PeftSettings = config.peft if weights.tuned and config.peft is not None else FrozenSettings()
        self.text: ItemTexts | None = None
        self.frozen_text: ItemTexts | None = None
        self.documents_ND: np.ndarray | None = None
        self.entities_ND: np.ndarray | None = None
        self.words = Words()
        self.attribute_names: list[str] = []
        self.dense_ND: np.ndarray = np.zeros((0, 0), np.float32)
        self.sparse_NF: Any = sp.csr_array((0, 0), dtype=np.float32)

    def fit(self, data: TrainingData, context: Context) -> None:
        """Compute the features of the items in `data`; vocabularies, means and IDF come from items in training."""
        items, weights, trained_N = data.items, self.weights, data.interactions.item_counts > 0
        for key, in_common in (("knowledge", "features"), ("two_hops", "two_hops")):
            if getattr(weights, key) > 0 and (data.knowledge is None or not getattr(data.knowledge, in_common).nnz):
                why = "has no knowledge graph; prepare with dataset.knowledge=<file> and dataset.links=<file>" if (
                    data.knowledge is None) else (
                    "has a knowledge graph in which items have nothing in common that is "
                    + ("one step away; link more items" if key == "knowledge" else "two steps away"))
                raise DataError(f"features.{key}={getattr(weights, key)}: the prepared data {why}, or set it to 0")
        if weights.documents > 0 and data.documents is None:
            raise DataError(f"features.documents={weights.documents}: the prepared data has no documents; prepare with "
                            f"dataset.documents=<file>, or set it to 0")
        self.attribute_names = items.attribute_names
        if weights.text > 0:
            self._fit_texts(data, context, trained_N)
        if weights.documents > 0 and data.documents is not None:
            self.documents_ND = document_vectors(data.documents, len(items), self.config.encoder,
                                                 trained_N, self.device, context)
        if weights.entities > 0:
            self.entities_ND = item_entities(self.config.entities, data, context,
                                             f"features.entities={weights.entities}")
        if weights.words > 0:
            self.words.fit(items.texts[trained_N])
        self.dense_ND = self._dense(len(items))
        self.sparse_NF = self._sparse(items, data.knowledge, trained_N)

    def _fit_texts(self, data: TrainingData, context: Context, trained_N: np.ndarray) -> None:
        if self._uses_frozen_text:
            self.frozen_text = ItemTexts.encode(self.config.encoder, FrozenSettings(), data.items.texts, self.device,
                                                context.seed, context.memo, trained_N, context.cache)
            self.frozen_text.encoder = None  # Opened again for new texts only.
        self.text = ItemTexts.encode(self.config.encoder, self.peft, data.items.texts, self.device, context.seed,
                                     context.memo, trained_N, context.cache,
                                     self.config.optim.precision if self.weights.tuned else "float32")
        if self.text.trained:
            # Only here: it loads the training loop, which answering a query does not need.
            from llmrec_cli.heads.shared.item_tuning import tune

            stop_after = tune(self.text, data, self.config, self.weights, context, self.frozen_text)
            self.weights = replace(self.weights, stop_after=stop_after)

    @property
    def _uses_frozen_text(self) -> bool:
        return self.weights.text > 0 and self.weights.frozen_text > 0 and self.peft.trains

    def text_similarities(self, texts: np.ndarray) -> torch.Tensor:
        """Return the cosine of each text with each item's text (num_texts, N), -1 to 1.

        With `frozen_text`, the mean of both vectors' cosines, weighted by the squares of their weights.
        """
        assert self.text is not None
        cosine_TN = self.text.similarities(list(texts)).detach().cpu()
        if self.frozen_text is None:
            return cosine_TN
        share = self.weights.text**2 / (self.weights.text**2 + self.weights.frozen_text**2)
        return share * cosine_TN + (1 - share) * self.frozen_text.similarities(list(texts)).detach().cpu()

    @property
    def text_weight(self) -> float:
        """Length of the text features: the weight of the vectors, or of both kinds of vectors together."""
        return float(np.hypot(self.weights.text, self.weights.frozen_text)) if self._uses_frozen_text else (
            self.weights.text)

    def tuned_settings(self) -> FeatureWeightsSettings:
        """Return the weights, with the number of text-training epochs that validation chose."""
        return self.weights

    def add(self, items: Catalogue) -> tuple[np.ndarray, sp.csr_array]:
        """Append new items and return their features, float32 (num_new, D) and CSR float32 (num_new, F)."""
        for text in filter(None, (self.text, self.frozen_text)):
            text.add(list(items.texts))
        if self.documents_ND is not None:
            self.documents_ND = np.pad(self.documents_ND, ((0, len(items)), (0, 0)))
        if self.entities_ND is not None:
            self.entities_ND = np.pad(self.entities_ND, ((0, len(items)), (0, 0)))
        dense = self._dense(len(items))
        width = self.sparse_NF.shape[1]
        sparse = self._sparse(items, None, np.zeros(len(items), bool))
        # Graph features are the last columns, and new items have none.
        sparse = sp.csr_array((sparse.data, sparse.indices, sparse.indptr), shape=(len(items), width))
        self.dense_ND = np.concatenate([self.dense_ND, dense])
        self.sparse_NF = sp.csr_array(sp.vstack([self.sparse_NF, sparse], format="csr"))
        return dense, sparse

    def reread(self, texts: np.ndarray) -> None:
        """Replace the item texts (N,): text vectors and words change, other features stay."""
        if self.text is not None:
            self.text.reread(texts)
            if self.frozen_text is not None:
                self.frozen_text.reread(texts)
            self.dense_ND = self._dense(len(texts))
        if self.weights.words > 0:
            words = _unit(self.words.matrix(texts)) * np.float32(self.weights.words)
            rest = self.sparse_NF[:, words.shape[1]:]
            self.sparse_NF = sp.csr_array(sp.hstack([words, rest], format="csr", dtype=np.float32))

    def state(self) -> dict[str, np.ndarray]:
        """Return all that was learned, by name."""
        sparse = self.sparse_NF
        state: dict[str, np.ndarray] = {
            "features.indptr": sparse.indptr.astype(np.int64), "features.indices": sparse.indices.astype(np.int64),
            "features.values": sparse.data.astype(np.float32), "features.num": np.array([sparse.shape[1]])}
        if self.text is not None:
            state |= {f"features.{name}": array for name, array in self.text.state().items()}
        if self.frozen_text is not None:
            state |= {f"features.frozen.{name}": array for name, array in self.frozen_text.state().items()}
        if self.documents_ND is not None:
            state["features.documents"] = self.documents_ND
        if self.entities_ND is not None:
            state["features.entities"] = self.entities_ND
        return state | self.words.state()

    def read(self, tensors: TensorReader, items: Catalogue) -> None:
        """Restore `state`, for the same items."""
        self.attribute_names, weights, own = items.attribute_names, self.weights, tensors.inside("features.")
        if weights.words > 0:
            self.words.read(tensors)
        self.sparse_NF = own.csr("", (len(items), self._read_number(own)), is_sorted=True)
        if weights.text > 0:
            self.text = ItemTexts.read(self.config.encoder, self.peft, own, len(items), self.device)
        if self._uses_frozen_text:
            self.frozen_text = ItemTexts.read(self.config.encoder, FrozenSettings(), own.inside("frozen."), len(items),
                                              self.device)
        if weights.documents > 0:
            self.documents_ND = own.take("documents", FLOAT, (len(items), None))
        if weights.entities > 0:
            self.entities_ND = own.take("entities", FLOAT, (len(items), None))
        self.dense_ND = self._dense(len(items))

    def _read_number(self, own: TensorReader) -> int:
        """Return the number of sparse features: words, attributes and graph features in use."""
        weights, number = self.weights, int(own.take("num", INTEGER, (1,), low=0)[0])
        least = len(self.words.index) + (len(self.attribute_names) if weights.attributes > 0 else 0)
        most = least + (own.shape("indices")[0] if weights.knowledge > 0 or weights.two_hops > 0 else 0)
        if not least <= number <= most:
            raise own.error("num", f"is {number}; the model has {least} to {most} sparse features")
        return number

    def _dense(self, num_items: int) -> np.ndarray:
        """Return the weighted dense features of the newest `num_items` items."""
        weights = self.weights
        parts: list[Any] = [np.zeros((num_items, 0), np.float32)]
        for weight, texts in ((weights.text, self.text), (weights.frozen_text, self.frozen_text)):
            if texts is not None:
                parts.append(weight * texts.newest(num_items).cpu().numpy())
        for weight, vectors_ND in ((weights.documents, self.documents_ND), (weights.entities, self.entities_ND)):
            if vectors_ND is not None:
                parts.append(weight * vectors_ND[len(vectors_ND) - num_items:])
        dense_ND: np.ndarray = np.concatenate(parts, axis=1, dtype=np.float32)
        return dense_ND

    def _sparse(self, items: Catalogue, knowledge: Knowledge | None, trained_N: np.ndarray) -> sp.csr_array:
        """Return the weighted sparse features of items (N, F); `trained_N` masks the items in training."""
        parts: list[Any] = [sp.csr_array((len(items), 0), dtype=np.float32)]
        if self.weights.words > 0:
            parts.append(_unit(self.words.matrix(items.texts)) * np.float32(self.weights.words))
        if self.weights.attributes > 0:
            parts.append(_unit(self._attributes(items)) * np.float32(self.weights.attributes))
        if self.weights.knowledge > 0 and knowledge is not None:
            parts.append(_unit(idf(knowledge.features, trained_N)) * np.float32(self.weights.knowledge))
        if self.weights.two_hops > 0 and knowledge is not None:
            parts.append(_unit(idf(knowledge.two_hops, trained_N)) * np.float32(self.weights.two_hops))
        return sp.csr_array(sp.hstack(parts, format="csr", dtype=np.float32))

    def _attributes(self, items: Catalogue) -> sp.csr_array:
        """Return the attributes of items in the columns of the training attributes; others are dropped."""
        column = {name: n for n, name in enumerate(self.attribute_names)}
        coo = items.attributes.tocoo()
        places = np.array([column.get(name, -1) for name in items.attribute_names], np.int64)[coo.col]
        has_column = places >= 0
        return sp.csr_array((np.ones(has_column.sum(), np.float32), (coo.row[has_column], places[has_column])),
                            shape=(len(items), len(self.attribute_names)))


def _unit(matrix_NF: sp.csr_array) -> sp.csr_array:
    """Scale rows to length 1; rows of zeros stay zero."""
    row = np.repeat(np.arange(matrix_NF.shape[0]), np.diff(matrix_NF.indptr))
    norms_N = np.sqrt(np.bincount(row, matrix_NF.data.astype(np.float64)**2, minlength=matrix_NF.shape[0]))
    values = (matrix_NF.data / np.maximum(norms_N, 1e-9)[row]).astype(np.float32)
    return sp.csr_array((values, matrix_NF.indices, matrix_NF.indptr), shape=matrix_NF.shape)


def features_memory(weights: FeatureWeightsSettings, config: ModelConfig, data: TrainingData, later: int = 0) -> int:
    """Return the peak bytes of the features, including the training of texts, and of the `later` bytes of the head."""
    num_items, base, peak = len(data.items), 0, 0
    texts = list(data.items.texts)

    if weights.text > 0 and config.encoder is not None:
        if weights.tuned:
            from llmrec_cli.heads.shared.item_tuning import tuning_memory

            base += encoder_memory(config, texts, config.optim.batch_size, later=later)
            peak = tuning_memory(data, config)
            if weights.frozen_text > 0:
                base += 2 * VECTOR_COPIES * 4 * num_items * config.encoder.vector_size()
        else:
            base += encoder_memory(config, texts, 0, FrozenSettings(), later)
    else:
        base += later
    if weights.documents > 0 and config.encoder is not None and data.documents is not None:
        pieces = sum(len(text) // 200 + 1 for text in data.documents.texts)
        base += 2 * 4 * num_items * config.encoder.vector_size()
        peak = max(peak, encoder_class(config.encoder).estimate_memory(config.encoder, list(data.documents.texts))
                   + 2 * 4 * pieces * config.encoder.vector_size())
    if weights.entities > 0 and config.entities is not None:
        base += 3 * 4 * num_items * config.entities.embedding_size
    sparse = data.items.attributes.nnz if weights.attributes > 0 else 0
    if weights.words > 0:
        characters = sum(map(len, texts))
        sparse += characters // 8
        peak = max(peak, BYTES_OF_A_CHARACTER * characters)
    if data.knowledge is not None:
        sparse += data.knowledge.features.nnz if weights.knowledge > 0 else 0
        sparse += data.knowledge.two_hops.nnz if weights.two_hops > 0 else 0
    return base + peak + 40 * sparse
