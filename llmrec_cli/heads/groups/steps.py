"""Training batches and losses of the group heads.

Shapes: B interactions of a step, S distinct groups or users of them, C candidates of a step, N items, K groups, U
users, T size of a text vector.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights
from llmrec_cli.heads.groups.inputs import GroupInputs, ItemInputs, Past, inputs_of, without
from llmrec_cli.heads.groups.model import GroupModel, IdMasks
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.heads.shared.negatives import draw_uniform, log_chances
from llmrec_cli.heads.shared.pair_targets import mask_interactions
from llmrec_cli.heads.shared.text_training import choose_encoded
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.groups import TrainedGroupsSettings
from llmrec_cli.training.adversary import adversarial_loss
from llmrec_cli.training.losses.base import build_loss

_LEAST_STEPS = 10
"""Fewest steps of an epoch: a step hides its targets from the histories, and that should be a tenth at most."""


def num_steps(num_of_groups: int, num_of_users: int, batch_size: int) -> int:
    """Return the steps of an epoch over these numbers of interactions; each step has at least one."""
    most = max(num_of_groups, num_of_users)
    return min(most, max(_LEAST_STEPS, math.ceil(most / batch_size)))


class Batch(NamedTuple):
    """Rows of the groups' interactions, rows of the users' interactions, and the seeds of random draws."""

    of_groups: np.ndarray
    of_users: np.ndarray
    seeds: np.ndarray


class Weights(NamedTuple):
    """Weights of the interactions of users and of groups; None if all are equal."""

    users: InteractionWeights | None
    groups: InteractionWeights | None


class Targets(NamedTuple):
    """Target interactions of a step.

    Attributes
    ----------
    row_B : row of the interaction's group or user among those of the step
    target_B : column of the interaction's item among the candidates
    excluded_SC : bool, candidates that are no negatives: the group or user has interacted with them
    weight_B : weight of the interaction; None if all are equal
    """

    row_B: torch.Tensor
    target_B: torch.Tensor
    excluded_SC: torch.Tensor
    weight_B: torch.Tensor | None = None


class Task(NamedTuple):
    """Half of a step, for groups or for users: model inputs, targets, and weight in the loss."""

    weight: float
    of_groups: bool
    inputs: GroupInputs
    masks: IdMasks
    targets: Targets


class GroupSteps:
    """Steps that predict interactions of groups and of users together.

    A step hides its targets: the interactions of its batch are removed from all histories, the group's own and, via
    shared members, those of other groups.
    """

    def __init__(self, model: GroupModel, texts: ItemTexts | None, config: ModelConfig, data: TrainingData,
                 features: ItemInputs | None, text_KT: torch.Tensor | None, device: torch.device,
                 weights: Weights | None = None) -> None:
        assert isinstance(config.head, TrainedGroupsSettings)
        assert data.groups is not None
        self.model, self.texts, self.config, self.settings, self.device = model, texts, config, config.head, device
        self.users, self.groups = data.interactions, data.groups.interactions
        self.weight_of_users, self.weight_of_groups = (
            None if part is None or part.is_uniform else part.of(interactions) for part, interactions in
            zip(weights or Weights(None, None), (self.users, self.groups), strict=True))
        self.past = Past(data.groups.members, self.groups.matrix)
        self.features, self.text_KT = features, text_KT
        counts_N = self.users.item_counts + self.groups.item_counts
        self.warm_items = np.flatnonzero(counts_N)
        with_users = len(self.users) if self.settings.user_weight > 0 else 0
        self.num_batches = num_steps(len(self.groups), with_users, config.optim.batch_size)
        self.log_q_N: torch.Tensor | None = None
        self.criterion = build_loss(config.loss)
        if self.criterion.normalises and not config.loss.takes_catalogue:
            both = (len(self.groups) + with_users) / self.num_batches
            log_chance_N = log_chances(counts_N, both, config.loss.num_negatives)
            self.log_q_N = self.criterion.log_q(torch.from_numpy(log_chance_N).to(device))

    def batches(self, epoch: int, generator: np.random.Generator) -> Iterator[Batch]:
        """Yield interactions of groups and of users in parts of equal size."""
        parts = [np.array_split(generator.permutation(len(interactions)), self.num_batches)
                 for interactions in (self.groups, self.users)]
        seeds = generator.integers(2**62, size=(self.num_batches, 2))
        yield from map(Batch, *parts, seeds)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, with the adversarial loss if there is an adversary."""
        generator = np.random.default_rng(batch.seeds)
        of_users = batch.of_users if self.settings.user_weight > 0 else batch.of_users[:0]
        candidates_C = self._candidates(batch.of_groups, of_users, generator)
        candidates, num_items = self._tensor(candidates_C), self.users.num_items
        has_id_N = self._draw_mask(num_items, self.settings.item_id_dropout, generator)
        tasks = self._tasks(batch.of_groups, of_users, candidates_C, generator)

        def items(text_NT: torch.Tensor | None) -> torch.Tensor:
            return self.model.items(text_NT, self.features, num_items, has_id_N)

        def of(text_NT: torch.Tensor | None) -> torch.Tensor:
            items_NE = items(text_NT)
            return sum((task.weight * self._of_logits(self._logits(task, items_NE, candidates), task.targets,
                                                      candidates)
                        for task in tasks), start=torch.zeros((), device=self.device))

        if self.texts is None:
            return of(None)

        def logits(text_NT: torch.Tensor) -> torch.Tensor:
            return self._logits(tasks[0], items(text_NT), candidates)

        live = choose_encoded(len(candidates_C), self.settings.encoded_items, generator)
        return self.texts.loss_with(self._tensor(candidates_C[live]), candidates, of, self.config.adversarial,
                                    adversarial_loss, logits)

    def _tasks(self, of_groups: np.ndarray, of_users: np.ndarray, candidates_C: np.ndarray,
               generator: np.random.Generator) -> list[Task]:
        """Return the tasks of a step, for groups and for users; at most one of the two is missing."""
        past, history = self.past.without(of_groups), without(self.users.matrix, of_users)
        tasks = []
        if len(of_groups):
            groups, targets = self._targets(self.groups, of_groups, candidates_C, self.weight_of_groups)
            inputs = self._inputs(past, history, groups)
            tasks.append(Task(1.0, True, inputs, self._draw_masks(inputs, generator), targets))
        if len(of_users):
            users, targets = self._targets(self.users, of_users, candidates_C, self.weight_of_users)
            inputs = alone_inputs(past, users, history[users], self.device)
            tasks.append(Task(self.settings.user_weight, False, inputs, self._draw_masks(inputs, generator), targets))
        return tasks

    def _logits(self, task: Task, items_NE: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        if task.of_groups:
            return self.model.group_logits(task.inputs, items_NE, candidates, task.masks)
        return self.model.user_logits(self.model.members(task.inputs, items_NE, task.masks), items_NE, candidates)

    def _targets(self, interactions: Interactions, rows_B: np.ndarray, candidates_C: np.ndarray,
                 weight: np.ndarray | None) -> tuple[np.ndarray, Targets]:
        """Return the distinct groups or users (S,) of the interactions, and their targets."""
        of, row_B = np.unique(interactions.user[rows_B], return_inverse=True)
        target_B = np.searchsorted(candidates_C, interactions.item[rows_B])
        excluded_SC = torch.from_numpy(mask_interactions(interactions.matrix, of, candidates_C)).to(self.device)
        weight_B = None if weight is None else torch.from_numpy(weight[rows_B]).to(self.device)
        return of, Targets(self._tensor(row_B), self._tensor(target_B), excluded_SC, weight_B)

    def _inputs(self, past: Past, history: sp.csr_array, groups_S: np.ndarray) -> GroupInputs:
        rows = past.members[groups_S]
        users, place = np.unique(rows.indices, return_inverse=True)
        rows = sp.csr_array((rows.data, place, rows.indptr), shape=(len(groups_S), len(users)))
        text = None if self.text_KT is None else self.text_KT[self._tensor(groups_S)]
        return inputs_of(past, rows, users, history[users], past.history[groups_S], groups_S, self.device, text)

    def _draw_masks(self, inputs: GroupInputs, generator: np.random.Generator) -> IdMasks:
        chance = self.settings.id_dropout
        return IdMasks(self._draw_mask(len(inputs.user), chance, generator),
                       self._draw_mask(len(inputs), chance, generator))

    def _draw_mask(self, size: int, chance: float, generator: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy((generator.random(size) >= chance).astype(np.float32)).to(self.device)

    def _candidates(self, of_groups: np.ndarray, of_users: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return the candidate items of the step (C,), ascending, shared by all its groups and users."""
        loss = self.config.loss
        if loss.takes_catalogue:
            return self.warm_items
        negatives = draw_uniform(self.warm_items, loss.num_negatives, generator)
        return np.unique(np.concatenate([self.groups.item[of_groups], self.users.item[of_users], negatives]))

    def _of_logits(self, logits_SC: torch.Tensor, targets: Targets, candidates: torch.Tensor) -> torch.Tensor:
        """Return the loss of the targets against the candidates that the group or user has not interacted with."""
        logits_BC, excluded_BC = (of.index_select(0, targets.row_B) for of in (logits_SC, targets.excluded_SC))
        log_q_C = None if self.log_q_N is None else self.log_q_N[candidates]
        return self.criterion.of_choices(logits_BC, targets.target_B, excluded_BC, log_q_C, targets.weight_B)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(self.device)


def alone_inputs(past: Past, user_Q: np.ndarray, history: sp.csr_array, device: torch.device) -> GroupInputs:
    """Return the inputs of users (Q,), -1 for unknown, each the only member of a group without a history."""
    size = len(user_Q)
    each = sp.csr_array((np.ones(size, np.float32), np.arange(size), np.arange(size + 1)), shape=(size, size))
    empty = without(history, np.arange(history.nnz))
    return inputs_of(past, each, user_Q, history, empty, np.full(size, -1), device)
