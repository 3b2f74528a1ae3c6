"""Times in any unit, as milliseconds."""

from pathlib import Path

import pytest

from llmrec_cli.errors import DataError
from tests.ingest.preparing import prepare_text


def times(folder: Path, *texts: str, unit: str = "auto") -> tuple[str, list[int]]:
    rows = "".join(f'u{n},i,"{text}"\n' for n, text in enumerate(texts))
    prepared = prepare_text(folder, "user_id,item_id,timestamp\n" + rows, timestamp_unit=unit, max_reject_share=0.0)
    return prepared.manifest["timestamp_unit"], [r["timestamp"] for r in prepared.rows("interactions")]


def test_seconds_milliseconds_and_order_are_told_apart(tmp_path: Path) -> None:
    assert times(tmp_path / "s", " 1577836800 ", "1577836800.5") == ("s", [1577836800000, 1577836800500])
    assert times(tmp_path / "ms", "1577836800001") == ("ms", [1577836800001])
    assert times(tmp_path / "order", "0", " 17 ") == ("order", [0, 17])


def test_iso_times_are_utc_unless_they_name_a_zone(tmp_path: Path) -> None:
    found = times(tmp_path, "2020-01-01", "2020-01-01 00:00", "2020-01-01T00:00:01Z", "2020-01-01T00:00:00.123",
                  "2020-01-01T02:00:00+02:00", "2019-12-31 18:30:00-0530", "2020-01-01T01:00:00 +01",
                  "2020-02-29T00:00:00,5")
    start = 1577836800000
    assert found == ("iso", [start, start, start + 1000, start + 123, start, start, start, 1582934400500])


def test_an_explicit_unit_is_believed(tmp_path: Path) -> None:
    assert times(tmp_path / "a", "5", unit="s") == ("s", [5000])
    assert times(tmp_path / "b", "1577836800", unit="ms") == ("ms", [1577836800])
    assert times(tmp_path / "c", "9007199254740993", unit="order") == ("order", [9007199254740993])


@pytest.mark.parametrize("texts", [("1577836800", "1577836800000"), ("2020-01-01", "1577836800")])
def test_mixed_units_are_refused_with_a_row_of_each(tmp_path: Path, texts: tuple[str, str]) -> None:
    with pytest.raises(DataError, match="more than one unit") as caught:
        times(tmp_path, *texts)
    assert "line 2 has" in str(caught.value)
    assert "line 3 has" in str(caught.value)
    assert "dataset.timestamp_unit=s|ms|iso|order" in str(caught.value)


def rejected(folder: Path, unit: str, *texts: str) -> list[str]:
    rows = "".join(f'u{n},i,"{text}"\n' for n, text in enumerate(texts))
    prepared = prepare_text(folder, f"user_id,item_id,timestamp\nu,i,{GOOD[unit]}\n" + rows, timestamp_unit=unit,
                            max_reject_share=1.0)
    return [row["reason"] for row in prepared.rows("rejects")]


GOOD = {"s": "1577836800", "iso": "2020-01-01"}
NO_TIMES = {"s": ("-1", "nan", "inf", "1e400", "99999999999999999999", "4102444801", "yesterday", "", "0x5f", "1_577"),
            "iso": ("2020-13-01", "2020-02-30", "1969-12-31", "2020-01-01T25:00", "01/02/2020", "infinity")}


@pytest.mark.parametrize("unit", ["s", "iso"])
def test_what_is_no_time_is_rejected(tmp_path: Path, unit: str) -> None:
    assert rejected(tmp_path, unit, *NO_TIMES[unit]) == [
        f"'{text}' is not a time in '{unit}', or is before 1970 or after 2100" for text in NO_TIMES[unit]]
