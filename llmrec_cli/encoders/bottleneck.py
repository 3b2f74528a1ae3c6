"""Bottleneck adapters, which peft does not have: a small network after each layer.

Shapes: R texts, T tokens, D dimensions of a hidden state.
"""

from typing import Any

import torch
from torch import nn

from llmrec_cli.encoders.layer_split import Between, find_layers
from llmrec_cli.encoders.peft import AdaptedModel, Peft, layer_cut
from llmrec_cli.settings.peft import BottleneckSettings


class WithBottleneck(nn.Module):
    """A transformer layer and its adapter, h + up(gelu(down(h))) (Houlsby et al. 2019, figure 2).

    A single adapter after the whole layer, as in Pfeiffer et al. 2021, instead of two inside it. `up` starts at 0, so
    that the layer is unchanged at first.
    """

    def __init__(self, layer: nn.Module, hidden_size: int, size: int) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(hidden_size, size)
        self.up = nn.Linear(size, hidden_size)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the layer's output with adapted hidden states (R, T, D)."""
        output = self.layer(*args, **kwargs)
        if isinstance(output, tuple):
            return (self._add_adapter(output[0]), *output[1:])
        return self._add_adapter(output)

    def __getattr__(self, name: str) -> Any:
        """Delegate missing attributes to the layer: some models read the attention type of their layers."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def _add_adapter(self, hidden_RTD: torch.Tensor) -> torch.Tensor:
        return hidden_RTD + self.up(nn.functional.gelu(self.down(hidden_RTD)))


class BottleneckPeft(Peft[BottleneckSettings]):
    """Bottleneck adapters after each layer."""

    # Nothing below the lowest adapter is stored.
    stored_per_token = 17

    def adapt(self, model: Any) -> AdaptedModel:
        """Add an adapter after each layer above the cut; only the adapters are trained."""
        cut = layer_cut(model, self.settings)
        layers = find_layers(model, self.settings.kind)
        for n in range(cut.first if isinstance(cut, Between) else 0, len(layers.layers)):
            layers.layers[n] = WithBottleneck(layers.layers[n], layers.model.config.hidden_size, self.settings.size)
        return AdaptedModel(model, cut)
