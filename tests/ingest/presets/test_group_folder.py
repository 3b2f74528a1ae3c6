"""Mafengwo and CAMRa2011, written as AGREE's and ConsRec's repositories publish them."""

from pathlib import Path

import pytest

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.presets.group_folder import group_folder
from llmrec_cli.settings.presets import Camra2011Settings, MafengwoSettings
from llmrec_cli.settings.split import GivenSettings, RandomSettings
from tests.ingest.preparing import prepare_with, write
from tests.ingest.presets.reading import rows_of

pytestmark = pytest.mark.slow

MAFENGWO = {"groupMember.txt": "0 2,4\n1 11\n", "groupRatingTrain.txt": "0 1083\n1 2\n",
            "groupRatingTest.txt": "1 907\n", "userRatingTrain.txt": "2 1083\n4 2\n11 2\n",
            "userRatingTest.txt": "11 907\n", "groupRatingNegative.txt": "(1,907) 5 6 7\n",
            "userRatingNegative.txt": "(11,907) 5 6 7\n"}
CAMRA = {"groupMember.txt": "216 346,414\n217 433\n", "groupRatingTrain.txt": "216 2970 80\n217 21 0\n",
         "groupRatingTest.txt": "217 4381 70\n", "userRatingTrain.txt": "346 2970 100\n414\t4381\t0\n",
         "userRatingTest.txt": "433 21 45\n"}


def folder_of(tmp_path: Path, files: dict[str, str]) -> str:
    for name, content in files.items():
        write(tmp_path / "groups", content, name)
    return str(tmp_path / "groups")


def test_members_and_interactions_of_groups_and_users_are_read(tmp_path: Path) -> None:
    result = group_folder(MafengwoSettings(path=folder_of(tmp_path, MAFENGWO)), "given", tmp_path)
    assert rows_of(result.members, tmp_path, "group_id", "user_id")[0] == [
        ("", 1, ("0", "2")), ("", 1, ("0", "4")), ("", 2, ("1", "11"))]
    assert rows_of(result.group_interactions, tmp_path, "group_id", "item_id", "value")[0] == [
        ("train", 1, ("0", "1083", "1")), ("train", 2, ("1", "2", "1")), ("test", 1, ("1", "907", "1"))]
    prepared = prepare_with(tmp_path, MafengwoSettings(path=folder_of(tmp_path, MAFENGWO)), GivenSettings())
    assert prepared.in_split("train") == {("2", "1083"), ("4", "2"), ("11", "2")}
    assert prepared.in_split("test") == {("11", "907")}
    assert set(prepared.column("items", "text")) == {""}
    assert {(row["group_id"], row["user_id"]) for row in prepared.rows("groups")} == {
        ("0", "2"), ("0", "4"), ("1", "11")}
    assert {(row["group_id"], row["item_id"], row["split"]) for row in prepared.rows("group_interactions")} == {
        ("0", "1083", "train"), ("1", "2", "train"), ("1", "907", "test")}


def test_ratings_up_to_a_hundred_keep_their_value_also_nought(tmp_path: Path) -> None:
    result = group_folder(Camra2011Settings(path=folder_of(tmp_path, CAMRA)), "given", tmp_path)
    assert rows_of(result.group_interactions, tmp_path, "group_id", "item_id", "value")[0] == [
        ("train", 1, ("216", "2970", "80")), ("train", 2, ("217", "21", "0")), ("test", 1, ("217", "4381", "70"))]
    prepared = prepare_with(tmp_path, Camra2011Settings(path=folder_of(tmp_path, CAMRA)), GivenSettings())
    assert {(row["user_id"], row["value"]) for row in prepared.rows("interactions")} == {
        ("346", 100), ("414", 0), ("433", 45)}


def test_a_fourth_column_is_the_time(tmp_path: Path) -> None:
    timed = {name: content if name == "groupMember.txt" else content.replace("\n", " 1262304000\n")
             for name, content in CAMRA.items()}
    prepared = prepare_with(tmp_path, Camra2011Settings(path=folder_of(tmp_path, timed)), GivenSettings())
    assert set(prepared.column("interactions", "timestamp")) == {1262304000000}


def test_mafengwo_s_names_its_places_in_a_file_of_its_own(tmp_path: Path) -> None:
    files = MAFENGWO | {"itemSemantic.txt": "五台山, 2\n上海,苏州、南京, 907\r\n火星, 287\n"}
    prepared = prepare_with(tmp_path, MafengwoSettings(path=folder_of(tmp_path, files)), GivenSettings())
    assert {row["item_id"]: row["text"] for row in prepared.rows("items")} == {
        "2": "五台山", "907": "上海,苏州、南京", "287": "火星", "1083": ""}


def test_bad_lines_are_listed(tmp_path: Path) -> None:
    bad = MAFENGWO | {"groupMember.txt": "0 2,4\r\n\r\n1 11,,12\r\n2\r\n", "userRatingTrain.txt": "2 1083\n4 2 5\n",
                      "itemSemantic.txt": "五台山 2\n火星, 287\n"}
    result = group_folder(MafengwoSettings(path=folder_of(tmp_path, bad)), "given", tmp_path)
    rows, rejects = rows_of(result.members, tmp_path, "group_id", "user_id")
    assert [line for _, line, _ in rows] == [1, 1]
    assert rejects == ["groupMember.txt:3: a member without an id in '11,,12'",
                       "groupMember.txt:4: 1 fields where groupMember.txt has 2"]
    assert rows_of(result.interactions, tmp_path, "user_id", "item_id", "value")[1] == [
        "userRatingTrain.txt:2: 3 fields where userRatingTrain.txt has 2"]
    assert rows_of(result.items, tmp_path, "item_id", "title")[1] == ["itemSemantic.txt:1: no id after a comma"]


def test_another_split_and_a_missing_file_say_what_to_do(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, MAFENGWO)
    with pytest.raises(ConfigError, match=r"split=random: mafengwo is published with a split .*; set split=given"):
        prepare_with(tmp_path, MafengwoSettings(path=folder), RandomSettings())
    Path(folder, "groupRatingTest.txt").unlink()
    with pytest.raises(ConfigError, match=r"has no file groupRatingTest\.txt; it is data/Mafengwo .*ConsRec \(MIT\)"):
        prepare_with(tmp_path, MafengwoSettings(path=folder), GivenSettings())
    for preset in (MafengwoSettings(), Camra2011Settings()):
        assert next(iter(preset.problems())).startswith("path: missing; set dataset.path=<folder with groupMember.txt")
