"""The numbered faults of the fault matrix for group files in prepare."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.split import NoSplitSettings, RandomSettings, SplitSettings
from tests.ingest.preparing import Prepared, prepare_with, write
from tests.some_slow import some_slow

FILES = {"interactions": "user_id,item_id\nu,a\nv,a\nv,b\nw,b\n",
         "groups": "group_id,user_id\nduo,u\nduo,v\nsolo,w\n",
         "group_interactions": "group_id,item_id,timestamp\nduo,a,5\nsolo,b,6\n"}


def prepared_of(folder: Path, split: SplitSettings | None = None, names: dict[str, str] | None = None,
                settings: dict[str, Any] | None = None, **files: str | bytes) -> Prepared:
    """Prepare FILES, overridden by `files`; `names` are the file names."""
    paths = {key: str(write(folder, text, (names or {}).get(key, f"{key}.csv"))) for key, text in
             (FILES | files).items()}
    return prepare_with(folder, FilesSettings(name="x", **(paths | (settings or {}))), split or NoSplitSettings())


@pytest.mark.parametrize(("key", "content", "message"), some_slow([
    ("groups", b"group_id,user_id\nduo,\xff\n", r"groups\.csv: line 2, byte 21 .*is not utf-8"),
    ("groups", "group_id,user_id\nduo,u\n".encode("utf-16"), r"groups\.csv: .*UTF-16"),
    ("groups", "", r"groups\.csv: (is )?empty"),
    ("group_interactions", "group_id,item_id\n", r"group_interactions\.csv: has a header but no rows"),
    ("groups", "group,user_id\nduo,u\n", r"groups\.csv: no column 'group_id'; .*\(did you mean 'group'\?\)"),
    ("groups", "group_id,user_id,user_id\nduo,u,v\n", r"groups\.csv: two columns are called 'user_id'"),
    ("groups", "group_id,user_id\nduo,u\nduo,v,w\n", r"groups\.csv: 1 of 2 rows .* are bad(.|\n)*line 3"),
    ("group_interactions", "group_id,item_id,timestamp\nduo,a,yesterday\n", r"group_interactions\.csv: 1 of 1 rows"),
    ("group_interactions", "group_id,item_id,value\nduo,a,nan\nduo,b,2\n", r"line 2: value 'nan' is not a number")], 4))
def test_26_27_28_29_30_37_48_a_bad_file_of_groups_is_refused_by_name(tmp_path: Path, key: str, content: str | bytes,
                                                                       message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepared_of(tmp_path, **{key: content})


def test_47_a_truncated_file_of_groups_is_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"group_id": ["duo"] * 100, "user_id": ["u"] * 100}), tmp_path / "whole.parquet")
    with pytest.raises(DataError, match=r"groups\.parquet"):
        prepared_of(tmp_path, names={"groups": "groups.parquet"}, groups=(tmp_path / "whole.parquet").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"groups\.jsonl: line 2: the file ends in the middle"):
        prepared_of(tmp_path, names={"groups": "groups.jsonl"}, groups='{"group_id": "duo", "user_id": "u"}\n{"group')


@pytest.mark.slow
def test_31_32_43_members_of_any_script_come_out_as_they_went_in_from_any_format(tmp_path: Path) -> None:
    pairs = [("NA", "null"), ("007", "7"), ("7", "007"), ("गट", "משתמש"), ("👪", "é"), ("👪", "e\u0301")]
    write(tmp_path, "\ufeffgroup_id,user_id\n" + "".join(f"{g},{u}\n" for g, u in pairs[:2]), "1.csv")
    write(tmp_path, "".join(f'{{"group_id": "{g}", "user_id": "{u}"}}\n' for g, u in pairs[2:4]), "2.jsonl")
    pq.write_table(pa.table({"group_id": [g for g, _ in pairs[4:]], "user_id": [u for _, u in pairs[4:]]}),
                   tmp_path / "3.parquet")
    together = "group_id,item_id,timestamp\n👪,a,5\n"
    files = [str(tmp_path / name) for name in ("1.csv", "2.jsonl", "3.parquet")]
    prepared = prepared_of(tmp_path, settings={"groups": files}, group_interactions=together)
    assert sorted((r["group_id"], r["user_id"]) for r in prepared.rows("groups")) == sorted(pairs)
    assert [(r["group_id"], r["item_id"]) for r in prepared.rows("group_interactions")] == [("👪", "a")]


@pytest.mark.slow
@pytest.mark.audited
def test_35_45_exact_duplicates_are_merged_and_counted_and_groups_of_one_kept(tmp_path: Path) -> None:
    files = {"groups": FILES["groups"] + "duo,v\nduo,v\n",
             "group_interactions": FILES["group_interactions"] + "duo,a,5\n"}
    prepared = prepared_of(tmp_path, **files)
    assert (prepared.counts["group_members_repeated"], prepared.counts["group_duplicates"]) == (2, 1)
    assert (len(prepared.rows("groups")), prepared.counts["groups_of_one"]) == (3, 1)
    assert "1 groups have one member" in prepared.manifest["notes"]
    assert len(prepared.rows("group_interactions")) == 2
    notes = " ".join(prepared.manifest["notes"])
    assert "2 rows of dataset.groups repeat a member of a group; each member counts once" in notes
    assert "1 rows of group interactions repeat a group and an item; merged by dataset.duplicates" in notes
    with pytest.raises(DataError, match=r"group 'duo' and item 'a' are in 2 rows, and dataset\.duplicates=error"):
        prepared_of(tmp_path / "2", settings={"duplicates": "error"}, **files)


@pytest.mark.slow
def test_35_36_duplicates_are_resolved_by_time_not_row_order(tmp_path: Path) -> None:
    rows = [f"g{n % 7},i{n % 5},{n % 3 + 1},{n}" for n in range(70)]
    members = [f"g{n % 7},u{n}" for n in range(20)]
    result = []
    for seed in range(2):
        random.Random(seed).shuffle(rows)
        random.Random(seed).shuffle(members)
        prepared = prepared_of(tmp_path / str(seed), RandomSettings(valid=0.2, test=0.2),
                               groups="\n".join(["group_id,user_id",
                               *members]) + "\n", group_interactions="\n".join(["group_id,item_id,value,timestamp",
                                                                                *rows]) + "\n")
        result.append(prepared)
    assert result[0].manifest["fingerprint"] == result[1].manifest["fingerprint"]
    newest = {(f"g{n % 7}", f"i{n % 5}"): n for n in range(70)}
    assert {(r["group_id"], r["item_id"]): r["timestamp"] for r in result[0].rows("group_interactions")} == newest


@pytest.mark.slow
@pytest.mark.audited
def test_44_items_and_users_named_only_by_groups_are_kept_without_a_core(
        tmp_path: Path) -> None:
    files = {"groups": FILES["groups"] + "duo,stranger\n",
             "group_interactions": FILES["group_interactions"] + "duo,unseen,7\n"}
    prepared = prepared_of(tmp_path, **files)
    assert "unseen" in prepared.column("items", "item_id")
    assert prepared.counts["users_without_interactions"] == prepared.counts["group_members_without_history"] == 1
    prepared = prepared_of(tmp_path / "2", settings={"min_item_interactions": 1}, **files)
    assert "unseen" not in prepared.column("items", "item_id")
    assert prepared.counts["group_interactions_unknown_item"] == 1
    assert any("ignored: item not among the items" in n for n in prepared.manifest["notes"])


@pytest.mark.slow
@pytest.mark.audited
def test_46_a_group_with_interactions_but_no_members_is_dropped_with_a_warning(tmp_path: Path) -> None:
    prepared = prepared_of(tmp_path, group_interactions=FILES["group_interactions"] + "nobody,a,7\nnobody,b,7\n")
    assert (prepared.counts["groups_without_members"], prepared.counts["group_interactions_without_members"]) == (1, 2)
    assert {r["group_id"] for r in prepared.rows("group_interactions")} == {"duo", "solo"}
    assert any(w.startswith("1 groups have interactions (2 rows, ignored) but no members")
               for w in prepared.manifest["warnings"])
