"""The fault matrix, data that looks right: placeholder users, nightly files, truncated exports, wrong clocks."""

import csv
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.faults.common import START
from tests.some_slow import some_slow

HEADER = "user_id,item_id,timestamp\n"
DAYS = [HEADER + "".join(f"u{n % 12},i{(n * 5 + day) % 9},{START + day * 86_400 + n}\n" for n in range(60))
        for day in range(3)]


def prepare(llmrec, *settings, name="night"):
    """Prepare with the command line, and return what it printed and the manifest there is then."""
    done = llmrec("prepare", "dataset=files", f"dataset.name={name}", *settings)
    file = Path(f"data/prepared/{name}/manifest.json")
    return done, json.loads(file.read_text()) if file.is_file() else {}


def table(name, file="night"):
    """Return the rows of a Parquet file."""
    return pq.read_table(f"data/prepared/{file}/{name}.parquet").to_pylist()


@pytest.mark.audited
def test_82_placeholder_users_give_a_warning_and_can_be_dropped(llmrec):
    rows = [f"u{n},i{n * 7 % 40},{START + n}\n" for n in range(120)]
    rows += [f"{name},i{n},{START + n}\n" for name, num in (("GUEST", 40), ("nan", 2), ("0", 1), ("' '", 1))
             for n in range(num)]
    Path("o.csv").write_text(HEADER + "".join(rows))
    done, manifest = prepare(llmrec, "dataset.interactions=o.csv", "split=none")
    assert done.code == 0
    named, large = (next(text for text in manifest["warnings"] if words in text) for words in
                    ("may stand for unknown users", "has 24% of the interactions"))
    assert named.startswith("4 user ids may stand for unknown users, each counted as one user (44 interactions in "
                            "all): ")
    assert all(f"'{name}'" in named for name in ("GUEST", "nan", "0"))
    assert "dataset.drop_users=[GUEST] leaves it out" in large
    dropped = "dataset.drop_users=[GUEST,nan,0,NULL]"
    done, manifest = prepare(llmrec, "dataset.interactions=o.csv", "split=none", dropped)
    assert manifest["counts"]["dropped_ids"] == 43
    assert not {"GUEST", "nan", "0"} & {row["user_id"] for row in table("users")}
    assert "dataset.drop_users has ids that are in no row: 'NULL'" in manifest["notes"]


@pytest.mark.faults
@pytest.mark.audited
def test_82_the_printed_setting_leaves_out_the_ids_when_it_is_pasted_into_a_shell(llmrec):
    odd = ["null", "' '", "[guest]", '"nan"', "n/a ", "<unknown>\u200b", "\tanon"]
    outsized = 'the, "$HOME" one\n'
    with Path("o.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["user_id", "item_id"], *([f"u{n}", f"i{n * 7 % 40}"] for n in range(120)),
                                      *([name, "i1"] for name in odd), *([outsized, f"i{n}"] for n in range(40))])
    printed = prepare(llmrec, "dataset.interactions=o.csv", "split=none")[0].err
    result = re.findall(r"(dataset\.drop_users=.*) leaves (?:them|it) out", printed)
    assert len(result) == 2
    for typed, ids in zip(result, ([name for name in odd if "\u200b" not in name], [outsized]), strict=True):
        done = subprocess.run(["bash", "-c", f"{sys.executable} -m llmrec_cli prepare dataset=files dataset.name=night "
                               f"dataset.interactions=o.csv split=none {typed}"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        left = {row["user_id"] for row in table("users")}
        assert left & {*odd, outsized} == {*odd, outsized} - set(ids)


@pytest.mark.slow
@pytest.mark.audited
def test_82_numbers_from_0_and_users_alike_are_not_taken_for_placeholders(llmrec):
    Path("o.csv").write_text(HEADER + "".join(f"{n % 30},{n % 7},{START + n}\n" for n in range(300)))
    assert prepare(llmrec, "dataset.interactions=o.csv", "split=none")[1]["warnings"] == []


@pytest.mark.parametrize("empty", some_slow([HEADER, "", "\n\n"]))
def test_84_appending_an_empty_file_changes_nothing(llmrec, empty):
    Path("1.csv").write_text(DAYS[0])
    Path("2.csv").write_text(empty)
    before = prepare(llmrec, "dataset.interactions=1.csv", "split=none")[1]
    done, after = prepare(llmrec, "dataset.interactions=2.csv", "split=none", "mode=append")
    assert done.code == 0
    assert "2.csv: skipped, it has no rows" in done.err
    assert after == before
    assert prepare(llmrec, "dataset.interactions=2.csv", "split=none", name="first")[0].code == 3


@pytest.mark.parametrize("policy", some_slow(["auto", "sum"]))
def test_84_appending_a_repeated_file_under_any_name_changes_nothing(llmrec, policy):
    Path("1.csv").write_text(DAYS[0])
    Path("2.csv").write_text(DAYS[1])
    settings = ["split=none", f"dataset.duplicates={policy}"]
    prepare(llmrec, "dataset.interactions=1.csv", *settings)
    before = prepare(llmrec, "dataset.interactions=2.csv", *settings, "mode=append")[1]
    Path("again.csv").write_text(DAYS[0])
    for file in ("1.csv", "again.csv"):
        done, after = prepare(llmrec, f"dataset.interactions={file}", *settings, "mode=append")
        assert done.code == 0
        assert f"{file}: skipped, a file with the same content is in data/prepared/night already" in done.err
        assert after == before


@pytest.mark.slow
@pytest.mark.audited
def test_84_rows_that_may_be_summed_twice_are_refused_without_force(llmrec):
    Path("1.csv").write_text(DAYS[0])
    # The last three rows of the day before, once more.
    Path("2.csv").write_text(HEADER + "".join(DAYS[0].splitlines(keepends=True)[-3:]) + f"u1,i1,{START + 10**6}\n")
    settings = ["split=none", "dataset.duplicates=sum"]
    before = prepare(llmrec, "dataset.interactions=1.csv", *settings)[1]
    done, after = prepare(llmrec, "dataset.interactions=2.csv", *settings, "mode=append")
    assert done.code == 3
    assert "3 rows may have been counted already" in done.err
    assert "2.csv: line 2 (user 'u9' and item " in done.err
    assert after == before
    done, after = prepare(llmrec, "dataset.interactions=2.csv", *settings, "mode=append", "force=true")
    assert done.code == 0
    note = "3 new rows repeat a pair that is in the data with the same time or a later one"
    assert any(note in n for n in after["notes"])
    # With other policies than sum, repeated rows are harmless.
    one = prepare(llmrec, "dataset.interactions=1.csv", "split=none", name="last")[1]
    assert prepare(llmrec, "dataset.interactions=2.csv", "split=none", "mode=append", name="last")[0].code == 0
    assert one["counts"]["interactions"] + 1 >= len(table("interactions", "last"))


@pytest.mark.slow
@pytest.mark.audited
def test_84_the_newest_file_wins_for_the_columns_of_items_and_users(llmrec):
    Path("1.csv").write_text(DAYS[0])
    Path("2.csv").write_text(DAYS[1])
    Path("i1.csv").write_text("item_id,title,price,stock\ni0,Thing 0,10,yes\ni1,Thing 1,10,yes\n")
    Path("i2.csv").write_text("item_id,title,price,stock\ni0,Zebra 0,9,no\ni1,,8,\n")
    Path("p1.csv").write_text("user_id,city\nu0,Zagreb\n")
    Path("p2.csv").write_text("user_id,city\nu0,Aachen\n")
    prepare(llmrec, "dataset.interactions=1.csv", "dataset.items=i1.csv", "dataset.users=p1.csv", "split=none")
    _, manifest = prepare(llmrec, "dataset.interactions=2.csv", "dataset.items=i2.csv", "dataset.users=p2.csv",
                          "split=none", "mode=append")
    items = {row["item_id"]: (row["title"], row["price"], row["stock"]) for row in table("items")}
    assert (items["i0"], items["i1"]) == (("Zebra 0", "9", "no"), ("Thing 1", "8", "yes"))
    assert [row["city"] for row in table("users") if row["user_id"] == "u0"] == ["Aachen"]
    assert any(note.startswith("different values for one item in several files; the newest file wins: price (2, for")
               for note in manifest["notes"])
    # Both notes about these rows name the same value as the one that counts.
    assert ("2 rows of dataset.items repeat an id; they are merged column by column: the newest file wins, and within "
            "a file the first row that is not empty") in manifest["notes"]


@pytest.mark.slow
@pytest.mark.audited
def test_84_an_emptied_cell_keeps_the_older_value_and_is_counted_where_the_newest_file_has_the_column(llmrec):
    for n, day in enumerate(DAYS[:2], 1):
        Path(f"{n}.csv").write_text(day)
    Path("i1.csv").write_text("item_id,title,price,stock\ni0,Zero,10,yes\ni1,One,11,\ni2,Two,12,yes\n")
    Path("i2.csv").write_text("item_id,title,price\ni0,Zero,\ni1,One,\ni2,Two,9\ni3,Three,\n")
    prepare(llmrec, "dataset.interactions=1.csv", "dataset.items=i1.csv", "split=none")
    _, manifest = prepare(llmrec, "dataset.interactions=2.csv", "dataset.items=i2.csv", "split=none", "mode=append")
    assert {row["item_id"]: row["price"] for row in table("items") if row["price"]} == {"i0": "10", "i1": "11",
                                                                                        "i2": "9"}
    # i3 is new, and the second file has no column `stock`.
    [note] = [note for note in manifest["notes"] if "empty cell" in note]
    assert note == ("items have an empty cell in the newest file that lists them; empty cells erase nothing, so the "
                    "older value is kept: price (2, for instance 'i0': kept '10'); write a value to replace it")


@pytest.mark.slow
def test_85_data_smaller_than_half_of_the_previous_needs_force(llmrec):
    Path("1.csv").write_text(DAYS[0])
    Path("short.csv").write_text("".join(DAYS[1].splitlines(keepends=True)[:30]))
    before = prepare(llmrec, "dataset.interactions=1.csv", "split=none")[1]
    done, after = prepare(llmrec, "dataset.interactions=short.csv", "split=none")
    assert done.code == 7
    assert "have 29 rows of interactions, less than half of the 60 rows that 'night' was prepared from" in done.err
    assert "For new rows, mode=append was probably meant" in done.err
    assert "force=true" in done.err
    assert after == before
    assert prepare(llmrec, "dataset.interactions=short.csv", "split=none", "force=true")[1]["counts"]["read"] == 29


@pytest.mark.slow
@pytest.mark.audited
def test_one_row_of_a_wrong_clock_is_named_and_can_be_cut(llmrec):
    late = START + 10 * 365 * 86_400
    rows = [f"u{n % 9},i{n % 7},{START + n * 8_640}\n" for n in range(300)]
    Path("o.csv").write_text(HEADER + "".join([*rows[:5], f"u1,i8,{late}\n", *rows[5:]]))
    split = ["split=temporal", "split.test_days=2", "split.valid_days=2", "dataset.interactions=o.csv"]
    _, manifest = prepare(llmrec, *split)
    assert manifest["counts"]["test"] == 1
    [warning] = [text for text in manifest["warnings"] if "wrong clock" in text]
    assert warning.startswith("o.csv line 7 has the time 2030-09-11T12:26:40Z, ")
    cut = warning.partition("dataset.newest=")[2].split()[0]
    _, manifest = prepare(llmrec, *split, f"dataset.newest={cut}")
    assert (manifest["counts"]["outside_times"], manifest["counts"]["test"] > 1) == (1, True)
    assert not [text for text in manifest["warnings"] if "wrong clock" in text]


DAY = 86_400


def clock_warnings(llmrec, times, name="clock", *settings):
    """Return the warnings of clocks of 200 rows over ten days and of one row at each of `times`, at random places."""
    times = [*(START + n * 4_320 for n in range(200)), *times]
    rows = [f"u{n % 20},i{n // 20},{time}\n" for n, time in enumerate(times)]
    random.Random(1).shuffle(rows)
    Path(f"{name}.csv").write_text(HEADER + "".join(rows))
    _, manifest = prepare(llmrec, f"dataset.interactions={name}.csv", "split=none", *settings, name=name)
    return [text for text in manifest["warnings"] if "wrong clock" in text], manifest


@pytest.mark.slow
@pytest.mark.audited
def test_several_wrong_clocks_at_both_ends_are_reported_together(llmrec):
    (late, early), manifest = clock_warnings(llmrec, [START + 3000 * DAY, START + 20_000 * DAY, 1, 400 * DAY])
    assert manifest["counts"]["interactions"] == 204
    assert late.startswith("2 interactions have the time ")
    assert early.startswith("2 interactions have the time ")
    cuts = [f"dataset.{end}={text.partition(f'dataset.{end}=')[2].split()[0]}"
            for text, end in ((late, "newest"), (early, "oldest"))]
    again, manifest = clock_warnings(llmrec, [START + 3000 * DAY, START + 20_000 * DAY, 1, 400 * DAY], "cut", *cuts)
    assert (again, manifest["counts"]["outside_times"], manifest["counts"]["interactions"]) == ([], 4, 200)


@pytest.mark.slow
@pytest.mark.audited
def test_a_missing_time_written_as_0_is_seen_in_however_many_rows(llmrec):
    [early], _ = clock_warnings(llmrec, [0] * 150)
    assert early.startswith("150 interactions have the time 1970-01-01T00:00:00Z or earlier (the first: clock.csv line")
    assert "a missing time written as 0" in early
    assert early.endswith("dataset.oldest=2020-09-13T12:26:40 drops earlier interactions")


@pytest.mark.slow
@pytest.mark.audited
@pytest.mark.parametrize("gap", some_slow([1.2, 6.5]))
def test_new_days_of_a_short_history_are_not_reported_as_wrong_clocks(llmrec, gap):
    young = [START + n * 500 for n in range(200)]
    Path("young.csv").write_text(HEADER + "".join(f"u{n % 9},i{n % 7},{time}\n" for n, time in enumerate(
        [*young, young[-1] + int(gap * DAY)])))
    _, manifest = prepare(llmrec, "dataset.interactions=young.csv", "split=none")
    assert [text for text in manifest["warnings"] if "wrong clock" in text] == []
