"""Parquet files: read directly, or copied as text."""

import datetime
import decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.parquet import check_parquet
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.readers.staging import StagedFiles, stage
from llmrec_cli.settings.dataset import FilesSettings
from tests.ingest.preparing import prepare_with

FLAT = {"integers": pa.array([1, 2], pa.int32()), "texts": pa.array(["a", "b"]),
        "large": pa.array(["a", "b"], pa.large_string()), "whether": pa.array([True, False]),
        "words": pa.array(["a", "b"]).dictionary_encode(), "days": pa.array([datetime.date(2020, 1, 1)] * 2),
        "decimals": pa.array([decimal.Decimal("1.5")] * 2), "times": pa.array([1, 2], pa.timestamp("us", "UTC"))}
OTHER = {"lists": pa.array([["a"], ["b"]]), "bytes": pa.array([b"a", b"b"]), "none": pa.nulls(2),
         "nanoseconds": pa.array([1, 2], pa.timestamp("ns"))}


def staged(folder: Path, columns: dict[str, pa.Array], optional: tuple[str, ...] = ("value",),
           **mapped: str) -> StagedFiles:
    pq.write_table(pa.table(columns), folder / "x.parquet")
    return stage([Source(folder / "x.parquet", columns=mapped)], folder / "staged", ("user_id", "item_id"), optional,
                 direct=True)


@pytest.mark.parametrize("kind", FLAT)
def test_flat_columns_are_left_where_they_are(tmp_path: Path, kind: str) -> None:
    result = staged(tmp_path, {"uid": FLAT[kind], "item_id": pa.array([1, 2]), "value": pa.array([0.5, 1.0]),
                              "tags": OTHER["lists"]}, user_id="uid")
    direct = result.direct[0]
    assert (direct.number, direct.path, direct.columns) == (
        0, tmp_path / "x.parquet", {"user_id": "uid", "item_id": "item_id", "value": "value"})
    assert direct.types["value"] == pa.float64()
    assert (result.num_read, result.names) == ([2], ["user_id", "item_id", "value"])
    rest = pq.ParquetFile(result.path)
    assert (rest.metadata.num_rows, rest.schema_arrow.names) == (0, ["file", "line", "c0", "c1", "c2"])


@pytest.mark.parametrize("kind", OTHER)
def test_other_columns_are_copied_as_text(tmp_path: Path, kind: str) -> None:
    result = staged(tmp_path, {"user_id": FLAT["texts"], "item_id": FLAT["texts"], "title": OTHER[kind]}, ("title",))
    assert (result.direct, result.num_read) == ([], [2])
    assert pq.read_table(result.path)["line"].to_pylist() == [1, 2]


@pytest.mark.parametrize("name", ["line", "FILENAME", "file_row_number", "User_ID"])
def test_names_that_mean_something_else_to_an_engine_are_copied(tmp_path: Path, name: str) -> None:
    result = staged(tmp_path, {"user_id": FLAT["texts"], "item_id": FLAT["texts"], name: FLAT["texts"]})
    assert result.direct == []
    assert pq.read_table(result.path)["c0"].to_pylist() == ["a", "b"]


def test_text_and_parquet_go_side_by_side(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [1], "item_id": [2]}), tmp_path / "x.parquet")
    (tmp_path / "a.csv").write_text("user_id,item_id\nu,i\n")
    files = [Source(tmp_path / "a.csv"), Source(tmp_path / "x.parquet"), Source(tmp_path / "a.csv")]
    result = stage(files, tmp_path / "staged", ("user_id", "item_id"), (), direct=True)
    assert ([d.number for d in result.direct], result.num_read) == ([1], [1, 1, 1])
    assert pq.read_table(result.path)["file"].to_pylist() == [0, 2]


def test_ids_as_floats_are_refused_where_they_are_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.parquet: the id column 'item_id' holds floating point numbers, in which "
                                        r"long ids lose digits; export it as integers or as text"):
        staged(tmp_path, {"user_id": FLAT["texts"], "item_id": pa.array([1.0, 2.0])})


def test_a_file_without_rows_or_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.parquet: has a header but no rows"):
        staged(tmp_path, {"user_id": pa.array([], pa.string()), "item_id": pa.array([], pa.string())})
    with pytest.raises(DataError, match="no column 'item_id'; there are 'user_id', 'items'; map it with dataset.columns"
                                        r".item_id=<name> \(did you mean 'items'\?\)"):
        staged(tmp_path, {"user_id": FLAT["texts"], "items": FLAT["texts"]})


def test_damaged_pages_are_found_when_they_are_read_through(tmp_path: Path) -> None:
    users = pa.array([f"user {n}" for n in range(1000)])
    result = staged(tmp_path, {"user_id": users, "item_id": pa.array(range(1000))})
    check_parquet(result.sources[0], result.direct[0].columns.values())
    content = bytearray(result.direct[0].path.read_bytes())
    content[40:400] = bytes(360)
    result.direct[0].path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.parquet: is not an intact Parquet file \(.*\); export or copy it again"):
        check_parquet(result.sources[0], result.direct[0].columns.values())


def test_text_that_is_not_utf_8_is_damage(tmp_path: Path) -> None:
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xe9"))
    pq.write_table(pa.table({"user_id": bad, "item_id": ["i"]}), tmp_path / "x.parquet")
    file = Source(tmp_path / "x.parquet")
    for read in (lambda: check_parquet(file, ["user_id"]),
                 lambda: stage([file], tmp_path / "staged", ("user_id", "item_id"), ())):
        with pytest.raises(DataError, match=r"is not an intact Parquet file .*UTF8"):
            read()


def test_a_folder_with_an_equals_sign_in_its_name_adds_no_column(tmp_path: Path) -> None:
    folder = tmp_path / "user_id=9" / "dt=2020-01-01"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": ["a", "b"], "item_id": ["c", "d"]}), folder / "x.parquet")
    prepared = prepare_with(tmp_path, FilesSettings(interactions=str(folder / "*.parquet")))
    assert prepared.column("users", "user_id") == ["a", "b"]
