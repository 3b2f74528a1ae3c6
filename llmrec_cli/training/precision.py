"""The choice of a precision by the time of the first steps, `optim.precision=auto`.

Processors differ: with bfloat16 instructions a step of a text encoder takes half the time, without them ten times as
long. The first steps alternate between both, two of each; the first of each allocates memory, so the second counts.
"""

import sys

import torch

from llmrec_cli import distributed as processes
from llmrec_cli.training.clock import work_seconds

FLOAT32, BFLOAT16 = "float32", "bfloat16"
PRECISIONS = (FLOAT32, BFLOAT16)
_TURNS = 2
_LEAST_GAIN = 0.1
"""Share of the time of a step that bfloat16 must save."""


class PrecisionTrial:
    """The time of a training's first steps, by precision."""

    def __init__(self, device: torch.device, title: str) -> None:
        self.device, self.title = device, title
        self.seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        self.started = 0.0

    def begin(self) -> str:
        """Return the precision of the next step, and start its clock."""
        self.started = work_seconds(self.device)
        return min(PRECISIONS, key=lambda precision: len(self.seconds[precision]))

    def end(self, precision: str) -> str:
        """Stop the clock of a step, and return the precision of all later ones; "" while more steps are needed."""
        self.seconds[precision].append(work_seconds(self.device) - self.started)
        if min(map(len, self.seconds.values())) < _TURNS:
            return ""
        before, after = (self.seconds[precision][-1] for precision in PRECISIONS)
        share = processes.broadcast_from_first(after / before if before else 1.0)
        chosen = BFLOAT16 if share < 1 - _LEAST_GAIN else FLOAT32
        print(f"{self.title}: optim.precision=auto: {chosen}, since a step in bfloat16 takes {share:.2f} of the time "
              f"of one in float32", file=sys.stderr)
        return chosen
