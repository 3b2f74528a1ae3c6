"""Suspicious validation in finetune: copies of training, and values far above every baseline."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from llmrec_cli.evaluation.leak_checks import check_copies, check_too_high


def test_far_above_every_baseline_or_nearly_perfect_is_suspicious_and_a_good_value_is_not() -> None:
    assert check_too_high("ndcg@10", 0.55, [0.1, 0.3], 5000) == []
    assert check_too_high("ndcg@10", 0.49, [0.01], 5000) == []
    (sentence,) = check_too_high("ndcg@10", 0.6, [0.1, 0.2], 5000)
    assert "3.0 times that of the strongest baseline (0.200)" in sentence
    (sentence,) = check_too_high("ndcg@10", 0.95, [0.9], 5000)
    assert "nearly perfect for a ranking of 5,000 items" in sentence


def test_pairs_that_a_member_was_trained_on_are_counted() -> None:
    # Group 0 holds out items 0 to 3; its members 0 and 1 have items 0 and 1 in training. Group 1 has no copies.
    relevant = sp.csr_array(np.array([[1, 1, 1, 1, 0], [0, 0, 0, 0, 1]], np.float32))
    members = sp.csr_array(np.array([[1, 1, 0], [0, 0, 1]], np.float32))
    train = sp.csr_array(np.array([[1, 0, 0, 0, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]], np.float32))
    sentence = check_copies(relevant, members, train)
    assert sentence is not None
    assert sentence.startswith("2 of 5 validation pairs of groups (40.0%) are in the training split of a member")
    # One of five is below a quarter.
    fewer = sp.csr_array(np.array([[1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]], np.float32))
    assert check_copies(relevant, members, fewer) is None


@pytest.fixture
def households() -> list[str]:
    """Write data shaped like CAMRa: seven in ten interactions of a household are also a row of a member."""
    rng = np.random.default_rng(3)
    members, users, groups = ["group_id,user_id"], ["user_id,item_id"], ["group_id,item_id"]
    for n in range(40):
        members += [f"g{n},u{2 * n}", f"g{n},u{2 * n + 1}"]
        for item in rng.choice(260, 12, replace=False):
            groups.append(f"g{n},i{item}")
            if rng.random() < 0.7:
                users.append(f"u{2 * n + rng.integers(2)},i{item}")
        users += [f"u{2 * n + m},j{rng.integers(20)}" for m in (0, 1)]
    for name, lines in (("members", members), ("users", users), ("groups", groups)):
        Path(f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    Path("test.csv").write_text("user_id,item_id\nu0,j1\n", encoding="utf-8")
    return ["prepare", "dataset=files", "dataset.name=camra", "dataset.train=users.csv", "dataset.test=test.csv",
            "dataset.groups=members.csv", "dataset.group_train=groups.csv", "dataset.duplicates=keep_first",
            "split=given", "split.group_valid=0.3"]


RUN = ["finetune", "head=group_aggregate", "~head.members", "head.members.near.head=popularity", "monitor=ndcg@5",
       "refit=none"]


@pytest.mark.slow
def test_finetune_says_that_the_validation_of_groups_is_a_copy_of_members_training(llmrec, households) -> None:
    assert llmrec(*households, "split.leaks=keep").code == 0
    done = llmrec(*RUN, "run_dir=run")
    assert done.code == 0, done.err
    assert "warning: possible leak: " in done.err
    assert "are in the training split of a member" in done.err
    (sentence,) = json.loads(Path("run/manifest.json").read_text("utf-8"))["suspicious"]
    share = float(sentence.split("(")[1].split("%")[0])
    assert 60 < share < 80


@pytest.mark.slow
def test_group_validation_without_copies_gives_no_warning(llmrec, households) -> None:
    assert llmrec(*households).code == 0
    done = llmrec(*RUN, "run_dir=run")
    assert done.code == 0, done.err
    assert "possible leak" not in done.err
    logged = [json.loads(line) for line in Path("run/log.jsonl").read_text("utf-8").splitlines()]
    (baselines,) = [each for each in logged if each["event"] == "baselines"]
    assert baselines["metric"] == "ndcg@5"
    assert len(baselines["baselines"]) == 1
