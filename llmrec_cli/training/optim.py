"""The optimiser and its schedule."""

from collections.abc import Sequence

import torch
from torch import nn

from llmrec_cli.settings.optim import AdamW

Rates = Sequence[tuple[nn.Module, float]]


def build_optimizer(rates: Rates, settings: AdamW) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019) over the trained parameters of the modules in `rates`.

    Each module has its peak learning rate; a parameter that several modules hold goes with the first. Matrices decay,
    biases and the weights of norms do not.
    """
    taken: set[int] = set()
    groups = []
    for module, learning_rate in rates:
        own = [p for p in module.parameters() if p.requires_grad and id(p) not in taken]
        taken |= {id(p) for p in own}
        for decay, chosen in ((settings.weight_decay, [p for p in own if p.ndim > 1]),
                              (0.0, [p for p in own if p.ndim <= 1])):
            if chosen:
                groups.append({"params": chosen, "lr": learning_rate, "peak": learning_rate, "weight_decay": decay})
    # Fused: one pass over the parameters instead of a dozen, which takes a sixth of the time on a CPU.
    return torch.optim.AdamW(groups, fused=True)


def learning_rate_share(step: int, total_steps: int, warmup_share: float) -> float:
    """Return the share of the peak learning rate at `step` (from 0): a linear rise to 1, then a linear fall to 0.

    Neither the first nor the last of `total_steps` is wasted at 0; the step behind the last would be at 0.
    """
    warmup = round(total_steps * warmup_share)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup))


def set_learning_rate(optimizer: torch.optim.Optimizer, share: float) -> float:
    """Set each group's learning rate to a share of its peak and return the highest."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
    return float(max(group["lr"] for group in optimizer.param_groups))
