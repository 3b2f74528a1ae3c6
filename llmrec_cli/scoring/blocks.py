"""Ranking of one block of scores: masking, top-k, ties and AUC.

Shapes: B queries of the block, C of them at a time, N items, K ranks, R relevant entries.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.metrics.auc import auc_of_counts
from llmrec_cli.scoring.topk import Top, topk, topk_cpu

CHUNK_CELLS = 2**19
"""Scores per chunk on a CPU: 2 MB, which stay in the cache between masking, selection and comparison."""


@dataclass(frozen=True)
class Allowed:
    """Items allowed on the lists of a block.

    Attributes
    ----------
    seen_BN : CSR, items excluded per query; None: no items
    given_BN : CSR, candidates per query; None: all items
    penalty_N : float32 (N,), 0 for an item that may be on any list, else -inf
    """

    seen_BN: sp.csr_array | None
    given_BN: sp.csr_array | None
    penalty_N: np.ndarray


@dataclass(frozen=True)
class RankedBlock:
    """The lists of a block; `relevant_R` and `auc_B` only if relevant items are given.

    Attributes
    ----------
    constant_B : bool (B,), True if the query has at least two candidates and all have the same score
    relevant_R : float32, score of each relevant item, in the order of the CSR; -inf if it is not a candidate
    auc_B : float64, NaN where undefined
    """

    top: Top
    constant_B: np.ndarray
    relevant_R: np.ndarray | None
    auc_B: np.ndarray | None


def rank_block(scores_BN: torch.Tensor, k: int, ranks_N: np.ndarray, allowed: Allowed,
               relevant_BN: sp.csr_array | None) -> RankedBlock:
    """Rank a block of finite scores; the caller's tensor is not changed."""
    if scores_BN.device.type != "cpu":
        return _rank_on_device(scores_BN.float(), k, ranks_N, allowed, relevant_BN)
    scores = scores_BN.float().numpy()
    by_rank_N = np.argsort(ranks_N)
    step = max(1, CHUNK_CELLS // max(1, scores.shape[1]))
    parts = []
    masked_CN, ordered_CN = np.empty((2, min(step, len(scores)), scores.shape[1]), np.float32)
    for start in range(0, len(scores), step):
        rows = slice(start, min(start + step, len(scores)))
        size = rows.stop - start
        _mask(scores[rows], masked_CN[:size], rows, allowed)
        relevant_CN = None if relevant_BN is None else relevant_BN[rows]
        parts.append(_rank_chunk(masked_CN[:size], ordered_CN[:size], k, ranks_N, by_rank_N, relevant_CN))
    return _join(parts)


def _mask(scores_CN: np.ndarray, into_CN: np.ndarray, rows: slice, allowed: Allowed) -> None:
    """Write the scores with -inf for items that may not be recommended.

    Adding the penalty of 0 turns -0.0 into 0.0, so that equal scores have equal bits.
    """
    np.add(scores_CN, allowed.penalty_N, out=into_CN)
    flat = into_CN.reshape(-1)
    if allowed.given_BN is not None:
        places = _places(allowed.given_BN, rows)
        candidate_scores = flat[places]
        flat.fill(-np.inf)
        flat[places] = candidate_scores
    if allowed.seen_BN is not None:
        flat[_places(allowed.seen_BN, rows)] = -np.inf


def _places(matrix: sp.csr_array, rows: slice) -> np.ndarray:
    """Return the positions of the entries of some rows in the flattened block of these rows."""
    bounds = matrix.indptr[rows.start:rows.stop + 1]
    row = np.repeat(np.arange(len(bounds) - 1, dtype=np.int64), np.diff(bounds))
    return row * matrix.shape[1] + matrix.indices[bounds[0]:bounds[-1]]


def _rank_chunk(masked_CN: np.ndarray, ordered_CN: np.ndarray, k: int, ranks_N: np.ndarray, by_rank_N: np.ndarray,
                relevant_CN: sp.csr_array | None) -> RankedBlock:
    """Rank a chunk; `ordered_CN` is a buffer for sorting."""
    num_items = masked_CN.shape[1]
    place = max(0, num_items - k)
    np.copyto(ordered_CN, masked_CN)
    if relevant_CN is None:
        ordered_CN.partition(place, axis=1)
    else:
        ordered_CN.sort(axis=1)
    top = topk_cpu(masked_CN, k, ranks_N, by_rank_N, ordered_CN[:, place])
    constant_C = _constant(top, masked_CN)
    if relevant_CN is None:
        return RankedBlock(top, constant_C, None, None)
    num_candidates_C = np.count_nonzero(masked_CN > -np.inf, axis=1)
    relevant_R = masked_CN.reshape(-1)[_places(relevant_CN, slice(0, len(masked_CN)))]
    auc_C = _auc(torch.from_numpy(ordered_CN), torch.from_numpy(relevant_R), relevant_CN.indptr, num_candidates_C)
    return RankedBlock(top, constant_C, relevant_R, auc_C)


def _constant(top: Top, masked_CN: np.ndarray) -> np.ndarray:
    """Return a mask of rows whose candidates all score the same; only rows with a constant list are checked in full."""
    constant_C = top.last_size_Q > 1
    rows = np.flatnonzero(constant_C)
    best_R1 = top.scores_QK[rows, :1]
    constant_C[rows] = ((masked_CN[rows] == best_R1) | (masked_CN[rows] == -np.inf)).all(axis=1)
    return constant_C


def _auc(ordered_BN: torch.Tensor, relevant_R: torch.Tensor, indptr: np.ndarray,
         num_candidates_B: np.ndarray) -> np.ndarray:
    """Return the AUC of each row; `ordered_BN` is sorted ascending, so masked scores, -inf, come first."""
    num_rows, num_items = ordered_BN.shape
    lengths_B = np.diff(indptr)
    row = np.repeat(np.arange(num_rows), lengths_B)
    place = np.arange(len(row)) - indptr[row]
    device = relevant_R.device
    where = (torch.from_numpy(row).to(device), torch.from_numpy(place).to(device))
    padded_BW = torch.full((num_rows, int(lengths_B.max(initial=0))), -torch.inf, device=device)
    padded_BW[where] = relevant_R
    below_R = torch.searchsorted(ordered_BN, padded_BW)[where]
    upto_R = below_R + 1
    # Ties are rare, so upper bounds are searched only if the score after a relevant one is equal to it.
    if bool((ordered_BN[where[0], upto_R.clamp(max=num_items - 1)] == relevant_R)[upto_R < num_items].any()):
        upto_R = torch.searchsorted(ordered_BN, padded_BW, right=True)[where]
    below, upto = below_R.cpu().numpy(), upto_R.cpu().numpy()
    counted = (relevant_R > -torch.inf).cpu().numpy()
    masked_R = (num_items - num_candidates_B)[row]
    return auc_of_counts(row[counted], (below - masked_R)[counted], (upto - below)[counted], num_candidates_B)


def _rank_on_device(scores_BN: torch.Tensor, k: int, ranks_N: np.ndarray, allowed: Allowed,
                    relevant_BN: sp.csr_array | None) -> RankedBlock:
    """Rank a block of scores on a device other than the CPU."""
    device, whole = scores_BN.device, slice(0, len(scores_BN))
    masked_BN = (scores_BN + torch.from_numpy(allowed.penalty_N).to(device)).contiguous()
    flat = masked_BN.view(-1)
    if allowed.given_BN is not None:
        places = torch.from_numpy(_places(allowed.given_BN, whole)).to(device)
        candidate_scores = flat[places]
        flat.fill_(-torch.inf)
        flat[places] = candidate_scores
    if allowed.seen_BN is not None:
        flat[torch.from_numpy(_places(allowed.seen_BN, whole)).to(device)] = -torch.inf
    top = topk(masked_BN, k, torch.from_numpy(ranks_N).to(device))
    alike_BN = (masked_BN == masked_BN.amax(dim=1, keepdim=True)) | (masked_BN == -torch.inf)
    constant_B = alike_BN.all(dim=1).cpu().numpy() & (top.last_size_Q > 1)
    if relevant_BN is None:
        return RankedBlock(top, constant_B, None, None)
    relevant_R = flat[torch.from_numpy(_places(relevant_BN, whole)).to(device)]
    num_candidates_B = (masked_BN > -torch.inf).sum(dim=1).cpu().numpy()
    auc_B = _auc(masked_BN.sort(dim=1).values, relevant_R, relevant_BN.indptr, num_candidates_B)
    return RankedBlock(top, constant_B, relevant_R.cpu().numpy(), auc_B)


def _join(parts: list[RankedBlock]) -> RankedBlock:
    tops = [part.top for part in parts]
    top = Top(*(np.concatenate([getattr(one, name) for one in tops])
                for name in ("items_QK", "scores_QK", "tied_Q", "last_size_Q")))
    relevant = [part.relevant_R for part in parts if part.relevant_R is not None]
    auc = [part.auc_B for part in parts if part.auc_B is not None]
    return RankedBlock(top, np.concatenate([part.constant_B for part in parts]),
                       np.concatenate(relevant) if relevant else None, np.concatenate(auc) if auc else None)
