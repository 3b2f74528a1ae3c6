"""Any number of rejects: counted, the first ones kept in memory, all written in order."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.ingest.output.writing import write_rejects
from llmrec_cli.ingest.readers import rejects as module
from llmrec_cli.ingest.readers.rejects import SCHEMA, Reject, Rejects

SOME = [Reject(file, line, column, f"{line} is bad") for file in ("b.csv", "a.csv", "ü.csv") for line in range(2, 40)
        for column in ("value", "")]


def shuffled(seed: int = 1) -> list[Reject]:
    return random.Random(seed).sample(SOME, len(SOME))


@pytest.fixture(params=[7, 1000])
def rejects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rejects:
    """An empty collection of rejects, with room for seven, or for all, in memory."""
    monkeypatch.setattr(module, "MOST", request.param)
    return Rejects(tmp_path / "it's [scratch]")


def test_rejects_are_empty_at_first(rejects: Rejects) -> None:
    assert (len(rejects), list(rejects), rejects.count("a.csv"), rejects.first("a.csv")) == (0, [], 0, [])


def test_rejects_are_counted_and_sorted_in_any_order_of_addition(rejects: Rejects) -> None:
    rejects += shuffled()
    assert (len(rejects), rejects.count("a.csv")) == (len(SOME), 76)
    assert list(rejects) == sorted(SOME)


def test_tables_of_rejects_and_single_rejects_are_merged(rejects: Rejects) -> None:
    rows_ = shuffled()
    for start in range(0, len(rows_), 12):
        rejects.extend(rows_[start:start + 4])
        rejects.extend_table(pa.Table.from_pylist([vars(r) for r in rows_[start + 4:start + 12]], SCHEMA))
    assert list(rejects) == sorted(SOME)
    assert rejects.first("ü.csv") == [r for r in sorted(SOME) if r.file == "ü.csv"][:3]


def test_first_returns_the_rejects_of_the_first_lines_of_a_file(rejects: Rejects) -> None:
    rejects.extend(shuffled())
    assert [(r.line, r.column) for r in rejects.first("b.csv")] == [(2, ""), (2, "value"), (3, "")]


def test_rejects_of_another_collection_can_be_added(rejects: Rejects, tmp_path: Path) -> None:
    other = Rejects(tmp_path / "other")
    other.extend(SOME[:50])
    rejects.extend(SOME[50:])
    rejects.extend(other)
    assert list(rejects) == sorted(SOME)


def test_rejects_of_several_stages_are_written_to_one_sorted_file(rejects: Rejects, tmp_path: Path) -> None:
    other = Rejects(tmp_path / "other")
    other.extend(SOME[:50])
    rejects.extend(SOME[50:])
    write_rejects(tmp_path, [rejects, other])
    assert [Reject(**row) for row in pq.read_table(tmp_path / "rejects.parquet").to_pylist()] == sorted(SOME)


def test_no_rejects_are_an_empty_file(rejects: Rejects, tmp_path: Path) -> None:
    for none in ([rejects], []):
        write_rejects(tmp_path, none)
        assert pq.read_table(tmp_path / "rejects.parquet").schema.names == SCHEMA.names
