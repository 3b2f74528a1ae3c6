"""Pooling: hidden states of the tokens to one vector per text.

Shapes: R texts, T tokens, D dimensions.
"""

from collections.abc import Callable

import torch

Pooling = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def mean(hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
    """Return the mean over the tokens that are not padding (Reimers and Gurevych 2019, section 3), (R, D)."""
    weight_RT1 = mask_RT.unsqueeze(-1).to(hidden_RTD.dtype)
    return (hidden_RTD * weight_RT1).sum(1) / weight_RT1.sum(1)


def cls(hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
    """Return the hidden state of the first token, (R, D)."""
    return hidden_RTD[:, 0]


POOLINGS: dict[str, Pooling] = {"mean": mean, "cls": cls}
