"""Histories times dense weights: equal to the plain product for all shapes, blocks and columns added later."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec_cli.heads.shared import matrix_products as dense_products
from llmrec_cli.heads.shared.matrix_products import ColumnBlocks, reorder_in_place, transpose_in_place
from tests.some_slow import num_examples


def generated(num_queries, num_rows, num_columns, seed, ones=True):
    generator = np.random.default_rng(seed)
    history = (generator.random((num_queries, num_rows)) < 0.3).astype(np.float32)
    if not ones:
        history *= generator.normal(size=history.shape).astype(np.float32)
    return sp.csr_array(history), generator.normal(size=(num_rows, num_columns)).astype(np.float32)


@given(st.integers(0, 9), st.integers(0, 20), st.lists(st.integers(0, 150), max_size=3), st.integers(0, 99),
       st.booleans())
@settings(max_examples=num_examples(200), deadline=None)
def test_the_product_is_the_plain_one_also_with_columns_added_and_after_loading(queries, rows, columns, seed, ones):
    history, matrix = generated(queries, rows, sum(columns), seed, ones)
    blocks, start = ColumnBlocks(rows), 0
    for number in columns:
        blocks.append(matrix[:, start:start + number])
        start += number
    loaded = ColumnBlocks.of(blocks.flat(), rows, start)
    for one in (blocks, loaded):
        np.testing.assert_array_equal(one.dense(), matrix)
        np.testing.assert_allclose(one.product(history).numpy(), history @ matrix, atol=1e-5)
    assert [block.shape for block in blocks.blocks] == [block.shape for block in loaded.blocks]


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 200])
def test_a_matrix_is_transposed_and_read_in_place(size):
    matrix = np.random.default_rng(size).normal(size=(size, size)).astype(np.float32)
    before = matrix.copy()
    blocks = ColumnBlocks.of(transpose_in_place(matrix), size, size)
    np.testing.assert_array_equal(blocks.dense(), before.T)
    assert np.shares_memory(blocks.flat(), matrix) or size == 0
    assert all(np.shares_memory(block.numpy(), matrix) for block in blocks.blocks)


@given(st.permutations(range(9)))
def test_rows_and_columns_are_put_in_order_in_place(place):
    matrix = np.arange(81, dtype=np.float32).reshape(9, 9)
    before = matrix.copy()
    reorder_in_place(matrix, np.array(place))
    np.testing.assert_array_equal(matrix, before[place][:, place])


def test_other_queries_change_no_bit_of_a_querys_scores():
    history, matrix = generated(50, 300, 130, 0)
    blocks = ColumnBlocks(300)
    blocks.append(matrix)
    whole = blocks.product(history)
    assert torch.equal(torch.cat([blocks.product(history[n:n + 7]) for n in range(0, 50, 7)]), whole)


def test_indices_that_do_not_fit_into_32_bits_are_read_too(monkeypatch):
    history, matrix = generated(5, 20, 70, 1)
    blocks = ColumnBlocks(20)
    blocks.append(matrix)
    expected = blocks.product(history)
    monkeypatch.setattr(dense_products, "MOST_OF_32_BITS", 3)
    assert torch.equal(blocks.product(history), expected)
