"""Products of sparse histories with a dense matrix of weights, at the speed of the memory that the weights lie in.

Shapes: Q queries, R rows of the weights, M columns, W columns of a block.
"""

import numpy as np
import scipy.sparse as sp
import torch

WIDTH = 64
"""Columns of a block. 64 columns of 4,000 rows are 1 MB, which stay in the cache while all histories are summed up:
measured five times as fast as a sparse product with whole rows, and no slower than widths up to 512."""

MOST_OF_32_BITS = 2**31 - 1


class ColumnBlocks:
    """A float32 matrix (R, M) as blocks of columns, each of them contiguous, on any device.

    A history times the matrix is the sum of the rows that the history names, which torch's embedding_bag forms block
    by block. A query's scores do not depend on which queries it is asked with.
    """

    def __init__(self, num_rows: int, device: torch.device | None = None) -> None:
        self.num_rows = num_rows
        self.device = device or torch.device("cpu")
        self.blocks: list[torch.Tensor] = []
        self.whole: np.ndarray | None = None

    @classmethod
    def of(cls, flat: np.ndarray, num_rows: int, num_columns: int,
           device: torch.device | None = None) -> "ColumnBlocks":
        """Return the matrix that lies in `flat` as in what `flat()` returns; on a CPU its memory is used."""
        assert flat.shape == (num_rows * num_columns,), (flat.shape, num_rows, num_columns)
        made = cls(num_rows, device)
        made.whole = flat
        cells = torch.from_numpy(flat).to(made.device)
        for start in range(0, num_columns, WIDTH):
            stop = min(start + WIDTH, num_columns)
            made.blocks.append(cells[start * num_rows:stop * num_rows].view(num_rows, stop - start))
        return made

    @property
    def num_columns(self) -> int:
        """M."""
        return sum(block.shape[1] for block in self.blocks)

    def append(self, columns_RK: np.ndarray) -> None:
        """Add columns after the others."""
        assert len(columns_RK) == self.num_rows
        self.whole = None
        if self.blocks and self.blocks[-1].shape[1] < WIDTH:
            # Only the last block may be narrower: `of` tells blocks by their width.
            columns_RK = np.concatenate([self.blocks.pop().cpu().numpy(), columns_RK], axis=1)
        for start in range(0, columns_RK.shape[1], WIDTH):
            block = np.ascontiguousarray(columns_RK[:, start:start + WIDTH], np.float32)
            self.blocks.append(torch.from_numpy(block).to(self.device))

    def put(self, start: int, columns_RB: torch.Tensor, add: bool = False) -> None:
        """Write columns from the column `start` on, a multiple of `WIDTH`; with `add` on top of what is there."""
        assert start % WIDTH == 0
        for place in range(0, columns_RB.shape[1], WIDTH):
            block_RW = self.blocks[(start + place) // WIDTH]
            some_RW = columns_RB[:, place:place + WIDTH]
            block_RW.add_(some_RW) if add else block_RW.copy_(some_RW)

    def multiply(self, factor: float) -> None:
        """Multiply the matrix by a number."""
        for block_RW in self.blocks:
            block_RW.mul_(factor)

    def flat(self) -> np.ndarray:
        """Return the blocks one after the other, float32 (R x M,)."""
        if self.whole is not None:
            return self.whole
        parts = [block.cpu().numpy().ravel() for block in self.blocks]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def dense(self) -> np.ndarray:
        """Return the matrix, float32 (R, M)."""
        return np.concatenate([np.zeros((self.num_rows, 0), np.float32),
                               *(block.cpu().numpy() for block in self.blocks)], axis=1)

    def product(self, history_QR: sp.csr_array) -> torch.Tensor:
        """Return history x matrix, float32 (Q, M), on the device of the matrix."""
        assert history_QR.shape[1] == self.num_rows
        shape = (history_QR.shape[0], self.num_columns)
        if history_QR.nnz == 0:
            return torch.zeros(shape, device=self.device)
        indices, indptr, values = (torch.from_numpy(part).to(self.device) for part in _parts(history_QR))
        weights = None if bool((values == 1).all()) else values
        scores_QM, start = torch.empty(shape, device=self.device), 0
        for block_RW in self.blocks:
            stop = start + block_RW.shape[1]
            scores_QM[:, start:stop] = torch.nn.functional.embedding_bag(
                indices, block_RW, indptr, mode="sum", per_sample_weights=weights, include_last_offset=True)
            start = stop
        return scores_QM


def turned_in_place(rows_NN: np.ndarray) -> np.ndarray:
    """Return the transposed of a square matrix laid out as `ColumnBlocks.of` reads it, in the matrix's own memory.

    The columns of a block are rows of the matrix, transposed, and those lie where the block will.
    """
    flat, num = rows_NN.reshape(-1), len(rows_NN)
    assert np.shares_memory(flat, rows_NN) or num == 0
    for start in range(0, num, WIDTH):
        stop = min(start + WIDTH, num)
        flat[start * num:stop * num] = rows_NN[start:stop].T.copy().ravel()
    return flat


def reorder_in_place(matrix_NN: np.ndarray, place_N: np.ndarray) -> None:
    """Put row and column `place_N[n]` of a square matrix at n, in the memory of one row and `WIDTH` of them."""
    moved = place_N == np.arange(len(place_N))
    for first in range(len(place_N)):
        if moved[first]:
            continue
        # A cycle of rows, each of which goes where the one before it has left.
        saved_N, row = matrix_NN[first].copy(), first
        while place_N[row] != first:
            matrix_NN[row] = matrix_NN[place_N[row]]
            moved[row], row = True, place_N[row]
        matrix_NN[row], moved[row] = saved_N, True
    for start in range(0, len(place_N), WIDTH):
        matrix_NN[start:start + WIDTH] = matrix_NN[start:start + WIDTH, place_N]


def _parts(matrix: sp.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return indices, pointers, both of 32 bits where they fit, and values."""
    small = max(matrix.nnz, matrix.shape[1]) <= MOST_OF_32_BITS
    kind = np.int32 if small else np.int64
    return matrix.indices.astype(kind), matrix.indptr.astype(kind), matrix.data.astype(np.float32)
