"""The two forms of EASE: primal (one equation per item) and dual (one equation per user and feature).

With Z the users and features as rows, L the penalties and P = (Z'Z + L)^-1, the weights are B = I - P / diag(P)
(Steck 2019, eq. 8), and the scores of a history h are h B = h - h P / diag(P).

Shapes: Q queries, N items, R rows (users, sparse features, then dense features), D dense features, P popular items.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.tensors import DOUBLE, FLOAT, TensorReader
from llmrec_cli.heads.shared.matrix_products import (
    ColumnBlocks,
    add_gram,
    gram_memory,
    inverse_in_place,
    popular_first,
    reorder_in_place,
    transpose_in_place,
)

BLOCK_ITEMS = 256
"""Items processed at a time where all of them would take too much memory."""
_TINY = float(np.finfo(np.float32).tiny)
"""Smallest allowed divisor."""

BLOCK_QUERIES = 256
"""Queries that the dual form scores at a time; it holds their scores several times in float64."""


@dataclass
class Rows:
    """Weighted rows of items: users' interactions and features.

    Attributes
    ----------
    sparse_RN : CSR float32, users and sparse features
    dense_DN : float32, dense features
    """

    sparse_RN: sp.csr_array
    dense_DN: np.ndarray


class Primal:
    """Primal form: computes P (N, N) and turns it into B, which scores histories by `ColumnBlocks`."""

    def __init__(self, weights: ColumnBlocks, inverse_diagonal_N: np.ndarray) -> None:
        self.weights = weights
        self.inverse_diagonal_N = inverse_diagonal_N

    @classmethod
    def fit(cls, rows: Rows, l2_N: np.ndarray, device: torch.device) -> "Primal":
        """Solve for the weights."""
        num_items = rows.sparse_RN.shape[1]
        count_N = np.bincount(rows.sparse_RN.indices, minlength=num_items)
        order_N = popular_first(count_N)
        gram_NN = np.zeros((num_items, num_items), np.float32)
        add_gram(gram_NN, _columns(rows.sparse_RN, order_N))
        if len(rows.dense_DN):
            dense_ND = np.ascontiguousarray(rows.dense_DN.T[order_N])
            for start in range(0, num_items, BLOCK_ITEMS):
                stop = min(start + BLOCK_ITEMS, num_items)
                gram_NN[start:stop, :stop] += dense_ND[start:stop] @ dense_ND[:stop].T
        gram_NN.flat[::num_items + 1] += l2_N[order_N]
        gram_diagonal_N = gram_NN.diagonal().copy()
        inverse_NN = inverse_in_place(gram_NN, device)
        _require_digits(1 / (inverse_NN.diagonal() * gram_diagonal_N))
        reorder_in_place(inverse_NN, np.argsort(order_N))
        diagonal_N = inverse_NN.diagonal().copy()
        # Divide rows, not columns: the blocks hold the transpose.
        inverse_NN *= (-1 / diagonal_N)[:, None]
        inverse_NN.flat[::num_items + 1] = 0
        return cls(ColumnBlocks.of(transpose_in_place(inverse_NN), num_items, num_items), diagonal_N)

    @staticmethod
    def estimate_memory(count_N: np.ndarray, num_rows: int, num_dense: int) -> int:
        """Return the peak bytes of `fit`, for items with these numbers of entries in the rows."""
        num_items = len(count_N)
        dense = 4 * num_items * (num_dense + min(num_items, BLOCK_ITEMS)) if num_dense else 0
        return 4 * num_items**2 + max(gram_memory(int(count_N.sum()), num_rows, num_items), dense)

    @staticmethod
    def estimate_operations(num_items: int, num_rows: int) -> float:
        """Return the operations of `fit` in units of a matrix product's: Cholesky factor and inverse run slower."""
        return 1.5 * num_items**3

    def scores(self, history_QN: Any) -> np.ndarray:
        """Return history x weights, float32 (Q, N)."""
        return self.weights.product(sp.csr_array(history_QN)).numpy()

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays for scoring."""
        return {"weights": self.weights.flat(), "inverse_diagonal": self.inverse_diagonal_N}

    @classmethod
    def read(cls, tensors: TensorReader) -> "Primal":
        """Restore the form from its state."""
        diagonal_N = tensors.take("inverse_diagonal", FLOAT, (None,), low=_TINY)
        num_items = len(diagonal_N)
        return cls(ColumnBlocks.of(tensors.take("weights", FLOAT, (num_items**2,)), num_items, num_items), diagonal_N)


class Dual:
    """P by the Woodbury identity: with Y = Z L^-1/2 and M = (I + Y Y')^-1 of R x R, P = L^-1/2 (I - Y' M Y) L^-1/2.

    No N x N matrix is ever built. `rows` are the rows of Y. In float64: with small penalties the rows explain nearly
    all of an item, and P is the small remainder.
    """

    def __init__(self, rows: Rows, inverse_RR: np.ndarray, l2_N: np.ndarray, inverse_diagonal_N: np.ndarray,
                 device: torch.device) -> None:
        self.rows = rows
        self.inverse_RR = torch.from_numpy(inverse_RR).to(device)
        self.root_N = np.sqrt(l2_N.astype(np.float64))
        self.inverse_diagonal_N = inverse_diagonal_N
        self.items_NR = sp.csr_array(rows.sparse_RN.T)

    @classmethod
    def fit(cls, rows: Rows, l2_N: np.ndarray, device: torch.device) -> "Dual":
        """Solve for M and the diagonal of P."""
        sparse_RN = sp.csr_array(rows.sparse_RN)
        # Longest rows first: `add_gram` is fastest with popular columns first.
        order_R = popular_first(np.diff(sparse_RN.indptr))
        root_N = np.sqrt(l2_N.astype(np.float64))
        sparse_RN = sparse_RN[order_R]
        sparse_RN = sp.csr_array((sparse_RN.data / root_N[sparse_RN.indices], sparse_RN.indices, sparse_RN.indptr),
                                 shape=sparse_RN.shape)
        dense_DN = rows.dense_DN / root_N
        num_sparse, num_rows = sparse_RN.shape[0], sparse_RN.shape[0] + len(dense_DN)
        gram_RR = np.zeros((num_rows, num_rows))
        add_gram(gram_RR[:num_sparse, :num_sparse], sp.csr_array(sparse_RN.T))
        if len(dense_DN):
            gram_RR[num_sparse:, :num_sparse] = (sparse_RN @ dense_DN.T).T
            gram_RR[num_sparse:, num_sparse:] = dense_DN @ dense_DN.T
        gram_RR.flat[::num_rows + 1] += 1
        form = cls(Rows(sparse_RN, dense_DN), inverse_in_place(gram_RR, device), l2_N, np.ones(len(l2_N)), device)
        form.inverse_diagonal_N = form._diagonal()
        _require_digits(form.inverse_diagonal_N * form.root_N**2)
        return form

    @staticmethod
    def estimate_memory(length_R: np.ndarray, num_items: int, num_dense: int) -> int:
        """Return the peak bytes of `fit`, for sparse rows with these numbers of entries."""
        num_rows, num_entries = len(length_R) + num_dense, int(length_R.sum())
        block = 8 * min(num_items, BLOCK_ITEMS) * num_rows
        # Entries: as given, weighted in float32 and in float64, and by item.
        base = 8 * num_rows**2 + 8 * num_dense * num_items + 48 * num_entries
        # A block of columns of Y in two layouts, and its product; two blocks overlap.
        return base + max(gram_memory(num_entries, num_items, len(length_R), 8), 6 * block)

    def _diagonal(self) -> np.ndarray:
        """Return diag(P), float64 (N,): (1 - y' M y) / l2 for each item's column y of Y."""
        explained_N = np.empty(len(self.root_N))
        for start in range(0, len(explained_N), BLOCK_ITEMS):
            part = slice(start, start + BLOCK_ITEMS)
            items_BR = np.concatenate([self.items_NR[part].toarray(), self.rows.dense_DN[:, part].T], axis=1)
            through_BR = self._through(items_BR)
            through_BR *= items_BR
            explained_N[part] = through_BR.sum(axis=1)
        return (1 - explained_N) / self.root_N**2

    def _through(self, some_BR: np.ndarray) -> np.ndarray:
        some = torch.from_numpy(np.ascontiguousarray(some_BR, np.float64)).to(self.inverse_RR.device)
        return (some @ self.inverse_RR).cpu().numpy()

    @staticmethod
    def estimate_operations(num_items: int, num_rows: int) -> float:
        """Return the operations of `fit` in units of a single-precision matrix product's; most are for the diagonal."""
        return 4.0 * num_rows**2 * (num_rows + num_items)

    def scores(self, history_QN: Any) -> np.ndarray:
        """Return history x weights, float32 (Q, N)."""
        history = sp.csr_array(history_QN)
        scores_QN = np.empty(history.shape, np.float32)
        for start in range(0, len(scores_QN), BLOCK_QUERIES):
            part = slice(start, start + BLOCK_QUERIES)
            scores_QN[part] = self._scores(history[part])
        return scores_QN

    def _scores(self, history: sp.csr_array) -> np.ndarray:
        """Return history x weights of some queries, float64 (Q, N)."""
        scaled = sp.csr_array((history.data / self.root_N[history.indices], history.indices, history.indptr),
                              shape=history.shape)
        onto_QR = np.concatenate([(scaled @ self.items_NR).toarray(), scaled @ self.rows.dense_DN.T], axis=1)
        through_QR = self._through(onto_QR)
        num_sparse = self.items_NR.shape[1]
        # In place: with a large catalogue each copy takes tens of MB.
        scores_QN: np.ndarray = (self.items_NR @ through_QR[:, :num_sparse].T).T
        scores_QN += through_QR[:, num_sparse:] @ self.rows.dense_DN
        np.subtract(scaled.toarray(), scores_QN, out=scores_QN)
        scores_QN /= self.root_N
        scores_QN /= self.inverse_diagonal_N
        np.subtract(history.toarray(), scores_QN, out=scores_QN)
        return scores_QN

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays for scoring."""
        sparse = self.rows.sparse_RN
        return {"rows.indptr": sparse.indptr.astype(np.int64), "rows.indices": sparse.indices.astype(np.int64),
                "rows.values": sparse.data, "rows.dense": self.rows.dense_DN,
                "inverse": self.inverse_RR.cpu().numpy(), "l2": self.root_N**2,
                "inverse_diagonal": self.inverse_diagonal_N}

    @classmethod
    def read(cls, tensors: TensorReader, device: torch.device) -> "Dual":
        """Restore the form from its state."""
        diagonal_N = tensors.take("inverse_diagonal", DOUBLE, (None,), low=_TINY)
        num_items, num_sparse = len(diagonal_N), max(0, tensors.shape("rows.indptr")[0] - 1)
        sparse_RN = tensors.csr("rows.", (num_sparse, num_items), DOUBLE)
        dense_DN = tensors.take("rows.dense", DOUBLE, (None, num_items))
        num_rows = num_sparse + len(dense_DN)
        return cls(Rows(sparse_RN, dense_DN), tensors.take("inverse", DOUBLE, (num_rows, num_rows)),
                   tensors.take("l2", DOUBLE, (num_items,), low=_TINY), diagonal_N, device)


_LEAST_DIGITS = 8
"""Smallest unexplained share of an item, in units of the rounding error."""


def _require_digits(unexplained_N: np.ndarray) -> None:
    """Raise LinAlgError if an item's share unexplained by the other items (0 to 1) is lost in rounding.

    The diagonal of P, by which weights are divided, is computed from that share.
    """
    if not (unexplained_N > _LEAST_DIGITS * np.finfo(unexplained_N.dtype).eps).all():
        raise np.linalg.LinAlgError("numerically singular: the diagonal of the inverse is lost in rounding")


def _columns(matrix_RN: sp.csr_array, order_N: np.ndarray) -> sp.csr_array:
    """Reorder the columns; rows keep the order of their entries."""
    place_N = np.empty(len(order_N), matrix_RN.indices.dtype)
    place_N[order_N] = np.arange(len(order_N))
    return sp.csr_array((matrix_RN.data, place_N[matrix_RN.indices], matrix_RN.indptr), shape=matrix_RN.shape)
