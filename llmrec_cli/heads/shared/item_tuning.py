"""Training item text vectors on interactions, before a head uses them.

Shapes: Q queries, N items, T items in training, B items of a step, C cold items.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
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
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.training.adversary import adversarial_loss
from llmrec_cli.training.checkpoint import trained_parameters
from llmrec_cli.training.loop import Length, TrainContext, train
from llmrec_cli.training.losses.base import TextLoss

METRICS = ("recall@20", "recall@100", "ndcg@20")
"""Metrics of cold items that decide together: ndcg alone is decided by the few items at the top."""
MARGIN = 2.0
"""Standard errors that the gain must exceed. They are over queries, but queries share a few hundred cold items."""
_NEIGHBOURS, _EXPONENT = 20, 3.0
"""Neighbours by text in validation, as in head=content."""
_TEMPERATURE_RATE = 1e-2
"""Learning rate of temperatures if `optim.learning_rate` is null."""


def tune(texts: ItemTexts, data: TrainingData, config: ModelConfig, weights: FeatureWeightsSettings, context: Context,
         frozen_text: ItemTexts | None = None) -> int:
    """Train the vectors in place; return the number of epochs after which they were best, 0 for the start.

    An epoch takes each item in training once, `optim.batch_size` items per step. The encoder runs for the items of a
    step; other items keep the vectors of their last encoding. Validation ranks cold items by their nearest neighbours,
    or by kernel ridge if the head does; items hidden for validation are hidden from training too. `frozen_text` are
    the original vectors if the head uses them beside the trained ones.

    The original vectors stay unless the mean of METRICS gains more than MARGIN standard errors and none of them falls.
    With `weights.folds` > 1 this is decided by as many trainings, each with other hidden items and another seed; then
    the vectors are trained again, for the number of epochs that was best on average.
    """
    if weights.stop_after == 0:
        return 0
    tuning = _Tuning(texts, config, weights, frozen_text)
    if weights.stop_after is not None:
        tuning.train(data.interactions.matrix, None, weights.stop_after, context.inside("texts"))
        return weights.stop_after
    task = make_cold_task(data, context)
    if task is None:
        return tuning.train(data.interactions.matrix, None, None, context.inside("texts"))[0]
    if weights.folds == 1:
        best_epoch, gains = tuning.train(task.matrix_UN, task, None, context.inside("texts"))
        is_kept = tuning.judge([gains], context)
    else:
        best_epoch, is_kept = tuning.choose_by_folds(data, context)
    if not is_kept or weights.folds > 1:
        tuning.restart()
    if is_kept and weights.folds > 1:
        # Without the items that the head may hide to choose its settings.
        tuning.train(task.matrix_UN, None, best_epoch, context.inside("texts"))
    return best_epoch if is_kept else 0


def tuning_memory(data: TrainingData, config: ModelConfig) -> int:
    """Return the peak bytes of `tune`, without the vectors themselves and the encoder."""
    counts_N, num_items = data.interactions.item_counts, len(data.items)
    counts_T, length_U = counts_N[counts_N > 0], np.bincount(data.interactions.user)
    batch, size = min(config.optim.batch_size, len(counts_T)), config.encoder.vector_size()
    training = implementation_of(config.loss).estimate_memory(config.loss, counts_T, length_U, batch, size)
    num = len(counts_T)
    if num_items - num < ENOUGH:
        # Too few items are cold, so items are hidden.
        num -= int(HIDDEN_SHARE * num)
    cold, queries = num_items - num, min(MOST_QUERIES, len(data.users))
    validation = 4 * (3 * num * cold + queries * (num + 3 * cold)
                      + (2 * num**2 if config.head.ranks_by_kernel() else 0))
    # The table after another centring, during validation.
    return int(max(training, validation + 4 * 2 * size * num_items))


class _Tuning:
    """Trainings of the texts, which start from the same weights, and their gains on cold items."""

    def __init__(self, texts: ItemTexts, config: ModelConfig, weights: FeatureWeightsSettings,
                 frozen_text: ItemTexts | None) -> None:
        self.texts, self.config, self.weights, self.frozen_text = texts, config, weights, frozen_text

        self.start = {name: parameter.detach().clone() for name, parameter in trained_parameters(texts).items()}
        self.start_centring = texts.mean, texts.matrix

    @torch.no_grad()
    def restart(self) -> None:
        """Restore the vectors before training."""
        for name, parameter in trained_parameters(self.texts).items():
            parameter.copy_(self.start[name])
        self.texts.mean, self.texts.matrix = self.start_centring
        self.texts.refresh()

    @torch.no_grad()
    def _interpolate(self, share: float) -> None:
        """Set the trained weights to `share` of their values and the rest of those before (Wortsman et al. 2022)."""
        for name, parameter in trained_parameters(self.texts).items():
            parameter.copy_(torch.lerp(self.start[name], parameter, share))

    def train(self, matrix_UN: sp.csr_array, task: ColdTask | None, stop_after: int | None,
              context: Context) -> tuple[int, np.ndarray]:
        """Train on the interactions; return the best epoch, and each query's gains in METRICS (3, Q).

        Without a task, all epochs are trained and there are no gains (3, 0).
        """
        texts, optim = self.texts, self.config.optim
        step = _Step(texts, matrix_UN, self.config)
        length = Length(stop_after or optim.epochs, step.num_batches, optim.epochs)
        train_context = TrainContext(context.device, context.seed, context.log, context.folder,
                                     context.folder if context.resumed else None, context.tensorboard, "texts",
                                     self.config.flat("head", "optim"))
        before_MQ = np.zeros((len(METRICS), 0)) if task is None else self._values(task)
        texts.plan(length.schedule_epochs * length.steps(optim.accumulate))
        validate = None if task is None else lambda: float(self._values(task).mean())
        rates = [*texts.rates(optim), (step.text_loss, optim.rate(usual=_TEMPERATURE_RATE))]
        model = torch.nn.ModuleDict({"texts": texts, "loss": step.text_loss})
        result = train(model, step.batches, step.loss, rates, optim, length, train_context, validate,
                       after_step=step.after_step, shrink=texts.shrink)
        if self.weights.interpolation < 1:
            self._interpolate(self.weights.interpolation)
        gains_MQ = before_MQ if task is None else self._values(task) - before_MQ
        texts.refresh()
        texts.recentre(_in_training(matrix_UN))
        return result.best_epoch, gains_MQ

    def choose_by_folds(self, data: TrainingData, context: Context) -> tuple[int, bool]:
        """Train once per fold of hidden items; return the mean best epoch, and True if the gains are accepted."""
        epochs, gains = [], []
        for fold in range(self.weights.folds):
            # Another seed for each training, so that the gains include the luck of one.
            inside = replace(context.inside(f"texts-{fold + 1}"), seed=context.seed + fold)
            task = make_cold_task(data, context, fold=fold)
            if task is not None:
                self.restart()
                epoch, gain_MQ = self.train(task.matrix_UN, task, None, inside)
                epochs.append(epoch)
                gains.append(gain_MQ)
        if not epochs:
            return 0, False
        return round(float(np.mean(epochs))), self.judge(gains, context)

    def judge(self, gains: list[np.ndarray], context: Context) -> bool:
        """Log and print the gains (3, Q) of each training; return True if they are accepted."""
        gains_MQ = np.concatenate(gains, axis=1)
        gain = accepted(gains_MQ.mean(axis=0), MARGIN)
        by_metric = {metric: float(row_Q.mean()) for metric, row_Q in zip(METRICS, gains_MQ, strict=True)}
        is_kept = gain.is_accepted and min(by_metric.values()) >= 0
        context.log("texts", kept=is_kept, trainings=len(gains), **by_metric, **gain.facts())
        each = ", ".join(f"{metric} {value:+.4f}" for metric, value in by_metric.items())
        print(f"texts: gain of tuned texts on cold items: {each}; mean {gain}: {'kept' if is_kept else 'not kept'} "
              f"(the mean must be above {MARGIN:g} standard errors, and no metric may fall)", file=sys.stderr)
        return is_kept

    @torch.no_grad()
    def _values(self, task: ColdTask) -> np.ndarray:
        """Return METRICS of each query (3, Q), cold items ranked by neighbours in training or by kernel ridge."""
        self.texts.refresh()
        in_training_N = _in_training(task.matrix_UN)
        table_ND = self.texts.recentred_table(in_training_N)
        if self.frozen_text is not None:
            parts = self.weights.text * table_ND, self.weights.frozen_text * self.frozen_text.table
            table_ND = torch.nn.functional.normalize(torch.cat(parts, dim=1), dim=1)
        warm, cold = (torch.from_numpy(which).to(table_ND.device)
                      for which in (task.trained_T, np.flatnonzero(task.cold_N)))
        cosine_TC = table_ND[warm] @ table_ND[cold].T
        history_QT = torch.from_numpy(task.queries.history[:, task.trained_T].toarray()).to(table_ND.device)
        if self.config.head.ranks_by_kernel():
            factor_TT = ridge_factor(table_ND[warm] @ table_ND[warm].T, START_GAMMA, START_L2)
            scores_QC = torch.cholesky_solve(history_QT.T, factor_TT).T @ kernel(cosine_TC, START_GAMMA)
        else:
            own_C = torch.full((len(cold),), -1, device=table_ND.device)
            scores_QC = history_QT @ neighbour_weights(cosine_TC, _NEIGHBOURS, _EXPONENT, own_C)
        return np.stack([task.values(scores_QC, metric) for metric in METRICS])


class _Step:
    """The batches of an epoch and the loss of a batch."""

    def __init__(self, texts: ItemTexts, matrix_UN: sp.csr_array, config: ModelConfig) -> None:
        self.texts, self.config = texts, config
        self.trained_T = np.flatnonzero(_in_training(matrix_UN))
        matrix_UT = sp.csr_array(matrix_UN[:, self.trained_T])
        self.text_loss: TextLoss[Any] = implementation_of(config.loss)(matrix_UT, config.loss, texts.device)
        if len(self.text_loss.rows) == 0:
            raise DataError("features.tuned=true: no user has interacted with two items, so there is nothing to train "
                            "texts on; remove the setting, or prepare users with more interactions")
        self.num_batches = -(-len(self.text_loss.rows) // config.optim.batch_size)
        self.warm_items = torch.from_numpy(self.trained_T).to(texts.device)
        self._refresh()

    def batches(self, epoch: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield positions among the items in training (B,), each item once."""
        yield from np.array_split(generator.permutation(self.text_loss.rows), self.num_batches)

    def loss(self, places_B: np.ndarray) -> torch.Tensor:
        """Return the loss of the items of a step, with the adversarial loss if there is an adversary."""
        items_B = torch.from_numpy(places_B).to(self.texts.device)

        def logits(table_ND: torch.Tensor) -> torch.Tensor:
            return self.text_loss.logits(table_ND[self.warm_items], items_B)

        def of(table_ND: torch.Tensor) -> torch.Tensor:
            value: torch.Tensor = self.text_loss(table_ND[self.warm_items], items_B)
            return value

        live_B = self.warm_items[items_B]
        adversarial: Any = self.config.adversarial
        return self.texts.loss_with(live_B, live_B, of, adversarial, adversarial_loss, logits)

    def after_step(self, step: int) -> None:
        """Prune adapters, and give the loss the new vectors when it wants them."""
        self.texts.after_step(step)
        if self.text_loss.refresh_steps and step % self.text_loss.refresh_steps == 0:
            self._refresh()

    @torch.no_grad()
    def _refresh(self) -> None:
        is_training = self.texts.training
        self.texts.eval()  # Without dropout on the vectors of a map.
        self.text_loss.refresh(self.texts.table[self.warm_items])
        self.texts.train(is_training)


def _in_training(matrix_UN: sp.csr_array) -> np.ndarray:
    """Return the mask of items with interactions, bool (N,)."""
    in_training_N: np.ndarray = np.bincount(matrix_UN.indices, minlength=matrix_UN.shape[1]) > 0
    return in_training_N
