"""The gradients of a step: averaged over batches, split into parts if memory runs out, and between processes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from llmrec_cli import distributed as processes
from llmrec_cli.errors import ConfigError, ResourceError, is_out_of_memory
from llmrec_cli.training.checkpoint import Progress, random_states, set_random_states
from llmrec_cli.training.precision import BFLOAT16, PrecisionTrial

Loss = Callable[[Any], torch.Tensor]
Split = Callable[[Any, int], Sequence[tuple[Any, float]]]
Shrink = Callable[[], bool]


class Gradients:
    """Computes the gradients of a step.

    Parameters
    ----------
    parameters : all trained parameters
    loss : maps a batch, or a part of a batch, to a scalar
    split : maps a batch and a number n >= 2 to at most n parts with weights; the weighted sum of the parts' losses is
        the loss of the batch. None if the loss cannot be split
    shrink : reduces the model's memory use without changing its results, and returns True if that was possible; None
        if nothing can be reduced
    """

    def __init__(self, parameters: list[nn.Parameter], loss: Loss, split: Split | None, shrink: Shrink | None,
                 device: torch.device, seed: int, precision: str, title: str, log: Callable[..., None]) -> None:
        if split is None and processes.count() > 1:
            raise ConfigError(f"{title}: the loss of a step cannot be split between {processes.count()} processes, "
                              f"since it compares each interaction with all others of the step; run without torchrun")
        self.parameters, self.loss, self.split, self.shrink = parameters, loss, split, shrink
        self.device, self.seed, self.title, self.log = device, seed, title, log
        self.precision = precision
        self.trial = PrecisionTrial(device, title) if precision == "auto" else None

    def restore(self, progress: Progress) -> None:
        """Repeat the reductions of the model's memory use that the checkpoint counts."""
        for _ in range(progress.shrunk):
            assert self.shrink is not None
            self.shrink()

    def compute(self, batches: list[Any], progress: Progress) -> torch.Tensor:
        """Store the gradients of the batches' mean loss in the parameters and return that loss, a scalar.

        If memory runs out, the step is repeated with smaller parts, which all later steps use too. Raises ResourceError
        if nothing can be made smaller.
        """
        if processes.count() > 1:
            # A new seed for each process and step, as processes draw different numbers of random values in a step.
            torch.manual_seed(hash((self.seed, progress.step, processes.rank())) % 2**63)
        before = random_states(self.device)
        precision = self._begin(progress)
        while True:
            value, problem = self._attempt(batches, progress, precision)
            if processes.max_over_processes([bool(problem)]) == [0]:
                if self.trial is not None and not progress.precision:
                    progress.precision = self.trial.end(precision)
                return self._sum_over_processes(value)
            self._make_smaller(batches, progress, problem or "another process ran out of memory")
            set_random_states(before, self.device)

    def _begin(self, progress: Progress) -> str:
        """Return the precision of the next step."""
        if self.trial is None:
            return self.precision
        return progress.precision or self.trial.begin()

    def _attempt(self, batches: list[Any], progress: Progress, precision: str) -> tuple[torch.Tensor, str]:
        """Return this process's share of the loss, and the message of an out-of-memory error ("" for success).

        The gradients are stored in the parameters.
        """
        self._clear_gradients()
        total = torch.zeros((), device=self.device)
        try:
            for batch in batches:
                for part, weight in self._own_parts(batch, progress.parts):
                    with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == BFLOAT16):
                        value = self.loss(part)
                    scale = weight / len(batches)
                    scaled = value if scale == 1 else value * scale
                    scaled.backward()
                    total = total + scaled.detach().float()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Only the message: the error would keep its frames and their tensors alive.
            return total, str(error).splitlines()[0] if str(error) else type(error).__name__
        return total, ""

    def _own_parts(self, batch: Any, parts: int) -> Iterator[tuple[Any, float]]:
        """Yield this process's parts of a batch with their weights."""
        yield from self._all_parts(batch, parts)[processes.rank()::processes.count()]

    def _all_parts(self, batch: Any, parts: int) -> Sequence[tuple[Any, float]]:
        number = parts * processes.count()
        if number == 1:
            return [(batch, 1.0)]
        assert self.split is not None
        return self.split(batch, number)

    def _make_smaller(self, batches: list[Any], progress: Progress, problem: str) -> None:
        self._clear_gradients()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.shrink is not None and self.shrink():
            progress.shrunk += 1
        elif self.split is not None and any(len(self._all_parts(batch, 2 * progress.parts)) >
                                            len(self._all_parts(batch, progress.parts)) for batch in batches):
            progress.parts *= 2
        else:
            raise ResourceError(f"{self.title}: out of memory at step {progress.step + 1}, and the step cannot be made "
                                f"smaller ({problem}); lower optim.batch_size, or use a smaller model or a machine "
                                f"with more memory")
        self.log("out_of_memory", step=progress.step + 1, parts=progress.parts, shrunk=progress.shrunk,
                 problem=problem)

    def _clear_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _sum_over_processes(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of all processes' losses, and replace the gradients by their sums over the processes."""
        if processes.count() == 1:
            return value
        # A single message. A parameter without a gradient in any process keeps none, as in a single process.
        has = torch.tensor([float(p.grad is not None) for p in self.parameters], device=self.device)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        summed = processes.sum_over_processes(torch.cat([value[None], has, *(g.flatten().float() for g in grads)]))
        sizes = [1, len(has), *(g.numel() for g in grads)]
        total, counts, *flat = summed.split(sizes)
        for parameter, count, grad in zip(self.parameters, counts.tolist(), flat, strict=True):
            parameter.grad = grad.view_as(parameter).to(parameter.dtype) if count else None
        return total[0]
