"""Memory estimates for scoring: blocks of scores, histories and lists."""

import numpy as np

from llmrec_cli.scoring.scorer import BLOCK_CELLS, VALIDATION_BLOCK

_COPIES = 2
"""Blocks of scores in memory at once: the head's scores and the copy being ranked."""
_BYTES_OF_A_RANK = 48
"""Bytes per list place: item, score, hit, and metrics by rank in float64."""


def scoring_memory(num_queries: int, num_items: int, block_size: int) -> int:
    """Return the bytes of scoring in blocks, for any head."""
    rows = max(1, min(block_size, BLOCK_CELLS // max(1, num_items), num_queries))
    return _COPIES * 4 * rows * num_items


def validation_memory(num_queries: int, num_items: int, num_interactions: int) -> int:
    """Return the bytes of a validation: a block of scores and the histories of its queries."""
    return scoring_memory(num_queries, num_items, VALIDATION_BLOCK) + history_memory(num_interactions)


def lists_memory(num_queries: int, k: int) -> int:
    """Return the bytes of lists, which stay in memory until the metrics are computed."""
    return _BYTES_OF_A_RANK * num_queries * k


READ = 147
"""Bytes per interaction while prepared data is converted to histories: 29 as read (two ids and a time of 8 bytes,
value, split), the same for the splits in use, and the sort by user with time and pair."""
KEPT = 80
"""Bytes per interaction in the latest histories: item, value and time, and item and value in the seen matrix."""


def latest_memory(num_interactions: int, scoring: int) -> int:
    """Return the peak bytes of reading the latest histories, or of holding them while scoring takes `scoring` bytes."""
    return max(READ * num_interactions, KEPT * num_interactions + scoring)


def history_memory(num_interactions: int) -> int:
    """Return the bytes of the histories of a model and of the queries made from them."""
    return int(np.int64(60) * num_interactions)
