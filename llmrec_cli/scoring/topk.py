"""Top-k of each row, deterministic for tied scores.

Shapes: Q queries, N items, K ranks.

The order is: score descending, then the rank of the item in a salted hash of its id. No method can profit from this
tie-breaking, as it could from catalogue position, which often follows popularity or age; it is the same in every run.

Two functions give the same result: `topk_cpu` uses a vectorised quickselect and one sort of integers that hold score
and rank; `topk` uses torch and is for a GPU. Each is the fastest measured on its device.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from llmrec_cli.errors import DivergedError

_SALT = "llmrec"


def item_hash_ranks(ids: Iterable[str], salt: str = _SALT) -> np.ndarray:
    """Return the rank of each id in the order of salted hashes (BLAKE2b, 64 bits), int64 (N,)."""
    salted = hashlib.blake2b(salt.encode(), digest_size=8)
    digests = bytearray()
    for key in ids:
        hashed = salted.copy()
        hashed.update(key.encode("utf-8", "surrogatepass"))
        digests += hashed.digest()
    ranks = np.empty(len(digests) // 8, np.int64)
    ranks[np.argsort(np.frombuffer(digests, ">u8"), kind="stable")] = np.arange(len(ranks))
    return ranks


@dataclass(frozen=True)
class Top:
    """The best k of each row.

    Attributes
    ----------
    items_QK : the items, best first, -1 beyond the end of a short list
    scores_QK : their scores, -inf there
    tied_Q : True if two scores on the list are equal, or the last equals the best score that is left out, so that the
        hash decided content or order of the list
    last_size_Q : number of items of the row with the score of the last one on the list; 0 for an empty list
    """

    items_QK: np.ndarray
    scores_QK: np.ndarray
    tied_Q: np.ndarray
    last_size_Q: np.ndarray


def topk_cpu(scores_QN: np.ndarray, k: int, ranks_N: np.ndarray, by_rank_N: np.ndarray, limit_Q: np.ndarray) -> Top:
    """Return the items of the k highest float32 scores of each row; an entry of -inf is never returned.

    `ranks_N` is `item_hash_ranks`, `by_rank_N` its inverse, `limit_Q` the k-th highest score of each row. Scores
    must not contain -0.0.
    """
    num_rows, num_items = scores_QN.shape
    limit_Q = np.maximum(limit_Q, np.finfo(np.float32).min)
    is_candidate_QN = scores_QN >= limit_Q[:, None]
    counts_Q = np.count_nonzero(is_candidate_QN, axis=1)
    places = np.flatnonzero(is_candidate_QN)
    row = np.repeat(np.arange(num_rows), counts_Q)
    values = scores_QN.ravel()[places]
    # Key that sorts by descending score, then ascending rank: the upper half falls as the score rises.
    bits = values.view(np.int32)
    falling = np.where(bits < 0, bits, bits ^ np.int32(0x7FFFFFFF)).view(np.uint32)
    keys = falling.astype(np.uint64) << np.uint64(32) | ranks_N[places - row * num_items].astype(np.uint64)
    keys_QW = np.full((num_rows, max(int(counts_Q.max(initial=0)), k)), np.iinfo(np.uint64).max)
    keys_QW[row, np.arange(len(row)) - np.repeat(np.cumsum(counts_Q) - counts_Q, counts_Q)] = keys
    keys_QW.sort(axis=1)
    there_QK = np.arange(k) < counts_Q[:, None]
    items_QK = np.where(there_QK, by_rank_N[np.where(there_QK, keys_QW[:, :k] & np.uint64(2**32 - 1), 0)], -1)
    scores_QK = np.where(there_QK, np.take_along_axis(scores_QN, np.maximum(items_QK, 0), axis=1), -np.inf)
    return Top(items_QK, scores_QK, *_ties(scores_QK, counts_Q))


def _ties(scores_QK: np.ndarray, counts_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a mask of rows with ties, and the size of the last tie; `counts_Q`: items at or above the last score."""
    k = scores_QK.shape[1]
    equal_QK = (scores_QK[:, 1:] == scores_QK[:, :-1]) & (scores_QK[:, 1:] > -np.inf)
    last_Q1 = scores_QK[np.arange(len(scores_QK)), np.clip(counts_Q, 1, k) - 1][:, None]
    on_list_Q = ((scores_QK == last_Q1) & (scores_QK > -np.inf)).sum(axis=1)
    return equal_QK.any(axis=1) | (counts_Q > k), on_list_Q + np.maximum(counts_Q - k, 0)


def topk(scores_QN: torch.Tensor, k: int, ranks_N: torch.Tensor) -> Top:
    """Return the items of the k highest scores of each row; an entry of -inf is never returned.

    `ranks_N` is `item_hash_ranks`.
    """
    num_items = scores_QN.shape[1]
    width = min(k, num_items)
    values, items = torch.topk(scores_QN, min(width + 1, num_items), dim=1)
    equal = (values[:, 1:] == values[:, :-1]) & torch.isfinite(values[:, 1:])
    tied_Q = equal.any(1)
    values, items = values[:, :width], items[:, :width]
    if num_items > width:
        boundary = equal[:, -1].nonzero().ravel()
        if len(boundary):
            items[boundary] = _resolve_boundary(scores_QN[boundary], values[boundary, -1], width, ranks_N)
            values[boundary] = scores_QN[boundary].gather(1, items[boundary])
    rows = tied_Q.nonzero().ravel()
    if len(rows):
        items[rows], values[rows] = _by_score_then_rank(items[rows], values[rows], ranks_N)
    items = items.masked_fill(values == -torch.inf, -1)
    last_Q1 = values.masked_fill(values == -torch.inf, torch.inf).amin(dim=1, keepdim=True)
    padding = (0, k - width)
    items = torch.nn.functional.pad(items, padding, value=-1)
    values = torch.nn.functional.pad(values, padding, value=-torch.inf)
    return Top(items.cpu().numpy(), values.cpu().numpy(), tied_Q.cpu().numpy(),
               (scores_QN == last_Q1).sum(dim=1).cpu().numpy())


def require_finite(scores: torch.Tensor, what: str) -> None:
    """Raise DivergedError if any score is NaN or infinite; to be called before masking, which writes -inf."""
    if scores.numel() == 0:
        return
    low, high = torch.aminmax(scores)
    if not (torch.isfinite(low) and torch.isfinite(high)):
        bad = int((~torch.isfinite(scores)).sum())
        raise DivergedError(f"{what}: {bad} of {scores.numel()} scores are NaN or infinite, so nothing can be ranked; "
                            f"train again with a lower optim.learning_rate")


def _resolve_boundary(scores_RN: torch.Tensor, limit_R: torch.Tensor, width: int,
                      ranks_N: torch.Tensor) -> torch.Tensor:
    """Return `width` items: those above `limit_R`, then those equal to it in order of their hash ranks.

    Fewer than `width` items are above the limit, so all of them are included with the same key.
    """
    num_items = scores_RN.shape[1]
    limit_R1 = limit_R[:, None]
    at_limit = torch.where(scores_RN == limit_R1, num_items - 1 - ranks_N, -1)
    keys_RN = torch.where(scores_RN > limit_R1, num_items, at_limit)
    return torch.topk(keys_RN, width, dim=1).indices


def _by_score_then_rank(items_RK: torch.Tensor, values_RK: torch.Tensor,
                        ranks_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    by_rank = torch.argsort(ranks_N[items_RK], dim=1)
    items_RK, values_RK = items_RK.gather(1, by_rank), values_RK.gather(1, by_rank)
    values_RK, by_score = torch.sort(values_RK, dim=1, descending=True, stable=True)
    return items_RK.gather(1, by_score), values_RK
