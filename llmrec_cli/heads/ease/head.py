"""EASE; collective EASE if item features have a weight.

Shapes: Q queries, N items in training, K items added later, M = N + K, U users, F sparse features, D dense features.
"""

from dataclasses import replace

import numpy as np
import psutil
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import FLOAT, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, fit_weights
from llmrec_cli.errors import ConfigError, ResourceError, in_bytes
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.ease.solvers import Dual, Primal, Rows
from llmrec_cli.heads.shared.features import ItemFeatures, features_memory
from llmrec_cli.heads.shared.item_kernel import operations_per_second
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.heads.shared.matrix_products import ColumnBlocks
from llmrec_cli.settings.head import EaseSettings, ModelConfig

_MEASURED_OPERATIONS = 1e10
"""Operations of a solve from which its time is predicted; fewer take less than a few seconds anywhere."""
_L2_PER_INTERACTION = 5.0
"""Default ridge penalty per interaction of the average item."""


class Ease(Head):
    """Embarrassingly shallow autoencoder (Steck 2019, eq. 8) over interactions and features.

    Collective (Jeunen et al. 2020): a feature, times its weight, is one more user who interacted with the items that
    have it. An item outside training has no row but a column, the regression on its features: for a single new item
    exactly the column that EASE would give an item without interactions. Several new items do not affect each other;
    texts are centred by the mean of the items in training.

    With weights, the entries of X are the weights: B minimises |X - X B|^2 + the penalties, so each item's weight is
    regressed on the weights of the user's other items. Histories are weighted too: a known user's history is the row
    of X. Steck states EASE for binary X but nowhere needs it, nor do Ning and Karypis 2011 (SLIM, eq. 3).

    Differs: the penalty may grow with an item's popularity and a user's weight fall with the length of the history.
    """

    settings: EaseSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.form: Primal | Dual | None = None
        self.features: ItemFeatures | None = None
        self.new_columns = ColumnBlocks(0)

    @property
    def supports_text_queries(self) -> bool:
        """True if item texts are among the features."""
        return self.features is not None and self.features.text is not None

    @property
    def item_texts(self) -> ItemTexts | None:
        """Item texts, if text has a weight."""
        return None if self.features is None else self.features.text

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the features and of the form that `fit` will choose."""
        weights = self.settings.features
        without = replace(weights, text=0, documents=0, entities=0, tuned=False, stop_after=None)
        features = ItemFeatures(without, self.config, torch.device("cpu"))
        features.fit(data, Context(torch.device("cpu"), seed=0))
        sparse_RN = self._rows(data.interactions, features).sparse_RN
        size = 0 if self.config.encoder is None else self.config.encoder.vector_size()
        num_dense = size * sum(weight > 0 for weight in (weights.text, weights.frozen_text, weights.documents))
        if weights.entities > 0 and self.config.entities is not None:
            num_dense += self.config.entities.embedding_size
        num_rows, num_items = sparse_RN.shape
        form = (Primal.estimate_memory(np.bincount(sparse_RN.indices, minlength=num_items), num_rows, num_dense)
                if self._primal(num_items, num_rows + num_dense) else
                Dual.estimate_memory(np.diff(sparse_RN.indptr), num_items, num_dense))
        # The encoder stays open during the solve.
        return features_memory(weights, self.config, data, form)

    def estimate_seconds(self, data: TrainingData, device: torch.device) -> float:
        """Return the time of the solve, from the measured speed of matrix products; 0 for small data."""
        num_items, num_rows = len(data.items), len(data.users)
        form = Primal if self._primal(num_items, num_rows) else Dual
        operations = form.estimate_operations(num_items, num_rows)
        return operations / operations_per_second(device) if operations > _MEASURED_OPERATIONS else 0.0

    def fit(self, data: TrainingData, context: Context) -> None:
        """Solve for the item-item weights."""
        self._require_memory(data)
        self.interaction_weights = fit_weights(data, self.settings)
        self.features = ItemFeatures(self.settings.features, self.config, context.device)
        self.features.fit(data, context)
        rows = self._rows(data.interactions, self.features)
        num_rows, num_items = rows.sparse_RN.shape[0] + len(rows.dense_DN), len(data.items)
        form = Primal if self._primal(num_items, num_rows) else Dual
        context.log("ease", form=form.__name__.lower(), items=num_items, rows=num_rows)
        try:
            self.form = form.fit(rows, self._penalties(data.interactions), context.device)
        except np.linalg.LinAlgError as error:
            raise ConfigError(_singular(self.settings, form)) from error
        self.new_columns = ColumnBlocks(num_items)

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return history x weights (Q, M); new items in a history have no weights and are ignored."""
        assert self.form is not None
        history = self.history(queries)[:, :self.new_columns.num_rows]
        scores_QN = torch.from_numpy(self.form.scores(history))
        if not self.new_columns.blocks:
            return scores_QN
        return torch.cat([scores_QN, self.new_columns.product(history)], dim=1)

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return the cosine of the texts with the items' texts (T, M)."""
        assert self.features is not None
        return self.features.text_similarities(texts)

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the number of text-training epochs that validation chose."""
        features = self.settings.features if self.features is None else self.features.tuned_settings()
        return replace(self.config, head=replace(self.settings, features=features))

    def add_items(self, items: Catalogue) -> None:
        """Append columns for items described by text and attributes; without features they score 0."""
        assert self.features is not None
        assert self.form is not None
        num_items = self.new_columns.num_rows
        dense_ND, sparse_NF = self.features.dense_ND[:num_items], self.features.sparse_NF[:num_items]
        dense_KD, sparse_KF = self.features.add(items)
        similarity_KN = dense_KD @ dense_ND.T + (sparse_KF @ sp.csr_array(sparse_NF.T)).toarray()
        # The ridge regression of the new items' features on the training items' features: P times their similarity.
        columns_KN = (similarity_KN - self.form.scores(similarity_KN)) * self.form.inverse_diagonal_N
        self.new_columns.append(columns_KN.T)

    def state(self) -> dict[str, np.ndarray]:
        """Return the solved form, the features, and the columns of items added later."""
        assert self.form is not None
        assert self.features is not None
        return self.form.state() | self.features.state() | {"added": self.new_columns.dense()} | \
            self.interaction_weights.state()

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore `state`."""
        self.interaction_weights = InteractionWeights.read(tensors)
        self.form = Primal.read(tensors) if "weights" in tensors else Dual.read(tensors, context.device)
        num_items = len(self.form.inverse_diagonal_N)
        self.new_columns = ColumnBlocks(num_items)
        self.new_columns.append(tensors.take("added", FLOAT, (num_items, max(0, len(items) - num_items))))
        if num_items > len(items):
            raise tensors.error("inverse_diagonal", f"has {num_items} items instead of {len(items)}")
        self.features = ItemFeatures(self.settings.features, self.config, context.device)
        self.features.read(tensors, items)

    def _rows(self, interactions: Interactions, features: ItemFeatures) -> Rows:
        """Return users and features as weighted rows."""
        matrix_UN = self.interaction_weights.matrix(interactions)
        length_U = np.diff(matrix_UN.indptr)
        weight_U = (np.maximum(length_U, 1) / _average(length_U))**(-self.settings.user_exponent / 2)
        users_UN = sp.csr_array((np.repeat(weight_U, length_U).astype(np.float32) * matrix_UN.data, matrix_UN.indices,
                                 matrix_UN.indptr), shape=matrix_UN.shape)
        if features.sparse_NF.shape[1]:
            users_UN = sp.csr_array(sp.vstack([users_UN, features.sparse_NF.T], format="csr", dtype=np.float32))
        return Rows(users_UN, np.ascontiguousarray(features.dense_ND.T))

    def _penalties(self, interactions: Interactions) -> np.ndarray:
        """Return each item's ridge penalty, float32 (N,).

        An item's popularity is the sum of its squared weights: the diagonal of X'X, to which the penalty is added.
        """
        count_N = self.interaction_weights.by_item(interactions, power=2)
        average = _average(count_N)
        l2 = _L2_PER_INTERACTION * average if self.settings.l2 is None else self.settings.l2
        relative_N = np.where(count_N > 0, count_N, 1) / average
        return (l2 * relative_N**self.settings.l2_exponent).astype(np.float32)

    def _primal(self, num_items: int, num_rows: int) -> bool:
        if self.settings.form == "auto":
            # The dual's matrix is float64; it is chosen if it still takes less memory.
            return num_items**2 <= 2 * num_rows**2
        return self.settings.form == "primal"

    def _require_memory(self, data: TrainingData) -> None:
        needed, available = self.estimate_memory(data), psutil.virtual_memory().available
        if needed > available:
            raise ResourceError(f"head=ease: {len(data.items)} items and {len(data.users)} users need "
                                f"{in_bytes(needed)} of memory, but only {in_bytes(available)} are free; choose "
                                f"head=item_knn, or prepare fewer items with dataset.min_item_interactions")


def _singular(settings: EaseSettings, form: type[Primal] | type[Dual]) -> str:
    """Return the error message for a penalty that is too small for the precision of the form."""
    instead = ("; or choose head.form=dual, which solves in double precision" if form is Primal else "")
    return (f"head.l2={settings.l2}: too small for this data: the equations are numerically singular, since some items "
            f"are fully determined by others; set head.l2=1 or more (null sets {_L2_PER_INTERACTION:g} for each "
            f"interaction of the average item){instead}")


def _average(count: np.ndarray) -> float:
    """Return the average of the non-zero counts; 1 if all are 0."""
    return float(count.sum() / max(1, np.count_nonzero(count))) or 1.0
