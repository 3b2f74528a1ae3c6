"""benchmarks/fusion.py at toy size: it runs, and its gains are those of the rule on the other half."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "fusion.py"


@pytest.fixture
def benchmark():
    spec = importlib.util.spec_from_file_location("fusion_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_members_are_fitted_once_and_both_rules_measured_on_each_half(benchmark, tiny_prepared, monkeypatch, capsys):
    fits = []
    fitted = benchmark.fitted
    monkeypatch.setattr(benchmark, "fitted", lambda *given: fits.append(1) or fitted(*given))
    monkeypatch.setattr(sys, "argv", [str(BENCHMARK), str(tiny_prepared), "--halves", "3", "head=fusion",
                                      "~head.members",
                                      "head.members={ease: {head: ease, l2: 20}, neighbours: {head: user_knn}}"])
    benchmark.main()
    out = capsys.readouterr().out
    assert len(fits) == 1
    for rule in ("any gain", "held out"):
        for column in ("where learned", "other half", "test"):
            assert re.search(rf"^{rule} +{column} +[+-]0\.\d{{4}} \(standard error 0\.\d{{4}}, \d of 3 above 0", out,
                             re.MULTILINE)
    assert "members: " in out
