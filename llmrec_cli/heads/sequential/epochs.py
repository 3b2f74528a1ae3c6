"""The number of epochs that fit into a CPU time, `head.budget`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from llmrec_cli import distributed as processes
from llmrec_cli.atomic_files import read_json, write_json
from llmrec_cli.errors import in_time
from llmrec_cli.heads.shared.text_training import Steps
from llmrec_cli.training.clock import work_seconds

_MEASURED_S = 5.0
"""CPU seconds of steps that are measured."""
_FILE = "epochs.json"


def epochs_within(budget_s: float, most: int, steps: Steps, parameters: Sequence[torch.nn.Parameter], seed: int,
                  folder: Path | None, resumed: bool) -> int:
    """Return the epochs, 1 to `most`, that take about `budget_s` seconds of CPU time without their validation.

    A few steps are measured without changing a parameter. A resumed run takes the number that `folder` records, since
    a machine is never twice equally fast.
    """
    file = None if folder is None else folder / _FILE
    if file is not None and resumed and file.exists():
        return int(read_json(file)["epochs"])
    epoch_s = processes.broadcast_from_first(_seconds_of_an_epoch(steps, parameters, seed))
    epochs = int(min(most, max(1, budget_s // epoch_s)))
    if file is not None and processes.is_first():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"epochs": epochs})
    of_most = "all that optim.epochs allows" if epochs == most else f"of at most {most}"
    print(f"sequential: {epochs} epochs, {of_most}, take about {in_time(epochs * epoch_s)} of the CPU time that "
          f"head.budget gives", file=sys.stderr)
    if epoch_s > budget_s:
        print(f"warning: head.budget: a single epoch takes more, {in_time(epoch_s)}; give more, or a smaller model",
              file=sys.stderr)
    return epochs


def _seconds_of_an_epoch(steps: Steps, parameters: Sequence[torch.nn.Parameter], seed: int) -> float:
    """Return the CPU time of an epoch of gradients, from its first steps; the first of all is not counted."""
    num_steps, started, device = 0, 0.0, parameters[0].device
    with torch.random.fork_rng():
        for batch in steps.batches(0, np.random.default_rng([seed, 0])):
            steps.loss(batch).backward()
            now = work_seconds(device)
            if num_steps == 0:
                started = now
            num_steps += 1
            if now - started > _MEASURED_S:
                break
    for parameter in parameters:
        parameter.grad = None
    return (work_seconds(device) - started) / max(1, num_steps - 1) * steps.num_batches
