"""Tensors must meet the requirements of their reader; errors name the tensor."""

import numpy as np
import pytest

from llmrec_cli.data.tensors import BOOL, FLOAT, INTEGER, TensorReader
from llmrec_cli.errors import ArtifactError

# Two rows of four columns: 1 and 3, then 0.
MATRIX = {"indptr": np.array([0, 2, 3]), "indices": np.array([1, 3, 0]), "values": np.array([5, 6, 7], np.float32)}


def reader(**tensors):
    return TensorReader(tensors, "model.safetensors", "train again")


def test_a_tensor_of_the_right_kind_is_returned_and_all_others_are_unknown():
    tensors = reader(a=np.ones(3, np.float32), b=np.ones(2))
    assert tensors.take("a", FLOAT, (3,)).tolist() == [1, 1, 1]
    with pytest.raises(ArtifactError, match=r"^model\.safetensors: b: unknown, not a part of this model; train again$"):
        tensors.refuse_others()


@pytest.mark.parametrize(("array", "problem"), [
    (np.ones(3), r"a: has the dtype float64 instead of float32"),
    (np.ones((3, 1), np.float32), r"a: has the shape \[3, 1\] instead of \[3\]"),
    (np.ones(0, np.float32), r"a: has the shape \[0\] instead of \[3\]"),
    (np.array([1, np.nan, 2], np.float32), r"a: has nan among its numbers, which must be finite"),
    (np.array([1, -np.inf, 2], np.float32), r"a: has -inf among its numbers, which must be finite"),
    (np.array([1, -1, 2], np.float32), r"a: has -1.0 among its numbers, which must be at least 0"),
    (np.array([1, 9, 2], np.float32), r"a: has 9.0 among its numbers, which must be at most 5")])
def test_a_tensor_of_another_kind_is_refused_with_the_reason(array, problem):
    with pytest.raises(ArtifactError, match=problem):
        reader(a=array).take("a", FLOAT, (3,), low=0, high=5)


def test_a_missing_tensor_is_refused_by_its_whole_name():
    with pytest.raises(ArtifactError, match=r"member/a: is missing"):
        reader(b=np.ones(1)).inside("member/").take("a", FLOAT, (1,))


def test_a_number_that_is_not_finite_is_found_in_the_last_of_many():
    array = np.zeros(2**22 + 5, np.float32)
    array[-1] = np.nan
    with pytest.raises(ArtifactError, match="nan"):
        reader(a=array).take("a", FLOAT, (None,))


def test_a_truth_value_that_is_neither_0_nor_1_is_refused():
    array = np.array([0, 1, 2], np.uint8).view(bool)
    with pytest.raises(ArtifactError, match=r"has the byte 2 among its truth values"):
        reader(a=array).take("a", BOOL, (3,))


def test_numbers_that_should_rise_and_do_not_are_refused():
    with pytest.raises(ArtifactError, match="is not in increasing order"):
        reader(a=np.array([1, 1])).take("a", INTEGER, (2,), increasing=True)


def test_a_matrix_is_read_with_the_order_of_its_rows():
    matrix = reader(**MATRIX | {"indices": np.array([3, 1, 0])}).csr("", (2, 4))
    assert matrix.toarray().tolist() == [[0, 6, 0, 5], [7, 0, 0, 0]]
    assert matrix.indices.tolist() == [3, 1, 0]


@pytest.mark.parametrize(("changed", "problem"), [
    ({"indices": np.array([1, 4, 0])}, "indices: has 4 among its numbers, which must be at most 3"),
    ({"indices": np.array([1, -1, 0])}, "indices: has -1 among its numbers, which must be at least 0"),
    ({"indices": np.array([1, 1, 0])}, "indices: name a column of a row twice"),
    ({"indices": np.array([1.0, 3.0, 0.0])}, "indices: has the dtype float64"),
    ({"indices": np.array([1, 3], np.int64)}, "indptr: does not rise from 0 to 2"),
    ({"indptr": np.array([0, 3, 2])}, "indptr: does not rise from 0 to 3"),
    ({"indptr": np.array([1, 2, 3])}, "indptr: does not rise from 0 to 3"),
    ({"indptr": np.array([0, 3])}, r"indptr: has the shape \[2\] instead of \[3\]"),
    ({"values": np.ones(2, np.float32)}, r"values: has the shape \[2\] instead of \[3\]")])
def test_an_invalid_matrix_is_refused(changed, problem):
    with pytest.raises(ArtifactError, match=problem):
        reader(**MATRIX | changed).csr("", (2, 4))


def test_rows_that_should_be_sorted_and_are_not_are_refused():
    with pytest.raises(ArtifactError, match="are not in increasing order in each row"):
        reader(**MATRIX | {"indices": np.array([3, 1, 0])}).csr("", (2, 4), is_sorted=True)


def test_a_matrix_without_values_is_one_of_ones_where_that_may_be():
    tensors = {name: array for name, array in MATRIX.items() if name != "values"}
    assert reader(**tensors).csr("", (2, 4), optional_values=True).toarray().sum() == 3
    with pytest.raises(ArtifactError, match="values: is missing"):
        reader(**tensors).csr("", (2, 4))


def test_an_empty_matrix_is_a_matrix():
    empty = {"indptr": np.zeros(1, np.int64), "indices": np.zeros(0, np.int64), "values": np.zeros(0, np.float32)}
    assert reader(**empty).csr("", (0, 0)).shape == (0, 0)


def test_a_repeated_column_index_is_found_in_any_batch():
    rows = 2**22 // 3 + 10
    indices = np.tile([1, 3, 0], rows)
    indptr = np.arange(rows + 1) * 3
    assert reader(indptr=indptr, indices=indices).csr("", (rows, 4), values=None).nnz == 3 * rows
    indices[-1] = 3
    with pytest.raises(ArtifactError, match="name a column of a row twice"):
        reader(indptr=indptr, indices=indices).csr("", (rows, 4), values=None)
