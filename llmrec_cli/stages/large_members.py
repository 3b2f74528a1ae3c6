"""Members of a fusion that do not fit into memory: with head.too_large=leave_out the largest ones are left out."""

import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import in_bytes
from llmrec_cli.heads.base import build
from llmrec_cli.heads.memory import available_memory, libraries_memory
from llmrec_cli.settings.head import FusionSettings, HeadSettings, ModelConfig


def without_large_members(config: ModelConfig, data: TrainingData, device: torch.device,
                          log: Callable[..., None]) -> HeadSettings:
    """Return the settings of a head without the largest members, until it fits into memory; each is named on stderr.

    `data` are the most interactions that the head will be fitted on. Two members always stay, and if these do not fit
    the fit says so.
    """
    head = config.head
    if not isinstance(head, FusionSettings) or head.too_large != "leave_out":
        return head
    available = available_memory(device)
    while len(head.members) > 2:
        needed = build(replace(config, head=head)).estimate_memory(data) + libraries_memory(config)
        if needed <= available:
            break
        estimates = {name: build(member).estimate_memory(data) for name, member in head.members.items()}
        largest = max(estimates, key=lambda name: estimates[name])
        text = (f"head.members.{largest} is left out: it takes about {in_bytes(estimates[largest])}, and all members "
                f"{in_bytes(needed)} of the {in_bytes(available)} that are free")
        log("member_too_large", text=text)
        print(f"note: {text}", file=sys.stderr)
        head = replace(head, members={name: member for name, member in head.members.items() if name != largest})
    return head
