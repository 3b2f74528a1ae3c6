"""Parameter-efficient fine-tuning: the trained parameters of an encoder, and the adapters added to it.

Each option of the group `peft` has a class. Those that need more than marking or wrapping layers are in `adalora.py`,
`bottleneck.py` and `embedding_adapter.py`.
"""

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch
from torch import nn

from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.encoders.layer_split import AboveAll, BelowAll, BelowVirtualTokens, Between, Cut, Layers, find_layers
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.peft import (
    FrozenSettings,
    Ia3Settings,
    LayerPeftSettings,
    LoraSettings,
    NoPeftSettings,
    PeftSettings,
    PrefixSettings,
    PromptSettings,
    TopLayersSettings,
    VirtualTokensSettings,
)

if TYPE_CHECKING:
    from llmrec_cli.encoders.adalora import RankBudget
    from llmrec_cli.encoders.embedding_adapter import EmbeddingMap

_NO_PREFIX = ("t5", "mt5", "umt5", "modernbert", "distilbert")
"""Architectures that accept no external keys and values, tested with peft 0.21 and transformers 5.23."""

S = TypeVar("S", bound=PeftSettings)


@dataclass(frozen=True)
class AdaptedModel:
    """A model prepared for training.

    Attributes
    ----------
    model : the model, wrapped if necessary
    cut : the model split below its lowest trained part
    budget : pruner of AdaLoRA's ranks while training; None for other options
    """

    model: Any
    cut: Cut
    budget: "RankBudget | None" = None


class Peft(ABC, Generic[S]):
    """A way to train an encoder, built from its settings."""

    stored_per_token: ClassVar[int] = 34
    """Numbers that each trained layer stores per token for the backward pass, in hidden sizes, measured with MiniLM."""
    trains_weights: ClassVar[bool] = False
    """True if the model's own weights are trained, not only adapters."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def adapt(self, model: Any) -> AdaptedModel:
        """Mark the trained parameters of a frozen model in place, adding adapters if necessary."""

    def check_map(self, tensors: TensorReader, size: int) -> None:
        """Raise ArtifactError unless a saved model has the tensors of `embedding_map`."""

    def embedding_map(self, size: int, seed: int) -> "EmbeddingMap | None":
        """Return the trained map on vectors of `size` numbers; None without such a map."""
        return None


class FrozenPeft(Peft[FrozenSettings]):
    """A frozen encoder."""

    def adapt(self, model: Any) -> AdaptedModel:
        """Leave the model as it is."""
        return AdaptedModel(model, AboveAll(model))


class FullPeft(Peft[NoPeftSettings]):
    """Full fine-tuning."""

    trains_weights = True

    def adapt(self, model: Any) -> AdaptedModel:
        """Mark all parameters as trainable."""
        model.requires_grad_(True)
        return AdaptedModel(model, BelowAll(model))


class TopLayersPeft(Peft[TopLayersSettings]):
    """Fine-tuning of the top layers."""

    trains_weights = True

    def adapt(self, model: Any) -> AdaptedModel:
        """Mark the parameters of the top layers as trainable."""
        cut = layer_cut(model, self.settings)
        assert isinstance(cut, Between)
        cut.layers.layers[cut.first:].requires_grad_(True)
        return AdaptedModel(model, cut)


class LoraPeft(Peft[LoraSettings]):
    """Low-rank updates of the linear layers (Hu et al. 2022, eq. 3).

    Differs: adapts all linear layers instead of the attention's query and value only; Dettmers et al. 2023 (section 4)
    found this necessary to match full fine-tuning.
    """

    stored_per_token = 51
    use_dora: ClassVar[bool] = False

    def adapt(self, model: Any) -> AdaptedModel:
        """Add the updates."""
        from peft import LoraConfig, inject_adapter_in_model

        cut, common = self.places(model)
        inject_adapter_in_model(LoraConfig(r=self.settings.rank, use_dora=self.use_dora, **common), model)
        return AdaptedModel(model, cut)

    def places(self, model: Any) -> tuple[Cut, dict[str, Any]]:
        """Return the cut between frozen and trained layers, and the peft library's settings of all low-rank updates."""
        cut = layer_cut(model, self.settings)
        names = linear_layers(model, cut)
        return cut, {"lora_alpha": self.settings.alpha, "lora_dropout": self.settings.dropout, "target_modules": names,
                     "bias": "none", "fan_in_fan_out": has_conv1d(model, names), "task_type": "FEATURE_EXTRACTION"}


class DoraPeft(LoraPeft):
    """Low-rank updates of the direction of weights (Liu et al. 2024)."""

    stored_per_token = 75
    use_dora = True


class Ia3Peft(Peft[Ia3Settings]):
    """Learned factors of keys, values and feed-forward activations (Liu et al. 2022).

    For architectures whose layers the peft library does not know: factors of the outputs of all linear layers.
    """

    def adapt(self, model: Any) -> AdaptedModel:
        """Add the factors."""
        from peft import IA3Config, inject_adapter_in_model
        from peft.utils.constants import (
            TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as FEEDFORWARD,
        )
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as TARGETS

        cut = layer_cut(model, self.settings)
        kind = model.config.model_type
        kind = {"xlm-roberta": "roberta", "camembert": "roberta"}.get(kind, kind)
        places = linear_layers(model, cut)
        forward: list[str] = []
        if kind in TARGETS:
            named = [n for n in places if n.endswith(tuple(f".{end}" for end in TARGETS[kind]))]
            # The attention's output layer has the same name ending as the feed-forward layer, but is not adapted.
            places = [n for n in named if not n.endswith("attention.output.dense")]
            forward = [n for n in places if n.endswith(tuple(f".{end}" for end in FEEDFORWARD[kind]))]
        config = IA3Config(target_modules=places, feedforward_modules=forward, task_type="FEATURE_EXTRACTION",
                           fan_in_fan_out=has_conv1d(model, places))
        inject_adapter_in_model(config, model)
        return AdaptedModel(model, cut)


V = TypeVar("V", bound=VirtualTokensSettings)


class VirtualTokensPeft(Peft[V]):
    """Trained virtual tokens before a text."""

    def wrap(self, model: Any, config_class: Any) -> Any:
        """Return the model wrapped by peft to use the virtual tokens."""
        from peft import get_peft_model

        # Pass the shape explicitly, since peft knows only some of its names in model configs.
        config = config_class(num_virtual_tokens=self.settings.num_virtual_tokens, task_type="FEATURE_EXTRACTION",
                              token_dim=model.config.hidden_size, num_layers=model.config.num_hidden_layers,
                              num_attention_heads=model.config.num_attention_heads)
        return get_peft_model(model, config)


class PrefixPeft(VirtualTokensPeft[PrefixSettings]):
    """Trained keys and values in every layer (Li and Liang 2021)."""

    def adapt(self, model: Any) -> AdaptedModel:
        """Add the keys and values."""
        from peft import PrefixTuningConfig

        if model.config.model_type in _NO_PREFIX:
            raise ConfigError(f"peft=prefix: '{model.config.model_type}' accepts no external keys and values; choose "
                              f"peft=prompt or peft=lora")
        wrapped = self.wrap(model, PrefixTuningConfig)
        return AdaptedModel(wrapped, BelowVirtualTokens(wrapped, 0))


class PromptPeft(VirtualTokensPeft[PromptSettings]):
    """Trained token embeddings before the text (Lester et al. 2021)."""

    def adapt(self, model: Any) -> AdaptedModel:
        """Add the token embeddings."""
        from peft import PromptTuningConfig

        wrapped = self.wrap(model, PromptTuningConfig)
        return AdaptedModel(wrapped, BelowVirtualTokens(wrapped, self.settings.num_virtual_tokens))


def peft_class(settings: PeftSettings) -> type[Peft[Any]]:
    """Return the class of the fine-tuning method that `settings` name."""
    option: type[Peft[Any]] = implementation_of(settings)
    return option


def build_peft(settings: PeftSettings) -> Peft[Any]:
    """Return the fine-tuning method that `settings` name."""
    return peft_class(settings)(settings)


def adapt(model: Any, settings: PeftSettings, seed: int) -> AdaptedModel:
    """Mark the trained parameters of `model` in place, adding adapters if necessary.

    `seed` initialises adapters. Raises ConfigError for incompatible models and settings.
    """
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_peft(settings).adapt(model)


def layer_cut(model: Any, settings: LayerPeftSettings) -> Cut:
    """Return the cut below the trained top layers, or below all layers with num_layers=null."""
    if settings.num_layers is None:
        return BelowAll(model)
    layers = find_layers(model, settings.kind)
    layers.check_apart(settings.kind)
    if settings.num_layers > len(layers.layers):
        raise ConfigError(f"peft.num_layers={settings.num_layers}: the encoder has {len(layers.layers)} layers; choose "
                          f"at most {len(layers.layers)}")
    return Between(layers, len(layers.layers) - settings.num_layers)


def linear_layers(model: Any, cut: Cut) -> list[str]:
    """Return the names of the linear layers above the cut."""
    kinds = (nn.Linear, _conv1d())  # GPT-2's linear layers are Conv1D.
    if not isinstance(cut, Between):
        return [name for name, module in model.named_modules() if isinstance(module, kinds)]
    layers: Layers = cut.layers
    return [f"{layers.name}.{n}.{name}" for n in range(cut.first, len(layers.layers))
            for name, module in layers.layers[n].named_modules() if isinstance(module, kinds)]


def has_conv1d(model: Any, names: list[str]) -> bool:
    """Return True if one of the named layers is a Conv1D, whose weights are transposed."""
    return any(isinstance(model.get_submodule(name), _conv1d()) for name in names)


def _conv1d() -> Any:
    # Only here: transformers takes a second to load, and a model that encodes no text does not need it.
    from transformers.pytorch_utils import Conv1D

    return Conv1D


def merge_adapters(model: Any) -> Any:
    """Return a copy of the model with its adapters merged into the weights.

    Raises ConfigError for adapters that cannot be merged.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    from llmrec_cli.encoders.bottleneck import WithBottleneck

    if isinstance(model, PeftModel) or any(isinstance(m, WithBottleneck) for m in model.modules()):
        raise ConfigError("peft.merge=true: the adapters of this peft cannot be merged into the encoder's weights; "
                          "keep the adapter, or choose peft=lora, dora, adalora or ia3")
    plain = deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, last = name.rpartition(".")
            setattr(plain.get_submodule(parent), last, module.get_base_layer())
    return plain
