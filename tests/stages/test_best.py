"""`experiment=best`: the recipe for any data, at toy size."""

from pathlib import Path

import pytest
import yaml


@pytest.mark.slow
def test_every_member_is_tuned_within_the_budget_and_what_does_not_help_is_said(llmrec, tiny_prepared: Path) -> None:
    done = llmrec("finetune", "experiment=best", "tune.budget=2s", "encoder=tfidf", f"prepared={tiny_prepared}",
                  "head.members.sequence.budget=2s", "run_dir=run")
    assert done.code == 0, done.err
    for member in ("ease", "plain_ease", "neighbours", "item_knn", "item_similarity", "ials", "transitions", "popular"):
        assert f"{member}: trial 1" in done.err, member
    assert "sequential: head.budget: " in done.err
    # The tiny shop has too few validation queries for a second stage.
    assert "fusion: second stage lambdamart: not learned: " in done.err
    assert yaml.safe_load(Path("run/model/config.yaml").read_text("utf-8"))["head"]["unfit"] == "refuse"
    assert llmrec("recommend", "model=run", "queries=all", "output=lists.csv").code == 0
    assert llmrec("evaluate", "model=run", "num_bootstrap=100").code == 0
