"""Times in any unit become milliseconds."""

import re
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.interactions.temporal import parse_time
from llmrec_cli.ingest.readers.value_advice import advice, fitting_patterns
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.time_format import expression_of, format_problems
from tests.ingest.preparing import make_folder, prepare_text, prepare_with
from tests.some_slow import some_slow


def times(folder: Path, *texts: str, unit: str = "auto") -> tuple[str, list[int]]:
    rows = "".join(f'u{n},i,"{text}"\n' for n, text in enumerate(texts))
    prepared = prepare_text(folder, "user_id,item_id,timestamp\n" + rows, timestamp_unit=unit, max_reject_share=0.0)
    return prepared.manifest["timestamp_unit"], [r["timestamp"] for r in prepared.rows("interactions")]


def test_seconds_milliseconds_and_orders_are_recognised(tmp_path: Path) -> None:
    assert times(tmp_path / "s", " 1577836800 ", "1577836800.5") == ("s", [1577836800000, 1577836800500])
    assert times(tmp_path / "ms", "1577836800001") == ("ms", [1577836800001])
    assert times(tmp_path / "order", "0", " 17 ") == ("order", [0, 17])


def test_iso_times_are_utc_unless_they_name_a_zone(tmp_path: Path) -> None:
    result = times(tmp_path, "2020-01-01", "2020-01-01 00:00", "2020-01-01T00:00:01Z", "2020-01-01T00:00:00.123",
                  "2020-01-01T02:00:00+02:00", "2019-12-31 18:30:00-0530", "2020-01-01T01:00:00 +01",
                  "2020-02-29T00:00:00,5")
    start = 1577836800000
    assert result == ("iso", [start, start, start + 1000, start + 123, start, start, start, 1582934400500])


@pytest.mark.slow
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
    assert "dataset.timestamp_unit=s|ms|us|ns|iso|excel|order" in str(caught.value)


def rejected(folder: Path, unit: str, *texts: str) -> list[str]:
    rows = "".join(f'u{n},i,"{text}"\n' for n, text in enumerate(texts))
    prepared = prepare_text(folder, f"user_id,item_id,timestamp\nu,i,{GOOD[unit]}\n" + rows, timestamp_unit=unit,
                            max_reject_share=1.0)
    return [row["reason"] for row in prepared.rows("rejects")]


GOOD = {"s": "1577836800", "iso": "2020-01-01"}
NO_TIMES = {"s": ("-1", "nan", "inf", "1e400", "99999999999999999999", "4102444801", "yesterday", "", "0x5f", "1_577"),
            "iso": ("2020-13-01", "2020-02-30", "1969-12-31", "2020-01-01T25:00", "01/02/2020", "infinity")}


@pytest.mark.parametrize("unit", some_slow(["s", "iso"]))
def test_invalid_times_are_rejected(tmp_path: Path, unit: str) -> None:
    assert rejected(tmp_path, unit, *NO_TIMES[unit]) == [
        f"'{text}' is not a time in '{unit}', or is before 1970 or after 2100" for text in NO_TIMES[unit]]


@pytest.mark.slow
def test_microseconds_and_nanoseconds_are_recognised_and_truncated_to_milliseconds(tmp_path: Path) -> None:
    assert times(tmp_path / "us", "1577836800123999", "1577836800000000") == ("us", [1577836800123, 1577836800000])
    assert times(tmp_path / "ns", "1577836800123990000") == ("ns", [1577836800123])
    assert times(tmp_path / "a", "5000", unit="us") == ("us", [5])
    assert times(tmp_path / "b", "5000000.0", unit="ns") == ("ns", [5])


def test_spreadsheet_days_are_read_with_the_excel_unit(tmp_path: Path) -> None:
    # 25,569 is 1970-01-01 and 45,000 is 2023-03-15, as LibreOffice shows them.
    assert times(tmp_path, "25569", "45000", "45000.5", unit="excel") == (
        "excel", [0, 1678838400000, 1678838400000 + 43_200_000])


@pytest.mark.slow
@pytest.mark.parametrize("text", some_slow(["2023-01-01 14:05:00.123456 UTC", "2023-01-01 14:05:00.123456789Z",
                                  "2023-01-01 14:05:00,123 GMT", "2023-01-01T16:05:00.123456+0200"], 1, 0))
def test_iso_times_may_name_utc_and_have_any_fraction(tmp_path: Path, text: str) -> None:
    assert times(tmp_path, text) == ("iso", [1672581900123])


NEW_YEAR = 1672581900000  # 2023-01-01 14:05 UTC
PATTERNS = [("%d/%m/%Y %H:%M", "01/01/2023 14:05"), ("%d/%m/%Y %H:%M", "1/1/2023 14:5"),
            ("%m/%d/%Y %I:%M:%S %p", "1/1/2023 2:05:00 PM"),
            ("%a, %d %b %Y %H:%M:%S %Z", "Sun, 01 Jan 2023 14:05:00 GMT"),
            ("%a %b %d %H:%M:%S %z %Y", "Sun Jan 01 16:05:00 +0200 2023"), ("%Y%m%d%H%M", "202301011405"),
            ("%d.%m.%y %T", "01.01.23 14:05:00"), ("%B %d, %Y at %I.%M%p", "january 1, 2023 at 02.05pm"),
            ("%Y年%m月%d日 %H:%M", "2023年1月1日 14:05"), ("%F %R %z", "2023-01-01 10:35 -03:30")]


@pytest.mark.audited
@pytest.mark.parametrize(("pattern", "text"), some_slow(PATTERNS, 1, 2))
def test_a_pattern_reads_times_written_with_it(tmp_path: Path, pattern: str, text: str) -> None:
    prepared = prepare_text(tmp_path, f'user_id,item_id,timestamp\nu,i,"{text}"\n', timestamp_format=pattern)
    assert prepared.column("interactions", "timestamp") == [NEW_YEAR]
    assert prepared.manifest["timestamp_unit"] == pattern
    assert not any("taken for" in note for note in prepared.manifest["notes"])


@pytest.mark.audited
@given(st.datetimes(datetime(1970, 1, 2), datetime(2068, 12, 30)), st.sampled_from([
    "%d/%m/%Y %H:%M:%S", "%m-%d-%y %I:%M:%S %p", "%a %d %B %Y %H:%M:%S", "%Y%m%d %H%M%S", "%H:%M:%S %b %d %Y"]))
def test_the_proposed_pattern_reads_times_that_python_writes(at: datetime, pattern: str) -> None:
    text = at.strftime(pattern)
    expression, names = expression_of(pattern)
    result = re.match(expression, text)
    assert result is not None
    assert dict(zip(names, result.groups(), strict=True)) == {name: at.strftime(f"%{name}") for name in names} | (
        {"b": result[names.index("b") + 1]} if "b" in names else {})
    if ":" in pattern:
        same = pattern.replace("%B", "%b")
        assert same in fitting_patterns([text])


@pytest.mark.slow
def test_an_impossible_date_is_a_bad_row_with_a_pattern_too(tmp_path: Path) -> None:
    rows = "".join(f"u,i{n},{text}\n" for n, text in enumerate(["28/02/2023", "29/02/2023", "02/28/2023", "1/1/1969"]))
    prepared = prepare_text(tmp_path, "user_id,item_id,timestamp\n" + rows, timestamp_format="%d/%m/%Y",
                            max_reject_share=1.0)
    assert prepared.column("rejects", "line") == [3, 4, 5]


@pytest.mark.parametrize(("texts", "said"), [
    (("01/02/2023", "13/02/2023"), "set dataset.timestamp_format='%d/%m/%Y'"),
    (("01/02/2023", "02/03/2023"), "is ambiguous, day/month/year or month/day/year, and the format is not guessed; set "
     "dataset.timestamp_format='%d/%m/%Y' or dataset.timestamp_format='%m/%d/%Y'"),
    (("Tue, 01 Mar 2023 14:05:00 GMT",), "set dataset.timestamp_format='%a, %d %b %Y %H:%M:%S %Z'"),
    (("45000.25",), "may be days since 1899-12-30, as spreadsheets count them; set dataset.timestamp_unit=excel if so"),
    (("20230131", "20230201"), "dates as numbers, YYYYMMDD; set dataset.timestamp_format=%Y%m%d, or "
                               "dataset.timestamp_unit=order"),
    (("2023-W05-1",), "is an ISO 8601 week, which is not supported"),
    (("638000000000000000",), "may be ticks of .NET or Windows")])
def test_the_error_names_how_times_are_written_and_the_setting_that_reads_them(tmp_path: Path, texts: tuple[str, ...],
                                                                               said: str) -> None:
    with pytest.raises(DataError) as caught:
        times(tmp_path, *texts)
    assert f"clicks.csv: line 2: timestamp '{texts[0]}'" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(("unit", "text", "said"), some_slow([
    ("s", "2023-01-31", "set dataset.timestamp_unit=iso"), ("iso", "1577836800000", "set dataset.timestamp_unit=ms"),
    ("order", "45000.04", "set dataset.timestamp_unit=excel"), ("s", "31/01/2023", "timestamp_format='%d/%m/%Y'")], 2))
def test_a_unit_that_is_wrong_is_named_beside_the_right_one(tmp_path: Path, unit: str, text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        times(tmp_path, text, unit=unit)
    assert said in str(caught.value)


@pytest.mark.parametrize(("pattern", "said"), [
    ("%d/%m", "has no year"), ("%Q", "'%Q' is not supported"), ("%Y-%m-%d %I:%M", "%I (hours 1 to 12) and %p"),
    ("%Y-%m-%d %Y", "occurs twice"), ("%Y-%m-%d %", "'%' is not supported")])
def test_a_pattern_that_reads_no_whole_date_is_refused(pattern: str, said: str) -> None:
    [problem] = FilesSettings(interactions="x.csv", timestamp_format=pattern).problems()
    assert problem.startswith(f"timestamp_format={pattern}: ")
    assert said in problem


def test_a_pattern_beside_a_unit_is_refused() -> None:
    [problem] = FilesSettings(interactions="x.csv", timestamp_format="%F", timestamp_unit="s").problems()
    assert "leave out one of the two" in problem


@pytest.mark.slow
@pytest.mark.parametrize("unit", some_slow(["auto", "s", "us", "ns", "excel", "%Y%m%d"], 1, 0))
def test_numbers_beyond_every_range_are_bad_rows_in_every_unit(tmp_path: Path, unit: str) -> None:
    said = {"timestamp_format": unit} if "%" in unit else {"timestamp_unit": unit}
    texts = ["NaN", "inf", "1e25", "99999999999999999999", "-1"]
    rows = "".join(f"u,i{n},{text}\n" for n, text in enumerate(texts))
    good = {"us": "1577836800000000", "ns": "1577836800000000000", "excel": "43831", "%Y%m%d": "20200101"}
    prepared = prepare_text(tmp_path, f"user_id,item_id,timestamp\nu,good,{good.get(unit, '1577836800')}\n{rows}",
                            max_reject_share=1.0, **said)
    assert prepared.column("interactions", "timestamp") == [1577836800000]
    assert prepared.column("rejects", "line") == [3, 4, 5, 6, 7]


@pytest.mark.slow
def test_numbers_of_a_parquet_file_are_read_in_all_units(tmp_path: Path) -> None:
    columns = {"us": pa.array([1577836800000001]), "ns": pa.array([1577836800000000001]),
               "excel": pa.array([43831.0]), "%Y%m%d": pa.array([20200101])}
    for number, (unit, column) in enumerate(columns.items()):
        folder = make_folder(tmp_path / str(number))
        pq.write_table(pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": column}), folder / "x.parquet")
        said = {"timestamp_format": unit} if "%" in unit else {"timestamp_unit": unit}
        prepared = prepare_with(folder, FilesSettings(name="x", interactions=str(folder / "x.parquet"), **said))
        assert prepared.column("interactions", "timestamp") == [1577836800000]


@pytest.mark.parametrize(("unit", "text", "expected"), [
    ("s", "1577836800", 1577836800000), ("ms", "1577836800123", 1577836800123),
    ("us", "1577836800123999", 1577836800123),
    ("ns", "1577836800000000000", 1577836800000), ("excel", "43831", 1577836800000), ("order", "17", 17),
    ("%d/%m/%Y", "2020-01-01", 1577836800000), ("us", "20200101", 1577836800000)])
def test_a_time_that_a_setting_gives_as_a_number_is_in_the_unit_of_the_timestamps(unit: str, text: str,
                                                                                  expected: int) -> None:
    assert parse_time(text, unit, "dataset.newest") == expected


@pytest.mark.parametrize(("text", "name"), [
    ("2024-05-01 14:05:00 Europe/Berlin", "Europe/Berlin"),
    ("2024-05-01T14:05:00+02:00[Europe/Berlin]", "Europe/Berlin"),
    ("America/Argentina/Buenos_Aires 01.05.2024 14:05", "America/Argentina/Buenos_Aires"),
    ("2024-05-01 14:05:00 CEST", "CEST"), ("01.05.2024 14:05 Berlin time", "Berlin")])
def test_the_name_of_a_zone_is_never_part_of_a_pattern_that_is_advised(text: str, name: str) -> None:
    assert fitting_patterns([text]) == []
    assert advice([text, text]).startswith(f"has a named time zone, '{name}', which is not supported since its offset")


def test_a_pattern_with_the_name_of_a_zone_is_refused() -> None:
    [problem] = format_problems("%Y-%m-%d %H:%M:%S Europe/Berlin")
    assert "'Europe/Berlin' would be read as literal text, and the times as UTC" in problem
    assert not [*format_problems("%d/%b/%Y:%H:%M:%S"), *format_problems("%d/%m/%Y um %H:%M Uhr")]


def test_words_that_are_not_zones_are_allowed_in_a_pattern() -> None:
    assert "%d.%m.%Y %H:%M Uhr" in fitting_patterns(["31.05.2024 14:05 Uhr"])
    assert "%H:%M on %d %b %Y" in fitting_patterns(["14:05 on 31 May 2024"])


def test_a_date_of_javascript_is_named() -> None:
    assert advice(["Wed May 01 2024 14:05:00 GMT+0800 (China Standard Time)"]).startswith(
        "is a date as JavaScript prints it")


@pytest.mark.parametrize(("text", "form", "setting"), [
    ("14.03.2024 10:22", "is day.month.year", "timestamp_format='%d.%m.%Y %H:%M'"),
    ("14/03/2024 10:22:05", "is day/month/year", "timestamp_format='%d/%m/%Y %H:%M:%S'"),
    ("03/14/2024", "is month/day/year", "timestamp_format='%m/%d/%Y'"),
    ("03/04/2024", "is ambiguous, day/month/year or month/day/year,", "timestamp_format='%d/%m/%Y' or dataset."),
    ("14.03.24", "is ambiguous, day.month.year or year.month.day,", "timestamp_format='%d.%m.%y' or dataset."),
    ("2024/03/14 10:22", "is year/month/day", "timestamp_format='%Y/%m/%d %H:%M'"),
    ("2024年3月14日 10:22", "is year年month月day日", "timestamp_format='%Y年%m月%d日 %H:%M'"),
    ("Mar 14, 2024 10:22 AM", "is month as a word day, year", "timestamp_format='%b %d, %Y %I:%M %p'"),
    ("20240314102205", "is a date as a number", "timestamp_format=%Y%m%d%H%M%S"),
    ("45365.43", "may be days since 1899-12-30", "timestamp_unit=excel"),
    ("1710411720000000", "may be microseconds since 1970", "timestamp_unit=us")])
def test_the_commonest_forms_of_a_time_are_named_with_the_setting_that_reads_them(
        text: str, form: str, setting: str) -> None:
    hint = advice([text])
    assert hint.startswith(form)
    assert f"set dataset.{setting}" in hint
