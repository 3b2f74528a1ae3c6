"""Vectors of histories: sums of their items' vectors, divided by the root of the length.

Shapes: N items, B histories, E embedding size, L entries of histories as CSR has them.
"""

import torch
from torch.nn import functional


def history_sums(items_NE: torch.Tensor, indices: torch.Tensor, indptr: torch.Tensor,
                 weight_L: torch.Tensor | None = None) -> torch.Tensor:
    """Return the (weighted) sum of each history's item vectors (num_histories, E); histories are CSR."""
    return functional.embedding_bag(indices, items_NE, indptr, mode="sum", include_last_offset=True,
                                    per_sample_weights=weight_L)


def weight_sums(weight_L: torch.Tensor, indptr: torch.Tensor) -> torch.Tensor:
    """Return the sum of each history's weights (num_histories,)."""
    row_L = torch.arange(len(indptr) - 1, device=indptr.device).repeat_interleave(indptr.diff())
    return weight_L.new_zeros(len(indptr) - 1).index_add(0, row_L, weight_L)


def history_vectors(sums_BE: torch.Tensor, lengths_B: torch.Tensor,
                    weights_B: torch.Tensor | None = None) -> torch.Tensor:
    """Divide the sums by the root of the lengths, so that long histories count more, but not in proportion.

    `weights_B` are the weight sums of the histories: the result is then the weighted mean times the root of the length,
    which is the same if all weights are 1.
    """
    if weights_B is None:
        return sums_BE / lengths_B.clamp_min(1).sqrt()[:, None]
    # A history with only zero weights counts as empty.
    is_filled_B = (lengths_B > 0) & (weights_B > 0)
    return sums_BE * (lengths_B.clamp_min(0).sqrt() * is_filled_B / torch.where(is_filled_B, weights_B, 1.0))[:, None]
