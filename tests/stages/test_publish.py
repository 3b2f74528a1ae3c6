"""publish: what is better or as good becomes current, and nothing else."""

import json
from pathlib import Path

import pytest

EASE = ["head=ease", "head.l2=1"]


@pytest.fixture
def model(llmrec, tiny_prepared: Path) -> str:
    done = llmrec("finetune", *EASE, f"prepared={tiny_prepared}", "run_dir=runs/good")
    assert done.code == 0, done.err
    return "runs/good"


def publish(llmrec, *settings: str):
    return llmrec("publish", "to=published", "k=5", "language=en", *settings)


def gate() -> dict:
    return json.loads(Path("published/current/gate.json").read_text())


def test_a_first_version_has_nothing_to_be_compared_with_and_says_so(llmrec, model: str) -> None:
    done = publish(llmrec, f"model={model}")
    assert done.code == 0, done.err
    assert "no current version yet" in done.err
    files = {file.name for file in Path("published/current/").iterdir()}
    assert {"recommendations.parquet", "model", "metrics.json", "report.html", "gate.json"} <= files
    by_name = {check["check"]: check for check in gate()["checks"]}
    assert by_name["rows"]["passed"] is None
    assert by_name["loads"]["value"] == 1
    assert by_name["same_scores"]["value"] == 0
    # The published model works on its own.
    assert llmrec("recommend", "model=published/current/model", "queries=all", "output=lists.csv").code == 0


def test_a_model_that_is_worse_is_refused_with_everything_that_failed(llmrec, model: str, tiny_prepared: Path) -> None:
    assert publish(llmrec, f"model={model}").code == 0
    before = Path("published/current").resolve()
    assert llmrec("finetune", "head=ease", "head.l2=1e6", f"prepared={tiny_prepared}", "run_dir=runs/bad").code == 0
    done = publish(llmrec, "model=runs/bad", "gate.floor.limit=0.99", "gate.coverage.limit=2")
    assert done.code == 7
    assert "gate.floor" in done.err
    assert "gate.coverage" in done.err
    assert Path("published/current").resolve() == before
    refused = next(Path("published/refused").iterdir())
    assert not json.loads((refused / "gate.json").read_text())["passed"]
    assert (refused / "report.html").exists()
    assert "refused" in llmrec("publish", "to=published", "history=true").out


def test_a_check_may_warn_or_be_left_out(llmrec, model: str) -> None:
    done = publish(llmrec, f"model={model}", "gate.floor={level: warn, limit: 0.99}", "gate.same_lists=ignore")
    assert done.code == 0, done.err
    assert "warning: the metric is" in done.err
    assert "same_lists" not in {check["check"] for check in gate()["checks"]}


def test_data_that_shrinks_is_refused(llmrec, model: str, tiny_prepared: Path) -> None:
    assert publish(llmrec, f"model={model}").code == 0
    rows = [f"u{user},i{(user + step) % 9}" for user in range(12) for step in range(4)]
    Path("few.csv").write_text("\n".join(["user_id,item_id", *rows]))
    assert llmrec("prepare", "dataset=files", "dataset.name=few", "dataset.interactions=few.csv",
                  "split=random").code == 0
    assert llmrec("finetune", *EASE, "prepared=data/prepared/few", "run_dir=runs/few").code == 0
    done = publish(llmrec, "model=runs/few", "gate.regression=ignore", "gate.slices=ignore")
    assert done.code == 7
    assert "of those of the current version (at least 0.7; gate.rows)" in done.err


def test_rollback_promotion_and_pins_are_recorded(llmrec, model: str, tiny_prepared: Path) -> None:
    assert publish(llmrec, f"model={model}").code == 0
    first = Path("published/current").resolve().name
    assert llmrec("finetune", "head=ease", "head.l2=2", f"prepared={tiny_prepared}", "run_dir=runs/other").code == 0
    done = publish(llmrec, "model=runs/other", "gate.review=true")
    assert done.code == 0, done.err
    assert Path("published/current").resolve().name == first
    assert llmrec("publish", "to=published", "promote=true").code == 0
    second = Path("published/current").resolve().name
    assert second != first
    assert not Path("published/candidate").exists()
    assert llmrec("publish", "to=published", f"pin={second}").code == 0
    assert llmrec("publish", "to=published", "rollback=true").code == 0
    assert Path("published/current").resolve().name == first
    events = [line.split("  ")[1].strip() for line in
              llmrec("publish", "to=published", "history=true").out.splitlines()[2:]]
    assert events == ["rolled back", "pinned", "promoted", "candidate", "published"]


def test_a_first_version_waits_for_a_person_too(llmrec, model: str) -> None:
    done = publish(llmrec, f"model={model}", "gate.review=true")
    assert done.code == 0, done.err
    assert Path("published/candidate/model").is_dir()
    assert not Path("published/current").exists()
    assert llmrec("publish", "to=published", "promote=true").code == 0
    assert Path("published/current/model").is_dir()


def test_a_refitted_model_needs_the_one_that_was_evaluated(llmrec, model: str, tiny_prepared: Path) -> None:
    assert llmrec("finetune", *EASE, "refit=all", f"prepared={tiny_prepared}", "run_dir=runs/all").code == 0
    done = publish(llmrec, "model=runs/all")
    assert done.code == 2
    assert "fitted on the held-out interactions too (refit=all)" in done.err
    assert publish(llmrec, "model=runs/all", f"evaluated={model}").code == 0
    assert Path("published/current/evaluated").is_dir()
    # The next one is compared with the evaluated model, which has not seen the held-out interactions.
    assert publish(llmrec, "model=runs/all", f"evaluated={model}", "k=4").code == 0


@pytest.mark.parametrize(("settings", "said"), [
    (["to="], "to=: must name a folder"),
    (["to=x", "rollback=true", "promote=true"], "cannot be combined with promote"),
    (["to=x", "history=true", "k=5"], "k=5: has no effect with history"),
    (["to=x", "gate.rows=of"], "gate.rows.level=of: choose one of refuse, warn, ignore")])
def test_mistakes_are_named(llmrec, settings: list[str], said: str) -> None:
    done = llmrec("publish", *settings)
    assert (done.code, said in done.err) == (2, True), done.err


def test_queries_that_the_current_model_was_fitted_on_are_not_compared(llmrec, tiny_prepared: Path) -> None:
    everything = ["gate.regression=ignore", "gate.popularity=ignore", "gate.floor=ignore", "gate.slices=ignore"]
    assert llmrec("finetune", *EASE, "refit=all", f"prepared={tiny_prepared}", "run_dir=runs/all").code == 0
    assert publish(llmrec, "model=runs/all", *everything).code == 0
    assert llmrec("finetune", "head=ease", "head.l2=9", f"prepared={tiny_prepared}", "run_dir=runs/honest").code == 0
    done = publish(llmrec, "model=runs/honest")
    assert done.code == 0, done.err
    assert "are not compared with the current version, whose model was fitted on these" in done.err
    assert "warning: regression: not measured" in done.err
    assert gate()["facts"]["compared_queries"] == 0
