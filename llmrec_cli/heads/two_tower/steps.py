"""Training batches and losses of the two towers.

Shapes: B interactions of a step, R distinct items of a step, L history entries or encoded texts of a step, N items, U
users, K ranks, T size of a text vector, E embedding size.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.weights import InteractionWeights
from llmrec_cli.heads.shared.history_vectors import history_sums, history_vectors, weight_sums
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.heads.shared.negatives import draw_from_lists, draw_uniform, log_chances
from llmrec_cli.heads.shared.text_training import choose_encoded
from llmrec_cli.heads.shared.training_history import earlier_items
from llmrec_cli.heads.two_tower.towers import Towers, ages
from llmrec_cli.settings.head import ModelConfig, TwoTowerSettings
from llmrec_cli.training.adversary import adversarial_loss
from llmrec_cli.training.losses.base import build_loss

MOST_WITH_RECENCY = 2048
"""Most history items read with recency when histories end before the target. Older items (age above 2,047) share one
age bucket, and without a limit a step would hold the whole history once per target."""


class TowerSteps:
    """The batches of an epoch and the loss of a batch.

    `profile_UT` are the vectors of the users' texts (None if unused), `hard_UK` the lists of hard negatives. The
    history of an interaction has the user's earlier interactions if `is_causal`, else all other interactions.
    """

    def __init__(self, towers: Towers, texts: ItemTexts, config: ModelConfig, interactions: Interactions,
                 profile_UT: torch.Tensor | None, hard_UK: np.ndarray, device: torch.device,
                 is_causal: bool = False, weights: InteractionWeights | None = None) -> None:
        assert isinstance(config.head, TwoTowerSettings)
        self.towers, self.texts, self.settings, self.config, self.device = towers, texts, config.head, config, device
        self.matrix, self.profile_UT, self.hard_UK = interactions.matrix, profile_UT, hard_UK
        self.user, self.item, self.is_causal = interactions.user, interactions.item, is_causal
        self.weight = None if weights is None or weights.is_uniform else weights.of(interactions)
        self.num_batches = max(1, math.ceil(len(interactions) / config.optim.batch_size))
        self.criterion = build_loss(config.loss)
        num_negatives = config.loss.num_negatives or 0
        log_chance_N = log_chances(interactions.item_counts, len(interactions) / self.num_batches, num_negatives)
        self.log_chance_N = torch.from_numpy(log_chance_N).to(device)
        self.warm_items = np.flatnonzero(interactions.item_counts)

    def batches(self, epoch: int, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows of the interactions (B,) with seeds, in an order that depends only on the generator."""
        order = generator.permutation(len(self.user))
        seeds = generator.integers(2**62, size=(self.num_batches, 2))
        # Batches of equal size: a small last batch would have hardly any in-batch negatives.
        yield from zip(np.array_split(order, self.num_batches), seeds, strict=True)

    def loss(self, batch: tuple[np.ndarray, np.ndarray]) -> torch.Tensor:
        """Return the loss of a batch, with the adversarial loss if there is an adversary."""
        rows, seeds = batch
        generator = np.random.default_rng(seeds)
        user_B, item_B = self.user[rows], self.item[rows]
        negatives = self._negatives(user_B, generator)
        items_R, place = np.unique(np.concatenate([item_B, negatives]), return_inverse=True)
        target_B = torch.from_numpy(place[:len(rows)]).to(self.device)
        weight_B = None if self.weight is None else torch.from_numpy(self.weight[rows]).to(self.device)
        is_known_BR = torch.from_numpy(self.matrix[user_B][:, items_R].toarray() > 0).to(self.device)
        has_id_N = self._draw_id_mask(generator, len(self.log_chance_N))
        has_id_B = self._draw_id_mask(generator, len(rows))
        history = self._earlier(rows, user_B) if self.is_causal else self._others(rows, user_B)
        user_of_B = torch.from_numpy(user_B).to(self.device)
        profile_BT = None if self.profile_UT is None else self.profile_UT[user_of_B]
        rows_R = torch.from_numpy(items_R).to(self.device)
        encoded = choose_encoded(len(items_R), self.settings.encoded_items, generator)
        live_L = rows_R[torch.from_numpy(encoded).to(self.device)]

        def logits(text_NT: torch.Tensor) -> torch.Tensor:
            items_NE = self.towers.items(text_NT, has_id_N)
            ids_BE = self.towers.user_ids(user_of_B) * has_id_B[:, None]
            users_BE = self.towers.users(history(items_NE, items_NE[rows_R[target_B]]), ids_BE, profile_BT)
            bias_R = (self.towers.bias_N * has_id_N)[rows_R]
            return self.towers.logits(users_BE, items_NE[rows_R], bias_R)

        def of(text_NT: torch.Tensor) -> torch.Tensor:
            return self._of_logits(logits(text_NT), target_B, is_known_BR, rows_R, weight_B)

        return self.texts.loss_with(live_L, rows_R, of, self.config.adversarial, adversarial_loss, logits)

    def _of_logits(self, logits_BR: torch.Tensor, target_B: torch.Tensor, is_known_BR: torch.Tensor,
                   rows_R: torch.Tensor, weight_B: torch.Tensor | None) -> torch.Tensor:
        log_q_R = self.criterion.log_q(self.log_chance_N[rows_R])
        return self.criterion.of_choices(logits_BR, target_B, is_known_BR, log_q_R, weight_B)

    def _negatives(self, user_B: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        loss = self.config.loss
        uniform = draw_uniform(self.warm_items, loss.num_negatives, generator)
        if self.hard_UK.shape[1] == 0:
            return uniform
        hard = draw_from_lists(self.hard_UK[np.unique(user_B)], loss.hard_negatives.num, generator)
        return np.concatenate([uniform, hard])

    def _draw_id_mask(self, generator: np.random.Generator, size: int) -> torch.Tensor:
        mask = (generator.random(size) >= self.settings.id_dropout).astype(np.float32)
        return torch.from_numpy(mask).to(self.device)

    def _earlier(self, rows: np.ndarray, user_B: np.ndarray) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Return a function from item vectors (N, E) and targets' vectors (B, E) to earlier histories (B, E)."""
        # Interactions are in the order of the matrix, so a row number is the target's position in it.
        place_B = rows - self.matrix.indptr[user_B]
        pooling = self.towers.pooling
        if pooling is not None and pooling.ages is not None:
            # An item's weight depends on its age at each target, so targets share no sums.
            indices, indptr = self._tensors(*earlier_items(self.matrix, user_B, place_B,
                                                           np.maximum(place_B - MOST_WITH_RECENCY, 0)))
            return lambda items_NE, _: self.towers.histories(items_NE, indices, indptr)
        return self._prefixes(user_B, place_B)

    def _prefixes(self, user_B: np.ndarray, place_B: np.ndarray) -> Callable[[torch.Tensor, torch.Tensor],
                                                                             torch.Tensor]:
        """Return the function of `_earlier` for item weights that do not depend on the target.

        An entry of a user's row is read once for all targets of the user: each target's items after the target before
        it are summed, and these sums (B, E) are added up by a matrix (B, B) of 0 and 1.
        """
        order = np.lexsort((place_B, user_B))
        user, place = user_B[order], place_B[order]
        is_same = np.concatenate([[False], user[1:] == user[:-1]])
        first = np.where(is_same, np.concatenate([[0], place[:-1]]), 0)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        indices, indptr, user_S, back_B, lengths_B = self._tensors(
            *earlier_items(self.matrix, user, place, first), user, back, place_B)
        pooling = self.towers.pooling

        def histories(items_NE: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            adds_SS = (user_S[:, None] == user_S[None, :]).tril().to(items_NE.dtype)
            weight_L = None if pooling is None else pooling(items_NE, indices, indices)
            sums_BE = (adds_SS @ history_sums(items_NE, indices, indptr, weight_L))[back_B]
            if weight_L is None:
                return history_vectors(sums_BE, lengths_B)
            return history_vectors(sums_BE, lengths_B, (adds_SS @ weight_sums(weight_L, indptr))[back_B])

        return histories

    def _tensors(self, *arrays: np.ndarray) -> Iterator[torch.Tensor]:
        return (torch.from_numpy(array.astype(np.int64)).to(self.device) for array in arrays)

    def _others(self, rows: np.ndarray, user_B: np.ndarray) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Return a function from item vectors (N, E) and targets' (B, E) to histories (B, E) without their targets."""
        users, place = np.unique(user_B, return_inverse=True)
        matrix: sp.csr_array = self.matrix[users]
        indices, indptr, place_B = (torch.from_numpy(array.astype(np.int64)).to(self.device)
                                    for array in (matrix.indices, matrix.indptr, place))
        lengths_B = indptr.diff()[place_B] - 1
        pooling = self.towers.pooling
        if pooling is None:
            return lambda items_NE, own_BE: history_vectors(
                history_sums(items_NE, indices, indptr)[place_B] - own_BE, lengths_B)
        # Interactions are in the order of the matrix, so a row number is the target's position in it.
        entry_B = torch.from_numpy(rows - self.matrix.indptr[user_B]).to(self.device) + indptr[place_B]
        age_L = ages(indptr)

        def histories(items_NE: torch.Tensor, own_BE: torch.Tensor) -> torch.Tensor:
            weight_L = pooling(items_NE, indices, age_L)
            own_B = weight_L.index_select(0, entry_B)
            sums_BE = history_sums(items_NE, indices, indptr, weight_L)[place_B] - own_B[:, None] * own_BE
            return history_vectors(sums_BE, lengths_B, weight_sums(weight_L, indptr)[place_B] - own_B)

        return histories
