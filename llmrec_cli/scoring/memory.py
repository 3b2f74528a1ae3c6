"""Memory that scoring takes, stated before it: the model's own, a block of scores, and what is kept of the lists."""

import numpy as np

from llmrec_cli.scoring.scorer import BLOCK_CELLS

COPIES = 3
"""Blocks of scores held at a time: as the head makes them, as parts of a sum or on the way, and as they are ranked."""
BYTES_OF_A_RANK = 48
"""A place on a list: its item, its score, whether it is a hit, and metrics by rank, in float64."""


def scoring_memory(num_queries: int, num_items: int, block_size: int) -> int:
    """Return the bytes of scoring in blocks, whatever the head."""
    rows = max(1, min(block_size, BLOCK_CELLS // max(1, num_items), num_queries))
    return COPIES * 4 * rows * num_items


def lists_memory(num_queries: int, k: int) -> int:
    """Return the bytes of lists that are kept until all of them are measured."""
    return BYTES_OF_A_RANK * num_queries * k


def history_memory(num_interactions: int) -> int:
    """Return the bytes of the histories of a model and of the queries made of them."""
    return int(np.int64(60) * num_interactions)
