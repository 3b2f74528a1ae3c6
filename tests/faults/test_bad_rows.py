"""The fault matrix, data: rows that can be read and are odd."""

import json
import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.faults.common import ROWS, START, manifest_counts, prepared_ids, refused, split_of
from tests.some_slow import some_slow
from tests.tiny import write_tiny

GROUPED = "group_id,user_id\nduo,u0\nduo,u1\nduo,u1\nsolo,u2\nlost,x\nlost,y\n"


@pytest.mark.parametrize(("policy", "value", "time"), some_slow([
    ("keep_last", 2.0, 9), ("keep_first", 3.0, 5), ("sum", 17.0, 9), ("max", 5.0, 5)], 1, 1))
def test_35_duplicates_become_one_by_policy_and_never_by_the_order_of_the_file(llmrec, policy, value, time):
    # The same row twice, two values at the last moment, two at the first.
    rows = [f"u,i,{v},{START + t}\n" for v, t in ((2, 9), (2, 9), (4, 9), (5, 5), (3, 5), (1, 7))]
    result = []
    for order in (rows, rows[::-1], rows[2:] + rows[:2]):
        prepared_ids(llmrec, ROWS + "".join(order), f"dataset.duplicates={policy}")
        assert manifest_counts()["duplicates"] == 5
        result += [(row["value"], row["timestamp"]) for row in pq.read_table(
            "data/prepared/fault/interactions.parquet").to_pylist() if row["user_id"] == "u"]
    assert result == [(value, (START + time) * 1000)] * 3


@pytest.mark.audited
def test_35_duplicates_are_reported_and_may_be_refused(llmrec):
    content = ROWS + f"u0,i0,1,{START}\n" * 3
    Path("clicks.csv").write_text(content)
    done = llmrec("prepare", "dataset=files", "dataset.interactions=clicks.csv", "split=none")
    told = next(line for line in done.err.splitlines() if "merged" in line)
    assert " ".join(told.split()) == "merged 3 repeated pairs of user and item; dataset.duplicates"
    shutil.rmtree("data")
    assert refused(llmrec, content, "dataset.duplicates=error") == (
        "clicks.csv: line 42: repeats user 'u0' with item 'i0', and dataset.duplicates=error; "
        "choose keep_last, keep_first, sum or max, or remove the duplicates")


@pytest.mark.parametrize("split", some_slow(["leave_last_out", "random", "temporal", "cold_items", "cold_users",
                                              "none"], 1, 1))
def test_36_shuffled_rows_give_the_same_bytes(llmrec, tmp_path, split):
    write_tiny(tmp_path)
    # All times thrice, and some pairs twice, so that there are ties to break.
    header, *rows = (tmp_path / "interactions.csv").read_text().splitlines(keepends=True)
    rows = [",".join([*row.split(",")[:3], f"{START + n // 3}\n"]) for n, row in enumerate(rows)]
    rows += [row.replace(",5,", ",4,") for row in rows[::9]]
    item_header, *items = (tmp_path / "items.csv").read_text("utf-8").splitlines(keepends=True)
    manifests = []
    for n in range(2):
        random.Random(n).shuffle(rows)
        random.Random(n).shuffle(items)
        Path("clicks.csv").write_text(header + "".join(rows))
        Path("items.csv").write_text(item_header + "".join(items), "utf-8")
        done = llmrec("prepare", "dataset=files", "dataset.name=fault", "dataset.interactions=clicks.csv",
                      "dataset.items=items.csv", "dataset.attributes.genres=list", f"split={split}")
        assert done.code == 0, done.err
        manifests.append(json.loads(Path("data/prepared/fault/manifest.json").read_text()))
    assert [manifests[0][key] for key in ("fingerprint", "counts", "files")] == \
        [manifests[1][key] for key in ("fingerprint", "counts", "files")]
    assert manifests[0]["counts"]["duplicates"] > 50


@pytest.mark.parametrize("time", some_slow(["-1", "NaN", "inf", "4102444801", "99999999999", "", "yesterday"], 1, 2))
def test_37_a_time_that_cannot_be_is_rejected_by_line(llmrec, time):
    prepared_ids(llmrec, ROWS + f"u1,i9,1,{time}\n", "dataset.max_reject_share=0.1")
    assert pq.read_table("data/prepared/fault/rejects.parquet").to_pylist() == [
        {"file": "clicks.csv", "line": 42, "column": "timestamp",
         "reason": f"'{time}' is not a time in 's', or is before 1970 or after 2100"}]


DECIMAL = "set dataset.decimal=',', or export numbers with a decimal point"


def with_commas(value, time):
    return "user_id;item_id;value;timestamp\n" + "".join(
        f"u{n % 7};i{n};{value if n % 2 else n};{time if n % 2 else START + n}\n" for n in range(40))


@pytest.mark.parametrize(("value", "remedy"), some_slow([
    ("4,5", "4.5 for '4,5'"), ("-1.234,5", "-1234.5 for '-1.234,5'"),
    ("1,234", "1.234 for '1,234', or 1234 where the comma groups thousands")]))
def test_37_a_decimal_comma_is_named_as_the_cause_and_no_setting_is_blamed(llmrec, value, remedy):
    message = refused(llmrec, with_commas(value, START), "dataset.delimiter=;", "dataset.decimal=.")
    assert f"The first ones:\n  line 3: value '{value}' is not a number: it has a decimal comma\n" in message
    assert message.endswith(f"decimal comma\nIn the column value, {DECIMAL}: {remedy}")
    prepared_ids(llmrec, with_commas(value, START), "dataset.decimal=.", "dataset.max_reject_share=0.5")
    assert {row["reason"] for row in pq.read_table("data/prepared/fault/rejects.parquet").to_pylist()} == {
        f"'{value}' is not a number: it has a decimal comma"}


def test_37_a_decimal_comma_in_a_time_is_named_too(llmrec):
    some = refused(llmrec, with_commas(1, f"{START},5"), "dataset.delimiter=;", "dataset.decimal=.")
    assert f"line 3: timestamp '{START},5' is not a time in 's', or is before 1970 or after 2100: it has a decimal " \
           f"comma\n" in some
    assert some.endswith(f"In the column timestamp, {DECIMAL}: {START}.5 for '{START},5'")
    all_of_them = "".join(f"u{n % 7};i{n};1;4529{n % 7},25\n" for n in range(40))
    content = "user_id;item_id;value;timestamp\n" + all_of_them
    assert refused(llmrec, content, "dataset.delimiter=;", "dataset.decimal=.") == (
        "clicks.csv: line 2: timestamp '45290,25' has a decimal comma; set dataset.decimal=',', or export "
        "numbers with a decimal point: 45290.25 for '45290,25'")


def test_37_a_decimal_comma_among_other_bad_rows_is_named_before_the_other_advice(llmrec):
    message = refused(llmrec, ROWS + 'u1,i9,"4,5",1\nu1,i8,high,1\n')
    assert f"In the column value, {DECIMAL}: 4.5 for '4,5'\nRepair them, or set " in message


@pytest.mark.slow
def test_37_rows_of_an_unknown_event_are_never_to_be_left_out_as_bad_rows(llmrec):
    events = "user_id,item_id,event\n" + "".join(f"u{n % 7},i{n},{'buy' if n % 2 else 'hide'}\n" for n in range(40))
    message = refused(llmrec, events, "dataset.event_weights={buy: 5}")
    assert message.endswith("Give every event a weight in dataset.event_weights; a weight of 0 drops its rows, and one "
                            "below 0 is for returns and dislikes")


def test_37_seconds_among_milliseconds_are_refused_unless_the_unit_is_set(llmrec):
    content = ROWS + "u1,i9,1,1600000000000\n"
    assert refused(llmrec, content) == (
        "timestamps are in more than one unit: clicks.csv line 42 has '1600000000000' (ms), clicks.csv line 2 "
        "has '1600000000' (s); write all in one unit, or set dataset.timestamp_unit=s|ms|us|ns|iso|excel|order")
    assert refused(llmrec, content, "dataset.timestamp_unit=s") == (
        "clicks.csv: 1 of 41 rows (2.44%) are bad, more than dataset.max_reject_share=0.001 allows. The first ones:\n"
        "  line 42: timestamp '1600000000000' is not a time in 's', or is before 1970 or after 2100\n"
        "Repair them, or set dataset.max_reject_share=0.05 to continue without them (rejects.parquet then lists them)")
    assert len(prepared_ids(llmrec, content, "dataset.timestamp_unit=ms")) == 41


@pytest.mark.audited
def test_38_equal_times_are_ordered_by_a_row_hash_not_by_id_or_file(llmrec):
    rows = [f"u{user},{item},1,{START}\n" for user in range(60) for item in "abcde"]
    result = []
    for order in (rows, rows[::-1]):
        split = split_of(llmrec, "user_id,item_id,value,timestamp\n" + "".join(order), "leave_last_out")
        result.append({user: item for (user, item), part in split.items() if part == "test"})
    assert result[0] == result[1]
    held = list(result[0].values())
    # Each item is the last of about 12 users; by the id, e would be that of all.
    assert len(held) == 60
    assert all(3 <= held.count(item) <= 24 for item in "abcde")
    manifest = json.loads(Path("data/prepared/fault/manifest.json").read_text())
    assert manifest["ties"]["users"] == {"rule": ["timestamp", "salted hash"], "interactions": 300, "share": 1.0,
                                         "held_out_users": 60, "held_out_share": 1.0}
    assert any("300 interactions (100.0%) have the same user and time" in text for text in manifest["warnings"])


@pytest.mark.slow
@pytest.mark.audited
def test_38_a_column_of_the_data_may_order_equal_times_or_stand_for_them(llmrec):
    rows = [(f"u{user}", item, n * 7 % 5) for user in range(9) for n, item in enumerate("abcde")]
    for time in (f",{START}", ""):
        header = "user_id,item_id,seq" + (",timestamp" if time else "")
        content = header + "\n" + "".join(f"{u},{i},{n}{time}\n" for u, i, n in rows)
        result = split_of(llmrec, content, "leave_last_out", "dataset.columns.order=seq")
        assert {pair for pair, split in result.items() if split == "test"} == {(u, i) for u, i, n in rows if n == 4}
        kept = pq.read_table("data/prepared/fault/interactions.parquet").to_pylist()
        assert [row["item_id"] for row in kept if row["user_id"] == "u3"] == ["a", "d", "b", "e", "c"]
        warned = json.loads(Path("data/prepared/fault/manifest.json").read_text())["warnings"]
        assert not any("have the same user and time" in text for text in warned)


@pytest.mark.slow
def test_38_the_share_of_ties_in_time_is_in_metrics_and_report_with_a_warning(llmrec):
    rows = [f"u{user},i{(user + n) % 6},1,{START + n // 2 * 86_400}\n" for user in range(20) for n in range(5)]
    split_of(llmrec, "user_id,item_id,value,timestamp\n" + "".join(rows), "leave_last_out")
    assert llmrec("finetune", "head=popularity", "run_dir=run").code == 0
    done = llmrec("evaluate", "model=run", "run_dir=measured", "num_bootstrap=100", "baselines=[]")
    # Four of five share their day; of what is held out the last does not, the one before does.
    assert json.loads(Path("measured/metrics.json").read_text())["protocol"]["time_ties"] == {
        "rule": ["timestamp", "salted hash"], "interactions": 80, "share": 0.8, "held_out_users": 20,
        "held_out_share": 1.0}
    sentences = ("80.0% of the interactions have the same user and time as another interaction. This affects a "
                 "held-out interaction of 100.0% of the users")
    assert sentences in done.err
    assert sentences in Path("measured/report.html").read_text()


def test_77_values_of_zero_and_below_are_not_positives(llmrec):
    content = "user_id,item_id,value,timestamp\n" + "".join(
        f"u{n},i{item},{value},{START + item}\n" for n in range(8) for item, value in ((0, 2), (1, 1), (2, 0), (3, -1)))
    result = split_of(llmrec, content, "leave_last_out")
    assert {split: {item for (_, item), part in result.items() if part == split} for split in ("train", "test")} == {
        "train": {"i0"}, "test": {"i1"}}
    assert manifest_counts()["not_positive"] == 16


def test_38_one_moment_is_on_one_side_of_a_cutoff_in_time(llmrec):
    # A tenth would cut through both moments that are held out.
    rows = [f"u{n},i{n % 5},1,{START + (0 if n < 20 else n // 4)}\n" for n in range(40)]
    result = split_of(llmrec, "user_id,item_id,value,timestamp\n" + "".join(rows), "temporal")
    sides = {}
    for n in range(40):
        sides.setdefault(0 if n < 20 else n // 4, set()).add(result[f"u{n}", f"i{n % 5}"])
    assert sides == {0: {"train"}, 5: {"train"}, 6: {"train"}, 7: {"train"}, 8: {"valid"}, 9: {"test"}}


@pytest.mark.audited
@pytest.mark.parametrize("split", some_slow(["random", "leave_last_out"]))
def test_39_a_user_with_one_interaction_is_trained_on_and_counted(llmrec, split):
    result = split_of(llmrec, ROWS + f"one,i0,1,{START + 99}\n", split)
    assert result["one", "i0"] == "train"
    assert manifest_counts()["users_with_one_interaction"] == 1
    audit = json.loads(Path("data/prepared/fault/audit.json").read_text())
    assert "1 users have only one interaction, so nothing can be held out for them" in audit["notes"]


@pytest.mark.slow
@pytest.mark.audited
def test_39_a_time_cutoff_may_make_a_user_with_one_interaction_cold_and_counts_it(llmrec):
    result = split_of(llmrec, ROWS + f"one,i0,1,{START + 99}\n", "temporal")
    assert result["one", "i0"] == "test"
    assert (manifest_counts()["users_with_one_interaction"], manifest_counts()["users_cold"]) == (1, 1)


@pytest.mark.slow
@pytest.mark.audited
@pytest.mark.parametrize("split", some_slow(["cold_users", "temporal"]))
def test_40_no_warm_user_to_evaluate_ends_with_3_and_no_metrics(llmrec, split):
    # Everybody's interactions are on one day of their own, so that the newest users are new.
    rows = [f"u{n // 6},i{n % 7},1,{START + n // 6 * 86_400}\n" for n in range(120)]
    split_of(llmrec, "user_id,item_id,value,timestamp\n" + "".join(rows), split)
    assert llmrec("finetune", "head=item_knn", "refit=none", "run_dir=run").code == 0
    done = llmrec("evaluate", "model=run", "run_dir=measured", "num_bootstrap=100")
    assert done.code == 3
    assert done.err.endswith(
        "llmrec: data error: data/prepared/fault: none of the 2 users with test interactions can be evaluated: all "
        "have no history to recommend from; prepare with split=random or split=leave_last_out, which leave training "
        "interactions to every user, or a cutoff in time that splits the interactions of some users\n")
    assert not Path("measured/metrics.json").exists()


@pytest.mark.slow
def test_40_cold_items_are_found_by_attributes_and_a_head_without_them_says_why_it_finds_none(llmrec, prepare_tiny):
    assert llmrec("prepare", *prepare_tiny, "split=cold_items").code == 0
    result, told = {}, {}
    for name, settings in {"item_knn": ["head=item_knn"], "ease": ["head=ease", "head.features.attributes=3"]}.items():
        assert llmrec("finetune", *settings, f"run_dir={name}").code == 0
        done = llmrec("evaluate", f"model={name}", f"run_dir={name}_measured", "num_bootstrap=100", "baselines=[]")
        assert done.code == 0
        result[name] = json.loads(Path(f"{name}_measured/metrics.json").read_text())["metrics"]["hit@10"]["mean"]
        told[name] = "No held-out item is in training" in done.err
    assert result["item_knn"] == 0
    assert result["ease"] > 0.3
    assert told == {"item_knn": True, "ease": False}


@pytest.mark.slow
@pytest.mark.audited
def test_41_an_item_without_text_has_its_id_for_a_title_and_the_share_is_told(llmrec):
    Path("items.csv").write_text("item_id,title,plot\ni0,Alien,in space\ni1,,\ni2, ,\n")
    prepared_ids(llmrec, ROWS, "dataset.items=items.csv")
    items = pq.read_table("data/prepared/fault/items.parquet").to_pylist()
    assert [(row["title"], row["text"]) for row in items][:4] == [("Alien", "Alien. in space"), ("i1", ""),
                                                                 ("i2", ""), ("i3", "")]
    audit = json.loads(Path("data/prepared/fault/audit.json").read_text())
    counts = manifest_counts()
    assert (audit["texts"]["item"]["empty"], counts["items_without_text"], counts["items_not_in_file"]) == (6, 6, 4)
    assert "6 items (85.7%) have no text" in audit["notes"]
    assert ("4 items of the interactions are not in dataset.items; they stay in the data, without text "
            "('i3', 'i4', 'i5', ...)") in audit["notes"]
    assert audit["warnings"] == ["4 of 7 items of the interactions have no row in dataset.items ('i3', 'i4', 'i5', "
                                 "...), so they have no text; is the file complete, and as new as the interactions?"]


# 42, a text of a megabyte: ingest/test_entities.py, in a process of its own, for its memory is measured.


@pytest.mark.audited
def test_44_unseen_users_and_items_take_the_cold_path_and_source_says_which(llmrec, model):
    Path("queries.jsonl").write_text("".join(json.dumps({"query_id": name, **query}) + "\n" for name, query in {
        "known": {"user_id": "u3"}, "nobody": {"user_id": "nobody"}, "words": {"user_id": "nobody", "text": "robot"},
        "items": {"user_id": "nobody", "history": ["i1", "unseen"]}, "unseen": {"history": ["unseen"]}}.items()))
    done = llmrec("recommend", f"model={model}", "queries=queries.jsonl", "output=lists.parquet", "k=5")
    assert done.code == 0
    rows = pq.read_table("lists.parquet").to_pylist()
    assert {row["query_id"]: row["source"] for row in rows} == {
        "known": "model", "nobody": "popularity", "words": "text", "items": "history", "unseen": "popularity"}
    assert len(rows) == 25
    assert "lists made: 1 by model, 1 by history, 1 by text, 2 by popularity" in done.err
    assert "history items ignored, unknown to the model: 1 ('unseen')" in done.err


@pytest.mark.slow
@pytest.mark.audited
def test_45_46_a_group_of_one_is_a_group_members_named_twice_are_one_and_strangers_are_counted(llmrec):
    Path("groups.csv").write_text(GROUPED)
    Path("joint.csv").write_text("group_id,item_id,timestamp\nduo,i0,1600000000\nnoone,i1,1600000000\n")
    prepared_ids(llmrec, ROWS, "dataset.groups=groups.csv", "dataset.group_interactions=joint.csv")
    members = pq.read_table("data/prepared/fault/groups.parquet").to_pylist()
    assert sorted((row["group_id"], row["user_id"]) for row in members) == [
        ("duo", "u0"), ("duo", "u1"), ("lost", "x"), ("lost", "y"), ("solo", "u2")]
    counts = manifest_counts()
    assert {key: counts[key] for key in ("groups", "groups_of_one", "group_members", "group_members_repeated",
                                         "users_without_interactions", "groups_without_members")} == {
        "groups": 3, "groups_of_one": 1, "group_members": 5, "group_members_repeated": 1,
        "users_without_interactions": 2, "groups_without_members": 1}
    audit = json.loads(Path("data/prepared/fault/audit.json").read_text())
    assert {"1 rows of dataset.groups repeat a member of a group; each member counts once", "1 groups have one member",
            "2 users have no interactions left ('x', 'y')"} <= set(audit["notes"])
    assert audit["warnings"] == ["1 groups have interactions (1 rows, ignored) but no members in dataset.groups; is "
                                 "it the file of another data set?"]


# 45 and 46, groups: tests/ingest/groups/test_group_faults.py and tests/stages/test_group_stages.py.
