"""Tables must have the columns that their readers need; errors name the column."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.data.tables import AT_ONCE, Column, check_columns, read_columns, require_order
from llmrec_cli.errors import ArtifactError
from llmrec_cli.pinned import PinnedFolder

COLUMNS = {"user": Column("integer", 0, 2), "id": Column("text", unique=True), "value": Column("number"),
           "split": Column("text", among=("train", "test")), "attributes": Column("texts"),
           "note": Column("text", has_nulls=True)}
SOUND = {"user": [0, 2], "id": ["a", "b"], "value": [0.5, 1.0], "split": ["train", "test"], "attributes": [["x=1"], []],
         "note": [None, "y"]}


def test_a_complete_table_is_read(tmp_path):
    pq.write_table(pa.table(SOUND), tmp_path / "t.parquet")
    assert read_columns(PinnedFolder(tmp_path, "prepare again"), "t.parquet", COLUMNS, 2).to_pydict() == SOUND


def test_numbers_may_be_of_single_precision_as_an_older_llmrec_wrote_them():
    table = pa.table(SOUND | {"value": pa.array([0.5, 1], pa.float32())})

    assert check_columns(table, "here", COLUMNS, "prepare again") is table


@pytest.mark.parametrize(("changed", "problem"), [
    ({"user": [0, 3]}, "column 'user' has 3, which is not within 0 to 2"),
    ({"user": [-1, 0]}, "column 'user' has -1, which is not within 0 to 2"),
    ({"user": [0.0, 1.0]}, "column 'user' has the type double instead of integer"),
    ({"user": [0, None]}, "column 'user' has 1 empty cells"),
    ({"id": ["a", "a"]}, "column 'id' has a value twice"),
    ({"id": [1, 2]}, "column 'id' has the type int64 instead of text"),
    ({"value": [0.5, float("nan")]}, "column 'value' has numbers that are not finite"),
    ({"split": ["train", "later"]}, "column 'split' has 'later', which is not one of train, test"),
    ({"attributes": pa.array([[None], []], pa.list_(pa.string()))}, "column 'attributes' has empty cells in its lists"),
    ({"attributes": ["x", "y"]}, "column 'attributes' has the type string instead of lists of text")])
def test_a_column_of_another_kind_is_refused_with_the_reason(changed, problem):
    with pytest.raises(ArtifactError, match=f"^here: {problem}; prepare again$"):
        check_columns(pa.table(SOUND | changed), "here", COLUMNS, "prepare again")


def test_a_column_that_is_missing_or_there_twice_is_refused():
    table = pa.table(SOUND)
    with pytest.raises(ArtifactError, match="column 'id' is missing"):
        check_columns(table.drop_columns(["id"]), "here", COLUMNS, "prepare again")
    with pytest.raises(ArtifactError, match="column 'id' is there twice"):
        check_columns(table.append_column("id", table["id"]), "here", COLUMNS, "prepare again")


def test_another_number_of_rows_is_refused():
    with pytest.raises(ArtifactError, match="has 2 rows instead of 3"):
        check_columns(pa.table(SOUND), "here", COLUMNS, "prepare again", 3)


@pytest.mark.slow
def test_a_file_that_says_to_be_a_thousand_times_as_large_is_refused_before_it_is_read(tmp_path):
    # A column of one value takes a few bytes for a million rows.
    column = pa.array([7] * 2**20, pa.int64())
    with pq.ParquetWriter(tmp_path / "t.parquet", pa.schema([("user", pa.int64())])) as writer:
        for _ in range(130):
            writer.write_table(pa.table({"user": column}))
    assert (tmp_path / "t.parquet").stat().st_size < 2**20
    with pytest.raises(ArtifactError, match="claims 136,314,880 rows in"):
        read_columns(PinnedFolder(tmp_path, "prepare again"), "t.parquet", {"user": Column("integer")})


def test_rows_are_in_order_of_the_first_column_then_of_the_second():
    user = np.array([0, 0, 1])
    require_order({"user": user, "time": np.array([3, 4, 1])}, "here", "prepare again")
    with pytest.raises(ArtifactError, match="here: row 1 is not in order of user, time"):
        require_order({"user": user, "time": np.array([3, 2, 1])}, "here", "prepare again")


def test_row_order_is_checked_across_batches():
    user = np.zeros(2 * AT_ONCE, np.int64)
    user[AT_ONCE:] = 1
    require_order({"user": user}, "here", "prepare again")
    user[AT_ONCE - 1] = 2
    with pytest.raises(ArtifactError, match=f"row {AT_ONCE} is not"):
        require_order({"user": user}, "here", "prepare again")
