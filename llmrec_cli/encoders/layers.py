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


def find_layers(model: Any, peft: str) -> Layers:
    """Return the model's layers, or raise ConfigError when they cannot be run apart."""
    if model.config.model_type not in LAYERED:
        raise ConfigError(f"peft={peft}: trains the top layers of the encoder apart from the rest, which works for "
                          f"{', '.join(LAYERED)} and not for '{model.config.model_type}'; choose peft=frozen or "
                          f"peft=none")
    depth = model.config.num_hidden_layers
    found = [(name, module) for name, module in model.named_modules()
             if isinstance(module, nn.ModuleList) and len(module) == depth]
    assert len(found) == 1, f"{model.config.model_type}: {len(found)} lists of {depth} layers"
    return Layers(model, *found[0])


def check_depth(num_layers: int, depth: int) -> None:
    """Raise ConfigError when more layers are to be trained than there are."""
    if num_layers > depth:
        raise ConfigError(f"peft.num_layers={num_layers}: the encoder has {depth} layers; choose at most {depth}")
