"""Fitting a head: memory is estimated before; time and memory are logged after."""

import sys
import time

import numpy as np

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import in_bytes
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.heads.memory import measure_memory_growth, require_memory
from llmrec_cli.heads.shared.fit_progress import fit_in_sight
from llmrec_cli.heads.shared.training_history import CutHistories
from llmrec_cli.settings.head import ModelConfig


def fit(config: ModelConfig, data: TrainingData, context: Context, quiet: bool = False) -> Head:
    """Build and fit the head of a model config. With `quiet`, notes go to the log only, not to stderr."""
    head = build(config)
    needed = require_memory(head, data, context.device)
    context.log("memory", head=config.head.kind, stated=needed)
    if not quiet:
        print(f"head={config.head.kind}: fitting takes about {in_bytes(needed)} of memory", file=sys.stderr)
    started = time.monotonic()
    memory_growth = measure_memory_growth(
        lambda: fit_in_sight(head, f"head={config.head.kind}", data, context, quiet))
    context.log("fitted", head=config.head.kind, seconds=round(time.monotonic() - started, 3), memory_stated=needed,
                memory_taken=memory_growth, trained_of_encoder=_count_trained_encoder_parameters(head))
    cut = CutHistories(head.history_limit)
    cut.add(np.diff(data.interactions.matrix.indptr))
    if sentence := cut.sentence(config.head.kind):
        context.log("history_cut", limit=cut.limit, num_histories=cut.num_histories, num_items=cut.num_items)
        if not quiet:
            print(f"note: {sentence}", file=sys.stderr)
    validation = context.validation
    if config.seen_only and not quiet and validation is not None and validation.queries.seen.nnz:
        print(f"note: {config.seen_only} scores only items of the history, which validation leaves out of lists: its "
              f"metrics do not count there, and learned weights leave it out", file=sys.stderr)
    if validation is not None and not quiet and (note := config.note_on_untimed(validation.queries.num_untimed)):
        print(f"note: {note}", file=sys.stderr)
    for reason in head.unused_values(data):
        context.log("values_unused", reason=reason)
        if not quiet:
            print(f"note: {reason}", file=sys.stderr)
    return head


def _count_trained_encoder_parameters(head: Head) -> int:
    """Return the number of trained parameters in the head's text encoder and the adapter behind it."""
    texts = head.item_texts
    return 0 if texts is None or not texts.trained else sum(p.numel() for p in texts.parameters() if p.requires_grad)
