"""Memory that scoring takes, stated before it: the model's own, a block of scores, and what is kept of the lists."""

import numpy as np

from llmrec_cli.scoring.scorer import BLOCK_CELLS, VALIDATION_BLOCK

_COPIES = 2
"""Blocks of scores held at a time: as the head makes them, and on the way or as they are ranked."""
_BYTES_OF_A_RANK = 48
"""A place on a list: its item, its score, whether it is a hit, and metrics by rank, in float64."""


def scoring_memory(num_queries: int, num_items: int, block_size: int) -> int:
    """Return the bytes of scoring in blocks, whatever the head."""
    rows = max(1, min(block_size, BLOCK_CELLS // max(1, num_items), num_queries))
    return _COPIES * 4 * rows * num_items


def validation_memory(num_queries: int, num_items: int, num_interactions: int) -> int:
    """Return the bytes of a validation: a block of scores, and the histories of its queries."""
    return scoring_memory(num_queries, num_items, VALIDATION_BLOCK) + history_memory(num_interactions)


def lists_memory(num_queries: int, k: int) -> int:
    """Return the bytes of lists that are kept until all of them are measured."""
    return _BYTES_OF_A_RANK * num_queries * k


READ = 147
"""Bytes of an interaction while prepared data becomes histories: as read 29 (two ids and a time of 8, value, split),
once more for the splits in use, and sorted by user with its time and its pair."""
KEPT = 80
"""Bytes of an interaction in the latest histories: item, value and time, and item and value of what is left out."""


def latest_memory(num_interactions: int, scoring: int) -> int:
    """Return the bytes of reading the latest histories, then of keeping them while scoring takes `scoring` bytes."""
    return max(READ * num_interactions, KEPT * num_interactions + scoring)


def history_memory(num_interactions: int) -> int:
    """Return the bytes of the histories of a model and of the queries made of them."""
    return int(np.int64(60) * num_interactions)
