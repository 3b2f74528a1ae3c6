"""The gradients of one step: averaged over its batches, in parts where memory runs out, shared by processes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from llmrec_cli import distributed as processes
from llmrec_cli.errors import ConfigError, ResourceError, is_out_of_memory
from llmrec_cli.training.checkpoint import Progress, random_states, set_random_states

Loss = Callable[[Any], torch.Tensor]
Split = Callable[[Any, int], Sequence[tuple[Any, float]]]
Shrink = Callable[[], bool]


class Gradients:
    """Computes the gradients of a step.

    Parameters
    ----------
    parameters : all that is trained
    loss : a batch, or a part of one, to a scalar
    split : a batch and a number n >= 2 to at most n parts with weights; the weighted sum of the parts' losses is the
        loss of the batch. None where a loss has no parts
    shrink : makes the model hold less at a time without changing what it computes, and returns whether it could; None
        where there is nothing to make smaller
    """

    def __init__(self, parameters: list[nn.Parameter], loss: Loss, split: Split | None, shrink: Shrink | None,
                 device: torch.device, seed: int, precision: str, title: str, log: Callable[..., None]) -> None:
        if split is None and processes.count() > 1:
            raise ConfigError(f"{title}: the loss of a step cannot be shared by {processes.count()} processes, since "
                              f"each of its interactions is compared with all others of the step; start it without "
                              f"torchrun")
        self.parameters, self.loss, self.split, self.shrink = parameters, loss, split, shrink
        self.device, self.seed, self.title, self.log = device, seed, title, log
        self.dtype = torch.bfloat16 if precision == "bfloat16" else None

    def restore(self, progress: Progress) -> None:
        """Make the model hold as little at a time as it did when the checkpoint was written."""
        for _ in range(progress.shrunk):
            assert self.shrink is not None
            self.shrink()

    def leave(self, batches: list[Any], progress: Progress) -> torch.Tensor:
        """Leave the gradients of the batches' mean loss in the parameters and return that loss, a scalar.

        Where memory runs out, the step begins again with smaller parts, and so do all that follow. Raises ResourceError
        where there is nothing smaller.
        """
        if processes.count() > 1:
            # Streams of one's own for each step, as the processes draw different numbers of random values in it.
            torch.manual_seed(hash((self.seed, progress.step, processes.rank())) % 2**63)
        before = random_states(self.device)
        while True:
            value, problem = self._attempt(batches, progress)
            if processes.max_over_processes([bool(problem)]) == [0]:
                return self._shared(value)
            self._make_smaller(batches, progress, problem or "another process ran out of memory")
            set_random_states(before, self.device)

    def _attempt(self, batches: list[Any], progress: Progress) -> tuple[torch.Tensor, str]:
        """Return this process's share of the loss, its gradients in the parameters; or what memory was short of."""
        self._forget()
        total = torch.zeros((), device=self.device)
        try:
            for batch in batches:
                for part, weight in self._own_parts(batch, progress.parts):
                    with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                        value = self.loss(part)
                    scale = weight / len(batches)
                    scaled = value if scale == 1 else value * scale
                    scaled.backward()
                    total = total + scaled.detach().float()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Not the error itself: it holds the frames, and they the tensors.
            return total, str(error).splitlines()[0] if str(error) else type(error).__name__
        return total, ""

    def _own_parts(self, batch: Any, parts: int) -> Iterator[tuple[Any, float]]:
        """Yield this process's share of a batch, in parts with their weights."""
        yield from self._all_parts(batch, parts)[processes.rank()::processes.count()]

    def _all_parts(self, batch: Any, parts: int) -> Sequence[tuple[Any, float]]:
        number = parts * processes.count()
        if number == 1:
            return [(batch, 1.0)]
        assert self.split is not None
        return self.split(batch, number)

    def _make_smaller(self, batches: list[Any], progress: Progress, problem: str) -> None:
        self._forget()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.shrink is not None and self.shrink():
            progress.shrunk += 1
        elif self.split is not None and any(len(self._all_parts(batch, 2 * progress.parts)) >
                                            len(self._all_parts(batch, progress.parts)) for batch in batches):
            progress.parts *= 2
        else:
            raise ResourceError(f"{self.title}: out of memory at step {progress.step + 1}, and the step cannot be made "
                                f"smaller ({problem}); lower optim.batch_size, choose a smaller model, or a machine "
                                f"with more memory")
        self.log("out_of_memory", step=progress.step + 1, parts=progress.parts, shrunk=progress.shrunk,
                 problem=problem)

    def _forget(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _shared(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of all processes' losses and put the sums of their gradients in place of this one's."""
        if processes.count() == 1:
            return value
        # One message. A parameter that no part has a gradient for keeps none, as in a single process.
        has = torch.tensor([float(p.grad is not None) for p in self.parameters], device=self.device)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        summed = processes.sum_over_processes(torch.cat([value[None], has, *(g.flatten().float() for g in grads)]))
        sizes = [1, len(has), *(g.numel() for g in grads)]
        total, counts, *flat = summed.split(sizes)
        for parameter, count, grad in zip(self.parameters, counts.tolist(), flat, strict=True):
            parameter.grad = grad.view_as(parameter).to(parameter.dtype) if count else None
        return total[0]
