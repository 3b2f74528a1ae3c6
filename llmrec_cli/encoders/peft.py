"""Training of an encoder's parameters: which of them, and what is added in their place.

Each option of the group `peft` has a class. `adalora.py`, `bottleneck.py` and `embedding_adapter.py` hold those that
need more than marking or wrapping layers.
"""

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

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

_LINEAR = (nn.Linear, Conv1D)  # GPT-2 writes its linear layers as the latter.
_NO_PREFIX = ("t5", "mt5", "umt5", "modernbert", "distilbert")
"""Architectures that take no keys and values from outside, measured with peft 0.21 and transformers 5.23."""

S = TypeVar("S", bound=PeftSettings)


@dataclass(frozen=True)
class Adapted:
    """A model made ready to be trained.

    Attributes
    ----------
    model : the model, wrapped where it has to be
    cut : it in two parts, below and above the lowest of what is trained
    budget : what prunes the ranks of AdaLoRA while training; None elsewhere
    """

    model: Any
    cut: Cut
    budget: "RankBudget | None" = None


class Peft(ABC, Generic[S]):
    """A way to train an encoder, built from its settings."""

    kept_of_a_token: ClassVar[int] = 34
    """Numbers that each trained layer keeps of a token for the backward pass, in hidden sizes, measured with MiniLM."""
    trains_weights: ClassVar[bool] = False
    """True if the model's own weights are trained, not only what is added to them."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def adapt(self, model: Any) -> Adapted:
        """Mark, and where needed add, the parameters of a frozen model that are trained, in place."""

    def check_map(self, tensors: TensorReader, size: int) -> None:
        """Raise ArtifactError unless a saved model has the tensors of `embedding_map`."""

    def embedding_map(self, size: int, seed: int) -> "EmbeddingMap | None":
        """Return what is trained on finished vectors of `size` numbers; None where nothing is."""
        return None


class FrozenPeft(Peft[FrozenSettings]):
    """Nothing is trained."""

    def adapt(self, model: Any) -> Adapted:
        """Leave the model as it is."""
        return Adapted(model, AboveAll(model))


class FullPeft(Peft[NoPeftSettings]):
    """All parameters are trained."""

    trains_weights = True

    def adapt(self, model: Any) -> Adapted:
        """Mark all parameters."""
        model.requires_grad_(True)
        return Adapted(model, BelowAll(model))


class TopLayersPeft(Peft[TopLayersSettings]):
    """The top layers are trained."""

    trains_weights = True

    def adapt(self, model: Any) -> Adapted:
        """Mark the parameters of the top layers."""
        cut = layer_cut(model, self.settings)
        assert isinstance(cut, Between)
        cut.layers.layers[cut.first:].requires_grad_(True)
        return Adapted(model, cut)


class LoraPeft(Peft[LoraSettings]):
    """Low-rank updates of the linear layers (Hu et al. 2022, eq. 3).

    Differs from the paper, which adapts the attention's query and value alone: all linear layers, as Dettmers et al.
    2023 (section 4) found to be needed to match full fine-tuning.
    """

    kept_of_a_token = 51
    use_dora: ClassVar[bool] = False

    def adapt(self, model: Any) -> Adapted:
        """Add the updates."""
        from peft import LoraConfig, inject_adapter_in_model

        cut, common = self.places(model)
        inject_adapter_in_model(LoraConfig(r=self.settings.rank, use_dora=self.use_dora, **common), model)
        return Adapted(model, cut)

    def places(self, model: Any) -> tuple[Cut, dict[str, Any]]:
        """Return the cut, and the settings of peft's that all low-rank updates have."""
        cut = layer_cut(model, self.settings)
        names = linear_layers(model, cut)
        return cut, {"lora_alpha": self.settings.alpha, "lora_dropout": self.settings.dropout, "target_modules": names,
                     "bias": "none", "fan_in_fan_out": has_conv1d(model, names), "task_type": "FEATURE_EXTRACTION"}


class DoraPeft(LoraPeft):
    """Low-rank updates of the direction of weights (Liu et al. 2024)."""

    kept_of_a_token = 75
    use_dora = True


class Ia3Peft(Peft[Ia3Settings]):
    """Factors of keys, values and feed-forward activations (Liu et al. 2022).

    Where peft does not know which layers these are: of the outputs of all linear layers.
    """

    def adapt(self, model: Any) -> Adapted:
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
            # The attention's own output ends like that of the feed-forward part and is not meant.
            places = [n for n in named if not n.endswith("attention.output.dense")]
            forward = [n for n in places if n.endswith(tuple(f".{end}" for end in FEEDFORWARD[kind]))]
        config = IA3Config(target_modules=places, feedforward_modules=forward, task_type="FEATURE_EXTRACTION",
                           fan_in_fan_out=has_conv1d(model, places))
        inject_adapter_in_model(config, model)
        return Adapted(model, cut)


V = TypeVar("V", bound=VirtualTokensSettings)


class VirtualTokensPeft(Peft[V]):
    """Trained vectors before a text."""

    def wrapped(self, model: Any, config_class: Any) -> Any:
        """Return the model wrapped by peft to see the vectors."""
        from peft import get_peft_model

        # The shape is given, since peft knows only some of the names that it has in a config.
        config = config_class(num_virtual_tokens=self.settings.num_virtual_tokens, task_type="FEATURE_EXTRACTION",
                              token_dim=model.config.hidden_size, num_layers=model.config.num_hidden_layers,
                              num_attention_heads=model.config.num_attention_heads)
        return get_peft_model(model, config)


class PrefixPeft(VirtualTokensPeft[PrefixSettings]):
    """Trained keys and values in every layer (Li and Liang 2021)."""

    def adapt(self, model: Any) -> Adapted:
        """Add the keys and values."""
        from peft import PrefixTuningConfig

        if model.config.model_type in _NO_PREFIX:
            raise ConfigError(f"peft=prefix: '{model.config.model_type}' takes no keys and values from outside; choose "
                              f"peft=prompt or peft=lora")
        wrapped = self.wrapped(model, PrefixTuningConfig)
        return Adapted(wrapped, BelowVirtualTokens(wrapped, 0))


class PromptPeft(VirtualTokensPeft[PromptSettings]):
    """Trained token embeddings before the text (Lester et al. 2021)."""

    def adapt(self, model: Any) -> Adapted:
        """Add the token embeddings."""
        from peft import PromptTuningConfig

        wrapped = self.wrapped(model, PromptTuningConfig)
        return Adapted(wrapped, BelowVirtualTokens(wrapped, self.settings.num_virtual_tokens))


def peft_class(settings: PeftSettings) -> type[Peft[Any]]:
    """Return the class of the way to train an encoder that `settings` name."""
    found: type[Peft[Any]] = implementation_of(settings)
    return found


def build_peft(settings: PeftSettings) -> Peft[Any]:
    """Return the way to train an encoder that `settings` name."""
    return peft_class(settings)(settings)


def adapt(model: Any, settings: PeftSettings, seed: int) -> Adapted:
    """Mark, and where needed add, the parameters of `model` that are trained.

    The model is changed in place. `seed` starts what is added. Raises ConfigError for what cannot work together.
    """
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_peft(settings).adapt(model)


def layer_cut(model: Any, settings: LayerPeftSettings) -> Cut:
    """Return the cut below the top layers that are trained, or below all of them."""
    if settings.num_layers is None:
        return BelowAll(model)
    found = find_layers(model, settings.kind)
    found.check_apart(settings.kind)
    if settings.num_layers > len(found.layers):
        raise ConfigError(f"peft.num_layers={settings.num_layers}: the encoder has {len(found.layers)} layers; choose "
                          f"at most {len(found.layers)}")
    return Between(found, len(found.layers) - settings.num_layers)


def linear_layers(model: Any, cut: Cut) -> list[str]:
    """Return the names of the linear layers above the cut."""
    if not isinstance(cut, Between):
        return [name for name, module in model.named_modules() if isinstance(module, _LINEAR)]
    found: Layers = cut.layers
    return [f"{found.name}.{n}.{name}" for n in range(cut.first, len(found.layers))
            for name, module in found.layers[n].named_modules() if isinstance(module, _LINEAR)]


def has_conv1d(model: Any, names: list[str]) -> bool:
    """Return whether one of the layers named has its weights the other way round."""
    return any(isinstance(model.get_submodule(name), Conv1D) for name in names)


def merged(model: Any) -> Any:
    """Return a copy of the model with its adapters folded into the weights they adapt.

    Raises ConfigError where what was added has no place in the model's own weights.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    from llmrec_cli.encoders.bottleneck import WithBottleneck

    if isinstance(model, PeftModel) or any(isinstance(m, WithBottleneck) for m in model.modules()):
        raise ConfigError("peft.merge=true: what this peft adds is no weight of the encoder and cannot be merged into "
                          "it; keep the adapter, or choose peft=lora, dora, adalora or ia3")
    plain = deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, last = name.rpartition(".")
            setattr(plain.get_submodule(parent), last, module.get_base_layer())
    return plain
