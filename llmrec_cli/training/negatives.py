"""What a step compares with: items drawn evenly, and items that another model ranks high.

Shapes: N items, S users of a step, K ranks.
"""

import numpy as np


def log_chances(counts_N: np.ndarray, step_size: float, num_drawn: int) -> np.ndarray:
    """Return the logarithm of each item's chance of being among the candidates of a step, float32 (N,).

    An item is there as one of the step's `step_size` targets, 1 - (1 - q)^B for its share q of all interactions, or as
    one of `num_drawn` drawn evenly among the items that have any.
    """
    num_items = int((counts_N > 0).sum())
    share_N = counts_N / max(1, counts_N.sum())
    # An item without interactions has no chance, and one that all are of is in every step.
    with np.errstate(divide="ignore"):
        log_absent_N = step_size * np.log1p(-share_N)
        log_absent_N += np.log1p(-min(num_drawn, num_items) / max(1, num_items)) * (counts_N > 0)
        chances_N: np.ndarray = np.log(-np.expm1(log_absent_N)).astype(np.float32)
    return chances_N


def drawn_evenly(items: np.ndarray, number: int | None, generator: np.random.Generator) -> np.ndarray:
    """Return `number` of the items, or all where there are no more; none for None."""
    if number is None:
        return items[:0]
    return generator.choice(items, min(number, len(items)), replace=False)


def drawn_from_lists(lists_SK: np.ndarray, number: int, generator: np.random.Generator) -> np.ndarray:
    """Return the distinct items of `number` draws from each user's list; -1 stands for the end of a short one."""
    if lists_SK.shape[1] == 0:
        return lists_SK.ravel()
    column_SD = generator.integers(lists_SK.shape[1], size=(len(lists_SK), number))
    chosen = np.unique(np.take_along_axis(lists_SK, column_SD, axis=1))
    return chosen[chosen >= 0]
