"""dataset.cluster_users=true: clusters of users as groups, made from training only, and marked as synthetic."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.errors import ConfigError
from llmrec_cli.heads.clusters.user_clusters import cluster_users, read_training
from llmrec_cli.ingest.groups.synthetic import members_of, refuse_synthetic_conflicts
from llmrec_cli.ingest.readers.sources import Source, Sources
from llmrec_cli.settings.cluster_users import ClusterUsersSettings
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.split import RandomSettings, SplitSettings
from tests.ingest.preparing import Prepared, prepare_with, write

pytestmark = pytest.mark.slow

SPLITS = ("train", "valid", "test")


def rows_of() -> list[str]:
    """Alternating users of two kinds, each with items of its own kind."""
    rng = np.random.default_rng(2)
    return [f"u{user:02},i{item:02},{1_600_000_000 + int(rng.integers(10**6))}" for user in range(40)
            for item in 10 * (user % 2) + rng.permutation(10)[:7]]


def prepared_of(folder: Path, rows: list[str] | None = None, split: SplitSettings | None = None,
                **settings: Any) -> Prepared:
    text = "user_id,item_id,timestamp\n" + "\n".join(rows or rows_of()) + "\n"
    about = "user_id,job\n" + "".join(f"u{n:02},{('baker', 'smith')[n % 2]}\n" for n in range(40))
    dataset = FilesSettings(name="x", interactions=str(write(folder, text)),
                            users=str(write(folder, about, "users.csv")),
                            user_attributes={"job": "category"}, user_text="a {job}",
                            cluster_users=ClusterUsersSettings(**({"on": True, "num_clusters": 2,
                                                                   "share": 0.4} | settings)))
    assert not list(dataset.problems())
    return prepare_with(folder, dataset, split or RandomSettings(valid=0.15, test=0.15))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared_of(tmp_path_factory.mktemp("clustered"))


def members(prepared: Prepared) -> dict[str, set[str]]:
    result: dict[str, set[str]] = {}
    for row in prepared.rows("groups"):
        result.setdefault(row["group_id"], set()).add(row["user_id"])
    return result


def test_users_who_choose_alike_are_one_group(prepared: Prepared) -> None:
    kinds = [{f"u{n:02}" for n in range(40) if n % 2 == kind} for kind in (0, 1)]
    assert sorted(members(prepared).values(), key=min) == kinds
    assert set(members(prepared)) == {"cluster0", "cluster1"}


def test_a_cluster_has_items_of_enough_members_valued_by_their_share_in_training(prepared: Prepared) -> None:
    rows, result = prepared.rows("interactions"), {}
    for group, users in members(prepared).items():
        for item in {row["item_id"] for row in rows}:
            counts = [sum(row["item_id"] == item and row["user_id"] in users and SPLITS.index(row["split"]) <= last
                          for row in rows) for last in range(3)]
            enough = [n for n in range(3) if counts[n] >= math.ceil(0.4 * len(users))]
            if enough:
                result[group, item] = SPLITS[enough[0]], counts[0] / len(users)
    written = {(row["group_id"], row["item_id"]): (row["split"], row["value"])
               for row in prepared.rows("group_interactions")}
    assert written.keys() == result.keys()
    for pair, (split, share) in result.items():
        assert written[pair][0] == split
        assert written[pair][1] == pytest.approx(share)
    assert {split for split, _ in written.values()} >= {"train"}


@pytest.mark.audited
def test_synthetic_groups_are_labelled_in_manifest_notes_and_audit(prepared: Prepared) -> None:
    assert prepared.manifest["groups"] == {"synthetic": "clusters"}
    assert any("synthetic (clusters)" in note for note in prepared.manifest["notes"])
    assert json.loads((prepared.folder / "audit.json").read_text())["groups"]["synthetic"] == "clusters"
    groups = read_prepared(prepared.folder).groups("train")
    assert groups is not None
    assert groups.synthetic == "clusters"
    assert groups.sizes.tolist() == [20, 20]


@pytest.mark.audited
def test_only_training_is_clustered(prepared: Prepared) -> None:
    data = read_training(prepared.folder)
    assert len(data.interactions) == prepared.counts["train"]
    pairs = {(data.users.ids[u], data.items.ids[i])
             for u, i in zip(data.interactions.user, data.interactions.item, strict=True)}
    assert pairs == prepared.in_split("train")
    assert list(data.users.texts[:2]) == ["a baker", "a smith"]


@pytest.mark.audited
def test_clusters_are_made_of_the_tables_that_prepare_writes_and_of_nothing_else(prepared: Prepared) -> None:
    clusters = members_of(cluster_users(ClusterUsersSettings(on=True, num_clusters=2), prepared.folder))
    written = {(int(row["group_id"].removeprefix("cluster")), row["user"]) for row in prepared.rows("groups")}
    assert set(zip(*(result.tolist() for result in clusters.nonzero()), strict=True)) == written


def test_rows_in_another_order_make_the_same_groups(prepared: Prepared, tmp_path: Path) -> None:
    shuffled = list(np.random.default_rng(0).permutation(rows_of()))
    assert prepared_of(tmp_path, shuffled).manifest["fingerprint"] == prepared.manifest["fingerprint"]


def test_users_without_training_and_empty_clusters_are_in_no_group() -> None:
    result = members_of(np.array([3, -1, 0, 3]))
    assert result.toarray().tolist() == [[0, 0, 1, 0], [1, 0, 0, 1]]


@pytest.mark.parametrize(("settings", "said"), [
    (ClusterUsersSettings(seed=3), "no effect"), (ClusterUsersSettings(on=True, num_clusters=1), "at least 2"),
    (ClusterUsersSettings(on=True, share=0), "above 0"),
    (ClusterUsersSettings(on=True, encoder="word2vec"), "choose one of")])
def test_settings_without_effect_or_sense_are_refused(settings: ClusterUsersSettings, said: str) -> None:
    assert any(said in problem for problem in settings.problems())


def test_clusters_are_refused_beside_other_groups(tmp_path: Path) -> None:
    on = ClusterUsersSettings(on=True)
    beside = FilesSettings(interactions="x.csv", synthetic_groups="random", cluster_users=on)
    assert any("synthetic_groups=random" in problem for problem in beside.problems())
    own = FilesSettings(interactions="x.csv", groups="g.csv", cluster_users=on)
    assert any("cannot be combined with dataset.groups" in problem for problem in own.problems())


@pytest.mark.parametrize(("sources", "group", "mode", "said"), [
    (Sources([], members=[Source(Path("members.csv"))]), "", "new", "groups of its own .members.csv."),
    (Sources([]), "random", "new", "split.group=random: has no effect on clusters"),
    (Sources([]), "", "append", "mode=append: dataset.cluster_users=true")])
def test_settings_incompatible_with_clusters_are_refused(sources: Sources, group: str, mode: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        refuse_synthetic_conflicts(sources, FilesSettings(cluster_users=ClusterUsersSettings(on=True)), group, mode)
    refuse_synthetic_conflicts(sources, FilesSettings(), group, mode)
