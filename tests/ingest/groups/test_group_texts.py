"""Descriptions of groups: texts, attributes, original columns, and groups without members."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.split import GivenSettings, NoSplitSettings
from tests.ingest.preparing import Prepared, prepare_with, write

pytestmark = pytest.mark.slow

CLICKS = "user_id,item_id\nu,a\nv,a\nv,b\n"
MEMBERS = "group_id,user_id\nduo,u\nduo,v\nsolo,u\nnew,w\n"
TOGETHER = "group_id,item_id\nsolo,a\n"
INFO = "group_id,name,city,age\nduo,Hikers,东京,30\nsolo,Reader,,50\nghost,Nobody,Rome,10\n"


def prepared_of(folder: Path, split: Any = None, mode: str = "new", out: Path | None = None, members: str = MEMBERS,
                info: str | bytes = INFO, name: str = "info.csv", **settings: Any) -> Prepared:
    files = {"interactions": str(write(folder, CLICKS)), "groups": str(write(folder, members, "members.csv")),
             "group_interactions": str(write(folder, TOGETHER, "together.csv")),
             "group_info": str(write(folder, info, name))}
    dataset = FilesSettings(name="x", **(files | settings))
    assert not list(dataset.problems())
    return prepare_with(out or folder, dataset, split or NoSplitSettings(), mode=mode)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Prepare the files above without other settings."""
    return prepared_of(tmp_path_factory.mktemp("plain"))


def test_groups_have_titles_texts_attributes_and_their_own_columns(tmp_path: Path) -> None:
    prepared = prepared_of(tmp_path, group_text="{name}. {city}", group_columns={"title": "name"},
                           group_attributes={"city": "category", "age": "number"})
    rows = prepared.rows("group_texts")
    assert [(r["group"], r["group_id"], r["title"], r["text"], r["attributes"]) for r in rows] == [
        (0, "solo", "Reader", "Reader", ["age=q1"]), (1, "duo", "Hikers", "Hikers. 东京", ["age=q1", "city=东京"]),
        (2, "new", "new", "", [])]
    assert [(r["title_"], r["city"], r["age"]) for r in rows] == [
        ("Reader", "", "50"), ("Hikers", "东京", "30"), (None, None, None)]
    assert [r["group_id"] for r in rows] == list(dict.fromkeys(prepared.column("groups", "group_id")))
    texts = prepared.manifest["texts"]["group"]
    assert (texts["template"], texts["names"]) == ("{name}. {city}", ["title", "city", "age"])
    assert "group_texts.parquet" in prepared.manifest["files"]


def test_without_a_template_a_text_is_all_columns_and_without_a_file_there_is_none(tmp_path: Path,
                                                                                            plain: Prepared) -> None:
    assert plain.column("group_texts", "text") == ["Reader. 50", "Hikers. 东京. 30", ""]
    prepared = prepared_of(tmp_path / "2", group_info=None)
    assert not (prepared.folder / "group_texts.parquet").exists()


@pytest.mark.audited
def test_groups_without_members_or_descriptions_are_counted(plain: Prepared) -> None:
    assert [plain.counts[k] for k in ("groups_read", "groups_not_in_file", "groups_left_out", "groups_without_text",
                                         "groups_standing", "groups_occasional")] == [3, 1, 1, 1, 1, 2]
    assert [r["group_id"] for r in plain.rows("groups_left_out")] == ["ghost"]
    assert "1 groups of dataset.group_info ignored: no members" in plain.manifest["notes"]
    groups = "3 groups (1 standing, with training interactions, and 2 occasional)"
    assert any(groups in n for n in plain.manifest["notes"])
    assert "groups" not in plain.manifest  # The key marks synthetic groups.


@pytest.mark.audited
def test_group_descriptions_are_in_the_fingerprint_and_the_audit(tmp_path: Path, plain: Prepared) -> None:
    other = prepared_of(tmp_path / "2", info=INFO.replace("Hikers", "Climbers"))
    assert plain.manifest["fingerprint"] != other.manifest["fingerprint"]
    audit = json.loads((plain.folder / "audit.json").read_text("utf-8"))
    assert (audit["texts"]["group"]["num"], audit["texts"]["group"]["empty"]) == (3, 1)
    assert (audit["groups"]["standing"], audit["groups"]["occasional"], audit["groups"]["synthetic"]) == (1, 2, "")
    page = (plain.folder / "audit.html").read_text("utf-8")
    assert "1 standing, with training interactions of their own; 2 occasional, with members only" in page


def test_classes_of_numbers_are_those_of_standing_groups_or_of_all_where_none_is(tmp_path: Path) -> None:
    members = "group_id,user_id\n" + "".join(f"g{n},u\n" for n in range(12))
    info = "group_id,age\n" + "".join(f"g{n},{n}\n" for n in range(12))
    together = "group_id,item_id\n" + "".join(f"g{n},a\n" for n in range(10))
    paths = {"interactions": CLICKS, "groups": members, "group_info": info, "group_interactions": together}
    files = {key: str(write(tmp_path, text, f"{key}.csv")) for key, text in paths.items()}
    prepared = prepare_with(tmp_path / "1", FilesSettings(**files, group_attributes={"age": "number"}))
    assert prepared.manifest["texts"]["group"]["edges"]["age"] == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    del files["group_interactions"]
    prepared = prepare_with(tmp_path / "2", FilesSettings(**files, group_attributes={"age": "number"}))
    assert prepared.manifest["texts"]["group"]["edges"]["age"][-1] == 10


def test_appended_group_descriptions_are_merged_and_may_gain_members(tmp_path: Path) -> None:
    prepared_of(tmp_path / "a", out=tmp_path / "step")
    more = {"interactions": str(write(tmp_path, "user_id,item_id\nx,b\n", "more.csv")),
            "group_interactions": str(write(tmp_path, "group_id,item_id\nghost,b\n", "together2.csv"))}
    appended = prepared_of(tmp_path / "b", out=tmp_path / "step", mode="append", members="group_id,user_id\nghost,x\n",
                           info="group_id,name,city,age\nnew,Newcomers,Oslo,20\n", **more)
    assert {r["group_id"]: r["text"] for r in appended.rows("group_texts")} == {
        "solo": "Reader. 50", "duo": "Hikers. 东京. 30", "new": "Newcomers. Oslo. 20", "ghost": "Nobody. Rome. 10"}
    assert [r["group_id"] for r in appended.rows("group_texts")][:3] == ["solo", "duo", "new"]
    assert not (appended.folder / "groups_left_out.parquet").exists()


def test_27_31_32_43_files_of_groups_may_have_any_format_mark_and_script(tmp_path: Path) -> None:
    members = "\ufeffgroup_id,user_id\n007,u\n7,v\nNA,اسم\nnull,w\n"
    write(tmp_path, "\ufeffgroup_id,name\n007,عرب\n", "1.csv")
    write(tmp_path, '{"group_id": "NA", "name": "x"}\n', "2.jsonl")
    pq.write_table(pa.table({"group_id": ["null"], "name": ["👪"]}), tmp_path / "3.parquet")
    prepared = prepared_of(tmp_path, members=members, group_interactions=None,
                           group_info=[str(tmp_path / name) for name in ("1.csv", "2.jsonl", "3.parquet")])
    assert {(r["group_id"], r["user_id"]) for r in prepared.rows("groups")} == {
        ("007", "u"), ("7", "v"), ("NA", "اسم"), ("null", "w")}
    assert {r["group_id"]: r["text"] for r in prepared.rows("group_texts")} == {"007": "عرب", "7": "", "NA": "x",
                                                                                "null": "👪"}


@pytest.mark.audited
def test_bad_files_of_groups_are_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"info\.csv: no column 'group_id'; .* map it with dataset\.group_columns"):
        prepared_of(tmp_path, info="team,name\nduo,x\n")
    with pytest.raises(DataError, match=r"info\.csv: has a header but no rows"):
        prepared_of(tmp_path, info="group_id,name\n")
    with pytest.raises(DataError, match=r"info\.csv: 1 of 2 rows .* are bad"):
        prepared_of(tmp_path, info="group_id,name\nduo,x\n,y\n")
    prepared = prepared_of(tmp_path, info="group_id,age\nduo,old\n", group_attributes={"age": "number"})
    assert any("1 of 1 values of 'age' are not numbers, so these groups do not get this attribute" in warning
               for warning in prepared.manifest["warnings"])
    with pytest.raises(ConfigError, match=r"dataset\.group_attributes\.town: the groups have no such column"):
        prepared_of(tmp_path, group_attributes={"town": "category"})
    with pytest.raises(ConfigError, match=r"dataset\.group_attributes=.*: there is no file .*group_info=<file>"):
        prepared_of(tmp_path, group_info=None, group_attributes={"city": "category"})
    with pytest.raises(ConfigError, match=r"dataset\.group_text=\{.*\}: there is no file that describes groups"):
        prepared_of(tmp_path, group_info=None, group_text="{group_id}")
    with pytest.raises(ConfigError, match=r"dataset\.group_text=\{.*\}: there is no file that describes groups"):
        prepare_with(tmp_path, FilesSettings(interactions=str(write(tmp_path, CLICKS)), group_text="{name}"))
    with pytest.raises(ConfigError, match="groups made of users have no texts and attributes; remove the setting"):
        prepare_with(tmp_path, FilesSettings(interactions=str(write(tmp_path, CLICKS)), group_text="{name}",
                                             synthetic_groups="random"))


def test_settings_without_effect_are_refused() -> None:
    assert list(FilesSettings(interactions="x",
                              group_info="y").problems()) == ["group_info: needs dataset.groups=<file of "
                                                                                "members>"]
    assert list(FilesSettings(interactions="x", groups="y", group_columns={"title": "n"}).problems()) == [
        "group_columns: has an effect only with dataset.group_info=<file>"]


@pytest.mark.audited
def test_46_unknown_members_stay_as_users_without_history_and_groups_of_them_alone_are_counted(tmp_path: Path) -> None:
    """Group `known` has a member with a history, `standing` has training interactions, `lost` has neither."""
    files = {"train": CLICKS, "test": "user_id,item_id\nu,b\n",
             "groups": "group_id,user_id\nknown,u\nknown,x\nstanding,y\nlost,x\nlost,z\n",
             "group_train": "group_id,item_id\nstanding,a\n",
             "group_test": "group_id,item_id\nknown,b\nstanding,b\nlost,a\nstranger,a\nlost,never\n"}
    paths = {key: str(write(tmp_path, text, f"{key}.csv")) for key, text in files.items()}
    prepared = prepare_with(tmp_path, FilesSettings(**paths), GivenSettings())
    assert [prepared.counts[k] for k in ("group_members_without_history", "groups_held_out_without_history",
                                         "groups_without_members", "group_test")] == [3, 1, 1, 4]
    assert set(prepared.column("users", "user_id")) == {"u", "v", "x", "y", "z"}
    assert "never" in prepared.column("items", "item_id")
    notes = " ".join(prepared.manifest["notes"])
    assert "3 of 4 members of groups have no training interaction of their own" in notes
    assert "1 groups in validation or test have no training interactions" in notes
    assert any("1 groups have interactions (1 rows, ignored) but no members" in w
               for w in prepared.manifest["warnings"])
