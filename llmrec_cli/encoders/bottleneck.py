"""Bottleneck adapters: a small network behind each layer, of which peft has none.

Shapes: R texts, T tokens, D dimensions of a hidden state.
"""

from typing import Any

import torch
from torch import nn

from llmrec_cli.encoders.layer_split import Between, find_layers
from llmrec_cli.encoders.peft import Adapted, Peft, layer_cut
from llmrec_cli.settings.peft import BottleneckSettings


class WithBottleneck(nn.Module):
    """A transformer layer and its adapter, h + up(gelu(down(h))) (Houlsby et al. 2019, figure 2).

    One behind the whole layer, as in Pfeiffer et al. 2021, in place of the two inside it. `up` starts at 0, so that the
    layer begins as it was.
    """

    def __init__(self, layer: nn.Module, hidden_size: int, size: int) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(hidden_size, size)
        self.up = nn.Linear(size, hidden_size)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the layer returns, its hidden states (R, T, D) adapted."""
        output = self.layer(*args, **kwargs)
        if isinstance(output, tuple):
            return (self._adapted(output[0]), *output[1:])
        return self._adapted(output)

    def __getattr__(self, name: str) -> Any:
        """Look up in the layer what only it has: some models ask theirs for its kind of attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def _adapted(self, hidden_RTD: torch.Tensor) -> torch.Tensor:
        return hidden_RTD + self.up(nn.functional.gelu(self.down(hidden_RTD)))


class BottleneckPeft(Peft[BottleneckSettings]):
    """An adapter behind each layer."""

    # Nothing below the lowest adapter is kept.
    kept_of_a_token = 17

    def adapt(self, model: Any) -> Adapted:
        """Put an adapter behind each layer above the cut; only the adapters are trained."""
        cut = layer_cut(model, self.settings)
        found = find_layers(model, self.settings.kind)
        for n in range(cut.first if isinstance(cut, Between) else 0, len(found.layers)):
            found.layers[n] = WithBottleneck(found.layers[n], found.model.config.hidden_size, self.settings.size)
        return Adapted(model, cut)
