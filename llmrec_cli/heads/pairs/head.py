"""Base of the heads that train a model of pairs: mf, factorization_machine, neural_cf.

Shapes: Q queries, U users, N items in training, M items now, K size of a user's row, L size of an item's row.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import BOOL, FLOAT, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.pairs.model import PairModel
from llmrec_cli.heads.pairs.steps import ChoiceSteps, ValueSteps, training_memory
from llmrec_cli.heads.shared.history_vectors import history_sums, history_vectors, weight_sums
from llmrec_cli.heads.shared.pair_targets import pair_values, resolve_target, unused_weights, weights_of_choices
from llmrec_cli.heads.shared.tensor_files import load_parameters, require_sizes
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.pairs import PairSettings
from llmrec_cli.training.loop import Length, TrainContext, train

_DEFAULT_RATE = 0.01
"""Default peak learning rate; at a tenth of it MovieLens-100K does not converge in 20 epochs."""

_FOLD_IN_RIDGE = 0.01
"""Ridge of the map from histories to users, times the mean of its Gram matrix's diagonal."""


class PairHead(Head):
    """A model of pairs of a user and an item.

    A user in training is scored by the learned row. Other users are folded in from their history: a ridge regression,
    solved once after training on all training users, maps the sum of the history's item rows divided by the root of
    their number (and a constant) to the user's row. A query without a history gets the mean of all users' rows, so it
    is scored by popularity.

    Nothing is learned about an item without training interactions. If values are predicted it is the average item; if
    choices are ranked it gets the lowest score of the query, so that it never ranks above an item in training.
    """

    settings: PairSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.model: PairModel | None = None
        self.trained_U = np.zeros(0, bool)
        self.trained_N = np.zeros(0, bool)
        self.scorable_M = np.zeros(0, bool)
        self.added_RL: list[torch.Tensor] = []
        self.fold_in_LK = torch.zeros(0, 0)
        self.usual_L = torch.zeros(0)
        self.average_K = torch.zeros(0)

    @property
    def score_meaning(self) -> str | None:
        """`value` or `logit` (of a like) if the target is one of them, else None."""
        return {"value": "value", "opinion": "logit"}.get(self.settings.target)

    @property
    def uses_identity(self) -> bool:
        """Always: users in training have vectors of their own."""
        return True

    @property
    def without_fold_in(self) -> list[str]:
        """The head itself: only new users are folded in."""
        return [self.settings.kind]

    @abstractmethod
    def model_of(self, users: Catalogue, items: Catalogue, mean: float) -> PairModel:
        """Return the untrained model; `mean` is its prediction for an unknown pair."""

    def can_score(self, items: Catalogue) -> np.ndarray:
        """Return the mask of the items of the training catalogue that the model can score, bool (N,)."""
        return self.trained_N

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the model with gradients and moments, a step's scores and the order of an epoch."""
        is_attacked = self.config.adversarial is not None and bool(self.config.adversarial.perturbs)
        return training_memory(self.settings, self.config.optim.batch_size, data, self.row_size(), self.hidden_size(),
                               is_attacked)

    @abstractmethod
    def row_size(self) -> int:
        """Return the number of learned parameters of a user plus those of an item."""

    def hidden_size(self) -> int:
        """Return the number of intermediate values of a pair's score."""
        return 0

    def fit(self, data: TrainingData, context: Context) -> None:
        """Train the model, then solve for the fold-in map of new users."""
        optim, device = self.config.optim, context.device
        target = resolve_target(self.settings.target, self.config.loss, data)
        self.settings = replace(self.settings, target=target)
        self.interaction_weights = weights_of_choices(data, self.settings, target)
        user, item, value = pair_values(data, target)
        self.trained_U = np.bincount(user, minlength=len(data.users)) > 0
        self.trained_N = np.bincount(item, minlength=len(data.items)) > 0
        torch.manual_seed(context.seed)
        self.model = self.model_of(data.users, data.items, _mean(value, target)).to(device)
        self.scorable_M = self.can_score(data.items)
        self.added_RL = []
        shared = self.model, self.settings, self.config.loss
        steps: Any  # Each has its own type of batches.
        options = optim.batch_size, device, self.config.adversarial
        steps = (ChoiceSteps(*shared, data.interactions, *options, self.interaction_weights) if target == "choice"
                 else ValueSteps(*shared, data, *options))
        length = Length(self.settings.stop_after or optim.epochs, steps.num_batches, optim.epochs)
        parts = {"head": self.settings, "loss": self.config.loss, "adversarial": self.config.adversarial}
        same = {f"{group}.{key}": entry for group, settings in parts.items() if settings is not None
                for key, entry in to_plain(settings).items()}
        train_context = TrainContext(device, context.seed, context.log, context.folder,
                                     context.folder if context.resumed else None, context.tensorboard,
                                     self.settings.kind, same)
        context.log("target", target=target)
        result = train(self.model, steps.batches, steps.loss, [(self.model, optim.rate(_DEFAULT_RATE))], optim, length,
                       train_context, self._validation(data, context), split=steps.split)
        self._solve_fold_in(self.interaction_weights.matrix(data.interactions))
        self.settings = replace(self.settings, stop_after=result.best_epoch)

    def unused_values(self, data: TrainingData) -> list[str]:
        """Return the reasons why values are not used; empty if the values are the target."""
        return super().unused_values(data) if self.settings.target == "choice" else []

    def unused_settings(self, data: TrainingData) -> dict[str, str]:
        """Return weight and decay unless the target is `choice`."""
        return unused_weights(resolve_target(self.settings.target, self.config.loss, data))

    def _validation(self, data: TrainingData, context: Context) -> Callable[[], float] | None:
        # The order of a list does not measure the error of predicted values, so it must not decide when to stop.
        if context.validation is None or self.settings.target != "choice":
            return None
        validation = context.validation

        def validate() -> float:
            if not self._is_known(validation.queries).all():
                self._solve_fold_in(self.interaction_weights.matrix(data.interactions))
            return validation(self.score)

        return validate

    @torch.no_grad()
    def _solve_fold_in(self, matrix: sp.csr_array) -> None:
        """Solve the fold-in of new users: the average row, and a linear map from histories to deviations from it."""
        model = self._require_fitted()
        users = np.flatnonzero(np.diff(matrix.indptr))
        rows_UK = model.users(self._ids(users)).rows
        sums_UL = self._history(matrix[users])
        self.average_K, self.usual_L = rows_UK.mean(dim=0), sums_UL.mean(dim=0)
        centred_UL = sums_UL - self.usual_L
        gram_LL = centred_UL.T @ centred_UL
        # Above 0 even if all histories are equal.
        gram_LL.diagonal().add_(_FOLD_IN_RIDGE * gram_LL.diagonal().mean() + 1e-6)
        self.fold_in_LK = torch.linalg.solve(gram_LL, centred_UL.T @ (rows_UK - self.average_K))

    def _history(self, history: sp.csr_array) -> torch.Tensor:
        """Return the sum of each history's item rows divided by the root of their number (Q, L).

        With weights, their weighted mean times that root.
        """
        history = sp.csr_array(history[:, :len(self.trained_N)])
        indices, indptr = self._ids(history.indices), self._ids(history.indptr)
        items_NL = self._require_fitted().items(torch.arange(len(self.trained_N), device=indices.device)).rows
        if self.interaction_weights.is_uniform:
            return history_vectors(history_sums(items_NL, indices, indptr), indptr.diff())
        weight_L = torch.from_numpy(history.data).to(items_NL)
        return history_vectors(history_sums(items_NL, indices, indptr, weight_L), indptr.diff(),
                               weight_sums(weight_L, indptr))

    @torch.no_grad()
    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return the scores (Q, M): of known users by their learned rows, of others by their histories."""
        model = self._require_fitted()
        items_ML = torch.cat([model.items(self._ids(np.arange(len(self.trained_N)))).rows, *self.added_RL])
        scores_QM = model.block(self._users(queries), items_ML)
        if self.settings.target == "choice" and not self.scorable_M.all():
            scorable_M = torch.from_numpy(self.scorable_M).to(scores_QM.device)
            lowest_Q = scores_QM.masked_fill(~scorable_M, float("inf")).amin(dim=1, keepdim=True)
            scores_QM = torch.where(scorable_M, scores_QM, lowest_Q)
        return scores_QM

    def _users(self, queries: Queries) -> torch.Tensor:
        """Return the rows of the queries (Q, K)."""
        is_known_Q = self._is_known(queries)
        rows_QK = self._require_fitted().users(self._ids(np.where(is_known_Q, queries.user, 0))).rows
        if is_known_Q.all():
            return rows_QK
        new = np.flatnonzero(~is_known_Q)
        history = self.history(queries)[new]
        sums_RL = self._history(history)
        has_history_R1 = self._ids(np.diff(history[:, :len(self.trained_N)].indptr))[:, None] > 0
        rows_QK[self._ids(new)] = self.average_K + ((sums_RL - self.usual_L) @ self.fold_in_LK) * has_history_R1
        return rows_QK

    def _is_known(self, queries: Queries) -> np.ndarray:
        """Return the mask of queries of users in training, bool (Q,)."""
        is_known_Q: np.ndarray = (queries.user >= 0) & self.trained_U[queries.user]
        return is_known_Q

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the chosen target and number of epochs."""
        return replace(self.config, head=self.settings)

    @torch.no_grad()
    def add_items(self, items: Catalogue) -> None:
        """Append untrained items; the class docstring says how they are scored."""
        rows_RL, scorable_R = self.new_items(items)
        self.added_RL.append(rows_RL)
        self.scorable_M = np.concatenate([self.scorable_M, scorable_R])

    def new_items(self, items: Catalogue) -> tuple[torch.Tensor, np.ndarray]:
        """Return the rows (R, L) of new items and the mask of those that the model can score, bool (R,)."""
        return self._require_fitted().new_items(len(items)), np.zeros(len(items), bool)

    def state(self) -> dict[str, np.ndarray]:
        """Return the model, the masks of trained users and items, and the fold-in map."""
        own = {f"model.{name}": tensor.cpu().numpy() for name, tensor in self._require_fitted().state_dict().items()}
        return own | {"trained_users": self.trained_U, "trained_items": self.trained_N,
                      "fold_in": self.fold_in_LK.cpu().numpy(), "usual_history": self.usual_L.cpu().numpy(),
                      "average_user": self.average_K.cpu().numpy()} | \
            self.interaction_weights.state()

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore `state`."""
        self.interaction_weights = InteractionWeights.read(tensors)
        self.trained_U = tensors.take("trained_users", BOOL, (len(users),))
        self.trained_N = tensors.take("trained_items", BOOL, (len(items),))
        require_sizes(self.settings, tensors, "model")
        self.model = self.model_of(users, items, 0.0)
        load_parameters(self.model, tensors, "model", self.settings.kind)
        self.model.to(context.device).eval()
        no_ids = torch.zeros(0, dtype=torch.int64, device=context.device)
        with torch.no_grad():
            size_K, size_L = (rows(no_ids).rows.shape[1] for rows in (self.model.users, self.model.items))
        shapes = {"fold_in": (size_L, size_K), "usual_history": (size_L,), "average_user": (size_K,)}
        self.fold_in_LK, self.usual_L, self.average_K = (
            torch.from_numpy(tensors.take(name, FLOAT, shape)).to(context.device) for name, shape in shapes.items())
        self.scorable_M = self.can_score(items)
        self.added_RL = []

    def _ids(self, ids: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(ids.astype(np.int64)).to(next(self._require_fitted().parameters()).device)

    def _require_fitted(self) -> PairModel:
        assert self.model is not None, "fit or load first"
        return self.model


def _mean(value: np.ndarray, target: str) -> float:
    """Return the prediction for an unknown pair."""
    mean = float(value.mean(dtype=np.float64))
    # For opinions the logit of the share of likes, clipped to stay finite if there are only likes or only dislikes.
    share = min(max(mean, 0.01), 0.99)
    return {"choice": 0.0, "value": mean, "opinion": math.log(share / (1 - share))}[target]
