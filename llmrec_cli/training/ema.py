"""Exponential moving average of the weights, which smooths out the noise of the last steps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Ema:
    """Exponential moving average of the weights (Polyak and Juditsky 1992) with warm-up.

    After step n the average is decay x average + (1 - decay) x weights, with a decay of at most (1 + n) / (10 + n) as
    in TensorFlow, so that the initial weights soon have no influence.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.average = {name: p.detach().clone() for name, p in parameters.items()} if decay > 0 else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the weights after `step`, counted from 1."""
        if self.average:
            share = 1 - min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.parameters.values()], share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Use the average as the weights within the block and restore the weights afterwards."""
        weights = {name: p.detach().clone() for name, p in self.parameters.items()} if self.average else {}
        self.put(self.average)
        try:
            yield
        finally:
            self.put(weights)

    @torch.no_grad()
    def put(self, values: dict[str, torch.Tensor]) -> None:
        """Set the weights in `values`."""
        for name, value in values.items():
            self.parameters[name].copy_(value)
