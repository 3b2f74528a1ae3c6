"""Each split, by hand-worked examples."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.split import (
    ColdItemsSplitSettings,
    ColdUsersSplitSettings,
    GivenSettings,
    LeaveLastOutSettings,
    NoSplitSettings,
    RandomSettings,
    TemporalSettings,
)
from tests.ingest.preparing import HEADER, Prepared, prepare_text, prepare_with, write
from tests.some_slow import some_slow


def interactions(sizes: dict[str, int]) -> str:
    return "user_id,item_id\n" + "".join(f"{user},i{n}\n" for user, size in sizes.items() for n in range(size))


def sizes_of(prepared: Prepared, user: str) -> tuple[int, ...]:
    return tuple(sum(u == user for u, _ in prepared.in_split(split)) for split in ("train", "valid", "test"))


@pytest.mark.parametrize("name", ["clicks.csv", "clicks.parquet"])
def test_the_order_of_the_file_orders_equal_times_if_asked(tmp_path: Path, name: str,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    users = [f"u{n}" for n in range(20)]
    rows = [(user, item, "7") for user in users for item in "zab"]
    text = HEADER.replace("value,", "") + "".join(f"{','.join(row)}\n" for row in rows)
    file = write(tmp_path, text)
    if name.endswith("parquet"):
        pq.write_table(csv.read_csv(file), file := tmp_path / name)
    dataset = FilesSettings(name="test", interactions=str(file), equal_times="file")
    prepared = prepare_with(tmp_path, dataset, LeaveLastOutSettings())
    assert prepared.in_split("test") == {(user, "b") for user in users}
    assert prepared.in_split("valid") == {(user, "a") for user in users}
    assert prepared.counts["interactions_tied"] == 0
    assert "60 interactions have the same user and time as another, and are in the order of the files" in "".join(
        capsys.readouterr())


def test_the_order_of_files_is_that_of_the_settings(tmp_path: Path) -> None:
    late = write(tmp_path, HEADER + "u,a,1,7\n", "1.csv")
    early = write(tmp_path, HEADER + "u,b,1,7\nu,c,1,7\n", "2.csv")
    dataset = FilesSettings(name="test", interactions=[str(early), str(late)], equal_times="file")
    assert prepare_with(tmp_path, dataset, LeaveLastOutSettings()).in_split("test") == {("u", "a")}


def test_the_order_of_the_file_is_not_combined_with_a_column_of_order(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"equal_times=file: has no effect with dataset\.columns\.order"):
        prepare_text(tmp_path, "user_id,item_id,timestamp,place\nu,a,7,1\n", equal_times="file",
                     columns={"order": "place"})


def test_the_order_of_the_file_needs_times_and_all_files_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no effect, since .*clicks\.csv has no timestamps"):
        prepare_text(tmp_path, "user_id,item_id\nu,a\n", equal_times="file")
    prepare_text(tmp_path, HEADER + "u,a,1,7\nu,b,1,7\n", equal_times="file")
    new = write(tmp_path, HEADER + "u,c,1,8\n", "new.csv")
    with pytest.raises(ConfigError, match=r"mode=append: dataset\.equal_times=file"):
        prepare_with(tmp_path, FilesSettings(name="test", interactions=str(new), equal_times="file"), mode="append")


@pytest.mark.audited
def test_random_holds_out_a_share_of_each_user_and_always_leaves_one_to_train_on(tmp_path: Path) -> None:
    prepared = prepare_text(tmp_path, interactions({"a": 1, "b": 2, "c": 3, "d": 10, "e": 29, "f": 100}),
                            RandomSettings())
    assert [sizes_of(prepared, u) for u in "abcdef"] == [(1, 0, 0), (1, 0, 1), (1, 1, 1), (8, 1, 1), (25, 2, 2),
                                                        (80, 10, 10)]
    assert prepared.counts["users_with_one_interaction"] == 1


def test_random_shares_are_not_lost_to_binary_fractions(tmp_path: Path) -> None:
    prepared = prepare_text(tmp_path, interactions({"a": 100}), RandomSettings(valid=0.0, test=0.29))
    assert sizes_of(prepared, "a") == (71, 0, 29)


def test_the_seed_decides_what_random_holds_out(tmp_path: Path) -> None:
    text = interactions({"a": 30, "b": 30})
    first, same, other = (prepare_text(tmp_path / str(n), text, RandomSettings(seed=seed)) for n,
                          seed in enumerate((1, 1, 2)))
    assert first.in_split("test") == same.in_split("test") != other.in_split("test")


def test_leave_last_out_takes_the_newest_two_and_one_of_equal_times(tmp_path: Path) -> None:
    rows = "u,a,1,10\nu,b,1,30\nu,c,1,20\nv,x,1,5\nv,y,1,5\nw,z,1,5\n"
    prepared = prepare_text(tmp_path, HEADER + rows, LeaveLastOutSettings())
    assert ("u", "b") in prepared.in_split("test")
    assert len(prepared.in_split("test") & {("v", "x"), ("v", "y")}) == 1
    assert prepared.in_split("valid") == {("u", "c")}
    assert {("u", "a"), ("w", "z")} < prepared.in_split("train")


@pytest.mark.audited
def test_temporal_cuts_all_users_at_one_time_and_reports_cutoff_and_cold_ids(tmp_path: Path) -> None:
    start = 1_600_000_000
    rows = "".join(f"u{n % 3},i{n},1,{start + n}\n" for n in range(10))
    prepared = prepare_text(tmp_path, HEADER + rows, TemporalSettings(valid=0.2, test=0.2))
    assert prepared.in_split("valid") == {("u0", "i6"), ("u1", "i7")}
    assert prepared.in_split("test") == {("u2", "i8"), ("u0", "i9")}
    assert prepared.manifest["split"]["cutoff"] == {"valid": (start + 6) * 1000, "test": (start + 8) * 1000}
    assert prepared.manifest["data_cutoff"] == (start + 9) * 1000
    assert prepared.counts["items_cold"] == 4
    assert "4 cold items: in validation or test, not in training" in prepared.manifest["notes"]


def test_equal_times_are_on_one_side_of_the_cutoff(tmp_path: Path) -> None:
    rows = ["u,a,1,1600000001", "u,b,1,1600000002", "v,a,1,1600000002", "v,c,1,1600000003"]
    for n, ordered in enumerate((rows, rows[::-1])):
        prepared = prepare_text(tmp_path / str(n), HEADER + "\n".join(ordered), TemporalSettings(valid=0.25, test=0.25))
        assert prepared.in_split("test") == {("v", "c")}
        assert prepared.in_split("valid") == {("u", "b"), ("v", "a")}
        assert prepared.in_split("train") == {("u", "a")}


MARCH = HEADER + "".join(f"u{n % 2},i{n},1,2024-03-{n + 1:02}\n" for n in range(10))


@pytest.mark.slow
@pytest.mark.parametrize(("split", "valid", "test"), some_slow([
    (TemporalSettings(test_from="2024-03-09", valid_from="2024-03-08T00:00"), {7}, {8, 9}),
    (TemporalSettings(test_from="2024-03-09T02:00:00+02:00", valid=0.0), set(), {8, 9}),
    (TemporalSettings(test_days=1, valid_days=2), {7, 8}, {9}),
    (TemporalSettings(test_days=0.5, valid=0.2), {7, 8}, {9})], 2, 0))
def test_a_temporal_cutoff_may_be_a_moment_or_a_number_of_days(tmp_path: Path, split: TemporalSettings, valid: set[int],
                                                               test: set[int]) -> None:
    prepared = prepare_text(tmp_path, MARCH, split)
    assert prepared.in_split("valid") == {(f"u{n % 2}", f"i{n}") for n in valid}
    assert prepared.in_split("test") == {(f"u{n % 2}", f"i{n}") for n in test}


@pytest.mark.slow
@pytest.mark.parametrize(("split", "message"), some_slow([
    (TemporalSettings(test_from="spring"), r"split\.test_from=spring: is not a time \(.*\); write it as 2024-05-31"),
    (TemporalSettings(test_from="2024-05-01"),
     r"split\.test_from=2024-05-01: is after all data; choose an earlier time"),
    (TemporalSettings(test_from="2024-03-02", valid_from="2024-03-05"),
     r"split\.valid_from=2024-03-05: is after the start of the test")]))
def test_an_impossible_cutoff_is_refused(tmp_path: Path, split: TemporalSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_text(tmp_path, MARCH, split)


def test_cold_items_and_cold_users_are_held_out_entirely(tmp_path: Path) -> None:
    text = interactions(dict.fromkeys("abcdefghij", 10))
    for settings, side in ((ColdItemsSplitSettings, 1), (ColdUsersSplitSettings, 0)):
        split = settings(valid=0.1, test=0.2)
        prepared = prepare_text(tmp_path / split.kind, text, split)
        parts = [{pair[side] for pair in prepared.in_split(name)} for name in ("train", "valid", "test")]
        assert [len(part) for part in parts] == [7, 1, 2]
        assert len(set.union(*parts)) == 10
        assert prepared.counts["items_cold" if side else "users_cold"] == 3


def test_dislikes_are_kept_apart_and_divided_by_the_same_rule(tmp_path: Path) -> None:
    rows = "u,a,5,10\nu,b,1,20\nu,c,4,30\nu,d,3,35\nu,e,5,40\nu,b2,1,45\nv,a,5,1\nv,b,5,2\nv,c,1,3\nv,b2,5,4\n"
    prepared = prepare_text(tmp_path, HEADER + rows, LeaveLastOutSettings(), feedback="explicit", min_value=4.0,
                            max_negative_value=2.0)
    negatives = {(r["user_id"], r["item_id"], r["split"]) for r in prepared.rows("negatives")}
    # u's validation is c at 30, its test e at 40; v's are b at 2 and b2 at 4.
    assert negatives == {("u", "b", "train"), ("u", "b2", "test"), ("v", "c", "valid")}
    assert [(r["user_id"], r["item_id"], r["reason"]) for r in prepared.rows("filtered")] == [
        ("u", "d", "below_min_value")]


def test_temporal_refuses_an_order_that_may_be_each_users_own(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split=temporal: .* set dataset\.timestamp_unit=order if"):
        prepare_text(tmp_path, HEADER + "u,a,1,0\nu,b,1,1\n", TemporalSettings())
    assert prepare_text(tmp_path, HEADER + "u,a,1,0\nu,b,1,1\n", TemporalSettings(test=0.5, valid=0.0),
                        timestamp_unit="order").in_split("test") == {("u", "b")}


@pytest.mark.parametrize("split", [TemporalSettings(), LeaveLastOutSettings()])
def test_a_split_by_time_needs_timestamps(tmp_path: Path, split: TemporalSettings) -> None:
    with pytest.raises(DataError, match=r"no column 'timestamp', which split=.* needs; use split=random, map it"):
        prepare_text(tmp_path, "user_id,item_id\nu,i\n", split)


@pytest.mark.slow
@pytest.mark.audited
def test_given_files_are_the_split_and_leaks_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "user_id,item_id\nu,a\nu,b\nu,b\n", "train.csv")
    write(tmp_path, "user_id,item_id\nu,b\nu,c\nv,a\n", "test.csv")
    prepared = prepare_with(tmp_path, FilesSettings(train="train.csv", test="test.csv"), GivenSettings())
    assert prepared.in_split("train") == {("u", "a"), ("u", "b")}
    assert prepared.in_split("test") == {("u", "b"), ("u", "c"), ("v", "a")}
    assert (prepared.counts["duplicates"], prepared.counts["held_out_also_in_train"]) == (1, 1)
    warnings = prepared.manifest["warnings"]
    assert any("are also in training" in warning for warning in warnings), warnings


@pytest.mark.parametrize(("files", "split", "message"), [
    ({"train": "t.csv"}, GivenSettings(), "split=given: needs dataset.train and"),
    ({"interactions": "t.csv"}, GivenSettings(), "split=given: needs dataset.train and"),
    ({"interactions": "t.csv", "test": "t.csv"}, RandomSettings(), "dataset.test: has an effect only with split=given"),
    ({"train": "t.csv"}, RandomSettings(), "dataset.train: has an effect only with split=given")])
def test_files_that_do_not_go_with_the_split_are_refused(tmp_path: Path, files: dict[str, str], split: GivenSettings,
                                                         message: str) -> None:
    write(tmp_path, "user_id,item_id\nu,a\n", "t.csv")
    with pytest.raises(ConfigError, match=message):
        prepare_with(tmp_path, FilesSettings(**files), split)  # type: ignore[arg-type]


def test_none_trains_on_everything(tmp_path: Path) -> None:
    assert sizes_of(prepare_text(tmp_path, interactions({"a": 10}), NoSplitSettings()), "a") == (10, 0, 0)


def test_held_out_data_never_changes_the_ids_of_training(tmp_path: Path) -> None:
    past = "".join(f"u{n % 3},i{n},1,{1_600_000_000 + n}\n" for n in range(8))
    futures = ("u1,i2,1,1600000100\nu2,i3,1,1600000101\n", "a,a,1,1600000100\nu2,i00,1,1600000101\n")
    both = [prepare_text(tmp_path / str(n), HEADER + past + future, TemporalSettings(valid=0.0, test=0.2))
            for n, future in enumerate(futures)]
    trained = [[row for row in p.rows("interactions") if row["split"] == "train"] for p in both]
    assert trained[0] == trained[1]
    assert [row["item_id"] for row in both[1].rows("items")][-2:] == ["a", "i00"]
