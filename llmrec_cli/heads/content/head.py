"""Content: scores from item features, also for cold items.

Shapes: Q queries, N items of the training data, M items now, T items with training interactions.
"""

import sys
from dataclasses import replace

import numpy as np
import psutil
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.recency import Recency
from llmrec_cli.data.tensors import DOUBLE, FLOAT, INTEGER, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, fit_weights
from llmrec_cli.errors import ResourceError, in_bytes
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.content.choice import GRID, PROGRESS_AFTER, choice_memory, choose_settings, defaults
from llmrec_cli.heads.shared.cold_item_validation import make_cold_task
from llmrec_cli.heads.shared.features import ItemFeatures, features_memory
from llmrec_cli.heads.shared.item_kernel import (
    BLOCK_ITEMS,
    Denoiser,
    UnitFeatures,
    kernel,
    mean_size,
    nearest,
    neighbour_weights,
    operations_per_second,
    ridge_inverse,
    target_columns,
)
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.heads.shared.matrix_products import ColumnBlocks
from llmrec_cli.settings.head import ContentSettings, ModelConfig


class Content(Head):
    """Kernel ridge from item features to collaborative scores, blended with nearest neighbours by features.

    For each user, kernel ridge regression (Saunders et al. 1998) with items as samples: it learns the user's target on
    the items in training and predicts it for every item from its features. The target is the history h, or its EASE
    scores h B (Steck 2019). Both are linear in the history, so all users share one matrix,
    scores = h B (K + l2)^-1 K, and a new user with a known user's history gets that user's scores. The neighbours
    (text kNN) are a matrix too, so the blend is one matrix; each part is divided by its mean absolute weight between
    two items in training.
    """

    settings: ContentSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.features: ItemFeatures | None = None
        self.trained_T: np.ndarray = np.zeros(0, np.int64)
        self.dual_TT: np.ndarray = np.zeros((0, 0), np.float32)
        self.near_scale = 1.0
        self.weights = ColumnBlocks(0)

    @property
    def supports_text_queries(self) -> bool:
        """True if item texts are among the features."""
        return self.settings.features.text > 0 or self.settings.features.words > 0

    @property
    def item_texts(self) -> ItemTexts | None:
        """Item texts, if text has a weight."""
        return None if self.features is None else self.features.text

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the features and of the larger step, choosing settings or solving."""
        num_items, num_trained = len(data.items), int((data.interactions.item_counts > 0).sum())
        users, entries = len(data.users), len(data.interactions)
        denoising = 0
        if self.settings.denoise != 0:
            denoising = max(Denoiser.estimate_memory(users, num_trained, entries)[0], 0)
        # The inverse, the denoiser, all weights, and a block each of weights and of neighbours.
        block = 4 * 4 * BLOCK_ITEMS * num_trained
        near = 12 * min(self.settings.k, num_trained) * num_items if self.settings.blend != 0 else 0
        solving = 4 * num_trained**2 + denoising + 4 * num_trained * num_items + block + near
        choosing = choice_memory(self.settings, data) if self._has_nulls() else 0
        return features_memory(self.settings.features, self.config, data, max(solving, choosing))

    def fit(self, data: TrainingData, context: Context) -> None:
        """Choose values for the settings that are null, then solve for the weights of all items."""
        _require_memory(self.estimate_memory(data), len(data.items))
        features = ItemFeatures(self.settings.features, self.config, context.device)
        features.fit(data, context)
        self.features = features
        unit = UnitFeatures.of(features.dense_ND, features.sparse_NF)
        self.interaction_weights = fit_weights(data, self.settings)
        if self._has_nulls():
            task = make_cold_task(data, context, self.interaction_weights,
                                  Recency(*self.settings.recency_of_histories()))
            self.settings = (defaults(self.settings) if task is None else
                             choose_settings(self.settings, unit, task, context))
        num = int((data.interactions.item_counts > 0).sum())
        operations = num**3 + 2 * num**2 * (len(data.items) - num)
        if self.settings.denoise:
            operations += 2 * min(num, len(data.users))**2 * num
        seconds = operations / operations_per_second(context.device)
        if seconds > PROGRESS_AFTER:
            print(f"head=content: solving for {num:,} items in training takes about {seconds:.0f} s", file=sys.stderr)
        self._solve(unit, data, context.device)

    def _has_nulls(self) -> bool:
        return any(getattr(self.settings, key) is None for key in GRID)

    def _solve(self, unit: UnitFeatures, data: TrainingData, device: torch.device) -> None:
        """Compute the weights, one block of items at a time, in their final memory."""
        denoise, _, _, blend = self._numbers()
        self.trained_T = np.flatnonzero(data.interactions.item_counts)
        num, warm = len(self.trained_T), unit.rows(self.trained_T)
        flat = np.zeros(num * len(data.items), np.float32)
        self.weights = ColumnBlocks.of(flat, num, len(data.items))
        self.dual_TT = np.zeros((num, num), np.float32)
        if blend < 1:
            matrix_UT = sp.csr_array(self.interaction_weights.matrix(data.interactions)[:, self.trained_T])
            smooth = Denoiser(matrix_UT, self.settings.denoise_l2, device) if denoise > 0 else None
            self._solve_ridge(unit, warm, smooth, device)
        if blend > 0:
            self._add_near(unit, warm, device)

    def _solve_ridge(self, unit: UnitFeatures, warm: UnitFeatures, smooth: Denoiser | None,
                     device: torch.device) -> None:
        """Compute the dual weights, target (K + l2)^-1, and the weights of all items, dual K.

        For items in training the weights are target - l2 dual, which needs no product.
        """
        denoise, gamma, l2, blend = self._numbers()
        num = len(self.trained_T)
        dual_TT = ridge_inverse(warm.cosine(warm, device), gamma, l2)
        if smooth is not None:
            for some, _ in warm.blocks():
                # target = 1 - denoise P / diag(P), and a block of columns of the product needs no other block.
                dual_TT[:, some] -= denoise * smooth.product(dual_TT[:, some] / smooth.diagonal_T1)
        own_N = np.full(len(unit.dense_ND), -1)
        own_N[self.trained_T] = np.arange(num)
        total = 0.0
        for some, block in unit.blocks(BLOCK_ITEMS):
            own_B = own_N[some]
            mine, cold = np.flatnonzero(own_B >= 0), np.flatnonzero(own_B < 0)
            weights_TB = torch.empty((num, len(own_B)), device=device)
            own = own_B[mine]
            if len(own):
                columns = target_columns(smooth, denoise, num, own, device) - l2 * dual_TT[:, own]
                total += float(columns.abs().sum() - columns[own, np.arange(len(own))].abs().sum())
                weights_TB[:, mine] = columns
            if len(cold):
                cosine_TC = block.rows(cold).cosine(warm, device).T.contiguous()
                weights_TB[:, cold] = dual_TT @ kernel(cosine_TC, gamma, in_place=True)
            self.weights.put(some.start, weights_TB.cpu())
        scale = (1 - blend) / mean_size(total, num)
        self.weights.multiply(scale)
        self.dual_TT = dual_TT.mul_(scale).cpu().numpy()

    def _add_near(self, unit: UnitFeatures, warm: UnitFeatures, device: torch.device) -> None:
        """Add the nearest-neighbour weights to the weights of all items."""
        num = len(self.trained_T)
        own_N = np.full(len(unit.dense_ND), -1)
        own_N[self.trained_T] = np.arange(num)
        near_NT = nearest(warm, unit, self.settings.k, self.settings.exponent, own_N, device)
        self.near_scale = float(self._numbers()[3]) / mean_size(float(np.abs(near_NT[self.trained_T].data).sum()), num)
        near_NT.data *= self.near_scale
        for some, _ in unit.blocks(BLOCK_ITEMS):
            self.weights.put(some.start, torch.from_numpy(near_NT[some].toarray().T), add=True)

    def _numbers(self) -> tuple[float, float, float, float]:
        denoise, gamma, l2, blend = (float(getattr(self.settings, key)) for key in GRID)
        return denoise, gamma, l2, blend

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return history x weights (Q, M); items outside training are ignored in the history."""
        return self.weights.product(_columns(self.history(queries), self.trained_T))

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return the similarity of the texts with the items' texts (T, M): cosines times the features' weights."""
        features, weights = self.features, self.settings.features
        assert features is not None
        scores_TM = torch.zeros((len(texts), self.weights.num_columns))
        if features.text is not None:
            scores_TM += features.text_weight**2 * features.text_similarities(texts)
        if weights.words > 0:
            words_TF = UnitFeatures.of(np.zeros((len(texts), 0), np.float32), features.words.matrix(texts)).sparse_NF
            # Words are the first of the sparse features.
            words_MF = features.sparse_NF[:, :words_TF.shape[1]]
            scores_TM += weights.words * torch.from_numpy((words_TF @ sp.csr_array(words_MF.T)).toarray())
        return scores_TM

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the chosen settings."""
        features = self.settings.features if self.features is None else self.features.tuned_settings()
        return replace(self.config, head=replace(self.settings, features=features))

    def add_items(self, items: Catalogue) -> None:
        """Append items described by texts and attributes."""
        assert self.features is not None
        features, (_, gamma, _, blend) = self.features, self._numbers()
        num = len(self.trained_T)
        unit = UnitFeatures.of(features.dense_ND, features.sparse_NF).rows(self.trained_T)
        cosine_TK = unit.cosine(UnitFeatures.of(*features.add(items)), torch.device("cpu"))
        new_TK = torch.from_numpy(self.dual_TT) @ kernel(cosine_TK, gamma)
        if blend > 0 and num > 0:
            own_K = torch.full((len(items),), -1)
            new_TK += self.near_scale * neighbour_weights(cosine_TK, self.settings.k, self.settings.exponent, own_K)
        self.weights.append(new_TK.numpy())

    def state(self) -> dict[str, np.ndarray]:
        """Return the weights, and the arrays for scoring new items and texts."""
        assert self.features is not None
        return {"weights": self.weights.flat(), "dual": self.dual_TT, "trained": self.trained_T,
                "near_scale": np.array([self.near_scale])} | self.features.state() | self.interaction_weights.state()

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore `state`."""
        self.interaction_weights = InteractionWeights.read(tensors)
        if self._has_nulls():
            raise tensors.error("weights", f"config.yaml has null for one of head.{', head.'.join(GRID)}, but a fitted "
                                           f"model has numbers there")
        self.trained_T = tensors.take("trained", INTEGER, (None,), low=0, high=len(items) - 1, increasing=True)
        num = len(self.trained_T)
        self.dual_TT = tensors.take("dual", FLOAT, (num, num))
        self.weights = ColumnBlocks.of(tensors.take("weights", FLOAT, (num * len(items),)), num, len(items))
        self.near_scale = float(tensors.take("near_scale", DOUBLE, (1,), low=0)[0])
        self.features = ItemFeatures(self.settings.features, self.config, context.device)
        self.features.read(tensors, items)


def _columns(history_QM: sp.csr_array, columns_T: np.ndarray) -> sp.csr_array:
    """Return these columns (Q, T); each row keeps the order of its entries."""
    place_M = np.full(history_QM.shape[1], -1, np.int64)
    place_M[columns_T] = np.arange(len(columns_T))
    place = place_M[history_QM.indices]
    is_inside = place >= 0
    indptr = np.concatenate([[0], np.cumsum(is_inside)])[history_QM.indptr]
    return sp.csr_array((history_QM.data[is_inside], place[is_inside], indptr),
                        shape=(history_QM.shape[0], len(columns_T)))


def _require_memory(needed: int, num_items: int) -> None:
    available = psutil.virtual_memory().available
    if needed > available:
        raise ResourceError(f"head=content: {num_items} items need {in_bytes(needed)} of memory, but only "
                            f"{in_bytes(available)} are free; choose head=two_tower, or prepare fewer items with "
                            f"dataset.min_item_interactions")
