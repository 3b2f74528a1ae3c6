"""A transformer split in two parts: `lower` is everything below the trained layers, `upper` the rest.

`lower(ids_RT, mask_RT)` followed by `upper(hidden_RTD, mask_RT)` is the whole model. Adversaries perturb the input of
`upper`.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from llmrec_cli.errors import ConfigError

_LAYERED = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert")
"""Architectures whose forward pass is `embeddings`, then `layer(hidden, mask)` for each layer, and nothing else."""


@dataclass(frozen=True)
class Layers:
    """The transformer layers of `model`; `name` is their path in it."""

    model: Any
    name: str
    layers: nn.ModuleList

    def embed(self, ids_RT: torch.Tensor) -> torch.Tensor:
        """Return the input of the lowest layer, (R, T, D)."""
        return self.model.embeddings(input_ids=ids_RT)

    def run(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Return the output of the layers `start` to `stop` (exclusive), (R, T, D)."""
        # Only here: it loads transformers and torch's compiler, which a model that encodes no text does not need.
        from transformers.masking_utils import create_bidirectional_mask

        mask = create_bidirectional_mask(config=self.model.config, inputs_embeds=hidden_RTD,
                                         attention_mask=mask_RT.long())
        for layer in self.layers[start:stop]:
            hidden_RTD = layer(hidden_RTD, mask)
        return hidden_RTD

    def check_apart(self, peft: str) -> None:
        """Raise ConfigError if the layers cannot be run separately from the model."""
        if self.model.config.model_type not in _LAYERED:
            raise ConfigError(f"peft={peft}: trains the top layers of the encoder separately, which works for "
                              f"{', '.join(_LAYERED)} and not for '{self.model.config.model_type}'; choose peft=frozen "
                              f"or peft=none, or for adapters in all layers set peft.num_layers=null")


def find_layers(model: Any, peft: str) -> Layers:
    """Return the model's layers; raise ConfigError unless the model has exactly one list of them."""
    depth = model.config.num_hidden_layers
    lists = [(name, module) for name, module in model.named_modules()
             if isinstance(module, nn.ModuleList) and len(module) == depth]
    if len(lists) != 1:
        raise ConfigError(f"peft={peft}: '{model.config.model_type}' has {len(lists)} lists of {depth} layers, so it "
                          f"is not clear which to adapt; choose peft=lora with peft.num_layers=null, or peft=frozen")
    return Layers(model, *lists[0])


class Cut(Protocol):
    """A model in two parts."""

    def lower(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        """Return the hidden states at the cut, (R, T, D)."""

    def upper(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        """Return the model's last hidden states, (R, T, D)."""

    @property
    def depth(self) -> int:
        """Transformer layers in `upper`."""

    def below(self) -> list[nn.Module]:
        """Return the modules that belong to `lower` only; they have no dropout while it is frozen."""


@dataclass(frozen=True)
class BelowAll:
    """The cut above the token embeddings: the whole transformer is `upper`."""

    model: Any

    def lower(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        return self.model.get_input_embeddings()(ids_RT)

    def upper(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        return self.model(inputs_embeds=hidden_RTD, attention_mask=mask_RT.long()).last_hidden_state

    @property
    def depth(self) -> int:
        return int(self.model.config.num_hidden_layers)

    def below(self) -> list[nn.Module]:
        return []


@dataclass(frozen=True)
class AboveAll:
    """The cut above the last layer: only pooling is left for `upper`."""

    model: Any

    def lower(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids_RT, attention_mask=mask_RT.long()).last_hidden_state

    def upper(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        return hidden_RTD

    @property
    def depth(self) -> int:
        return 0

    def below(self) -> list[nn.Module]:
        return [self.model]


@dataclass(frozen=True)
class Between:
    """The cut below the layer number `first` (from 0)."""

    layers: Layers
    first: int

    def lower(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        return self.layers.run(self.layers.embed(ids_RT), mask_RT, 0, self.first)

    def upper(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        return self.layers.run(hidden_RTD, mask_RT, self.first, len(self.layers.layers))

    @property
    def depth(self) -> int:
        return len(self.layers.layers) - self.first

    def below(self) -> list[nn.Module]:
        return [self.layers.model.embeddings, *self.layers.layers[:self.first]]


@dataclass(frozen=True)
class BelowVirtualTokens:
    """The cut above the token embeddings of a model that peft has wrapped to add virtual tokens.

    `num_outputs` virtual tokens precede the text's own tokens in the output; 0 with prefix tuning.
    """

    wrapped: Any
    num_outputs: int

    def lower(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        return self.wrapped.get_base_model().get_input_embeddings()(ids_RT)

    def upper(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        output = self.wrapped(inputs_embeds=hidden_RTD, attention_mask=mask_RT.long()).last_hidden_state
        return output[:, self.num_outputs:]

    @property
    def depth(self) -> int:
        return int(self.wrapped.get_base_model().config.num_hidden_layers)

    def below(self) -> list[nn.Module]:
        return []
