"""The optimiser and its learning rate schedule."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.optim import AdamWSettings, OptimSettings

Rates = Sequence[tuple[nn.Module, float]]


def build_optimizer(rates: Rates, settings: OptimSettings) -> torch.optim.Optimizer:
    """Return the optimiser that `settings` name over the trained parameters of the modules in `rates`.

    Each module has a peak learning rate; a parameter of several modules belongs to the first. Matrices and other
    parameters (biases and norm weights) are separate groups (`is_matrix`).
    """
    seen: set[int] = set()
    groups: list[dict[str, Any]] = []
    for module, learning_rate in rates:
        own = [p for p in module.parameters() if p.requires_grad and id(p) not in seen]
        seen |= {id(p) for p in own}
        for is_matrix in (True, False):
            if parameters := [p for p in own if (p.ndim > 1) == is_matrix]:
                groups.append({"params": parameters, "lr": learning_rate, "peak": learning_rate,
                               "is_matrix": is_matrix})
    optimizer: torch.optim.Optimizer = implementation_of(settings)(groups, settings)
    return optimizer


def adamw(groups: Sequence[dict[str, Any]], settings: AdamWSettings) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019) with weight decay for matrices only."""
    decayed = [group | {"weight_decay": settings.weight_decay if group["is_matrix"] else 0.0} for group in groups]
    # Fused: one pass over the parameters instead of a dozen, which takes a sixth of the time on a CPU.
    return torch.optim.AdamW(decayed, fused=True)


def layer_rates(encoder: nn.Module, layers: Sequence[nn.Module], rate: float,
                decay: float) -> list[tuple[nn.Module, float]]:
    """Return learning rates of an encoder that fall by `decay` from each layer to the one below (Clark et al. 2020).

    `layers` are ordered from the lowest up. Modules outside them, mostly embeddings, count as the lowest layer.
    """
    falling = [(layer, rate * decay**n) for n, layer in enumerate(reversed(layers))]
    return [*falling, (encoder, rate * decay**len(layers))]


def learning_rate_share(step: int, total_steps: int, warmup_share: float, schedule: str = "linear") -> float:
    """Return the share of the peak learning rate at `step` (from 0): a linear rise to 1, then `schedule`.

    Neither the first nor the last of `total_steps` has rate 0; the step after the last would have it, unless the
    schedule is `constant`.
    """
    warmup = round(total_steps * warmup_share)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    remaining = max(0.0, (total_steps - step) / max(1, total_steps - warmup))
    # Half a period of the cosine (Loshchilov and Hutter 2017, eq. 5).
    return remaining if schedule == "linear" else (1 - math.cos(math.pi * remaining)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, share: float) -> float:
    """Set each group's learning rate to a share of its peak and return the highest."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
    return float(max(group["lr"] for group in optimizer.param_groups))
