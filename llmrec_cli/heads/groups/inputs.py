"""Index arrays for group models: members and interactions of each group, as segments to sum over.

Shapes: Q queries of groups, P distinct members of them, L memberships (one for each member of each query), K groups of
the training data, U users, N items, D size of any vector.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import Queries
from llmrec_cli.heads.shared.history_vectors import history_sums, weight_sums


class Bags(NamedTuple):
    """Rows of a sparse matrix, for sums of vectors over each row."""

    indices: torch.Tensor
    indptr: torch.Tensor
    weights: torch.Tensor | None = None

    @classmethod
    def of(cls, matrix: sp.csr_array, device: torch.device, weighted: bool = False) -> "Bags":
        """Return the rows of a CSR matrix; its values are weights if `weighted`."""
        return cls(_tensor(matrix.indices, device), _tensor(matrix.indptr, device),
                   torch.from_numpy(matrix.data.astype(np.float32)).to(device) if weighted else None)

    def sums(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the (weighted) sum of the vectors at each row's indices (num_rows, D)."""
        return history_sums(vectors, self.indices, self.indptr, self.weights)

    def totals(self) -> torch.Tensor:
        """Return the number of entries of each row, or the sum of their weights, float32 (num_rows,)."""
        return self.indptr.diff().float() if self.weights is None else weight_sums(self.weights, self.indptr)

    def means(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the (weighted) means, 0 for an empty row."""
        return self.sums(vectors) / self.totals().clamp_min(1)[:, None]

    def scaled_sums(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the sums divided by the root of the totals: more entries count more, but not in proportion."""
        return self.sums(vectors) / self.totals().clamp_min(1).sqrt()[:, None]


class ItemInputs(NamedTuple):
    """Item features besides id and text, of items (N,): weighted sparse rows, and dense float32 (N, D)."""

    sparse: Bags
    dense: torch.Tensor


@dataclass(frozen=True)
class Past:
    """Training groups: `members` CSR (K, U) and `history` CSR (K, N), both of 1s."""

    members: sp.csr_array
    history: sp.csr_array

    @cached_property
    def of_users(self) -> sp.csr_array:
        """Groups of each user, CSR (U, K)."""
        return sp.csr_array(self.members.T.tocsr())

    def without(self, rows: np.ndarray) -> "Past":
        """Return the groups without some entries of `history`, given by their positions."""
        new = Past(self.members, without(self.history, rows))
        # Memberships are unchanged: reuse the transpose instead of computing it at each step.
        new.__dict__["of_users"] = self.of_users
        return new


@dataclass(frozen=True)
class GroupInputs:
    """Inputs of the scores of a block of group queries.

    Attributes
    ----------
    row, place : int64 (L,), the query and the member of each membership, by query
    user : int64 (P,), -1 for an unknown member
    history : items of each member (P rows)
    groups : training groups of each member (P rows)
    is_own : bool (L,), True if the query is a training group that the member belongs to
    group : int64 (Q,), -1 for an unknown group
    own : items of each query (Q rows)
    past_history, past_members : items and members of each training group (K rows)
    past_groups : training groups of each training user (U rows)
    overlap : training groups that share members with each query (Q rows), weighted by the number of shared members,
        without the query's own group
    text : float32 (Q, T), text vectors of the groups; None if group texts are not used
    """

    row: torch.Tensor
    place: torch.Tensor
    user: torch.Tensor
    history: Bags
    groups: Bags
    is_own: torch.Tensor
    group: torch.Tensor
    own: Bags
    past_history: Bags
    past_members: Bags
    past_groups: Bags
    overlap: Bags
    text: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.group)

    @property
    def sizes(self) -> torch.Tensor:
        """Number of members of each query, float32 (Q,)."""
        return torch.bincount(self.row, minlength=len(self)).float()

    @property
    def starts(self) -> torch.Tensor:
        """Start of the memberships of each query, int64 (Q + 1,)."""
        return torch.cat([self.row.new_zeros(1), torch.bincount(self.row, minlength=len(self)).cumsum(0)])

    def by_query(self, vectors_LD: torch.Tensor) -> torch.Tensor:
        """Return the sum over each query's members (Q, D)."""
        return sums_between(self.starts, vectors_LD)


def sums_between(starts: torch.Tensor, vectors_LD: torch.Tensor) -> torch.Tensor:
    """Return the sums (Q, D) of consecutive rows, from each of `starts` (Q + 1,) to the next."""
    return history_sums(vectors_LD, torch.arange(len(vectors_LD), device=starts.device), starts)


def inputs_of(past: Past, rows: sp.csr_array, user_P: np.ndarray, history: sp.csr_array, own: sp.csr_array,
              group_Q: np.ndarray, device: torch.device, text_QT: torch.Tensor | None = None) -> GroupInputs:
    """Return the inputs of queries from memberships `rows` (Q, P), members' histories (P, N) and own ones (Q, N).

    A member's interactions with the queried group itself are left out of the member's vector; `is_own` marks them.
    """
    row_L, place_L = np.repeat(np.arange(len(group_Q)), np.diff(rows.indptr)), rows.indices.astype(np.int64)
    groups = past.of_users[np.maximum(user_P, 0)]
    groups = groups if (user_P >= 0).all() else _select_entries(groups, np.repeat(user_P >= 0, np.diff(groups.indptr)))
    num_groups = past.members.shape[0]
    group_L = group_Q[row_L]
    pairs = np.repeat(np.arange(len(user_P)), np.diff(groups.indptr)) * num_groups + groups.indices
    is_own_L = (group_L >= 0) & np.isin(place_L * num_groups + group_L, pairs)
    ones = sp.csr_array((np.ones(len(place_L), np.float32), place_L, rows.indptr), shape=(len(group_Q), len(user_P)))
    overlap = sp.csr_array(ones @ groups)
    at = np.repeat(group_Q, np.diff(overlap.indptr))
    return GroupInputs(_tensor(row_L, device), _tensor(place_L, device), _tensor(user_P, device),
                       Bags.of(history, device), Bags.of(groups, device), torch.from_numpy(is_own_L).to(device),
                       _tensor(group_Q, device), Bags.of(own, device), Bags.of(past.history, device),
                       Bags.of(past.members, device), Bags.of(past.of_users, device),
                       Bags.of(_select_entries(overlap, overlap.indices != at), device, weighted=True), text_QT)


def of_queries(past: Past, queries: Queries, device: torch.device, text_QT: torch.Tensor | None = None) -> GroupInputs:
    """Return the inputs of queries of groups."""
    groups = queries.groups
    assert groups is not None
    return inputs_of(past, groups.rows, groups.members.user, groups.members.history, queries.history, groups.group,
                     device, text_QT)


def without(matrix: sp.csr_array, entries: np.ndarray) -> sp.csr_array:
    """Return a CSR matrix without some of its entries, given by their positions."""
    keep = np.ones(matrix.nnz, bool)
    keep[entries] = False
    return _select_entries(matrix, keep)


def _select_entries(matrix: sp.csr_array, keep: np.ndarray) -> sp.csr_array:
    before = np.concatenate([[0], np.cumsum(keep)])
    return sp.csr_array((matrix.data[keep], matrix.indices[keep], before[matrix.indptr]), shape=matrix.shape)


def _tensor(array: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64)).to(device)
