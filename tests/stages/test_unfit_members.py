"""Members of a fusion that the data cannot serve are left out when asked for, and named."""

from pathlib import Path

import pytest
import yaml

MEMBERS = ["head=fusion", "~head.members", "head.members={ease: {head: ease, features: {text: 0}}, "
                                           "near: {head: item_knn}, popular: {head: popularity}}"]


@pytest.fixture
def only(monkeypatch):
    """Set the free memory in bytes."""
    def set_to(free: int) -> None:
        monkeypatch.setattr("llmrec_cli.stages.unfit_members.available_memory", lambda device: free)

    return set_to


def members_of(run: str) -> list[str]:
    return list(yaml.safe_load(Path(run, "model/config.yaml").read_text("utf-8"))["head"]["members"])


def test_the_largest_member_is_left_out_and_named(llmrec, tiny_prepared: Path, only) -> None:
    only(1)
    done = llmrec("finetune", *MEMBERS, "head.unfit=leave_out", f"prepared={tiny_prepared}", "run_dir=run")
    assert done.code == 0, done.err
    left_out = [line for line in done.err.splitlines() if "is left out: it takes about" in line]
    # Two members stay, whatever is free.
    assert len(left_out) == 1
    assert left_out[0].startswith("note: head.members.")
    assert left_out[0].split()[1].removeprefix("head.members.") not in members_of("run")
    assert llmrec("recommend", "model=run", "queries=all", "output=lists.csv").code == 0


def test_with_enough_memory_all_stay(llmrec, tiny_prepared: Path, only) -> None:
    only(2**40)
    done = llmrec("finetune", *MEMBERS, "head.unfit=leave_out", f"prepared={tiny_prepared}", "run_dir=run")
    assert done.code == 0, done.err
    assert "is left out" not in done.err


def test_a_member_for_cold_items_stays_where_validation_has_some(llmrec, tiny_prepared: Path) -> None:
    members = ["head=fusion", "~head.members", "head.members={near: {head: item_knn}, content: {head: content}}",
               "head.unfit=leave_out", "encoder=tfidf"]
    done = llmrec("finetune", *members, f"prepared={tiny_prepared}", "run_dir=warm")
    assert done.code == 0, done.err
    assert "note: head.members.content is left out: it is for items without interactions, and 0.0% of" in done.err
    rows = [(f"u{user}", f"i{(user + step) % 12}") for user in range(30) for step in range(5)]
    items = [f"i{item},{word} shoe" for item, word in enumerate(["red", "blue", "green"] * 4)]
    Path("clicks.csv").write_text("\n".join(["user_id,item_id", *map(",".join, rows)]))
    Path("items.csv").write_text("\n".join(["item_id,title", *items]))
    done = llmrec("prepare", "dataset=files", "dataset.name=shop", "dataset.interactions=clicks.csv",
                  "dataset.items=items.csv", "split=cold_items", "split.valid=0.2", "split.test=0.2")
    assert done.code == 0, done.err
    done = llmrec("finetune", *members, "run_dir=cold")
    assert done.code == 0, done.err
    assert "is left out" not in done.err


def test_fixed_weights_leave_nothing_out(llmrec) -> None:
    done = llmrec("finetune", *MEMBERS, "head.unfit=leave_out", "head.weights={ease: 1, near: 1, popular: 1}")
    assert done.code == 2
    assert "unfit=leave_out: has no effect with a fixed weight for each member" in done.err


def test_without_an_order_members_that_need_one_are_left_out(llmrec) -> None:
    Path("clicks.csv").write_text("user_id,item_id\n" + "".join(
        f"u{user},i{(user + step) % 12}\n" for user in range(30) for step in range(5)))
    done = llmrec("prepare", "dataset=files", "dataset.name=shop", "dataset.interactions=clicks.csv", "split=random")
    assert done.code == 0, done.err
    members = ["~head.members", "head.members={near: {head: item_knn}, popular: {head: popularity}, "
                                "next: {head: item_knn, direction: forward}, last: {head: ease, recency: place}, "
                                "new: {head: popularity, window: 30}, old: {head: ease, recency: time}}"]
    done = llmrec("finetune", "head=fusion", *members, "head.unfit=leave_out", "run_dir=run")
    assert done.code == 0, done.err
    for name in ("next", "last"):
        assert f"note: head.members.{name} is left out: it needs the order of the interactions" in done.err
    for name in ("new", "old"):
        assert f"note: head.members.{name} is left out: it needs the times of the interactions" in done.err
    refused = llmrec("finetune", "head=fusion", "~head.members", "head.unfit=leave_out",
                     "head.members.next={head: item_knn, direction: forward}")
    assert refused.code == 3
    assert "every member needs the order or times of the interactions" in refused.err
