"""Quality of a model on cold items, on validation."""

from dataclasses import dataclass, replace

import numpy as np

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.data.queries import known_users
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.fitting import fit
from llmrec_cli.heads.shared.cold_item_validation import make_cold_task

_BLOCK = 256
"""Queries scored at a time."""


@dataclass(frozen=True)
class ColdItemResult:
    """The monitored metric of each user with relevant cold items, ranked among the cold items only.

    Attributes
    ----------
    values_Q : float64 (Q,)
    ids_Q : user ids, object (Q,)
    num_items : number of cold items
    num_hidden : number of them that were hidden from training; 0 for the cold items of validation
    """

    values_Q: np.ndarray
    ids_Q: np.ndarray
    num_items: int
    num_hidden: int


def measure_cold_items(head: Head, data: PreparedData, context: Context) -> ColdItemResult | None:
    """Measure a head, fitted on training, on the cold items of validation; if they are too few, hide some (see
    `make_cold_task`) and measure another fit with the same settings.

    Returns None if there are neither cold items in validation nor items that can be hidden.
    """
    training = data.training("train")
    # Another seed than that of heads that choose settings on hidden items.
    task = make_cold_task(training, replace(context, seed=context.seed + 1))
    if task is None:
        return None
    is_kept = ~task.cold_N[training.interactions.item]
    kept = training.interactions.rows(is_kept)
    num_hidden = 0
    if not is_kept.all():
        num_hidden = int(task.cold_N[np.unique(training.interactions.item)].sum())
        negatives = training.negatives
        reduced = replace(training, interactions=kept, negatives=None if negatives is None else negatives.rows(
            ~task.cold_N[negatives.item]))
        again = replace(context.inside("cold_items"), validation=None, learned=head.learned_on_validation())
        head = fit(head.tuned_config(), reduced, again, quiet=True)
    queries = known_users(task.queries.user, data.users.ids, kept.values, kept.matrix, data.users, data.times_of(kept))
    cold_C, values = np.flatnonzero(task.cold_N), []
    for start in range(0, len(queries), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(queries)))
        block = replace(task, queries=task.queries.rows(rows), relevant_QN=task.relevant_QN[rows])
        values.append(block.values(head.score(queries.rows(rows))[:, cold_C]))
    return ColdItemResult(np.concatenate(values), queries.ids, len(cold_C), num_hidden)
