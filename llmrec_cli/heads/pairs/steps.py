"""Training batches and losses of pair models.

Shapes: B interactions of a step, S distinct users of them, C candidates of a step, U users, N items.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights
from llmrec_cli.heads.pairs.model import PairModel
from llmrec_cli.heads.shared.pair_targets import mask_interactions, pair_values
from llmrec_cli.scoring.memory import scoring_memory, validation_memory
from llmrec_cli.scoring.scorer import VALIDATION_BLOCK
from llmrec_cli.settings.adversarial import AdversarialSettings
from llmrec_cli.settings.heads.pairs import PairSettings
from llmrec_cli.settings.loss import LossSettings
from llmrec_cli.training.adversary import adversarial_loss_of_all
from llmrec_cli.training.allocator import MMAP_THRESHOLD
from llmrec_cli.training.losses.base import UserScores, build_loss, build_pointwise
from llmrec_cli.training.step import Split

_COMPARED = 32
"""Negatives of each interaction in a loss that draws them, such as loss=bpr."""

Batch = tuple[np.ndarray, np.ndarray]
"""Rows of the interactions (B,), and the seeds of their random draws."""


class Part(NamedTuple):
    """A part of a batch: the interactions of some of its users, against the candidates of all.

    Attributes
    ----------
    rows, seeds : the batch
    places : int64, positions of the part's interactions in the batch
    share : share of the batch's interactions
    negative_share : share of the batch's negatives
    """

    rows: np.ndarray
    seeds: np.ndarray
    places: np.ndarray
    share: float
    negative_share: float


class ChoiceSteps:
    """Steps that score the items a user interacted with against other items, with a weight on each loss.

    A step has the interactions of a few users, so its candidates are scored once per user instead of once per
    interaction.
    """

    def __init__(self, model: PairModel, settings: PairSettings, loss: LossSettings, interactions: Interactions,
                 batch_size: int, device: torch.device, adversarial: AdversarialSettings | None = None,
                 weights: InteractionWeights | None = None) -> None:
        self.model, self.settings, self.device = model, settings, device
        self.criterion = build_loss(loss)
        self.adversarial = adversarial
        self.weight = None if weights is None or weights.is_uniform else weights.of(interactions)
        self.user, self.item, self.matrix = interactions.user, interactions.item, interactions.matrix
        self.warm_items = np.flatnonzero(interactions.item_counts)
        self.num_batches = max(1, math.ceil(len(interactions) / batch_size))
        self.uses_catalogue = settings.candidates >= len(self.warm_items)
        # Number of items that each candidate represents, without untrained items, which all score the same.
        self.log_weight = math.log(max(1.0, len(self.warm_items) / settings.candidates))

    def batches(self, epoch: int, generator: np.random.Generator) -> Iterator[Batch]:
        """Yield the interactions in parts of equal size, users in random order."""
        place_U = generator.permutation(self.matrix.shape[0])
        order = np.argsort(place_U[self.user], kind="stable")
        seeds = generator.integers(2**62, size=(self.num_batches, 2))
        yield from zip(np.array_split(order, self.num_batches), seeds, strict=True)

    @property
    def split(self) -> Split | None:
        """Splitter of a batch; None with an adversary, as the worst perturbation of an item depends on the whole batch.
        """
        return self._parts if self.adversarial is None or not self.adversarial.perturbs else None

    def _parts(self, batch: Batch, parts: int) -> list[tuple[Part, float]]:
        """Split a batch into parts of different users; each part contains its shares."""
        rows, seeds = batch
        user_B, generator = self.user[rows], np.random.default_rng(seeds)
        candidates = self._candidates(generator)
        compared_BC = self._compared(len(rows), len(candidates), generator)
        groups = [users for users in np.array_split(np.unique(user_B), parts) if len(users)]
        places = [np.flatnonzero(np.isin(user_B, users)) for users in groups]
        if compared_BC is None:
            counts = [int((~mask_interactions(self.matrix, users, candidates)).sum()) for users in groups]
        else:
            excluded_BC = np.take_along_axis(mask_interactions(self.matrix, user_B, candidates), compared_BC, 1)
            counts = [int((~excluded_BC[place]).sum()) for place in places]
        total = max(1, sum(counts))
        return [(Part(rows, seeds, place, len(place) / len(rows), count / total), 1.0)
                for place, count in zip(places, counts, strict=True)]

    def loss(self, batch: Batch | Part) -> torch.Tensor:
        """Return the loss of a batch plus the penalty on its users and items, or a part's share of it."""
        part = batch if isinstance(batch, Part) else Part(*batch, np.arange(len(batch[0])), 1.0, 1.0)
        generator = np.random.default_rng(part.seeds)
        candidates = self._candidates(generator)
        compared_BC = self._compared(len(part.rows), len(candidates), generator)
        rows = part.rows[part.places]
        users, place = np.unique(self.user[rows], return_inverse=True)
        excluded_SC = self._tensor(mask_interactions(self.matrix, users, candidates))
        user_B, user_rows = self._tensor(place), self.model.users(self._tensor(users))
        weight_B = None if self.weight is None else self._tensor(self.weight[rows])
        item_rows = self.model.items(self._tensor(candidates))
        tensors = [user_rows.rows, item_rows.rows]
        negatives_BC = None if compared_BC is None else self._tensor(compared_BC[part.places])
        if self.uses_catalogue:
            place_B = self._tensor(np.searchsorted(candidates, self.item[rows]))
            squares_B = item_rows.squares.index_select(0, place_B)
        else:
            own = self.model.items(self._tensor(self.item[rows]))
            tensors, squares_B = [*tensors, own.rows], own.squares

        def of_rows(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
            users_SK, items_CL, *own_BL = tensors
            block_SC = self.model.block(users_SK, items_CL)
            positive_B = (self.model.pairs(users_SK.index_select(0, user_B), own_BL[0]) if own_BL else
                          block_SC.flatten().index_select(0, user_B * len(candidates) + place_B))
            return self.criterion.of_users(UserScores(positive_B, block_SC, excluded_SC, user_B, negatives_BC,
                                                      self.log_weight, weight_B, part.share, part.negative_share))

        value = adversarial_loss_of_all(of_rows, tensors, self.adversarial)
        return value + part.share * penalty(user_rows.squares.index_select(0, user_B), squares_B, self.settings.l2)

    def _compared(self, num_rows: int, num_candidates: int, generator: np.random.Generator) -> np.ndarray | None:
        """Draw the negatives of each interaction (columns of candidates); None for all candidates."""
        if not self.criterion.draws:
            return None
        return generator.integers(num_candidates, size=(num_rows, _COMPARED))

    def _candidates(self, generator: np.random.Generator) -> np.ndarray:
        if self.uses_catalogue:
            return self.warm_items
        return np.sort(generator.choice(self.warm_items, self.settings.candidates, replace=False))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


class ValueSteps:
    """Steps that predict a number for each interaction: its value, or 1 for a like and 0 for a dislike."""

    def __init__(self, model: PairModel, settings: PairSettings, loss: LossSettings, data: TrainingData,
                 batch_size: int, device: torch.device, adversarial: AdversarialSettings | None = None) -> None:
        self.model, self.settings, self.device, self.adversarial = model, settings, device, adversarial
        self.criterion = build_pointwise(loss)
        self.user, self.item, self.value = pair_values(data, settings.target)
        self.num_batches = max(1, math.ceil(len(self.user) / batch_size))

    def batches(self, epoch: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield rows of the interactions (B,) in parts of equal size."""
        yield from np.array_split(generator.permutation(len(self.user)), self.num_batches)

    def split(self, rows: np.ndarray, parts: int) -> list[tuple[np.ndarray, float]]:
        """Split a batch into parts with their shares; the adversary perturbs each pair independently."""
        return [(part, len(part) / len(rows)) for part in np.array_split(rows, parts) if len(part)]

    def loss(self, rows: np.ndarray) -> torch.Tensor:
        """Return the loss of a batch plus the penalty on its users and items."""
        users, items = (which(torch.from_numpy(ids[rows]).to(self.device)) for which, ids in
                        ((self.model.users, self.user), (self.model.items, self.item)))
        value_B = torch.from_numpy(self.value[rows]).to(self.device)

        def of_rows(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
            return self.criterion.of_values(self.model.pairs(tensors[0], tensors[1]), value_B)

        value = adversarial_loss_of_all(of_rows, [users.rows, items.rows], self.adversarial)
        return value + penalty(users.squares, items.squares, self.settings.l2)


def penalty(users_B: torch.Tensor, items_B: torch.Tensor, l2: float) -> torch.Tensor:
    """Return l2 times the mean over interactions of their users' and items' squared norms (Koren et al. 2009, eq. 5).

    Differs: biases are not penalised, because only they separate popular items from items that fit many tastes.
    """
    return l2 * (users_B.mean() + items_B.mean())


def training_memory(settings: PairSettings, batch_size: int, data: TrainingData, row_size: int, hidden_size: int = 0,
                    is_attacked: bool = False) -> int:
    """Return the bytes of training, without the data.

    `row_size` is the size of a user's plus an item's row, `hidden_size` the number of a pair's hidden-layer values.
    Parameters exist five times: with their gradients, two moments and the best checkpoint. The scores of a step (of
    items in training) exist as logits, two masked or transformed copies, the gradients of these three, and a bool mask.
    With an adversary the clean loss's parameter gradients are kept too, but not its scores. Validation runs when a
    step's scores are freed.
    """
    num_rows = len(data.interactions) + (0 if data.negatives is None else len(data.negatives))
    parameters = (6 if is_attacked else 5) * 4 * row_size // 2 * (len(data.users) + len(data.items))
    batch = math.ceil(num_rows / max(1, math.ceil(num_rows / batch_size)))  # Batches are of equal size.
    users = min(batch, math.ceil(batch * len(data.users) / max(1, num_rows)) + 1)
    candidates = min(settings.candidates, int((data.interactions.item_counts > 0).sum()))
    scores = users * candidates * (6 * 4 + 1 + 3 * 4 * hidden_size)
    # Copies of users and items (int64) and values. An epoch's order: each interaction's place, the sort keys and the
    # result (int64). The matrix of 1s.
    # Scoring makes two more blocks than every validation counts: products, and scores of items without training. Only
    # two are alive at a time, but glibc's heap does not reuse the place of a freed tensor for one of the same size;
    # larger blocks are not in the heap.
    blocks = scoring_memory(len(data.users), len(data.items), VALIDATION_BLOCK)
    validation = (validation_memory(len(data.users), len(data.items), len(data.interactions))
                  + (blocks if blocks // 2 < MMAP_THRESHOLD else 0))
    return parameters + max(scores, validation) + num_rows * (2 * 8 + 4 + 3 * 8 + 4) + 3 * 4 * row_size * batch
