"""The best k of each row, exact also where scores tie.

Shapes: Q queries, N items, K ranks.

The order is: score descending, then the rank of the item in a salted hash of its id. So ties are broken by something
that no method can profit from (catalogue position often is popularity or age), the same way in every run.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch

from llmrec_cli.errors import DivergedError

SALT = "llmrec"


def item_hash_ranks(ids: Iterable[str], salt: str = SALT) -> np.ndarray:
    """Return the place of each id in the order of their salted hashes (BLAKE2b, 64 bits), int64 (N,)."""
    salted = hashlib.blake2b(salt.encode(), digest_size=8)
    digests = bytearray()
    for key in ids:
        hashed = salted.copy()
        hashed.update(key.encode("utf-8", "surrogatepass"))
        digests += hashed.digest()
    ranks = np.empty(len(digests) // 8, np.int64)
    ranks[np.argsort(np.frombuffer(digests, ">u8"), kind="stable")] = np.arange(len(ranks))
    return ranks


def topk(scores_QN: torch.Tensor, k: int, ranks_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the items of the k highest scores (Q, k), their scores (Q, k) and which rows have ties (Q,).

    An entry of -inf is never returned: rows with fewer than k others are padded with item -1 and score -inf.
    `ranks_N` is `item_hash_ranks`. A row has ties if two of the scores on its list are equal, or the last of them
    equals the first that is left out: if anything but the scores decided what is on the list, or in which order.
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
    padding = (0, k - width)
    return (torch.nn.functional.pad(items, padding, value=-1),
            torch.nn.functional.pad(values, padding, value=-torch.inf), tied_Q)


def require_finite(scores: torch.Tensor, what: str) -> None:
    """Raise DivergedError if any score is NaN or infinite; before masking, which itself writes -inf."""
    if scores.numel() == 0:
        return
    low, high = torch.aminmax(scores)
    if not (torch.isfinite(low) and torch.isfinite(high)):
        bad = int((~torch.isfinite(scores)).sum())
        raise DivergedError(f"{what}: {bad} of {scores.numel()} scores are NaN or infinite, so nothing can be ranked; "
                            f"train again with a lower optim.learning_rate")


def _resolve_boundary(scores_RN: torch.Tensor, limit_R: torch.Tensor, width: int,
                      ranks_N: torch.Tensor) -> torch.Tensor:
    """Return the `width` items above `limit_R`, filled up with those at it in order of their hash ranks.

    Fewer than `width` are above, so they all get in with one and the same key; the rest is told apart by the rank.
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
