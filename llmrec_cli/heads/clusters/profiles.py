"""User profiles (attributes and text), and the assignment of profiles to clusters.

Shapes: R queried users, U users, N items, A attributes, D size of an encoder vector, T size of a text vector,
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
    """Vectors of user texts by a frozen encoder: centred, of length 1; zeros for an empty text.

    If no user has a text (`own` is False), a user's vector is the sum of the vectors of their items' texts.
    """

    def __init__(self, encoder: Any, device: torch.device) -> None:
        self.settings, self.device = encoder, device
        self.own = True
        self.whitening = Whitening(np.zeros(0, np.float32))
        self.encoder_state: dict[str, np.ndarray] = {}
        self._encoder: Encoder | None = None

    def fit(self, users: Catalogue, items: Catalogue, matrix_UN: sp.csr_array, cache: Path | None) -> np.ndarray:
        """Return the vectors of the users (U, T); `matrix_UN` has their training interactions."""
        self.own = bool(_has_text(users.texts).any())
        texts = users.texts if self.own else items.texts
        in_training = np.diff(matrix_UN.indptr) > 0 if self.own else np.bincount(matrix_UN.indices,
                                                                                 minlength=len(items)) > 0
        fit_rows = _has_text(texts) & in_training
        if not fit_rows.any():
            raise DataError("head=clusters, head.text: neither the users in training nor their items have a text; "
                            "prepare with dataset.user_text='<template over the columns of dataset.users>', or set "
                            "head.text=0")
        encoder = open_encoder(self.settings, self.device, cache)
        encoder.fit([str(text) for text in texts[fit_rows]])
        self.encoder_state, self._encoder = encoder.state(), encoder
        raw = encode_cached(encoder, [str(text) for text in texts], cache)
        self.whitening = fit_whitening(self.settings, raw, fit_rows)
        vectors = self._finish(raw, _has_text(texts))
        return vectors if self.own else unit((matrix_UN @ vectors).astype(np.float32))

    def __call__(self, texts: np.ndarray) -> np.ndarray:
        """Return the vectors of texts (R, T)."""
        if self._encoder is None:
            self._encoder = open_encoder(self.settings, self.device)
            self._encoder.load(self.encoder_state)
            if self._encoder.embedding_size != len(self.whitening.mean_D):
                raise ArtifactError(f"encoder={self.settings.kind}: its vectors have {self._encoder.embedding_size} "
                                    f"dimensions, but those of the model {len(self.whitening.mean_D)}; train the model "
                                    f"again")
        return self._finish(self._encoder.encode([str(text) for text in texts], "query"), _has_text(texts))

    def _finish(self, raw_RD: np.ndarray, has_text_R: np.ndarray) -> np.ndarray:
        # A text without any word known to the encoder counts as empty.
        has_text_R = has_text_R & (raw_RD != 0).any(axis=1)
        return unit(self.whitening.apply(raw_RD) * has_text_R[:, None])

    def state(self) -> dict[str, np.ndarray]:
        """Return all learned arrays by name."""
        return {"texts.own": np.array([self.own]),
                **{f"texts.{name}": array for name, array in self.whitening.state().items()},
                **{f"encoder.{name}": array for name, array in self.encoder_state.items()}}

    def read(self, tensors: TensorReader) -> None:
        """Restore `state`."""
        self.own = bool(tensors.take("texts.own", BOOL, (1,))[0])
        self.whitening = Whitening.read(tensors.inside("texts."))
        self.encoder_state = encoder_class(self.settings).read(self.settings, tensors.inside("encoder."))


class UserProfiles:
    """Attribute and text features, concatenated: each part has length 1 and is centred; 0 if it is missing."""

    def __init__(self, texts: ProfileTexts | None) -> None:
        self.texts = texts
        self.mean_A = np.zeros(0, np.float32)

    def fit(self, users: Catalogue, in_training: np.ndarray) -> np.ndarray:
        """Learn the mean of the users in training, a mask bool (U,), and return the attributes of all users (U, A)."""
        raw = unit(users.attributes.toarray())
        fit_rows = in_training & (raw != 0).any(axis=1)
        self.mean_A = raw[fit_rows].mean(axis=0) if fit_rows.any() else np.zeros(raw.shape[1], np.float32)
        return self.attributes(users.attributes, len(users))

    def attributes(self, attributes_RA: sp.csr_array | None, num_rows: int) -> np.ndarray:
        """Return the features of attributes (R, A)."""
        if attributes_RA is None:
            return np.zeros((num_rows, len(self.mean_A)), np.float32)
        raw_RA = unit(attributes_RA.toarray())
        return ((raw_RA - self.mean_A) * (raw_RA != 0).any(axis=1, keepdims=True)).astype(np.float32)

    def __call__(self, attributes_RA: sp.csr_array | None, texts: np.ndarray | None, num_rows: int) -> np.ndarray:
        """Return the features of users (R, F); their texts are used only if users in training had texts."""
        parts = [self.attributes(attributes_RA, num_rows)]
        if self.texts is not None and self.texts.own:
            parts.append(self.texts(np.full(num_rows, "", object) if texts is None else texts))
        return np.concatenate(parts, axis=1)


class Placement:
    """Multinomial logistic regression from profile features to clusters.

    A row of zeros (an unknown profile) gets the cluster probabilities of the average user.
    """

    def __init__(self, weights_FC: np.ndarray, offset_C: np.ndarray) -> None:
        self.weights_FC, self.offset_C = weights_FC, offset_C

    @classmethod
    def fit(cls, features_UF: np.ndarray, cluster_U: np.ndarray, num_clusters: int, l2: float) -> "Placement":
        """Fit on users with known clusters; if their profiles cover one cluster only, use the clusters' sizes."""
        # Only here: it takes a second to load.
        from sklearn.linear_model import LogisticRegression

        # Half a user in an empty cluster, so that it is unlikely and not impossible.
        sizes_C = np.maximum(np.bincount(cluster_U, minlength=num_clusters), 0.5)
        weights_FC = np.zeros((features_UF.shape[1], num_clusters), np.float32)
        offset_C = np.log(sizes_C / sizes_C.sum()).astype(np.float32)
        has_profile_U = (features_UF != 0).any(axis=1)
        if len(np.unique(cluster_U[has_profile_U])) < 2:
            return cls(weights_FC, offset_C)
        model = LogisticRegression(C=1 / l2, max_iter=500).fit(features_UF[has_profile_U], cluster_U[has_profile_U])
        rows, offsets = model.coef_, model.intercept_
        if len(model.classes_) == 2:
            # scikit-learn has one row for two classes: the logit of the second over the first.
            rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
        weights_FC[:, model.classes_] = rows.T
        # Clusters without any member with a profile keep the probability of their size.
        share = np.log(sizes_C[model.classes_].sum() / sizes_C.sum())
        offset_C[model.classes_] = log_softmax(offsets[None])[0] + share
        return cls(weights_FC, offset_C)

    def __call__(self, features_RF: np.ndarray) -> np.ndarray:
        """Return the log probability of each cluster (R, C)."""
        return log_softmax(features_RF @ self.weights_FC + self.offset_C)

    def state(self, name: str) -> dict[str, np.ndarray]:
        """Return the learned arrays, their names prefixed by `name`."""
        return {f"{name}.weights": self.weights_FC, f"{name}.offset": self.offset_C}

    @classmethod
    def read(cls, tensors: TensorReader, num_features: int, num_clusters: int) -> "Placement":
        """Return the placement with this state."""
        return cls(tensors.take("weights", FLOAT, (num_features, num_clusters)),
                   tensors.take("offset", FLOAT, (num_clusters,)))


def unit(matrix_RF: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; rows of zeros stay zero."""
    norms_R1 = np.linalg.norm(matrix_RF, axis=1, keepdims=True)
    return (matrix_RF / np.maximum(norms_R1, 1e-9)).astype(np.float32)


def log_softmax(logits_RC: np.ndarray) -> np.ndarray:
    """Return the logs of the softmax of each row."""
    shifted_RC = logits_RC - logits_RC.max(axis=1, keepdims=True)
    return shifted_RC - np.log(np.exp(shifted_RC).sum(axis=1, keepdims=True))


def _has_text(texts: np.ndarray) -> np.ndarray:
    return np.fromiter((bool(str(text).strip()) for text in texts), bool, len(texts))
