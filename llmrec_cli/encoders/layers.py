"""Running a transformer's layers apart: those below a cut once, those above it as often as they are trained."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.masking_utils import create_bidirectional_mask

from llmrec_cli.errors import ConfigError

LAYERED = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert")
"""Architectures whose forward pass is `embeddings`, then `layer(hidden, mask)` for each layer, and nothing else."""


@dataclass(frozen=True)
class Layers:
    """The transformer layers of `model`, `name` as seen from it."""

    model: Any
    name: str
    layers: nn.ModuleList

    def embed(self, ids_RT: torch.Tensor) -> torch.Tensor:
        """Return the input of the lowest layer, (R, T, D)."""
        return self.model.embeddings(input_ids=ids_RT)

    def run(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Return what the layers from `start` up to but not including `stop` make of their input, (R, T, D)."""
        mask = create_bidirectional_mask(config=self.model.config, inputs_embeds=hidden_RTD,
                                         attention_mask=mask_RT.long())
        for layer in self.layers[start:stop]:
            hidden_RTD = layer(hidden_RTD, mask)
        return hidden_RTD

    def check_apart(self, peft: str) -> None:
        """Raise ConfigError when the layers cannot be run apart from the model."""
        if self.model.config.model_type not in LAYERED:
            raise ConfigError(f"peft={peft}: trains the top layers of the encoder apart from the rest, which works for "
                              f"{', '.join(LAYERED)} and not for '{self.model.config.model_type}'; choose peft=frozen "
                              f"or peft=none, or for adapters in all layers set peft.num_layers=null")


def find_layers(model: Any, peft: str) -> Layers:
    """Return the model's layers, or raise ConfigError when there is no one list of them."""
    depth = model.config.num_hidden_layers
    found = [(name, module) for name, module in model.named_modules()
             if isinstance(module, nn.ModuleList) and len(module) == depth]
    if len(found) != 1:
        raise ConfigError(f"peft={peft}: '{model.config.model_type}' has {len(found)} lists of {depth} layers, so it "
                          f"is not known which to adapt; choose peft=lora with peft.num_layers=null, or peft=frozen")
    return Layers(model, *found[0])
