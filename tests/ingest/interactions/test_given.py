"""split=given: validation carved from training, and pairs that files have in several splits."""

import hashlib
import random
from pathlib import Path
from typing import Any

import pytest

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.groups.splits import group_rule
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.presets import Camra2011Settings
from llmrec_cli.settings.split import (
    ColdItemsSplitSettings,
    GivenSettings,
    LeaveLastOutSettings,
    RandomSettings,
    SplitSettings,
)
from tests.ingest.preparing import Prepared, prepare_with, write
from tests.some_slow import some_slow

MEMBERS = "group_id,user_id\nduo,u0\nduo,u1\nsolo,u2\ntrio,u3\ntrio,u4\ntrio,u5\n"


def pairs_of(num_users: int, num_items: int, each: int, who: str = "u") -> list[tuple[str, str]]:
    rng = random.Random(7)
    return [(f"{who}{n}", f"i{item}") for n in range(num_users) for item in rng.sample(range(num_items), each)]


def csv_of(pairs: list[tuple[str, str]], who: str = "user_id") -> str:
    return f"{who},item_id\n" + "".join(f"{one},{item}\n" for one, item in pairs)


def prepared_of(folder: Path, train: list[tuple[str, str]], test: list[tuple[str, str]], split: SplitSettings,
                **more: str) -> Prepared:
    files: dict[str, Any] = {"train": csv_of(train), "test": csv_of(test), **more}
    paths = {key: str(write(folder, text, f"{key}.csv")) for key, text in files.items()}
    return prepare_with(folder, FilesSettings(name="x", **paths), split)


def carved_by_hand(pairs: list[tuple[str, str]], share: float, seed: int) -> set[tuple[str, str]]:
    """Return the pairs whose MD5, as a number, is below the share, without the highest pair of each user."""
    number = {p: int(hashlib.md5(f"{seed}\x1f{p[0]}\x1f{p[1]}".encode()).hexdigest(), 16) for p in pairs}
    last = {user: max(number[p] for p in pairs if p[0] == user) for user, _ in pairs}
    return {p for p in pairs if number[p] < share * 2**128 and number[p] < last[p[0]]}


def in_split(prepared: Prepared, split: str) -> set[tuple[str, str]]:
    return {(row["group_id"], row["item_id"]) for row in prepared.rows("group_interactions") if row["split"] == split}


@pytest.mark.slow
def test_validation_takes_training_pairs_with_the_lowest_hashes_and_leaves_each_user_some(tmp_path: Path) -> None:
    share, seed = 0.6, 3
    train, test = [*pairs_of(30, 40, 6), ("once", "i1")], [("u0", "i39"), ("u1", "x")]
    prepared = prepared_of(tmp_path, train, test, GivenSettings(valid=share, seed=seed))
    assert prepared.in_split("valid") == carved_by_hand(train, share, seed) != set()
    assert prepared.in_split("train") == set(train) - prepared.in_split("valid")
    assert {user for user, _ in prepared.in_split("train")} == {user for user, _ in train}
    assert prepared.in_split("test") == set(test)
    again = prepared_of(tmp_path / "2", train[::-1], test[::-1], GivenSettings(valid=share, seed=seed))
    assert again.manifest["fingerprint"] == prepared.manifest["fingerprint"]


@pytest.mark.slow
def test_group_validation_is_carved_with_its_own_share_except_from_single_pairs(tmp_path: Path) -> None:
    train = pairs_of(6, 10, 4)
    together = pairs_of(20, 12, 5, "g") + [(f"h{n}", "i1") for n in range(40)]
    members = "group_id,user_id\n" + "".join(f"{g},u{n % 6}\n" for n, g in enumerate(dict(together)))
    files = {"groups": members, "group_train": csv_of(together, "group_id"),
             "group_test": csv_of([("g0", "zz")], "group_id")}
    prepared = prepared_of(tmp_path, train, [("u1", "i11")], GivenSettings(valid=0.1, group_valid=0.5, leaks="keep"),
                           **files)
    assert in_split(prepared, "valid") == carved_by_hand(together, 0.5, 42)
    assert {group for group, _ in in_split(prepared, "train")} == set(dict(together))
    assert 30 < prepared.counts["group_valid"] < 70
    assert prepared.in_split("valid") == carved_by_hand(train, 0.1, 42)


def test_the_validation_share_of_groups_is_that_of_users_or_their_own() -> None:
    assert group_rule(GivenSettings(valid=0.3), True) == GivenSettings(valid=0.3)
    assert group_rule(GivenSettings(valid=0.3, group_valid=0.0), True).valid == 0  # type: ignore[attr-defined]
    assert group_rule(RandomSettings(valid=0.3), True) == GivenSettings()
    assert group_rule(RandomSettings(group_valid=0.4, seed=5, leaks="drop"), True) == GivenSettings(valid=0.4, seed=5,
                                                                                                    leaks="drop")
    assert group_rule(RandomSettings(test=0.1, group_valid=0.4), False) == RandomSettings(valid=0.4, test=0.1,
                                                                                          group_valid=0.4)
    with pytest.raises(ConfigError, match=r"split\.group_valid=0\.2: has no effect on groups with "):
        group_rule(RandomSettings(group="leave_last_out", group_valid=0.2), False)


def test_groups_divided_at_random_beside_given_users_keep_the_usual_shares() -> None:
    assert group_rule(GivenSettings(group="random"), False) == RandomSettings(valid=0.1, test=0.1)
    assert group_rule(GivenSettings(group="random", valid=0.4), False) == RandomSettings(valid=0.4, test=0.1)


@pytest.mark.slow
def test_items_that_are_cold_for_users_are_cold_for_groups(tmp_path: Path) -> None:
    """Users and groups have different items, so that splitting them separately would choose another hash limit."""
    files = {"interactions": csv_of(pairs_of(6, 30, 8)), "groups": "group_id,user_id\ng0,u0\ng1,u1\n",
             "group_interactions": csv_of([("g0", f"i{n}") for n in range(10, 60)], "group_id")}
    paths = {key: str(write(tmp_path, text, f"{key}.csv")) for key, text in files.items()}
    prepared = prepare_with(tmp_path, FilesSettings(**paths), ColdItemsSplitSettings(valid=0.2, test=0.3))
    of_users = {row["item_id"]: row["split"] for row in prepared.rows("interactions")}
    result = {row["item_id"]: row["split"] for row in prepared.rows("group_interactions")}
    assert result == {item: of_users.get(item, "train") for item in result}
    assert len(result) == 50
    assert set(result.values()) == {"train", "valid", "test"}


@pytest.mark.parametrize(("split", "extra", "message"), [
    (GivenSettings(valid=0.1), {"valid": "user_id,item_id\nu,b\n"},
     r"split\.valid=0\.1: carves validation from training, but "),
    (GivenSettings(valid=0.1), {"group_valid": "group_id,item_id\nduo,b\n"},
     r"split\.valid=0\.1: carves the groups' valid"),
    (GivenSettings(group_valid=0.2), {"group_valid": "group_id,item_id\nduo,b\n"},
     r"split\.group_valid=0\.2: carves the grou"),
    (GivenSettings(group_valid=0.2), {"groups": ""},
     r"split\.group_valid=0\.2: has no effect without interactions of groups"),
    (RandomSettings(leaks="drop"), {"groups": ""},
     r"split\.leaks=drop: has no effect unless the files give the split"),
    (LeaveLastOutSettings(group="given", group_valid=0.1), {"group_valid": "group_id,item_id\nduo,b\n"},
     r"split\.group_valid=0\.1: carves the groups'")])
def test_settings_that_files_make_senseless_are_refused(tmp_path: Path, split: SplitSettings, extra: dict[str, str],
                                                        message: str) -> None:
    files = {"train": "user_id,item_id,timestamp\nu,a,1\nu,b,2\n", "test": "user_id,item_id,timestamp\nu,c,3\n",
             "groups": MEMBERS, "group_train": "group_id,item_id\nduo,a\n", **extra}
    if not isinstance(split, GivenSettings):
        files["interactions"] = files.pop("train")
        del files["test"]
    if files["groups"] == "":
        del files["groups"], files["group_train"]
    paths = {key: str(write(tmp_path, text, f"{key}.csv")) for key, text in files.items()}
    with pytest.raises(ConfigError, match=message):
        prepare_with(tmp_path, FilesSettings(**paths), split)  # type: ignore[arg-type]


def test_shares_and_a_seed_without_effect_are_refused() -> None:
    assert list(GivenSettings(valid=0.95).problems()) == ["valid=0.95: must be at most 0.9"]
    assert list(GivenSettings(seed=7).problems()) == [
        "seed=7: has an effect only with split.valid or split.group_valid above 0"]
    assert list(GivenSettings(leaks="lose").problems()) == ["leaks=lose: choose one of auto, keep, drop"]
    assert list(GivenSettings(valid=0.1, seed=7).problems()) == []


@pytest.mark.slow
@pytest.mark.audited
def test_validation_that_chance_left_empty_is_warned_of(tmp_path: Path) -> None:
    prepared = prepared_of(tmp_path, [("u", "a"), ("v", "b")], [("u", "b")], GivenSettings(valid=0.5))
    assert any("split 'valid' has no rows" in warning for warning in prepared.manifest["warnings"])


def without_copies(carved: set[tuple[str, str]], members: str, trained: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the carved pairs of groups that no member has in training."""
    who = [line.split(",") for line in members.splitlines()[1:]]
    return {(g, item) for g, item in carved if not any((u, item) in trained for group, u in who if group == g)}


def household(num: int, copied: float) -> tuple[str, list[tuple[str, str]], list[tuple[str, str]]]:
    """Return members, training of users and of groups: as in CAMRa, most of what a group saw is some member's row too.
    """
    rng = random.Random(5)
    members, users, groups = "group_id,user_id\n", [], []
    for n in range(num):
        members += f"g{n},u{2 * n}\ng{n},u{2 * n + 1}\n"
        for item in rng.sample(range(60), 10):
            groups.append((f"g{n}", f"i{item}"))
            if rng.random() < copied:
                users.append((f"u{2 * n + rng.randrange(2)}", f"i{item}"))
        users += [(f"u{2 * n}", f"j{n}"), (f"u{2 * n + 1}", f"j{n}")]
    return members, users, groups


@pytest.mark.audited
@pytest.mark.parametrize("leaks", some_slow(["auto", "drop"]))
def test_pairs_in_a_members_training_are_not_validation_of_the_group(tmp_path: Path, leaks: str) -> None:
    members, users, groups = household(30, copied=0.7)
    split = GivenSettings(valid=0.2, group_valid=0.4, leaks=leaks)
    files = {"groups": members, "group_train": csv_of(groups, "group_id"),
             "group_test": csv_of([("g0", "t")], "group_id")}
    prepared = prepared_of(tmp_path, users, [("u1", "t")], split, **files)
    hashed = carved_by_hand(groups, 0.4, 42)
    expected = without_copies(hashed, members, prepared.in_split("train"))
    assert in_split(prepared, "valid") == expected
    assert 0.2 < len(expected) / len(hashed) < 0.6
    # They are trained on instead: no row of the group is lost.
    assert in_split(prepared, "train") == set(groups) - expected
    assert prepared.counts["group_copies_kept_in_train"] == len(hashed) - len(expected)
    assert any(f"{len(hashed) - len(expected):,} rows of group interactions stay in training"
               in note for note in prepared.manifest["notes"])


@pytest.mark.slow
def test_pairs_in_a_members_training_are_validation_if_requested(tmp_path: Path) -> None:
    members, users, groups = household(10, copied=0.7)
    files = {"groups": members, "group_train": csv_of(groups, "group_id")}
    prepared = prepared_of(tmp_path, users, [("u1", "t")], GivenSettings(group_valid=0.4, leaks="keep"), **files)
    assert in_split(prepared, "valid") == carved_by_hand(groups, 0.4, 42)
    assert prepared.counts["group_copies_kept_in_train"] == 0


@pytest.mark.slow
@pytest.mark.audited
def test_groups_with_only_copied_pairs_have_no_validation_and_a_warning(tmp_path: Path) -> None:
    members, users, groups = household(10, copied=1.0)
    files = {"groups": members, "group_train": csv_of(groups, "group_id")}
    prepared = prepared_of(tmp_path, users, [("u1", "t")], GivenSettings(group_valid=0.4), **files)
    assert in_split(prepared, "valid") == set()
    assert any("groups have no validation interactions" in warning for warning in prepared.manifest["warnings"])


@pytest.mark.slow
@pytest.mark.parametrize("leaks", some_slow(["auto", "keep"], 1, 0))
def test_files_added_later_are_carved_with_those_before(tmp_path: Path, leaks: str) -> None:
    """The new file repeats a validation pair, and adds an interaction of a user who had only one."""
    train = pairs_of(20, 30, 5)
    parts = [[*train[::2], ("once", "i1")], [*train[1::2], *train[:10], ("once", "i2"), ("once", "i3")]]
    for n, part in enumerate(parts):
        write(tmp_path, csv_of(part), f"train{n}.csv")
        write(tmp_path, csv_of([(f"u{n}", "t")]), f"test{n}.csv")
        write(tmp_path, csv_of(part, "group_id"), f"group_train{n}.csv")
        write(tmp_path, f"group_id,user_id\nonce,u{n}\n" + "".join(f"u{m},u{m + n}\n" for m in range(20)),
              f"groups{n}.csv")
    split, keys = GivenSettings(valid=0.4, group_valid=0.5, leaks=leaks), ("train", "test", "groups", "group_train")
    for n, mode in enumerate(("new", "append")):
        files = {key: str(tmp_path / f"{key}{n}.csv") for key in keys}
        appended = prepare_with(tmp_path / "step", FilesSettings(name="x", **files), split, mode=mode)
    files = {key: str(tmp_path / f"{key}?.csv") for key in keys}
    whole = prepare_with(tmp_path / "whole", FilesSettings(name="x", **files), split)
    for part in ("train", "valid", "test"):
        assert appended.in_split(part) == whole.in_split(part) != set()
    for part in ("train", "valid"):
        assert in_split(appended, part) == in_split(whole, part) != set()
    carve_validation = carved_by_hand(sorted({*parts[0], *parts[1]}), 0.5, 42)
    members = "".join((tmp_path / f"groups{n}.csv").read_text("utf-8") for n in range(2))
    assert in_split(whole, "valid") == (carve_validation if leaks == "keep" else
                                        without_copies(carve_validation, members, whole.in_split("train"))) != set()


# A household's films as CAMRa2011 has them: what group 1 and user 12 tried in the test is in their training too.
CAMRA = {"groupMember.txt": "1 11,12\n2 13\n3 14\n",
         "groupRatingTrain.txt": "1 501 80\n1 502 70\n2 501 90\n3 504 60\n",
         "groupRatingTest.txt": "1 502 70\n1 503 60\n2 503 100\n3 504 60\n",
         "userRatingTrain.txt": "11 501 100\n11 503 90\n12 502 70\n13 501 60\n14 504 90\n",
         "userRatingTest.txt": "12 502 70\n11 502 45\n13 503 70\n"}


@pytest.fixture
def camra(tmp_path: Path) -> Camra2011Settings:
    for name, content in CAMRA.items():
        write(tmp_path / "camra", content, name)
    return Camra2011Settings(path=str(tmp_path / "camra"))


@pytest.mark.audited
def test_pairs_that_leak_from_train_to_test_are_counted_and_warned_of(tmp_path: Path, camra: Camra2011Settings) -> None:
    prepared = prepare_with(tmp_path, camra, GivenSettings())
    assert (prepared.counts["held_out_also_in_train"], prepared.counts["group_held_out_also_in_train"]) == (1, 2)
    assert (prepared.counts["test"], prepared.counts["group_test"], prepared.counts["group_leaks"]) == (3, 4, 0)
    # 502, 503 and 504 of groups 1 and 3 are in the training of 12, 11 and 14; 502 of 12 and 11 in that of group 1.
    assert prepared.counts["group_held_out_known_to_members"] == 3
    assert prepared.counts["held_out_in_training_of_groups"] == 2
    assert len([w for w in prepared.manifest["warnings"] if "split.leaks=drop" in w]) == 2


@pytest.mark.slow
@pytest.mark.audited
def test_leaked_pairs_can_be_dropped_from_held_out_data(tmp_path: Path, camra: Camra2011Settings) -> None:
    prepared = prepare_with(tmp_path, camra, GivenSettings(leaks="drop"))
    assert prepared.in_split("test") == {("11", "502"), ("13", "503")}
    assert len(prepared.in_split("train")) == 5
    assert in_split(prepared, "test") == {("1", "503"), ("2", "503")}
    assert len(in_split(prepared, "train")) == 4
    assert (prepared.counts["leaks"], prepared.counts["group_leaks"]) == (1, 2)
    assert [(r["user_id"], r["item_id"], r["split"], r["reason"]) for r in prepared.rows("filtered")] == [
        ("12", "502", "test", "in_earlier_split")]
    assert prepared.counts["held_out_also_in_train"] == prepared.counts["group_held_out_also_in_train"] == 0
    assert not any("unaccounted" in w or "in training too" in w for w in prepared.manifest["warnings"])


def test_leaks_are_left_out_before_validation_is_carved_so_that_no_pair_is_in_two_splits(tmp_path: Path) -> None:
    train = pairs_of(12, 20, 8)
    prepared = prepared_of(tmp_path, train, [*train[::3], ("u0", "zz")], GivenSettings(valid=0.5, leaks="drop"))
    assert prepared.in_split("test") == {("u0", "zz")}
    assert prepared.counts["leaks"] == len(train[::3])
    assert prepared.in_split("valid") == carved_by_hand(train, 0.5, 42)


@pytest.mark.slow
def test_of_three_splits_the_earliest_keeps_a_pair(tmp_path: Path) -> None:
    valid = csv_of([("u", "a"), ("u", "b")])
    prepared = prepared_of(tmp_path, [("u", "a")], [("u", "a"), ("u", "b"), ("u", "c")], GivenSettings(leaks="drop"),
                           valid=valid)
    assert [prepared.in_split(part) for part in ("train", "valid", "test")] == [
        {("u", "a")}, {("u", "b")}, {("u", "c")}]
    assert prepared.counts["leaks"] == 3
