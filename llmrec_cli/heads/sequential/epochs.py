"""The number of epochs that fit into a CPU time, `head.budget`."""

import sys
from collections.abc import Sequence
from itertools import count
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
_LEAST_STEPS = 4
"""Steps that are measured of epochs with fewer."""
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
    epochs = int(min(most, max(1, budget_s // max(epoch_s, 1e-9))))
    if file is not None and processes.is_first():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"epochs": epochs})
    print(f"sequential: head.budget: {epochs} of at most {most} epochs, which take about {in_time(epochs * epoch_s)} "
          f"of CPU time", file=sys.stderr)
    if epoch_s > budget_s:
        print(f"warning: head.budget: a single epoch takes more, {in_time(epoch_s)}; give more, or a smaller model",
              file=sys.stderr)
    return epochs


def _seconds_of_an_epoch(steps: Steps, parameters: Sequence[torch.nn.Parameter], seed: int) -> float:
    """Return the CPU time of an epoch, from its first steps; the first of all is slow and not counted."""
    device, started = parameters[0].device, 0.0
    # A learning rate of 0 changes nothing, and takes the time of a real step: with many items more than the gradients.
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0)
    batches = (batch for epoch in count() for batch in steps.batches(epoch, np.random.default_rng([seed, epoch])))
    with torch.random.fork_rng():
        for number, batch in enumerate(batches):
            steps.loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            now = work_seconds(device)
            if number == 0:
                started = now
            elif now - started > _MEASURED_S or number >= max(_LEAST_STEPS, steps.num_batches):
                return (now - started) / number * steps.num_batches
    raise AssertionError("batches() gave none")
