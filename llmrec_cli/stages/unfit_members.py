"""Members of a fusion that the data cannot serve: with head.unfit=leave_out they are left out and named."""

import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError, in_bytes
from llmrec_cli.heads.base import build
from llmrec_cli.heads.memory import available_memory, libraries_memory
from llmrec_cli.settings.head import HeadSettings, ModelConfig

_LEAST_COLD = 0.05
_FEWEST = 2
"""Members that stay whatever memory they take; if they do not fit, the fit says so."""


def without_unfit_members(config: ModelConfig, data: TrainingData, cold_share: float, device: torch.device,
                          log: Callable[..., None]) -> HeadSettings:
    """Return the settings of a head without the members that need an order or times that the data lacks, or cold items
    that validation lacks, and without the largest ones until the others fit into memory.

    `data` are the most interactions that the head will be fitted on, `cold_share` is the share of those in validation
    whose items are in no training. Raises DataError if no member is left.
    """
    head = config.head
    if getattr(head, "unfit", "refuse") != "leave_out":
        return head

    def without(name: str, why: str) -> HeadSettings:
        text = f"head.members.{name} is left out: {why}"
        log("member_unfit", text=text)
        print(f"note: {text}", file=sys.stderr)
        return head.with_members({other: one for other, one in head.member_configs().items() if other != name})

    for name, member in tuple(head.member_configs().items()):
        if member.head.needs_order() and not data.has_order:
            head = without(name, "it needs the order of the interactions, and the data has neither times nor an order")
        elif member.head.is_for_cold_items and cold_share < _LEAST_COLD:
            head = without(name, f"it is for items without interactions, and {cold_share:.1%} of the interactions in "
                                 f"validation have such items; from {_LEAST_COLD:.0%} on it stays")
        elif member.head.needs_moments() and not data.has_moments:
            head = without(name, "it needs the times of the interactions, and the data has none, or only an order")
    if not head.member_configs():
        raise DataError("head=fusion: every member needs the order or times of the interactions, which the data lacks; "
                        "add one, such as head.members.ease.head=ease, or prepare with "
                        "dataset.columns.timestamp=<column>")
    available = available_memory(device)
    while len(head.member_configs()) > _FEWEST:
        needed = build(replace(config, head=head)).estimate_memory(data) + libraries_memory(config)
        if needed <= available:
            break
        estimates = {name: build(member).estimate_memory(data) for name, member in head.member_configs().items()}
        largest = max(estimates, key=lambda name: estimates[name])
        head = without(largest, f"it takes about {in_bytes(estimates[largest])}, and all members {in_bytes(needed)} of "
                                f"the {in_bytes(available)} that are free")
    return head
