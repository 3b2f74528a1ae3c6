"""Pooling: hidden states of the tokens to a vector per text.

Shapes: R texts, T tokens, D dimensions, K dimensions of a vector.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from llmrec_cli.encoders.modules import Dense, Modules
from llmrec_cli.errors import ArtifactError

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda x: x, "tanh": torch.tanh, "relu": torch.relu, "gelu": nn.functional.gelu}


def mean(hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
    """Return the mean over the tokens that are not padding (Reimers and Gurevych 2019, section 3), (R, D)."""
    weight_RT1 = mask_RT.unsqueeze(-1).to(hidden_RTD.dtype)
    return (hidden_RTD * weight_RT1).sum(1) / weight_RT1.sum(1)


def cls(hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
    """Return the hidden state of the first token, (R, D)."""
    return hidden_RTD[:, 0]


def last(hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
    """Return the hidden state of the last token before the padding, (R, D); a decoder's has seen the whole text."""
    rows_R = torch.arange(len(hidden_RTD), device=hidden_RTD.device)
    return hidden_RTD[rows_R, mask_RT.sum(1) - 1]


_PLAIN: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"mean": mean, "cls": cls, "last": last}


class Pooler(nn.Module):
    """The pooling of `modules`, followed by their linear maps.

    Attention pooling weights a token by the softmax of its product with a learned query over sqrt(D) (Yang et al. 2016,
    eq. 5 to 7, without their hidden layer). A new query starts at 0, which is the mean.
    """

    def __init__(self, modules: Modules, hidden_size: int) -> None:
        super().__init__()
        self.pooling = modules.pooling
        if self.pooling == "attention":
            start = np.zeros(hidden_size, np.float32) if modules.query_D is None else modules.query_D
            self.query = nn.Parameter(torch.from_numpy(start.copy()))
        self.dense = nn.ModuleList(_linear(dense) for dense in modules.dense)
        self.activations = [dense.activation for dense in modules.dense]
        self.size = hidden_size
        fits = modules.query_D is None or modules.query_D.shape == (hidden_size,)
        for dense in self._maps():
            fits, self.size = fits and dense.in_features == self.size, dense.out_features
        if not fits:
            raise ArtifactError(f"the modules after the transformer do not fit its hidden size of {hidden_size}; copy "
                                f"the whole model folder again")

    def forward(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        """Return the vectors (R, K)."""
        vectors = self._attend(hidden_RTD, mask_RT) if self.pooling == "attention" else _PLAIN[self.pooling](
            hidden_RTD, mask_RT)
        for dense, activation in zip(self.dense, self.activations, strict=True):
            vectors = _ACTIVATIONS[activation](dense(vectors))
        return vectors

    def modules_now(self, prompts: dict[str, str]) -> Modules:
        """Return pooling, dense layers and prompts for saving, with the current weights."""
        query = self.query.detach().cpu().numpy() if self.pooling == "attention" else None
        dense = tuple(Dense(linear.weight.detach().cpu().numpy(), None if linear.bias is None
                            else linear.bias.detach().cpu().numpy(), activation)
                      for linear, activation in zip(self._maps(), self.activations, strict=True))
        return Modules(self.pooling, query, dense, prompts)

    def _attend(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        logits_RT = hidden_RTD @ self.query.to(hidden_RTD.dtype) / len(self.query)**0.5
        weight_RT = torch.softmax(logits_RT.float().masked_fill(~mask_RT, -torch.inf), dim=1).to(hidden_RTD.dtype)
        return torch.einsum("rt,rtd->rd", weight_RT, hidden_RTD)

    def _maps(self) -> list[nn.Linear]:
        return [module for module in self.dense if isinstance(module, nn.Linear)]


def _linear(dense: Dense) -> nn.Linear:
    size_K, size_D = dense.weight_KD.shape
    linear = nn.Linear(size_D, size_K, bias=dense.bias_K is not None)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(dense.weight_KD))
        if dense.bias_K is not None:
            linear.bias.copy_(torch.from_numpy(dense.bias_K))
    return linear
