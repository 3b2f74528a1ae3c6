"""Profiles of users, attributes and a text, and the cluster that a profile points to.

Shapes: R users asked for, U users, N items, A attributes, D size of what the encoder says, T size of a text vector,
F = A + T, C clusters.
"""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.tensors import BOOL, FLOAT, TensorReader
from llmrec_cli.encoders.base import Encoder, encoder_class, open_encoder
from llmrec_cli.encoders.vector_cache import encode_cached
from llmrec_cli.encoders.whitening import Whitening, fit_whitening
from llmrec_cli.errors import ArtifactError, DataError


class ProfileTexts:
    """Vectors of what is said of users, by a frozen encoder: centred, of length 1; zeros where nothing is said.

    Where no user has a text of their own, texts are compared with those of the items that users chose: `own` is False.
    """

    def __init__(self, encoder: Any, device: torch.device) -> None:
        self.settings, self.device = encoder, device
        self.own = True
        self.whitening = Whitening(np.zeros(0, np.float32))
        self.learned: dict[str, np.ndarray] = {}
        self._encoder: Encoder | None = None

    def fit(self, users: Catalogue, items: Catalogue, matrix_UN: sp.csr_array, cache: Path | None) -> np.ndarray:
        """Return the vectors of the users (U, T); `matrix_UN` is what they chose."""
        self.own = bool(_said(users.texts).any())
        texts = users.texts if self.own else items.texts
        trained = np.diff(matrix_UN.indptr) > 0 if self.own else np.bincount(matrix_UN.indices,
                                                                             minlength=len(items)) > 0
        known = _said(texts) & trained
        if not known.any():
            raise DataError("head=clusters, head.text: neither the users in training nor their items have a text; "
                            "prepare with dataset.user_text='<template over the columns of dataset.users>', or set "
                            "head.text=0")
        encoder = open_encoder(self.settings, self.device, cache)
        encoder.fit([str(text) for text in texts[known]])
        self.learned, self._encoder = encoder.state(), encoder
        raw = encode_cached(encoder, [str(text) for text in texts], cache)
        self.whitening = fit_whitening(self.settings, raw, known)
        vectors = self._finish(raw, _said(texts))
        return vectors if self.own else unit((matrix_UN @ vectors).astype(np.float32))

    def __call__(self, texts: np.ndarray) -> np.ndarray:
        """Return the vectors of texts (R, T)."""
        if self._encoder is None:
            self._encoder = open_encoder(self.settings, self.device)
            self._encoder.load(self.learned)
            if self._encoder.embedding_size != len(self.whitening.mean_D):
                raise ArtifactError(f"encoder={self.settings.kind}: its vectors have {self._encoder.embedding_size} "
                                    f"dimensions and those of the model {len(self.whitening.mean_D)}, so they do not "
                                    f"belong together; train the model again")
        return self._finish(self._encoder.encode([str(text) for text in texts], "query"), _said(texts))

    def _finish(self, raw_RD: np.ndarray, said_R: np.ndarray) -> np.ndarray:
        # A text without any word that the encoder knows says nothing either.
        said_R = said_R & (raw_RD != 0).any(axis=1)
        return unit(self.whitening.apply(raw_RD) * said_R[:, None])

    def state(self) -> dict[str, np.ndarray]:
        """Return all that was learned, by name."""
        return {"texts.own": np.array([self.own]),
                **{f"texts.{name}": array for name, array in self.whitening.state().items()},
                **{f"encoder.{name}": array for name, array in self.learned.items()}}

    def read(self, tensors: TensorReader) -> None:
        """Take what `state` returned."""
        self.own = bool(tensors.take("texts.own", BOOL, (1,))[0])
        self.whitening = Whitening.read(tensors.inside("texts."))
        self.learned = encoder_class(self.settings).read(self.settings, tensors.inside("encoder."))


class UserProfiles:
    """Attributes and texts side by side as features: each part of length 1, less its mean; 0 where nothing is known."""

    def __init__(self, texts: ProfileTexts | None) -> None:
        self.texts = texts
        self.mean_A = np.zeros(0, np.float32)

    def fit(self, users: Catalogue, trained: np.ndarray) -> np.ndarray:
        """Learn the mean of the users in training, bool (U,), and return the attributes of all (U, A)."""
        raw = unit(users.attributes.toarray())
        known = trained & (raw != 0).any(axis=1)
        self.mean_A = raw[known].mean(axis=0) if known.any() else np.zeros(raw.shape[1], np.float32)
        return self.attributes(users.attributes, len(users))

    def attributes(self, attributes_RA: sp.csr_array | None, num_rows: int) -> np.ndarray:
        """Return the features of attributes (R, A)."""
        if attributes_RA is None:
            return np.zeros((num_rows, len(self.mean_A)), np.float32)
        raw_RA = unit(attributes_RA.toarray())
        return ((raw_RA - self.mean_A) * (raw_RA != 0).any(axis=1, keepdims=True)).astype(np.float32)

    def __call__(self, attributes_RA: sp.csr_array | None, texts: np.ndarray | None, num_rows: int) -> np.ndarray:
        """Return the features of users (R, F); their own texts count where users in training had any."""
        parts = [self.attributes(attributes_RA, num_rows)]
        if self.texts is not None and self.texts.own:
            parts.append(self.texts(np.full(num_rows, "", object) if texts is None else texts))
        return np.concatenate(parts, axis=1)


class Placement:
    """Multinomial logistic regression from what is known of a user to the clusters.

    A row of zeros, of which nothing is known, is as likely in each cluster as the average user is.
    """

    def __init__(self, weights_FC: np.ndarray, offset_C: np.ndarray) -> None:
        self.weights_FC, self.offset_C = weights_FC, offset_C

    @classmethod
    def fitted(cls, features_UF: np.ndarray, cluster_U: np.ndarray, num_clusters: int, l2: float) -> "Placement":
        """Learn from users whose cluster is known; where they are not told apart, all have the clusters' sizes."""
        # Only here: it takes a second to load.
        from sklearn.linear_model import LogisticRegression

        # Half a user in an empty cluster, so that it is unlikely and not impossible.
        sizes_C = np.maximum(np.bincount(cluster_U, minlength=num_clusters), 0.5)
        weights_FC = np.zeros((features_UF.shape[1], num_clusters), np.float32)
        offset_C = np.log(sizes_C / sizes_C.sum()).astype(np.float32)
        known = (features_UF != 0).any(axis=1)
        if len(np.unique(cluster_U[known])) < 2:
            return cls(weights_FC, offset_C)
        found = LogisticRegression(C=1 / l2, max_iter=500).fit(features_UF[known], cluster_U[known])
        rows, offsets = found.coef_, found.intercept_
        if len(found.classes_) == 2:
            # One row for two classes: how far the second is ahead.
            rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
        weights_FC[:, found.classes_] = rows.T
        # Clusters that nobody with a profile is in stay as likely as they are large.
        share = np.log(sizes_C[found.classes_].sum() / sizes_C.sum())
        offset_C[found.classes_] = log_softmax(offsets[None])[0] + share
        return cls(weights_FC, offset_C)

    def __call__(self, features_RF: np.ndarray) -> np.ndarray:
        """Return the logs of how likely each cluster is (R, C)."""
        return log_softmax(features_RF @ self.weights_FC + self.offset_C)

    def state(self, name: str) -> dict[str, np.ndarray]:
        """Return all that was learned, by name."""
        return {f"{name}.weights": self.weights_FC, f"{name}.offset": self.offset_C}

    @classmethod
    def read(cls, tensors: TensorReader, num_features: int, num_clusters: int) -> "Placement":
        """Return what `state` was of."""
        return cls(tensors.take("weights", FLOAT, (num_features, num_clusters)),
                   tensors.take("offset", FLOAT, (num_clusters,)))


def unit(matrix_RF: np.ndarray) -> np.ndarray:
    """Return rows of length 1; those that are all 0 stay so."""
    norms_R1 = np.linalg.norm(matrix_RF, axis=1, keepdims=True)
    return (matrix_RF / np.maximum(norms_R1, 1e-9)).astype(np.float32)


def log_softmax(logits_RC: np.ndarray) -> np.ndarray:
    """Return the logs of the softmax of each row."""
    shifted_RC = logits_RC - logits_RC.max(axis=1, keepdims=True)
    return shifted_RC - np.log(np.exp(shifted_RC).sum(axis=1, keepdims=True))


def _said(texts: np.ndarray) -> np.ndarray:
    return np.fromiter((bool(str(text).strip()) for text in texts), bool, len(texts))
