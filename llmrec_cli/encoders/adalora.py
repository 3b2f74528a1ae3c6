"""AdaLoRA: low-rank updates that are pruned while training, with state that checkpoints can store."""

from typing import Any

import torch
from torch import nn

from llmrec_cli.encoders.peft import AdaptedModel, LoraPeft
from llmrec_cli.settings.peft import AdaLoraSettings

_PRUNINGS = 50
"""Approximate number of prunings between the warm-up and the final phase."""


class AdaLoraPeft(LoraPeft):
    """Low-rank updates as singular value decompositions, pruned to the most important ranks (Zhang et al. 2023)."""

    settings: AdaLoraSettings

    def adapt(self, model: Any) -> AdaptedModel:
        """Add the updates."""
        from peft import AdaLoraConfig
        from peft.tuners.adalora import AdaLoraModel

        cut, common = self.places(model)
        # `RankBudget.plan` sets the schedule when the number of steps is known.
        config = AdaLoraConfig(init_r=self.settings.rank, target_r=self.settings.target_rank, total_step=1, tinit=0,
                               tfinal=0, **common)
        tuner = AdaLoraModel(model, config, "default")
        return AdaptedModel(model, cut, RankBudget(model, tuner.rankallocator, self.settings))


class RankBudget(nn.Module):
    """Prunes ranks by their importance (Zhang et al. 2023, eq. 8 to 13), computed by peft's RankAllocator.

    Running means and remaining ranks are buffers here. peft stores them in plain dicts and in its config, where a
    resumed run would lose them.
    """

    def __init__(self, model: Any, allocator: Any, settings: AdaLoraSettings) -> None:
        super().__init__()
        self.allocator, self.settings = allocator, settings
        self.total_steps = 0
        # In a tuple, so that torch does not register the model as a submodule of its own submodule.
        self._model = (model,)
        self.names = [name for name, _ in model.named_parameters() if "lora_" in name and "ranknum" not in name]
        for n, name in enumerate(self.names):
            like = model.get_parameter(name)
            self.register_buffer(f"importance_{n}", torch.zeros_like(like))
            self.register_buffer(f"uncertainty_{n}", torch.zeros_like(like))
            if "lora_E" in name:
                self.register_buffer(f"kept_{n}", torch.ones_like(like, dtype=torch.bool))
        self._share_buffers()

    def plan(self, total_steps: int) -> None:
        """Set the schedule for this many optimiser steps."""
        config, settings = self.allocator.peft_config, self.settings
        self.total_steps = total_steps
        config.total_step = total_steps
        config.tinit, config.tfinal = int(settings.warmup_share * total_steps), int(settings.final_share * total_steps)
        config.deltaT = max(1, (total_steps - config.tinit - config.tfinal) // _PRUNINGS)

    def after_step(self, step: int) -> None:
        """Update the importance and prune ranks; call after each optimiser step, with the gradients in place."""
        assert self.total_steps, "plan() first"
        model, allocator = self._model[0], self.allocator
        last = self.total_steps - allocator.peft_config.tfinal
        if step <= last:
            # In the last pruning step peft does not update the importance and uses that of the step before.
            self._share_buffers()
            _, pattern = allocator.update_and_allocate(model, step, force_mask=step == last)
            self._copy_back(pattern)
        with torch.no_grad():
            for n, name in enumerate(self.names):
                if "lora_E" in name:
                    model.get_parameter(name).masked_fill_(~self.get_buffer(f"kept_{n}"), 0.0)

    def penalty(self) -> torch.Tensor:
        """Return the weighted orthogonality penalty: mean distance of the singular vectors' products from I (eq. 4)."""
        distances = []
        for name in self.names:
            weight = self._model[0].get_parameter(name)
            if "lora_E" not in name:
                product = weight @ weight.T if "lora_A" in name else weight.T @ weight
                distances.append(torch.norm(product - torch.eye(len(product), device=weight.device)))
        return self.settings.orthogonality * torch.stack(distances).mean()

    def _share_buffers(self) -> None:
        """Make the allocator use the buffers, which may come from a checkpoint."""
        for n, name in enumerate(self.names):
            self.allocator.ipt[name] = self.get_buffer(f"importance_{n}")
            self.allocator.exp_avg_ipt[name] = self.get_buffer(f"importance_{n}")
            self.allocator.exp_avg_unc[name] = self.get_buffer(f"uncertainty_{n}")

    @torch.no_grad()
    def _copy_back(self, pattern: dict[str, list[bool]] | None) -> None:
        for n, name in enumerate(self.names):
            self.get_buffer(f"importance_{n}").copy_(self.allocator.exp_avg_ipt[name])
            self.get_buffer(f"uncertainty_{n}").copy_(self.allocator.exp_avg_unc[name])
            if pattern is not None and name in pattern:
                ranks = self.get_buffer(f"kept_{n}")
                ranks.copy_(torch.tensor(pattern[name], device=ranks.device)[:, None])
