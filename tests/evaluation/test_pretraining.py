"""Metrics and warnings of a pretraining run, above all about damage."""

import numpy as np
import pytest

from llmrec_cli.evaluation.pretraining import PretrainingResults, metrics_of, show
from llmrec_cli.settings.encoder import ScratchSettings
from llmrec_cli.settings.objective import MaskedLanguageModelSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.stages import PretrainConfig
from llmrec_cli.settings.tracker import NoTrackerSettings
from llmrec_cli.training.loop import TrainResult
from llmrec_cli.training.objective import Measure, Task
from llmrec_cli.training.probe import Answers, Probe

CONFIG = PretrainConfig(encoder=ScratchSettings(), objective=MaskedLanguageModelSettings(), optim=AdamWSettings(),
                        tracker=NoTrackerSettings())
PROBE = Probe("description", ["q"] * 40, ["a", "b"], np.zeros(40, np.int64), [np.zeros(0, np.int64)] * 40)


class Examples:
    scored, texts = "masked tokens", ["a text"]


def answers(*ranks):
    rank_Q = np.resize(np.array(ranks, float), 40)
    return Answers(rank_Q, np.zeros((40, 2), int))


def outcome(before, after, loss=(3.0, 2.0), probe=PROBE):
    task = Task(None, None, False, Examples(), Examples())
    return PretrainingResults(task, TrainResult(1, -loss[1], [2.5], [-loss[1]]), Measure(loss[0], 0.1, 99),
                              Measure(loss[1], 0.2, 99), probe, before, after)


def test_a_worse_probe_is_reported_in_every_output(capsys):
    harmed = outcome(answers(1), answers(2, 4))
    metrics = metrics_of(harmed, CONFIG)
    assert metrics["probe"]["verdict"] == "worse"
    assert metrics["probe"]["mrr_difference"]["difference"] == pytest.approx(-0.625)
    assert "Pretraining did harm" in metrics["warnings"][0]
    assert "mrr 1.000 before, 0.375 after" in metrics["warnings"][0]
    show(harmed, metrics)
    printed = capsys.readouterr()
    assert "WARNING: Pretraining did harm" in printed.err
    assert "worse" in printed.out


def test_a_fall_within_chance_may_be_harm_and_a_rise_gives_no_warning():
    perhaps = metrics_of(outcome(answers(1, 2, 3, 4, 5), answers(5, 4, 3, 2, 1, 9)), CONFIG)
    assert perhaps["probe"]["verdict"] == "no clear difference"
    assert "may have done harm" in perhaps["warnings"][0]
    assert "lower, but not significantly" in perhaps["warnings"][0]
    good = metrics_of(outcome(answers(2), answers(1)), CONFIG)
    assert (good["probe"]["verdict"], good["warnings"]) == ("better", [])


def test_a_risen_loss_and_a_missing_probe_are_reported():
    metrics = metrics_of(outcome(None, None, loss=(2.0, 3.0), probe=None), CONFIG)
    assert metrics["probe"] is None
    assert [warning.split(":")[0].split(" from")[0] for warning in metrics["warnings"]] == [
        "No probe", "The held-out loss rose"]
