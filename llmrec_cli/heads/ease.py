"""EASE, collective when item features have a weight.

Shapes: Q queries, N items in training, M items now, F features.
"""

import numpy as np
import psutil
import scipy.sparse as sp
import torch

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import ResourceError
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.text_vectors import TextVectors
from llmrec_cli.settings.head import Ease as Settings
from llmrec_cli.settings.head import Recipe


class Ease(Head):
    """Embarrassingly shallow autoencoder (Steck 2019, eq. 8) over interactions and features.

    Collective (Jeunen et al. 2020): a feature, times its weight, is one more user who interacted with the items that
    have it. An item outside training has no row of its own but a column, the regression of its features: for a single
    new item exactly what EASE would give an item without interactions. Several new items do not see each other, and
    texts are centred by the mean of the items in training.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.head, Settings)
        self.settings = recipe.head
        self.weights_NM: np.ndarray = np.zeros((0, 0), np.float32)
        self.from_features_NF: np.ndarray = np.zeros((0, 0), np.float32)
        self.attribute_names: list[str] = []
        self.text: TextVectors | None = None

    @property
    def answers_text(self) -> bool:
        """Whether there are text vectors to compare a text with."""
        return self.text is not None

    def memory(self, data: TrainingData) -> int:
        """Return the bytes of the Gram matrix, its factor, the inverse and the weights, in float32."""
        return 4 * 4 * len(data.items)**2

    def fit(self, data: TrainingData, context: Context) -> None:
        """Solve for the item-item weights."""
        num_items = len(data.items)
        _require_memory(num_items)
        if self.settings.features.text > 0:
            self.text = TextVectors(self.recipe.encoder, context.device)
            self.text.fit(data.items.texts, context.memo)
        self.attribute_names = data.items.attribute_names
        features_NF = self._features(data.items, None if self.text is None else self.text.items_ND)
        matrix = data.interactions.matrix
        gram_NN = torch.from_numpy((sp.csr_array(matrix.T) @ matrix).toarray()).to(context.device)
        features = torch.from_numpy(features_NF).to(context.device)
        gram_NN += features @ features.T
        gram_NN.diagonal().add_(self.settings.l2)
        inverse_NN = torch.cholesky_inverse(torch.linalg.cholesky(gram_NN))
        self.from_features_NF = (inverse_NN @ features).cpu().numpy()
        weights_NN = inverse_NN / -inverse_NN.diagonal()
        weights_NN.fill_diagonal_(0)
        self.weights_NM = weights_NN.cpu().numpy()

    def score(self, queries: Queries) -> torch.Tensor:
        """Return history x weights (Q, M); new items in a history have no weights yet and are passed over."""
        history = queries.history[:, : self.weights_NM.shape[0]]
        return torch.from_numpy(history @ self.weights_NM)

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return the cosine of the texts with the items' texts (T, M)."""
        assert self.text is not None
        return self.text.similarities(texts)

    def add_items(self, items: Entities) -> None:
        """Append columns for items known by text and attributes; without features they score 0."""
        vectors = None if self.text is None else self.text.add(items.texts)
        new_NK = self.from_features_NF @ self._features(items, vectors).T
        self.weights_NM = np.concatenate([self.weights_NM, new_NK.astype(np.float32)], axis=1)

    def _features(self, items: Entities, vectors_ND: np.ndarray | None) -> np.ndarray:
        """Return the weighted features (num_items, F): text vectors, then attributes normalised per item."""
        parts: list[np.ndarray] = [np.zeros((len(items), 0), np.float32)]
        if vectors_ND is not None:
            parts.append(self.settings.features.text * vectors_ND)
        if self.settings.features.attributes > 0 and self.attribute_names:
            column = {name: n for n, name in enumerate(self.attribute_names)}
            coo = items.attributes.tocoo()
            places = np.array([column.get(name, -1) for name in items.attribute_names], np.int64)[coo.col]
            dense_NA = np.zeros((len(items), len(self.attribute_names)), np.float32)
            dense_NA[coo.row[places >= 0], places[places >= 0]] = 1
            norm_N1 = np.sqrt(dense_NA.sum(axis=1, keepdims=True))
            parts.append(self.settings.features.attributes * dense_NA / np.maximum(norm_N1, 1))
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Return the weights and what new items and texts need."""
        state: dict[str, np.ndarray] = {"weights": self.weights_NM, "from_features": self.from_features_NF}
        if self.text is not None:
            state |= {"text_mean": self.text.mean_D, "text_items": self.text.items_ND}
        return state

    def load(self, state: dict[str, np.ndarray], users: Entities, items: Entities, context: Context) -> None:
        """Take what `state` returned."""
        self.weights_NM, self.from_features_NF = state["weights"], state["from_features"]
        self.attribute_names = items.attribute_names
        if self.settings.features.text > 0:
            self.text = TextVectors(self.recipe.encoder, context.device)
            self.text.mean_D, self.text.items_ND = state["text_mean"], state["text_items"]


def _require_memory(num_items: int) -> None:
    # Gram matrix, its factor, the inverse and the weights, in float32.
    needed, available = 4 * 4 * num_items**2, psutil.virtual_memory().available
    if needed > available:
        raise ResourceError(f"head=ease: {num_items} items need {needed / 2**30:.1f} GiB of memory and "
                            f"{available / 2**30:.1f} GiB are free; choose head=item_knn, or prepare fewer items with "
                            f"dataset.min_item_interactions")
