"""Operations on histories keep the order of time and the values; of repeated items the newest counts."""

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from llmrec_cli.data.histories import appended, history_matrix, lengthened, select_rows, widened, without

NUM_ITEMS = 5


def csr(*rows, values=None):
    items = [item for row in rows for item in row]
    values = np.arange(1, len(items) + 1) if values is None else values
    return sp.csr_array((np.array(values, np.float32), np.array(items, np.int64), np.cumsum([0, *map(len, rows)])),
                        shape=(len(rows), NUM_ITEMS))


def rows_of(matrix):
    return [list(zip(matrix.indices[a:b].tolist(), matrix.data[a:b].tolist(), strict=True))
            for a, b in zip(matrix.indptr, matrix.indptr[1:], strict=False)]


def test_newer_items_come_last_and_repeated_items_appear_once():
    joined = appended(csr([3, 1, 0], [], [2]), csr([1], [4, 0], [], values=[9, 8, 7]))
    assert rows_of(joined) == [[(3, 1), (0, 3), (1, 9)], [(4, 8), (0, 7)], [(2, 4)]]


def test_nothing_newer_changes_nothing():
    older = csr([3, 1], [0])
    assert rows_of(appended(older, csr([], []))) == rows_of(older)
    assert rows_of(appended(csr([], []), older)) == rows_of(older)


def test_items_of_another_history_are_removed_in_order():
    assert rows_of(without(csr([4, 2, 0], [1]), csr([2], [0, 2]))) == [[(4, 1), (0, 3)], [(1, 4)]]


def test_rows_and_columns_are_added_empty_and_an_unknown_row_is_empty():
    matrix = csr([3], [1, 0])
    assert rows_of(lengthened(matrix, 3)) == [[(3, 1)], [(1, 2), (0, 3)], []]
    assert widened(matrix, 9).shape == (2, 9)
    assert rows_of(select_rows(matrix, np.array([1, -1, 0]))) == [[(1, 2), (0, 3)], [], [(3, 1)]]


rows = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), unique=True), min_size=3, max_size=3)


@given(rows, rows)
def test_appending_equals_appending_python_lists(older, newer):
    expected = [[item for item in old if item not in new] + new for old, new in zip(older, newer, strict=True)]
    assert [[item for item, _ in row] for row in rows_of(appended(csr(*older), csr(*newer)))] == expected
    remaining = [[item for item in old if item not in new] for old, new in zip(older, newer, strict=True)]
    assert [[item for item, _ in row] for row in rows_of(without(csr(*older), csr(*newer)))] == remaining


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, NUM_ITEMS - 1), st.floats(1, 9, width=32)), max_size=20))
def test_a_history_has_each_item_at_its_last_position_with_that_value(result):
    expected = [[], [], []]
    for n, (row, item, value) in enumerate(result):
        if not any(r == row and i == item for r, i, _ in result[n + 1:]):
            expected[row].append((item, value))
    columns = [np.array([entry[n] for entry in result], kind) for n, kind in
               enumerate((np.int64, np.int64, np.float32))]
    assert rows_of(history_matrix(*columns, (3, NUM_ITEMS))) == expected
