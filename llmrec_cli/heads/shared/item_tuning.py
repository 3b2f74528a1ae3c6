"""Training item text vectors on co-occurrence of items in histories, before a head uses them.

Shapes: U users, N items, T items in training, B items of a step.
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.shared.cold_item_validation import ENOUGH, HIDDEN_SHARE, MOST_QUERIES, ColdTask, make_cold_task
from llmrec_cli.heads.shared.item_kernel import START_GAMMA, START_L2, kernel, neighbour_weights, ridge_factor
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.scoring.acceptance import accepted
from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.loss import DistillationSettings
from llmrec_cli.training.adversary import adversarial_loss
from llmrec_cli.training.checkpoint import trained_parameters
from llmrec_cli.training.loop import Length, TrainContext, train
from llmrec_cli.training.losses.distillation import Similarity, SoftTargets, distillation_loss

_NEIGHBOURS, _EXPONENT = 20, 3.0
"""Neighbours by text in validation, as in head=content."""


def tune(texts: ItemTexts, data: TrainingData, config: ModelConfig, stop_after: int | None, context: Context) -> int:
    """Train the vectors in place; return the number of epochs after which they were best, 0 for the start.

    An epoch predicts the co-occurring items of each item in training once, `optim.batch_size` items per step, among all
    items in training. The encoder runs for the items of a step; other items keep the vectors of their last encoding.
    Validation ranks cold items by their nearest neighbours, or by kernel ridge if the head does; items hidden for
    validation are hidden from training too. The original vectors stay unless the best epoch gains more than its
    standard error over queries.
    """
    if stop_after == 0:
        return 0
    task = None if stop_after is not None else make_cold_task(data, context)
    matrix_UN = data.interactions.matrix if task is None else task.matrix_UN
    step = _Step(texts, matrix_UN, config)
    optim = config.optim
    epochs = stop_after or optim.epochs
    length = Length(epochs, step.num_batches, optim.epochs)
    inside = context.inside("texts")
    train_context = TrainContext(context.device, context.seed, inside.log, inside.folder,
                                 inside.folder if context.resumed else None, inside.tensorboard, "texts",
                                 config.flat("head", "optim"))
    model = torch.nn.ModuleDict({"texts": texts, "similarity": step.similarity})
    # head=content ranks by kernel; other heads by nearest neighbours.
    by_kernel = config.head.ranks_by_kernel()
    before_Q = None if task is None else _values(texts, task, by_kernel)
    start = {name: parameter.detach().clone() for name, parameter in trained_parameters(texts).items()}
    texts.plan(length.schedule_epochs * length.steps(optim.accumulate))
    validate = None if task is None else lambda: float(_values(texts, task, by_kernel).mean())
    result = train(model, step.batches, step.loss, [*texts.rates(optim), (step.similarity, optim.rate())], optim,
                   length, train_context, validate, after_step=texts.after_step, shrink=texts.shrink)
    is_kept = True
    if task is not None and before_Q is not None:
        after_Q = _values(texts, task, by_kernel)
        gain = accepted(after_Q - before_Q)
        is_kept = gain.is_accepted
        context.log("texts", monitor=task.monitor, before=float(before_Q.mean()), after=float(after_Q.mean()),
                    kept=is_kept, **gain.facts())
        print(f"texts: {task.monitor} of cold items {before_Q.mean():.4f} frozen, {after_Q.mean():.4f} tuned: gain "
              f"{gain}: {'kept' if is_kept else 'not kept'}", file=sys.stderr)
    if not is_kept:
        with torch.no_grad():
            for name, parameter in trained_parameters(texts).items():
                parameter.copy_(start[name])
    texts.refresh()
    return result.best_epoch if is_kept else 0


def tuning_memory(data: TrainingData, config: ModelConfig) -> int:
    """Return the peak bytes of `tune`, without the vectors themselves and the encoder."""
    counts_N, num_items = data.interactions.item_counts, len(data.items)
    num = int((counts_N > 0).sum())
    together = _together(counts_N[counts_N > 0], np.bincount(data.interactions.user))
    if num_items - num < ENOUGH:
        # Too few items are cold, so items are hidden.
        together, num = int(together * (1 - HIDDEN_SHARE)**2), num - int(HIDDEN_SHARE * num)
    batch = min(config.optim.batch_size, num)
    pairs = 12 * num**2 + 12 * num**2 if getattr(config.loss, "targets", "") == "ease" else 0
    # A step: targets, logits, their softmax, its product with the targets, and a gradient.
    step = 4 * 5 * batch * num
    cold = num_items - num
    queries = min(MOST_QUERIES, len(data.users))
    by_kernel = config.head.ranks_by_kernel()
    validation = 4 * (3 * num * cold + queries * (num + 3 * cold) + (2 * num**2 if by_kernel else 0))
    # Co-occurring pairs: as product, divided, and with row indices; afterwards one copy.
    return pairs + max(36 * together, 12 * together + max(step, validation))


def _together(counts_T: np.ndarray, length_U: np.ndarray) -> int:
    """Estimate the number of ordered pairs of items that share a user.

    Assumes that users choose items at random by popularity; computed for pairs of 200 classes of similar popularity.
    """
    parts = [part for part in np.array_split(np.sort(counts_T), 200) if len(part)]
    mean_P, size_P = (np.array([of(part) for part in parts], np.float64) for of in (np.mean, len))
    expected_PP = (length_U * (length_U - 1.0)).sum() * np.outer(mean_P, mean_P) / max(1, counts_T.sum())**2
    return int(-(np.outer(size_P, size_P) * np.expm1(-expected_PP)).sum())


@torch.no_grad()
def _values(texts: ItemTexts, task: ColdTask, by_kernel: bool) -> np.ndarray:
    """Return each query's metric (Q,) with cold items ranked by neighbours in training, or by kernel ridge."""
    texts.refresh()
    table_ND = texts.table
    warm, cold = (torch.from_numpy(which).to(table_ND.device)
                  for which in (task.trained_T, np.flatnonzero(task.cold_N)))
    cosine_TC = table_ND[warm] @ table_ND[cold].T
    history_QT = torch.from_numpy(task.queries.history[:, task.trained_T].toarray()).to(table_ND.device)
    if by_kernel:
        factor_TT = ridge_factor(table_ND[warm] @ table_ND[warm].T, START_GAMMA, START_L2)
        return task.values(torch.cholesky_solve(history_QT.T, factor_TT).T @ kernel(cosine_TC, START_GAMMA))
    own_C = torch.full((len(cold),), -1, device=table_ND.device)
    return task.values(history_QT @ neighbour_weights(cosine_TC, _NEIGHBOURS, _EXPONENT, own_C))


class _Step:
    """The batches of an epoch and the loss of a batch."""

    def __init__(self, texts: ItemTexts, matrix_UN: sp.csr_array, config: ModelConfig) -> None:
        assert isinstance(config.loss, DistillationSettings)
        self.texts, self.config = texts, config
        self.trained_T = np.flatnonzero(np.bincount(matrix_UN.indices, minlength=matrix_UN.shape[1]))
        matrix_UT = sp.csr_array(matrix_UN[:, self.trained_T])
        self.targets: SoftTargets = implementation_of(config.loss)(matrix_UT, config.loss, texts.device)
        if len(self.targets.rows) == 0:
            raise DataError("features.tuned=true: no user has interacted with two items, so there is nothing to train "
                            "texts on; remove the setting, or prepare users with more interactions")
        self.similarity = Similarity(config.loss).to(texts.device)
        self.num_batches = -(-len(self.targets.rows) // config.optim.batch_size)
        self.warm_items = torch.from_numpy(self.trained_T).to(texts.device)

    def batches(self, epoch: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield positions among the items in training (B,), each item once."""
        yield from np.array_split(generator.permutation(self.targets.rows), self.num_batches)

    def loss(self, places_B: np.ndarray) -> torch.Tensor:
        """Return the loss of the items of a step, with the adversarial loss if there is an adversary."""
        items_B = torch.from_numpy(places_B).to(self.texts.device)
        targets_BT = self.targets.of(places_B)

        def logits(table_ND: torch.Tensor) -> torch.Tensor:
            return self.similarity(table_ND[self.warm_items], items_B, self.targets.log_popularity_T)

        def of(table_ND: torch.Tensor) -> torch.Tensor:
            return distillation_loss(logits(table_ND), targets_BT)

        live_B = self.warm_items[items_B]
        adversarial: Any = self.config.adversarial
        return self.texts.loss_with(live_B, live_B, of, adversarial, adversarial_loss, logits)
