"""Which parameters of an encoder are trained, by the settings of the group `peft`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from llmrec_cli.encoders.bottleneck import add_bottlenecks
from llmrec_cli.encoders.cuts import AboveAll, BelowAll, BelowVirtualTokens, Between, Cut
from llmrec_cli.encoders.layers import Layers, find_layers
from llmrec_cli.encoders.rank_budget import RankBudget
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.peft import (
    AdaLora,
    Bottleneck,
    Dora,
    EmbeddingAdapter,
    Frozen,
    Ia3,
    LayerPeft,
    Lora,
    NoPeft,
    PeftSettings,
    Prefix,
    Prompt,
    TopLayers,
    VirtualTokens,
)

LINEAR = (nn.Linear, Conv1D)  # GPT-2 writes its linear layers as the latter.
NO_PREFIX = ("t5", "mt5", "umt5", "modernbert", "distilbert")
"""Architectures that take no keys and values from outside, measured with peft 0.21 and transformers 5.23."""


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
    budget: RankBudget | None = None


def adapt(model: Any, settings: PeftSettings, seed: int) -> Adapted:
    """Mark, and where needed add, the parameters of `model` that are trained.

    The model is changed in place. `seed` starts what is added. Raises ConfigError for what cannot work together.
    """
    model.requires_grad_(False)
    if isinstance(settings, Frozen | EmbeddingAdapter):
        return Adapted(model, AboveAll(model))
    if isinstance(settings, NoPeft):
        model.requires_grad_(True)
        return Adapted(model, BelowAll(model))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _ADAPTERS[type(settings)](model, settings)


def _top_layers(model: Any, settings: TopLayers) -> Adapted:
    cut = _cut(model, settings)
    assert isinstance(cut, Between)
    cut.layers.layers[cut.first:].requires_grad_(True)
    return Adapted(model, cut)


def _lora(model: Any, settings: Lora) -> Adapted:
    """Add low-rank updates to the linear layers (Hu et al. 2022, eq. 3).

    Differs from the paper, which adapts the attention's query and value alone: all linear layers, as Dettmers et al.
    2023 (section 4) found to be needed to match full fine-tuning.
    """
    from peft import AdaLoraConfig, LoraConfig, inject_adapter_in_model
    from peft.tuners.adalora import AdaLoraModel

    cut = _cut(model, settings)
    places = _linear(model, cut)
    common: dict[str, Any] = {
        "lora_alpha": settings.alpha, "lora_dropout": settings.dropout, "target_modules": places, "bias": "none",
        "fan_in_fan_out": any(isinstance(model.get_submodule(name), Conv1D) for name in places),
        "task_type": "FEATURE_EXTRACTION"}
    if isinstance(settings, AdaLora):
        # Its schedule is set when training begins and the number of steps is known.
        config = AdaLoraConfig(init_r=settings.rank, target_r=settings.target_rank, total_step=1, tinit=0, tfinal=0,
                               **common)
        tuner = AdaLoraModel(model, config, "default")
        return Adapted(model, cut, RankBudget(model, tuner.rankallocator, settings))
    inject_adapter_in_model(LoraConfig(r=settings.rank, use_dora=isinstance(settings, Dora), **common), model)
    return Adapted(model, cut)


def _ia3(model: Any, settings: Ia3) -> Adapted:
    """Add factors to keys, values and feed-forward activations, or where peft does not know which they are to the
    outputs of all linear layers."""
    from peft import IA3Config, inject_adapter_in_model
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as FEEDFORWARD,
    )
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as TARGETS

    cut = _cut(model, settings)
    kind = model.config.model_type
    kind = {"xlm-roberta": "roberta", "camembert": "roberta"}.get(kind, kind)
    places = _linear(model, cut)
    forward: list[str] = []
    if kind in TARGETS:
        named = [n for n in places if n.endswith(tuple(f".{end}" for end in TARGETS[kind]))]
        # The attention's own output ends like that of the feed-forward part and is not meant.
        places = [n for n in named if not n.endswith("attention.output.dense")]
        forward = [n for n in places if n.endswith(tuple(f".{end}" for end in FEEDFORWARD[kind]))]
    config = IA3Config(target_modules=places, feedforward_modules=forward, task_type="FEATURE_EXTRACTION",
                       fan_in_fan_out=any(isinstance(model.get_submodule(n), Conv1D) for n in places))
    inject_adapter_in_model(config, model)
    return Adapted(model, cut)


def _bottleneck(model: Any, settings: Bottleneck) -> Adapted:
    cut = _cut(model, settings)
    layers = find_layers(model, settings.kind)
    first = cut.first if isinstance(cut, Between) else 0
    add_bottlenecks(layers, first, settings.size)
    return Adapted(model, cut)


def _virtual_tokens(model: Any, settings: VirtualTokens) -> Adapted:
    from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

    prefix = isinstance(settings, Prefix)
    if prefix and model.config.model_type in NO_PREFIX:
        raise ConfigError(f"peft=prefix: '{model.config.model_type}' takes no keys and values from outside; choose "
                          f"peft=prompt or peft=lora")
    kind: Any = PrefixTuningConfig if prefix else PromptTuningConfig
    # The shape is said, since peft knows only some of the names that it goes by in a config.
    config = kind(num_virtual_tokens=settings.num_virtual_tokens, task_type="FEATURE_EXTRACTION",
                  token_dim=model.config.hidden_size, num_layers=model.config.num_hidden_layers,
                  num_attention_heads=model.config.num_attention_heads)
    wrapped: Any = get_peft_model(model, config)
    return Adapted(wrapped, BelowVirtualTokens(wrapped, 0 if prefix else settings.num_virtual_tokens))


_ADAPTERS: dict[type[PeftSettings], Callable[[Any, Any], Adapted]] = {
    TopLayers: _top_layers, Lora: _lora, Dora: _lora, AdaLora: _lora, Ia3: _ia3, Bottleneck: _bottleneck,
    Prefix: _virtual_tokens, Prompt: _virtual_tokens}


def _cut(model: Any, settings: LayerPeft) -> Cut:
    """Return the cut below the top layers that are trained, or below all of them."""
    if settings.num_layers is None:
        return BelowAll(model)
    found = find_layers(model, settings.kind)
    found.check_apart(settings.kind)
    if settings.num_layers > len(found.layers):
        raise ConfigError(f"peft.num_layers={settings.num_layers}: the encoder has {len(found.layers)} layers; choose "
                          f"at most {len(found.layers)}")
    return Between(found, len(found.layers) - settings.num_layers)


def _linear(model: Any, cut: Cut) -> list[str]:
    """Return the names of the linear layers above the cut."""
    if not isinstance(cut, Between):
        return [name for name, module in model.named_modules() if isinstance(module, LINEAR)]
    found: Layers = cut.layers
    return [f"{found.name}.{n}.{name}" for n in range(cut.first, len(found.layers))
            for name, module in found.layers[n].named_modules() if isinstance(module, LINEAR)]


def merged(model: Any) -> Any:
    """Return a copy of the model with its adapters folded into the weights they adapt.

    Raises ConfigError where what was added has no place in the model's own weights.
    """
    from copy import deepcopy

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
