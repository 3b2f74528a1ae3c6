"""Token ids of many texts, packed end to end, and the index arithmetic that turns them into padded batches.

Shapes: R texts of a batch, T tokens of the longest of them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch


class Ragged:
    """Where each of many sequences lies in packed storage.

    Attributes
    ----------
    lengths : int64 (num_texts,), at least 1
    starts : int64 (num_texts,), the place of each sequence's first token
    size : number of tokens of all
    """

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        starts = np.cumsum(lengths) - lengths
        self.host_lengths = lengths.astype(np.int64)
        self.lengths = torch.from_numpy(self.host_lengths).to(device)
        self.starts = torch.from_numpy(starts.astype(np.int64)).to(device)
        self.size = int(lengths.sum())

    def places(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return int64 places_RT in the packed storage and bool mask_RT of the sequences `rows` (R,).

        Padding points at place `size`, one behind the last token.
        """
        lengths_R = self.lengths[rows]
        order_T = torch.arange(int(lengths_R.max()), device=lengths_R.device)
        mask_RT = order_T < lengths_R[:, None]
        return torch.where(mask_RT, self.starts[rows][:, None] + order_T, self.size), mask_RT


class PackedTokens:
    """Token ids of many texts; `ids` is int64 (num_tokens + 1,), its last entry the padding."""

    def __init__(self, tokens: Sequence[np.ndarray], padding_id: int, device: torch.device) -> None:
        self.ragged = Ragged(np.array([len(t) for t in tokens], np.int64), device)
        packed = np.concatenate([*tokens, np.array([padding_id])]).astype(np.int64)
        self.ids = torch.from_numpy(packed).to(device)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids_RT and mask_RT of the texts `rows` (R,), padded to the longest of them."""
        places_RT, mask_RT = self.ragged.places(rows)
        return self.ids[places_RT], mask_RT


def buckets(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Yield rows of similar length, longest first, each bucket within `batch_tokens` tokens with its padding.

    Longest first, so that running out of memory shows at once and not at the end.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start:start + count]
        start += count
