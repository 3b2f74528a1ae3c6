"""Synthetic groups: members, common interactions by split, and the marks that they are synthetic."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.groups.synthetic import common_items, sample_members
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.presets import MafengwoSettings
from llmrec_cli.settings.split import GivenSettings, RandomSettings, SplitSettings, TemporalSettings
from tests.ingest.preparing import Prepared, prepare_with, write
from tests.some_slow import some_slow

SPLITS = ("train", "valid", "test")


def rows_of(num_users: int = 30, num_items: int = 40, seed: int = 5) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"u{user},i{item},{1_600_000_000 + int(rng.integers(10**6))}" for user in range(num_users)
            for item in rng.choice(num_items, 15, replace=False)]


def prepared_of(folder: Path, kind: str = "random", split: SplitSettings | None = None, rows: list[str] | None = None,
                **settings: Any) -> Prepared:
    text = "user_id,item_id,timestamp\n" + "\n".join(rows or rows_of()) + "\n"
    dataset = FilesSettings(name="x", interactions=str(write(folder, text)), synthetic_groups=kind,
                            **({"num_groups": 20} | settings))
    assert not list(dataset.problems())
    return prepare_with(folder, dataset, split or RandomSettings(valid=0.2, test=0.2))


def together_by_hand(prepared: Prepared, share: float) -> dict[tuple[str, str], tuple[str, int]]:
    """Return (group_id, item_id) -> split and time, by counting members split by split."""
    members: dict[str, set[str]] = {}
    for row in prepared.rows("groups"):
        members.setdefault(row["group_id"], set()).add(row["user_id"])
    rows = prepared.rows("interactions")
    result: dict[tuple[str, str], tuple[str, int]] = {}
    for last in range(3):
        until = [r for r in rows if SPLITS.index(r["split"]) <= last]
        for group, users in members.items():
            for item in {r["item_id"] for r in until}:
                mine = [r for r in until if r["item_id"] == item and r["user_id"] in users]
                if len(mine) >= max(2, math.ceil(share * len(users))) and (group, item) not in result:
                    result[group, item] = SPLITS[last], max(r["timestamp"] for r in mine)
    return result


@pytest.mark.audited
@pytest.mark.parametrize(("kind", "split", "share"), some_slow([
    ("random", RandomSettings(valid=0.2, test=0.2), 0.5), ("similar", TemporalSettings(valid=0.2, test=0.2), 0.7)]))
def test_a_group_gets_an_item_in_the_split_in_which_enough_members_have_it(tmp_path: Path, kind: str,
                                                                           split: SplitSettings, share: float) -> None:
    prepared = prepared_of(tmp_path, kind, split, group_share=share, group_size=[2, 5])
    result = {(r["group_id"], r["item_id"]): (r["split"], r["timestamp"]) for r in prepared.rows("group_interactions")}
    assert result == together_by_hand(prepared, share)
    assert {part for part, _ in result.values()} == set(SPLITS)
    assert prepared.counts["group_held_out_also_in_train"] == 0


@pytest.mark.slow
def test_training_of_synthetic_groups_does_not_depend_on_held_out_data(tmp_path: Path) -> None:
    """With other items in the test, groups and their training interactions stay the same."""
    rows = rows_of()
    split = TemporalSettings(test_from="2020-09-23", valid=0)
    late = [r for r in rows if int(r.split(",")[2]) >= 1_600_819_200]
    changed = [r for r in rows if r not in late] + [r.replace(",i", ",other") for r in late]
    ones = [prepared_of(tmp_path / str(n), "similar", split, rows=result) for n, result in enumerate((rows, changed))]
    first, second = ([(r["group_id"], r["item_id"]) for r in one.rows("group_interactions") if r["split"] == "train"]
                     for one in ones)
    assert len(late) > 50
    assert first == second != []
    assert ones[0].column("groups", "user_id") == ones[1].column("groups", "user_id")


def test_sizes_are_within_the_range_and_members_differ_and_have_something_to_learn_from() -> None:
    histories = np.repeat([[1.0, 1.0], [0.0, 0.0]], 10, axis=0)
    settings = FilesSettings(synthetic_groups="random", num_groups=200, group_size=[3, 5])
    result = sample_members(sp.csr_array(histories), settings)
    assert {int(n) for n in result.sum(1)} == {3, 4, 5}
    assert result.shape == (200, 20)
    assert result.data.max() == 1
    assert result.toarray().sum(0).nonzero()[0].tolist() == list(range(10))
    other = sample_members(sp.csr_array(histories),
                         FilesSettings(synthetic_groups="random", num_groups=200, group_size=[3, 5],
                                                                group_seed=1))
    assert (result != other).nnz > 0


def test_similar_groups_are_a_user_and_the_nearest_by_cosine_of_training_histories() -> None:
    """Users 0 to 2 share most, 3 and 4 share all, 5 has nothing and is in no group."""
    histories = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1],
                          [0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]], np.float32)
    settings = FilesSettings(synthetic_groups="similar", num_groups=25, group_size=[2, 2])
    result = sample_members(sp.csr_array(histories), settings).toarray()
    pairs = {tuple(np.flatnonzero(row)) for row in result}
    # cos(0,1) = 2/sqrt(6) = .82, cos(0,2) = 2/3, cos(1,2) = 1/sqrt(6) = .41, cos(3,4) = 1, others 0.
    assert pairs == {(0, 1), (0, 2), (3, 4)}
    assert result.shape == (25, 6)


def test_a_user_who_has_an_item_twice_counts_once_from_the_earliest_split() -> None:
    members = sp.csr_array(np.array([[1, 1, 1]], np.float32))
    # User 0 has item 0 in training and the test, user 1 in the test: two heads only with the test.
    group, item, when, part = common_items(members, np.array([0, 0, 1]), np.array([0, 0, 0]), np.array([5, 9, 7]),
                                           np.array([0, 2, 2]), 0.5, 1)
    assert (group.tolist(), item.tolist(), when.tolist(), part.tolist()) == ([0], [0], [7], [2])
    nothing = common_items(members, np.array([0]), np.array([0]), np.array([5]), np.array([0]), 0.5, 1)
    assert [len(column) for column in nothing] == [0, 0, 0, 0]


@pytest.mark.slow
@pytest.mark.audited
def test_36_the_order_of_rows_decides_nothing_and_everything_says_that_groups_are_synthetic(tmp_path: Path) -> None:
    rows = rows_of()
    prepared = prepared_of(tmp_path / "1", "similar", rows=rows)
    other = prepared_of(tmp_path / "2", "similar", rows=rows[::-1])
    assert prepared.manifest["fingerprint"] == other.manifest["fingerprint"]
    assert prepared.manifest["groups"] == {"synthetic": "similar"}
    assert any(note.startswith("the groups are synthetic (similar)") for note in prepared.manifest["notes"])
    assert json.loads((prepared.folder / "audit.json").read_text("utf-8"))["groups"]["synthetic"] == "similar"
    assert "Synthetic groups (similar)" in (prepared.folder / "audit.html").read_text("utf-8")


@pytest.mark.slow
def test_settings_incompatible_with_synthetic_groups_are_refused(tmp_path: Path) -> None:
    prepared_of(tmp_path, split=RandomSettings())
    more = write(tmp_path, "user_id,item_id,timestamp\nu,a,1600000000\n", "more.csv")
    files = FilesSettings(name="x", interactions=str(more), synthetic_groups="random", num_groups=20)
    with pytest.raises(ConfigError, match=r"mode=append: dataset\.synthetic_groups=random"):
        prepare_with(tmp_path, files, RandomSettings(), mode="append")
    with pytest.raises(ConfigError, match=r"split\.group=random: has no effect on synthetic groups"):
        prepare_with(tmp_path, files, RandomSettings(group="random"))
    for name, content in {"groupMember.txt": "0 2,4\n", "groupRatingTrain.txt": "0 1\n", "groupRatingTest.txt": "0 2\n",
                          "userRatingTrain.txt": "2 1\n", "userRatingTest.txt": "2 3\n"}.items():
        write(tmp_path / "folder", content, name)
    with pytest.raises(ConfigError, match=r"synthetic_groups=random: the data set has groups of its own"):
        prepare_with(tmp_path, MafengwoSettings(path=str(tmp_path / "folder"), synthetic_groups="random"),
                     GivenSettings())


def test_too_few_users_are_told_of(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.group_size=\[2,8\]: only 4 users have training interactions"):
        prepared_of(tmp_path, rows=rows_of(num_users=4))


def test_settings_without_effect_or_out_of_range_are_refused() -> None:
    assert list(FilesSettings(interactions="x", num_groups=5).problems()) == [
        "num_groups: has an effect only with dataset.synthetic_groups=random|similar"]
    result = list(FilesSettings(interactions="x", groups="g", synthetic_groups="randon", num_groups=0,
                                group_size=[1, 3], group_share=1.5).problems())
    assert [problem.split(":")[0] for problem in result] == [
        "num_groups=0", "group_share=1.5", "synthetic_groups=randon", "group_size=[1, 3]", "synthetic_groups=randon"]
