"""Fitting a head: memory stated before, time and memory noted after."""

import sys
import time

import numpy as np

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import in_bytes
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.heads.memory import require_memory, taken_by
from llmrec_cli.heads.shared.training_history import CutHistories
from llmrec_cli.settings.head import ModelConfig


def fit(config: ModelConfig, data: TrainingData, context: Context, quiet: bool = False) -> Head:
    """Return the head of a model config, fitted. With `quiet` what it takes is only written to the log."""
    head = build(config)
    needed = require_memory(head, data, context.device)
    context.log("memory", head=config.head.kind, stated=needed)
    if not quiet:
        print(f"head={config.head.kind}: fitting takes about {in_bytes(needed)} of memory", file=sys.stderr)
    started = time.monotonic()
    taken = taken_by(lambda: head.fit(data, context))
    context.log("fitted", head=config.head.kind, seconds=round(time.monotonic() - started, 3), memory_stated=needed,
                memory_taken=taken, trained_of_encoder=_trained_of_encoder(head))
    cut = CutHistories(head.history_limit)
    cut.add(np.diff(data.interactions.matrix.indptr))
    if sentence := cut.sentence(config.head.kind):
        context.log("history_cut", limit=cut.limit, num_histories=cut.num_histories, num_items=cut.num_items)
        if not quiet:
            print(f"note: {sentence}", file=sys.stderr)
    for reason in head.unused_values(data):
        context.log("values_unused", reason=reason)
        if not quiet:
            print(f"note: {reason}", file=sys.stderr)
    return head


def _trained_of_encoder(head: Head) -> int:
    """Return how many numbers were trained in the head's text encoder, or of the map behind it."""
    texts = head.item_texts
    return 0 if texts is None or not texts.trained else sum(p.numel() for p in texts.parameters() if p.requires_grad)
