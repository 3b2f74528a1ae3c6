"""Validation ndcg@10 of the sequential head against CPU seconds of training, for equal budgets.

    python benchmarks/sequential/curve.py <prepared> <CPU seconds> [setting ...]

Settings are those of `llmrec finetune head=sequential`, for example `loss=gbce head.block=ligr`. Fitted on train, all
items ranked, one thread. The learning rate's schedule ends with the budget: a trial run of two epochs gives the CPU
seconds per epoch, and from these the number of epochs. About a dozen epochs are validated, outside the clock.
Prints a line of JSON for each and one at the end. `optim.epochs=<n>` sets the number of epochs instead of the budget.
"""

import json
import sys
import time
from dataclasses import replace

import torch

from llmrec_cli.config import compose
from llmrec_cli.data.prepared import PreparedData, read_prepared
from llmrec_cli.heads.base import Context, build
from llmrec_cli.scoring.scorer import Score
from llmrec_cli.scoring.validation import Validation, validation_of
from llmrec_cli.settings.head import ModelConfig

VALIDATIONS = 12


def main() -> None:
    """Fit for the budget, validating now and then, and print the curve."""
    torch.set_num_threads(1)
    data, budget, typed = read_prepared(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    cfg = compose("finetune", ["head=sequential", "head.text_scale=0", "head.id_dropout=0", "optim.batch_size=1024",
                               "optim.learning_rate=0.002", *typed])
    config: ModelConfig = cfg.config
    epochs = config.optim.epochs
    if not any(setting.startswith("optim.epochs=") for setting in typed):
        epochs = max(1, round(budget / seconds_per_epoch(config, data)))
    config = replace(config, optim=replace(config.optim, epochs=epochs, patience=epochs))
    clock = Clock(validation_of(data, "ndcg@10"), epochs)
    head = build(config)
    head.fit(data.training("train"), Context(torch.device("cpu"), seed=1, validation=clock))
    print(json.dumps({"settings": typed, "epochs": epochs, "seconds_per_epoch": clock.seconds / epochs,
                      "seconds": clock.seconds, "best": max(clock.values), "last": clock.values[-1]}), flush=True)


def seconds_per_epoch(config: ModelConfig, data: PreparedData) -> float:
    """Return the CPU seconds of the second of two epochs; the first includes setting up."""
    ends: list[float] = []

    def end_of_epoch(score: Score) -> float:
        ends.append(time.process_time())
        return 0.0

    two = build(replace(config, optim=replace(config.optim, epochs=2)))
    two.fit(data.training("train"), Context(torch.device("cpu"), seed=1, validation=end_of_epoch))
    return ends[1] - ends[0]


class Clock:
    """A validation callback that measures the CPU seconds of training between its calls."""

    def __init__(self, validation: Validation | None, epochs: int) -> None:
        assert validation is not None, "the prepared data has no validation interactions"
        self.validation, self.epochs = validation, epochs
        self.epoch, self.seconds, self.values = 0, 0.0, list[float]()
        self.started = time.process_time()

    def __call__(self, score: Score) -> float:
        """Return ndcg@10 in about a dozen epochs and in the last, 0 in the others."""
        self.seconds += time.process_time() - self.started
        self.epoch += 1
        value, every = 0.0, max(1, self.epochs // VALIDATIONS)
        if self.epoch % every == 0 or self.epoch == self.epochs:
            value = self.validation(score)
            self.values.append(value)
            print(json.dumps({"epoch": self.epoch, "seconds": round(self.seconds, 1), "ndcg@10": round(value, 4)}),
                  flush=True)
        self.started = time.process_time()
        return value


if __name__ == "__main__":
    main()
