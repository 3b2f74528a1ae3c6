"""Lines of evaluate and recommend about long work: what they do, how far they are, seconds left."""

import re
import time
from pathlib import Path

import pytest

from llmrec_cli import pace
from llmrec_cli.requests import answers
from llmrec_cli.scoring import scorer


@pytest.fixture
def knn(llmrec, tiny_prepared: Path) -> list[str]:
    done = llmrec("finetune", "head=item_knn", f"prepared={tiny_prepared}", "run_dir=knn")
    assert done.code == 0, done.err
    return ["model=knn", "block_size=20"]


@pytest.fixture
def long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the ranking of a block take longer than the time between two lines."""
    monkeypatch.setattr(pace, "LINE_SECONDS", 0.01)
    for module in (scorer, answers):
        name = "rank_block" if module is scorer else "block_lists"
        work = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, _work=work, **k: time.sleep(0.05) or _work(*a, **k))


def test_evaluate_counts_models_baselines_and_queries(llmrec, knn, long_work):
    done = llmrec("evaluate", *knn, "baselines=[popularity]", "num_bootstrap=100", "k=5")
    assert done.code == 0, done.err
    assert "evaluate, 0.0 s so far" in done.err
    for line in (r"ranked 0 of 1 models, head=item_knn, ranked 0 of 60 queries",
                 r"ranked 0 of 1 models, head=item_knn, ranked 40 of 60 queries, about 0\.\d s left",
                 r"ranked 0 of 1 baselines, head=popularity, ranked 20 of 60 queries, about 0\.\d s left"):
        assert re.search(rf"^evaluate, \d\.\d s so far: {line}$", done.err, re.M), done.err


def test_recommend_counts_queries(llmrec, knn, long_work):
    done = llmrec("recommend", *knn, "queries=all", "k=5", "output=lists.csv")
    assert done.code == 0, done.err
    line = r"^recommend, \d\.\d s so far: made lists for 40 of 60 queries, about 0\.\d s left$"
    assert re.search(line, done.err, re.M), done.err


@pytest.mark.slow
def test_short_runs_print_no_such_line(llmrec, knn):
    for command in (["evaluate", *knn, "num_bootstrap=100"], ["recommend", *knn, "queries=all", "output=lists.csv"]):
        assert " so far" not in llmrec(*command).err
