"""Implicit alternating least squares.

Shapes: Q queries, U users and N items with interactions, M items now, D dimensions.
"""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import DOUBLE, FLOAT, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, fit_weights
from llmrec_cli.errors import DataError, DivergedError
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.ials.least_squares import BATCH_BYTES, LinearPrior, Observed, Penalty, Ridge
from llmrec_cli.heads.shared.features import ItemFeatures, features_memory
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.pace import timed_parts
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.ials import IalsSettings

_START_SCALE = 0.1
"""Approximate norm of an item's factors before the first step."""
_TOLERANCE = 1e-3
"""Residual at which a query's factors count as solved, relative to the residual of zero factors."""


class Ials(Head):
    """iALS (Hu, Koren and Volinsky 2008, with the loss and the penalty of Rendle et al. 2022).

    A pair with interaction weight c has the confidence w (1 + c / w), where w is `unobserved_weight`; a pair without
    an interaction has w. This is Hu et al.'s 1 + alpha f(value), eq. 3 and its log form, with alpha = 1 / w. All
    queries, known users included, are folded in by an exact solve against the item factors, so a new user with a known
    user's history gets that user's scores. Differs from the paper: training takes a few preconditioned steps from the
    last factors instead of an exact solve (`least_squares`), and the loss leaves out items and users without
    interactions. The factors of these items, and of items added later, are predicted from their features; 0 without
    features.
    """

    settings: IalsSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.items_MD = torch.zeros((0, 0))
        self.counts_M = torch.zeros(0)
        self.map_FD: np.ndarray = np.zeros((0, 0), np.float32)
        self.penalty = Penalty(0.0, 0.0, 0.0, 0.0)
        self.features: ItemFeatures | None = None
        self._ridge: Ridge | None = None

    @property
    def supports_text_queries(self) -> bool:
        """True if item texts are among the features."""
        return self.features is not None and self.features.text is not None

    @property
    def item_texts(self) -> ItemTexts | None:
        """Item texts, if text has a weight."""
        return None if self.features is None else self.features.text

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the interactions by user and by item, all factors, and a copy of one side's factors.

        Sorting the interactions before training takes more memory per interaction, but no factors exist then. A batch
        takes three working sets: its vectors and the results computed from them.
        """
        num_users, num_items = len(data.users), len(data.items)
        factors = 4 * self.settings.embedding_size * (num_users + num_items + max(num_users, num_items))
        # Sorting: pairs of int32 with an int8, and their matrix. Training: int32 columns of two matrices.
        num = len(data.interactions)
        cost = num_users * 24 * self.settings.embedding_size + 12 * num
        # torch's sparse products also build the row index and the gathered factors of a batch.
        training = max(14 * num, 8 * num + factors + 3 * min(BATCH_BYTES, cost))
        features = getattr(self.settings, "features", None)
        return training if features is None or not features.used else features_memory(
            features, self.config, data, training + 3 * factors)

    def fit(self, data: TrainingData, context: Context) -> None:
        """Alternate between user and item factors."""
        settings, interactions = self.settings, data.interactions
        self.interaction_weights = fit_weights(data, settings)
        if not len(interactions):
            raise DataError("head=ials: the training split has no interactions; prepare with a larger training split")
        self.features = self._build_features(context.device)
        if self.features is not None:
            self.features.fit(data, context)
        with torch.inference_mode():
            warm_N = np.flatnonzero(interactions.item_counts)
            # Most popular first: rows of similar length become neighbours, and so do the most used factors.
            order_N = warm_N[np.argsort(-interactions.item_counts[warm_N], kind="stable")]
            prior = self._prior(order_N, context.device)
            items_ND = self._alternate(interactions, order_N, prior, context)
            self.items_MD = torch.zeros((len(data.items), settings.embedding_size), device=context.device)
            if prior is not None and self.features is not None:
                self.map_FD = prior.map_FD.cpu().numpy()
                self.items_MD[:] = self._from_features(self.features.dense_ND, self.features.sparse_NF)
            self.items_MD[torch.from_numpy(order_N)] = items_ND
        counts_N = self.interaction_weights.by_item(interactions)
        self.counts_M = torch.from_numpy(counts_N.astype(np.float32)).to(context.device)

    def _alternate(self, interactions: Interactions, order_N: np.ndarray, prior: LinearPrior | None,
                   context: Context) -> torch.Tensor:
        """Return the factors (N, D) of the items in `order_N`."""
        size, weight, device = self.settings.embedding_size, self.settings.unobserved_weight, context.device
        weighs = not self.interaction_weights.is_uniform
        matrix_UN = _by_length(interactions, order_N, self.interaction_weights.of(interactions) if weighs else None)
        by_user, by_item = (Observed(m, size, device, weighs)
                            for m in (matrix_UN, sp.csr_array(matrix_UN.T.tocsr())))
        del matrix_UN
        counts_U, counts_N = (observed.counts_R.numpy().astype(np.float64) for observed in (by_user, by_item))
        self.penalty = self._penalty(counts_U, len(counts_N))
        item_penalty = self._penalty(counts_N, len(counts_U))
        users, items = (torch.from_numpy(c.astype(np.float32)).to(device) for c in (counts_U, counts_N))
        draw = torch.Generator().manual_seed(context.seed)
        y_ND = (torch.randn((len(items), size), generator=draw) * _START_SCALE / size**0.5).to(device)
        x_UD = torch.zeros((len(users), size), device=device)
        penalties_N1 = item_penalty(items)[:, None]
        for iteration in timed_parts("ials", "iterations", range(self.settings.iterations)):
            # From zero factors, one step is too short to be worth the items' step after it.
            Ridge(y_ND, items, weight, self.penalty).improve(by_user, x_UD, 2 if iteration == 0 else 1)
            means_ND = None if prior is None else prior.means()
            Ridge(x_UD, users, weight, item_penalty).improve(by_item, y_ND, 1, means_ND)
            if not torch.isfinite(y_ND).all():
                raise DivergedError(f"head=ials: item factors are NaN or infinite after iteration {iteration + 1} of "
                                    f"{self.settings.iterations}; choose a head.l2 nearer to its default")
            if prior is not None:
                prior.fit(y_ND, penalties_N1 / penalties_N1.mean())
        return y_ND

    def _penalty(self, counts: np.ndarray, num_others: int) -> Penalty:
        """Return the penalty of users (or items) from their counts and the number of items (or users).

        A penalty p on both factors reduces each singular value of their product by p. A random matrix has singular
        values up to the sum of the roots of its mean row and column sums: that is the unit of `l2`.
        """
        settings = self.settings
        noise = (counts.sum() / len(counts))**0.5 + (counts.sum() / num_others)**0.5
        return Penalty.of(counts, settings.unobserved_weight * num_others, settings.l2 * noise,
                          settings.frequency_exponent)

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return user factors x item factors (Q, M); user factors are solved from the histories.

        Items without interactions count in a history only if features gave them factors.
        """
        history_QM = sp.csr_array(self.history(queries)[:, : len(self.items_MD)])
        if self.features is None:
            is_warm = self.counts_M.cpu().numpy()[history_QM.indices] > 0
            history_QM = _select_entries(history_QM, is_warm)
        lengths_Q = np.diff(history_QM.indptr)
        order_Q = np.argsort(lengths_Q, kind="stable")
        history_QM = history_QM[order_Q]
        history_QM.sort_indices()
        with torch.inference_mode():
            if self._ridge is None:
                self._ridge = Ridge(self.items_MD, self.counts_M, self.settings.unobserved_weight, self.penalty)
            observed = Observed(history_QM, self.items_MD.shape[1], self.items_MD.device,
                                weighted=not self.interaction_weights.is_uniform)
            solved_QD = self._ridge.solve(observed, _TOLERANCE)
            users_QD = torch.empty_like(solved_QD)
            users_QD[torch.from_numpy(order_Q)] = solved_QD
            return users_QD @ self.items_MD.T

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return the cosine of the texts with the items' texts (T, M)."""
        assert self.features is not None
        return self.features.text_similarities(texts)

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the number of text-training epochs that validation chose."""
        features = self.settings.features if self.features is None else self.features.tuned_settings()
        return replace(self.config, head=replace(self.settings, features=features))

    def add_items(self, items: Catalogue) -> None:
        """Append items with factors predicted from their features; 0 without features."""
        new_KD = torch.zeros((len(items), self.items_MD.shape[1]))
        if self.features is not None:
            new_KD = self._from_features(*self.features.add(items))
        self.items_MD = torch.cat([self.items_MD, new_KD.to(self.items_MD.device)])
        self.counts_M = torch.cat([self.counts_M, self.counts_M.new_zeros(len(items))])
        self._ridge = None

    def state(self) -> dict[str, np.ndarray]:
        """Return the item factors, and the arrays for folding in histories and new items."""
        penalty = self.penalty
        state = {"items": self.items_MD.cpu().numpy(), "counts": self.counts_M.cpu().numpy(),
                 "penalty": np.array([penalty.scale, penalty.offset, penalty.exponent, penalty.usual])}
        if self.features is not None:
            state |= {"map": self.map_FD} | self.features.state()
        return state | self.interaction_weights.state()

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore `state`."""
        size = self.settings.embedding_size
        self.items_MD = torch.from_numpy(tensors.take("items", FLOAT, (len(items), size))).to(context.device)
        self.counts_M = torch.from_numpy(tensors.take("counts", FLOAT, (len(items),), low=0)).to(context.device)
        self.penalty = Penalty(*tensors.take("penalty", DOUBLE, (4,), low=0).tolist())
        self.interaction_weights = InteractionWeights.read(tensors)
        self.features = self._build_features(context.device)
        if self.features is not None:
            self.features.read(tensors, items)
            num_features = self.features.dense_ND.shape[1] + self.features.sparse_NF.shape[1]
            self.map_FD = tensors.take("map", FLOAT, (num_features, size))
        self._ridge = None

    def _build_features(self, device: torch.device) -> ItemFeatures | None:
        weights = self.settings.features
        return ItemFeatures(weights, self.config, device) if weights.used else None

    def _prior(self, order_N: np.ndarray, device: torch.device) -> LinearPrior | None:
        if self.features is None:
            return None
        return LinearPrior(self.features.dense_ND[order_N], sp.csr_array(self.features.sparse_NF[order_N]),
                           self.settings.embedding_size, device)

    def _from_features(self, dense_KE: np.ndarray, sparse_KG: sp.csr_array) -> torch.Tensor:
        num_dense = dense_KE.shape[1]
        return torch.from_numpy(dense_KE @ self.map_FD[:num_dense] + sparse_KG @ self.map_FD[num_dense:])


def _by_length(interactions: Interactions, order_N: np.ndarray, weights: np.ndarray | None) -> sp.csr_array:
    """Return the matrix (U, N) of users with interactions, longest histories first, by items in `order_N`."""
    counts = np.bincount(interactions.user, minlength=interactions.num_users)
    num_users = int((counts > 0).sum())
    place_of_user, place_of_item = np.zeros(len(counts), np.int32), np.zeros(interactions.num_items, np.int32)
    place_of_user[np.argsort(-counts, kind="stable")] = np.arange(len(counts), dtype=np.int32)
    place_of_item[order_N] = np.arange(len(order_N), dtype=np.int32)
    pairs = (place_of_user[interactions.user], place_of_item[interactions.item])
    values = np.ones(len(interactions), np.int8) if weights is None else weights
    matrix = sp.coo_array((values, pairs), shape=(num_users, len(order_N))).tocsr()
    matrix.sort_indices()
    return sp.csr_array(matrix)


def _select_entries(matrix: sp.csr_array, keep_Z: np.ndarray) -> sp.csr_array:
    """Return the matrix with only the entries where `keep_Z` is True."""
    if keep_Z.all():
        return matrix
    ends = np.concatenate([[0], np.cumsum(keep_Z)])[matrix.indptr]
    return sp.csr_array((matrix.data[keep_Z], matrix.indices[keep_Z], ends), shape=matrix.shape)
