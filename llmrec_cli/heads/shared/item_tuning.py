"""Training the text vectors of items on which items are chosen together, before a head reads them.

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
from llmrec_cli.heads.shared.cold_item_validation import ENOUGH, HIDDEN, MOST_QUERIES, ColdTask, cold_task
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
"""Of the neighbours by text that validation looks at; what `content` takes too."""


def tune(texts: ItemTexts, data: TrainingData, config: ModelConfig, stop_after: int | None, context: Context) -> int:
    """Train the vectors in place and return after how many epochs they were best, 0 where that was at the start.

    An epoch sees each item in training once as the item whose company is to be foretold, `optim.batch_size` of them a
    step, among all items in training. The encoder runs for the items of a step; of the others it is what it said last.
    Validation ranks cold items by their nearest neighbours, or by kernel ridge where the head does; those hidden for it
    are hidden from the training too. The vectors as they came stay unless the best epoch gains more than its standard
    error over queries.
    """
    if stop_after == 0:
        return 0
    task = None if stop_after is not None else cold_task(data, context)
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
    # What head=content is made of; the others look at near items.
    by_kernel = config.head.ranks_by_kernel()
    before_Q = None if task is None else _values(texts, task, by_kernel)
    start = {name: parameter.detach().clone() for name, parameter in trained_parameters(texts).items()}
    texts.plan(length.schedule_epochs * length.steps(optim.accumulate))
    validate = None if task is None else lambda: float(_values(texts, task, by_kernel).mean())
    trained = train(model, step.batches, step.loss, [*texts.rates(optim), (step.similarity, optim.rate())], optim,
                    length, train_context, validate, after_step=texts.after_step, shrink=texts.shrink)
    kept = True
    if task is not None and before_Q is not None:
        after_Q = _values(texts, task, by_kernel)
        gain = accepted(after_Q - before_Q)
        kept = gain.is_accepted
        context.log("texts", monitor=task.monitor, before=float(before_Q.mean()), after=float(after_Q.mean()),
                    kept=kept, **gain.facts())
        print(f"texts: {task.monitor} of cold items {before_Q.mean():.4f} frozen, {after_Q.mean():.4f} tuned: gain "
              f"{gain}: {'kept' if kept else 'not kept'}", file=sys.stderr)
    if not kept:
        with torch.no_grad():
            for name, parameter in trained_parameters(texts).items():
                parameter.copy_(start[name])
    texts.refresh()
    return trained.best_epoch if kept else 0


def tuning_memory(data: TrainingData, config: ModelConfig) -> int:
    """Return the bytes that `tune` takes at its peak, beside the vectors themselves and the encoder."""
    counts_N, num_items = data.interactions.item_counts, len(data.items)
    num = int((counts_N > 0).sum())
    together = _together(counts_N[counts_N > 0], np.bincount(data.interactions.user))
    if num_items - num < ENOUGH:
        # Too few are cold already, so some are hidden.
        together, num = int(together * (1 - HIDDEN)**2), num - int(HIDDEN * num)
    batch = min(config.optim.batch_size, num)
    pairs = 12 * num**2 + 12 * num**2 if getattr(config.loss, "targets", "") == "ease" else 0
    # A step: targets, logits, their softmax, its product with the targets, and a gradient.
    step = 4 * 5 * batch * num
    cold = num_items - num
    queries = min(MOST_QUERIES, len(data.users))
    by_kernel = config.head.ranks_by_kernel()
    validation = 4 * (3 * num * cold + queries * (num + 3 * cold) + (2 * num**2 if by_kernel else 0))
    # Pairs of items chosen together: in the product, divided, and with the row of each; then what is left of them.
    return pairs + max(36 * together, 12 * together + max(step, validation))


def _together(counts_T: np.ndarray, length_U: np.ndarray) -> int:
    """Return about how many pairs of items some user chose both of, each twice.

    As if users chose at random, items by their popularity: in each pair of 200 parts of items of like popularity.
    """
    parts = [part for part in np.array_split(np.sort(counts_T), 200) if len(part)]
    mean_P, size_P = (np.array([of(part) for part in parts], np.float64) for of in (np.mean, len))
    expected_PP = (length_U * (length_U - 1.0)).sum() * np.outer(mean_P, mean_P) / max(1, counts_T.sum())**2
    return int(-(np.outer(size_P, size_P) * np.expm1(-expected_PP)).sum())


@torch.no_grad()
def _values(texts: ItemTexts, task: ColdTask, by_kernel: bool) -> np.ndarray:
    """Return each query's metric (Q,) where cold items are ranked by neighbours in training, or by kernel ridge."""
    texts.refresh()
    table_ND = texts.table
    trained, cold = (torch.from_numpy(which).to(table_ND.device)
                     for which in (task.trained_T, np.flatnonzero(task.cold_N)))
    cosine_TC = table_ND[trained] @ table_ND[cold].T
    history_QT = torch.from_numpy(task.queries.history[:, task.trained_T].toarray()).to(table_ND.device)
    if by_kernel:
        factor_TT = ridge_factor(table_ND[trained] @ table_ND[trained].T, START_GAMMA, START_L2)
        return task.values(torch.cholesky_solve(history_QT.T, factor_TT).T @ kernel(cosine_TC, START_GAMMA))
    nobody = torch.full((len(cold),), -1, device=table_ND.device)
    return task.values(history_QT @ neighbour_weights(cosine_TC, _NEIGHBOURS, _EXPONENT, nobody))


class _Step:
    """The batches of an epoch and the loss of a batch."""

    def __init__(self, texts: ItemTexts, matrix_UN: sp.csr_array, config: ModelConfig) -> None:
        assert isinstance(config.loss, DistillationSettings)
        self.texts, self.config = texts, config
        self.trained_T = np.flatnonzero(np.bincount(matrix_UN.indices, minlength=matrix_UN.shape[1]))
        matrix_UT = sp.csr_array(matrix_UN[:, self.trained_T])
        self.targets: SoftTargets = implementation_of(config.loss)(matrix_UT, config.loss, texts.device)
        if len(self.targets.rows) == 0:
            raise DataError("features.tuned=true: no two items are ever chosen by one user, so there is nothing to "
                            "train texts on; leave it out, or prepare users with more interactions")
        self.similarity = Similarity(config.loss).to(texts.device)
        self.num_batches = -(-len(self.targets.rows) // config.optim.batch_size)
        self.trained = torch.from_numpy(self.trained_T).to(texts.device)

    def batches(self, epoch: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield places among the items in training (B,), each item once."""
        yield from np.array_split(generator.permutation(self.targets.rows), self.num_batches)

    def loss(self, places_B: np.ndarray) -> torch.Tensor:
        """Return the loss of the items of a step, under attack too where there is an adversary."""
        items_B = torch.from_numpy(places_B).to(self.texts.device)
        targets_BT = self.targets.of(places_B)

        def logits(table_ND: torch.Tensor) -> torch.Tensor:
            return self.similarity(table_ND[self.trained], items_B, self.targets.log_popularity_T)

        def of(table_ND: torch.Tensor) -> torch.Tensor:
            return distillation_loss(logits(table_ND), targets_BT)

        live_B = self.trained[items_B]
        adversarial: Any = self.config.adversarial
        return self.texts.loss_with(live_B, live_B, of, adversarial, adversarial_loss, logits)
