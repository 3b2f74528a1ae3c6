"""Which parameters of an encoder are trained, by the settings of the group `peft`."""

from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from llmrec_cli.encoders.cuts import AboveAll, BelowAll, Between, Cut
from llmrec_cli.encoders.layers import check_depth, find_layers
from llmrec_cli.settings.peft import Frozen, Lora, NoPeft, PeftSettings, TopLayers

LINEAR = (nn.Linear, Conv1D)  # GPT-2 writes its linear layers as the latter.


def adapt(model: Any, settings: PeftSettings, seed: int) -> Cut:
    """Mark (and for LoRA add) the parameters of `model` that are trained and return the cut below the lowest of them.

    The model is changed in place. `seed` starts what is added.
    """
    model.requires_grad_(False)
    if isinstance(settings, Frozen):
        return AboveAll(model)
    if isinstance(settings, NoPeft):
        model.requires_grad_(True)
        return BelowAll(model)
    if isinstance(settings, TopLayers):
        found = find_layers(model, settings.kind)
        check_depth(settings.num_layers, len(found.layers))
        first = len(found.layers) - settings.num_layers
        found.layers[first:].requires_grad_(True)
        return Between(found, first)
    assert isinstance(settings, Lora)
    return _lora(model, settings, seed)


def _lora(model: Any, settings: Lora, seed: int) -> Cut:
    """Add low-rank updates to the linear layers of the top layers (Hu et al. 2022, eq. 3).

    Differs from the paper, which adapts the attention's query and value alone: all linear layers, as Dettmers et al.
    2023 (section 4) found to be needed to match full fine-tuning.
    """
    from peft import LoraConfig, inject_adapter_in_model

    cut: Cut
    if settings.num_layers is None:
        cut = BelowAll(model)
        places = [name for name, module in model.named_modules() if isinstance(module, LINEAR)]
    else:
        found = find_layers(model, settings.kind)
        check_depth(settings.num_layers, len(found.layers))
        cut = Between(found, len(found.layers) - settings.num_layers)
        places = [f"{found.name}.{n}.{name}" for n in range(cut.first, len(found.layers))
                  for name, module in found.layers[n].named_modules() if isinstance(module, LINEAR)]
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha,  # type: ignore[arg-type]
                        lora_dropout=settings.dropout, target_modules=places, bias="none",
                        fan_in_fan_out=any(isinstance(model.get_submodule(name), Conv1D) for name in places),
                        task_type="FEATURE_EXTRACTION")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    return cut


def merged(model: Any) -> Any:
    """Return a copy of the model with its adapters folded into the weights they adapt."""
    from copy import deepcopy

    from peft.tuners.tuners_utils import BaseTunerLayer

    plain = deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, last = name.rpartition(".")
            setattr(plain.get_submodule(parent), last, module.get_base_layer())
    return plain
