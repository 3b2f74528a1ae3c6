"""Histories as padded sequences, and the training batches and losses of the sequential head.

Shapes: B windows (segments of histories) of a step, S places of the longest, P real places of all windows, R distinct
items of a step, C candidates of a step, N items, T size of a text vector, E embedding size.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.weights import InteractionWeights
from llmrec_cli.heads.sequential.gaps import gap_buckets
from llmrec_cli.heads.sequential.model import SequenceModel
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.heads.shared.negatives import PopularityDraws, draw_from_lists, draw_uniform, log_chances
from llmrec_cli.heads.shared.pair_targets import mask_interactions
from llmrec_cli.heads.shared.text_training import choose_encoded
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.sequential import SequentialSettings
from llmrec_cli.training.adversary import adversarial_loss
from llmrec_cli.training.losses.base import build_loss
from llmrec_cli.training.losses.shared_negatives import SharedNegativesLoss

START = -1
"""Item number of the start token."""
_BATCHES_SORTED_TOGETHER = 16
"""Batches whose windows are sorted by length together: more means less padding, fewer means more random batches."""


class Sequences(NamedTuple):
    """Segments of histories.

    Attributes
    ----------
    inputs : int64 (P,), the item at each place, START for the start token
    next : int64 (P,), position in the matrix's indices of the item after each place; past the row's end for the last
    flat : int64 (P,), position of each place in the flattened padded (B, S)
    lengths : int64 (B,)
    """

    inputs: np.ndarray
    next: np.ndarray
    flat: np.ndarray
    lengths: np.ndarray


def cut_sequences(matrix: sp.csr_array, rows_B: np.ndarray, first_B: np.ndarray, lengths_B: np.ndarray) -> Sequences:
    """Cut `lengths_B` places out of each history, from place `first_B` on; 0 is the start token, 1 the oldest item."""
    offset_P = np.arange(lengths_B.sum()) - np.repeat(np.cumsum(lengths_B) - lengths_B, lengths_B)
    place_P = offset_P + np.repeat(first_B, lengths_B)
    next_P = place_P + np.repeat(matrix.indptr[rows_B].astype(np.int64), lengths_B)
    inputs_P = np.full(len(place_P), START, np.int64)
    inputs_P[place_P > 0] = matrix.indices[next_P[place_P > 0] - 1]
    longest = lengths_B.max(initial=1)
    return Sequences(inputs_P, next_P, offset_P + np.repeat(np.arange(len(rows_B)) * longest, lengths_B), lengths_B)


def pad_sequences(vectors_RE: torch.Tensor, start_E: torch.Tensor, place_P: np.ndarray,
                  sequences: Sequences) -> torch.Tensor:
    """Return padded sequences (B, S, E) of item vectors; `place_P` are rows of `vectors_RE`, or START."""
    longest = int(sequences.lengths.max(initial=1))
    place_BS = np.full(len(sequences.lengths) * longest, len(vectors_RE), np.int64)
    place_BS[sequences.flat] = np.where(place_P == START, len(vectors_RE), place_P)
    with_start = torch.cat([vectors_RE, start_E[None]])
    vectors = with_start.index_select(0, torch.from_numpy(place_BS).to(vectors_RE.device))
    return vectors.view(len(sequences.lengths), longest, -1)


def pad_gaps(gaps: np.ndarray, sequences: Sequences) -> np.ndarray:
    """Return the bucket of the time before each place (B, S), from those of the matrix's entries; 0 for the start."""
    longest = int(sequences.lengths.max(initial=1))
    gaps_BS = np.zeros(len(sequences.lengths) * longest, np.int64)
    is_item_P = sequences.inputs != START
    gaps_BS[sequences.flat[is_item_P]] = gaps[sequences.next[is_item_P] - 1]
    return gaps_BS.reshape(len(sequences.lengths), longest)


Compare = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""The loss as a function of users (P, E), a step's items (R, E) and its candidates (C, E)."""


class Windows(NamedTuple):
    """Segments of histories to train on, int64 (B,) each: user, first place (0 for the start token), length."""

    users: np.ndarray
    first: np.ndarray
    lengths: np.ndarray

    def rows(self, which: np.ndarray) -> "Windows":
        """Return some of the windows."""
        return Windows(self.users[which], self.first[which], self.lengths[which])


class Batch(NamedTuple):
    """Windows of a step, and the seeds of its random draws."""

    windows: Windows
    seeds: np.ndarray


def newest_windows(counts_U: np.ndarray, longest: int) -> Windows:
    """Return a window over the newest `longest` interactions of each user."""
    users = np.flatnonzero(counts_U)
    lengths = np.minimum(counts_U[users], longest).astype(np.int64)
    return Windows(users, counts_U[users] - lengths, lengths)


def all_windows(counts_U: np.ndarray, longest: int, generator: np.random.Generator) -> Windows:
    """Return windows that cover each history once; all but the oldest and the newest have `longest` interactions.

    The newest window of a long history has a random length, so that an interaction is early in the window of one epoch,
    with little before it, and late in that of another.
    """
    users = np.flatnonzero(counts_U)
    counts = counts_U[users].astype(np.int64)
    newest = np.where(counts > longest, generator.integers(1, longest + 1, size=len(users)), counts)
    num_windows = 1 + -(-(counts - newest) // longest)
    owner_W = np.repeat(np.arange(len(users)), num_windows)
    # The windows of a user, the newest first.
    number_W = np.arange(len(owner_W)) - np.repeat(np.cumsum(num_windows) - num_windows, num_windows)
    end_W = np.where(number_W == 0, counts[owner_W], counts[owner_W] - newest[owner_W] - (number_W - 1) * longest)
    first_W = np.maximum(0, np.where(number_W == 0, end_W - newest[owner_W], end_W - longest))
    return Windows(users[owner_W], first_W, end_W - first_W)



class SequenceSteps:
    """The batches of an epoch and the loss of a batch.

    An epoch has the newest `max_length` interactions of every user, or with windows=all every interaction; each is
    predicted from the earlier ones of its window and counts by its weight.
    """

    def __init__(self, model: SequenceModel, texts: ItemTexts | None, config: ModelConfig, interactions: Interactions,
                 hard_UK: np.ndarray, device: torch.device, weights: InteractionWeights | None = None) -> None:
        assert isinstance(config.head, SequentialSettings)
        self.model, self.texts, self.settings, self.config, self.device = model, texts, config.head, config, device
        self.matrix, self.hard_UK = interactions.matrix, hard_UK
        self.weight = None if weights is None or weights.is_uniform else weights.of(interactions)
        self.gaps = gap_buckets(interactions.times) if config.head.time_gaps else None
        self.counts_U = np.diff(self.matrix.indptr)
        self.newest = newest_windows(self.counts_U, config.head.max_length)
        self.longest = int(self.newest.lengths.max(initial=1))
        # With a single window for each user, nothing is left to cut.
        self.covers_all = config.head.windows == "all" and self.counts_U.max(initial=0) > self.longest
        total = int((self.counts_U if self.covers_all else self.newest.lengths).sum())
        # Each batch must be at least as long as the longest window, or a batch could be empty.
        self.num_batches = max(1, min(math.ceil(total / config.optim.batch_size), total // self.longest))
        self.warm_items = np.flatnonzero(interactions.item_counts)
        loss = config.loss
        self.criterion = build_loss(loss)
        self.uses_catalogue = loss.takes_catalogue or (self.criterion.normalises
                                                       and loss.num_negatives >= len(self.warm_items))
        self.log_q_N: torch.Tensor | None = None
        if self.criterion.normalises and not self.uses_catalogue:
            log_chance_N = log_chances(interactions.item_counts, total / self.num_batches, loss.num_negatives)
            self.log_q_N = self.criterion.log_q(torch.from_numpy(log_chance_N).to(device))
        self.popular: PopularityDraws | None = None
        if (isinstance(self.criterion, SharedNegativesLoss) and loss.popularity_power
                and loss.num_negatives < len(self.warm_items)):
            self.popular = PopularityDraws(interactions.item_counts, loss.popularity_power, loss.num_negatives)
            self.log_q_N = torch.from_numpy(self.popular.log_chance_N).to(device)

    def batches(self, epoch: int, generator: np.random.Generator) -> Iterator[Batch]:
        """Yield windows in batches with equal numbers of interactions, windows of similar length together."""
        windows = all_windows(self.counts_U, self.longest, generator) if self.covers_all else self.newest
        order_W = generator.permutation(len(windows.users))
        chunk_W = np.arange(len(order_W)) * math.ceil(self.num_batches / _BATCHES_SORTED_TOGETHER) // len(order_W)
        # Every second chunk in reverse order, so that no batch mixes the longest and the shortest windows.
        signed_W = windows.lengths[order_W] * np.where(chunk_W % 2, -1, 1)
        order_W = order_W[np.lexsort((signed_W, chunk_W))]
        middle_W = np.cumsum(windows.lengths[order_W]) - windows.lengths[order_W] / 2
        batch_W = (middle_W * self.num_batches / windows.lengths.sum()).astype(np.int64)
        parts = np.split(order_W, np.flatnonzero(np.diff(batch_W)) + 1)
        seeds = generator.integers(2**62, size=(self.num_batches, 2))
        yield from (Batch(windows.rows(parts[number]), seeds[number])
                    for number in generator.permutation(self.num_batches))

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, with the adversarial loss if there is an adversary."""
        windows, seeds = batch
        generator = np.random.default_rng(seeds)
        users_B = windows.users
        sequences = cut_sequences(self.matrix, *windows)
        targets_P = self.matrix.indices[sequences.next].astype(np.int64)
        candidates_C = self._candidates(users_B, targets_P, generator)
        items_R = np.unique(np.concatenate([sequences.inputs[sequences.inputs != START], targets_P, candidates_C]))
        place_N = np.full(self.matrix.shape[1], START)
        place_N[items_R] = np.arange(len(items_R))
        place_P = np.where(sequences.inputs == START, START, place_N[sequences.inputs])
        rows_R, flat_P = self._tensor(items_R), self._tensor(sequences.flat)
        has_id_R = self._tensor((generator.random(len(items_R)) >= self.settings.id_dropout).astype(np.float32))
        lengths_B, place_C = self._tensor(sequences.lengths), self._tensor(place_N[candidates_C])
        gaps_BS = None if self.gaps is None else self._tensor(pad_gaps(self.gaps, sequences))
        compare = self._comparison(sequences, users_B, targets_P, place_N[targets_P], candidates_C)

        def users(vectors_RE: torch.Tensor) -> torch.Tensor:
            sequence_BSE = pad_sequences(vectors_RE, self.model.start_E, place_P, sequences)
            return self.model.users(sequence_BSE, lengths_B, gaps_BS).flatten(0, 1).index_select(0, flat_P)

        def of(text_NT: torch.Tensor | None) -> torch.Tensor:
            vectors_RE = self.model.items(text_NT, rows_R, has_id_R)
            items_RE = self.model.scale_items(vectors_RE)
            return compare(users(vectors_RE), items_RE, items_RE.index_select(0, place_C))

        if self.texts is None:
            return of(None)

        newest_B = lengths_B.cumsum(0) - 1

        def logits(text_NT: torch.Tensor) -> torch.Tensor:
            # Only the newest place of each window: logits of all places would fill gigabytes.
            vectors_RE = self.model.items(text_NT, rows_R, has_id_R)
            return users(vectors_RE)[newest_B] @ self.model.scale_items(vectors_RE.index_select(0, place_C)).T

        live_L = rows_R[self._tensor(choose_encoded(len(items_R), self.settings.encoded_items, generator))]
        return self.texts.loss_with(live_L, rows_R, of, self.config.adversarial, adversarial_loss, logits)

    def _candidates(self, users_B: np.ndarray, targets_P: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return the candidate items of the step (C,), ascending, shared by all places."""
        if self.uses_catalogue:
            return self.warm_items
        if self.popular is not None:
            return self.popular.draw(generator)
        loss = self.config.loss
        uniform = draw_uniform(self.warm_items, loss.num_negatives, generator)
        hard = draw_from_lists(self.hard_UK[users_B], loss.hard_negatives.num, generator)
        # Other places' targets serve as negatives only in a loss that corrects for their sampling probability.
        return np.unique(np.concatenate([uniform, hard, targets_P if self.criterion.normalises else uniform[:0]]))

    def _comparison(self, sequences: Sequences, users_B: np.ndarray, targets_P: np.ndarray, place_P: np.ndarray,
                    candidates_C: np.ndarray) -> Compare:
        """Return the loss of the step's positions."""
        # Positions in the matrix are positions of interactions.
        weight_P = None if self.weight is None else self._tensor(self.weight[sequences.next])
        if self.criterion.normalises:
            target_P = self._tensor(np.searchsorted(candidates_C, targets_P))
            log_q_C = None if self.log_q_N is None else self.log_q_N[self._tensor(candidates_C)]
            return lambda users_PE, _, candidates_CE: self.criterion.of_catalogue(users_PE, candidates_CE, target_P,
                                                                               log_q_C, weight_P)
        own_P = self._tensor(place_P)
        if isinstance(self.criterion, SharedNegativesLoss):
            return self._shared_comparison(self.criterion, targets_P, own_P, candidates_C, weight_P)
        row_P = np.repeat(np.arange(len(users_B)), sequences.lengths)
        excluded_PC = self._tensor(mask_interactions(self.matrix, users_B, candidates_C)[row_P])

        def compare(users_PE: torch.Tensor, items_RE: torch.Tensor, candidates_CE: torch.Tensor) -> torch.Tensor:
            positive_P = (users_PE * items_RE.index_select(0, own_P)).sum(dim=1)
            return self.criterion.against(positive_P, users_PE @ candidates_CE.T, excluded_PC, weight_P)

        return compare

    def _shared_comparison(self, criterion: SharedNegativesLoss[Any], targets_P: np.ndarray, own_P: torch.Tensor,
                           candidates_C: np.ndarray, weight_P: torch.Tensor | None) -> Compare:
        """Return the loss against negatives that all positions share; `own_P` are the targets' places in the step."""
        place_P = np.searchsorted(candidates_C, targets_P).clip(max=len(candidates_C) - 1)
        column_P = self._tensor(np.where(candidates_C[place_P] == targets_P, place_P, -1))
        log_q_P = None if self.log_q_N is None else self.log_q_N[self._tensor(targets_P)]
        log_q_C = None if self.log_q_N is None else self.log_q_N[self._tensor(candidates_C)]
        return lambda users_PE, items_RE, candidates_CE: criterion.of_positions(
            users_PE, items_RE.index_select(0, own_P), candidates_CE, column_P, len(self.warm_items), log_q_P, log_q_C,
            weight_P)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)
