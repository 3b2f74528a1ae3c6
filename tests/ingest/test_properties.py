"""For any table: every row is counted, the order of rows and files has no effect, no id is altered."""

import csv
import io
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.split import (
    LeaveLastOutSettings,
    NoSplitSettings,
    RandomSettings,
    SplitSettings,
    TemporalSettings,
)
from tests.ingest.preparing import prepare_with, write

IDS = st.one_of(st.sampled_from(["7", "007", "NA", "a", "b", "c", ""]),
                st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=4))
ROWS = st.lists(st.tuples(IDS, IDS, st.sampled_from(["1", "3", "5", "4.5", "", "x"]),
                          st.sampled_from(["1600000000", "1600000001", "1500000000", "-1", "nan"])),
                min_size=1, max_size=25)
SPLITS = st.sampled_from([RandomSettings(valid=0.2, test=0.3), TemporalSettings(valid=0.2, test=0.2),
                          LeaveLastOutSettings(), NoSplitSettings()])


def csv_of(rows: list[tuple[str, ...]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("user_id", "item_id", "value", "timestamp"), *rows])
    return stream.getvalue()


def sound(row: tuple[str, ...]) -> bool:
    return bool(row[0] and row[1] and row[2] not in ("", "x") and row[3] not in ("-1", "nan"))


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, split=SPLITS, core=st.integers(0, 2), cut=st.integers(0, 25), data=st.data())
def test_every_row_is_accounted_for_whatever_the_order_and_the_files(
        tmp_path: Path, rows: list[tuple[str, ...]], split: SplitSettings, core: int, cut: int,
        data: st.DataObject) -> None:
    # Two users with the same two items survive any core of two, so that there is always something to train on.
    rows = [*rows, *((u, i, "5", "1500000000") for u in ("\u2603a", "\u2603b") for i in ("\u2603x", "\u2603y"))]
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    write(tmp_path / "x", csv_of(rows), "all.csv")
    shuffled = data.draw(st.permutations(rows))
    parts = [part for part in (shuffled[:cut], shuffled[cut:]) if part]
    for n, part in enumerate(parts):
        write(tmp_path / "x", csv_of(part), f"part{n}.csv")
    options = {"name": "x", "min_value": 3.0, "max_reject_share": 1.0, "timestamp_unit": "s",
               "min_user_interactions": core, "min_item_interactions": core}
    first = prepare_with(tmp_path / "x" / "a", FilesSettings(interactions=str(tmp_path / "x/all.csv"), **options),
                         split)
    second = prepare_with(tmp_path / "x" / "b", FilesSettings(interactions=str(tmp_path / "x/part*.csv"), **options),
                          split)
    assert first.manifest["fingerprint"] == second.manifest["fingerprint"]
    assert first.counts == second.counts

    counts = first.counts
    dropped = ("rejected", "duplicates", "below_min_value", "below_core")
    assert counts["read"] == len(rows) == sum(counts[k] for k in (*dropped, "train", "valid", "test"))
    assert counts["rejected"] == sum(not sound(row) for row in rows) == len(first.rows("rejects"))
    latest = {(r[0], r[1]): max((int(x[3]), float(x[2])) for x in rows if sound(x) and x[:2] == r[:2])
              for r in rows if sound(r)}
    rows_of = {pair: (time * 1000, value) for pair, (time, value) in latest.items() if value >= 3}
    assert counts["duplicates"] == sum(map(sound, rows)) - len(latest)
    assert counts["below_min_value"] == len(latest) - len(rows_of)
    while (smaller := _one_round(rows_of, core)) != rows_of:
        rows_of = smaller
    written = {(r["user_id"], r["item_id"]): (r["timestamp"], r["value"]) for r in first.rows("interactions")}
    assert written == rows_of


def _one_round(rows_of: dict[tuple[str, str], tuple[int, float]],
               core: int) -> dict[tuple[str, str], tuple[int, float]]:
    for side in (0, 1):
        sizes = Counter(pair[side] for pair in rows_of)
        rows_of = {pair: row for pair, row in rows_of.items() if sizes[pair[side]] >= core}
    return rows_of
