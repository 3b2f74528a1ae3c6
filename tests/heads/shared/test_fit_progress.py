"""Progress of fits that count no steps: the predicted time before, iterations, and the texts that are encoded."""

import re

import numpy as np
import pytest
import torch

from llmrec_cli import pace
from llmrec_cli.heads.base import build
from llmrec_cli.heads.ease import head as ease
from llmrec_cli.heads.shared import fit_progress
from llmrec_cli.heads.shared.fit_progress import fit_in_sight
from llmrec_cli.settings.head import EaseSettings, ModelConfig
from llmrec_cli.settings.heads.ials import IalsSettings
from tests.heads.by_hand import CONTEXT, training

MATRIX = (np.random.default_rng(5).random((40, 12)) < 0.3) * 1.0


@pytest.fixture(autouse=True)
def all_work_is_long(monkeypatch):
    monkeypatch.setattr(ease, "_MEASURED_OPERATIONS", 0)
    monkeypatch.setattr(pace, "WORTH_A_LINE", -1.0)
    monkeypatch.setattr(fit_progress, "WORTH_A_LINE", 0.0)


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_the_solve_of_ease_is_predicted_and_grows_with_the_cube_of_its_matrix(capsys, monkeypatch, form):
    head = build(ModelConfig(head=EaseSettings(form=form)))
    fit_in_sight(head, "ease", training(MATRIX), CONTEXT)
    assert re.fullmatch(r"ease: fitting takes about [0-9.]+ s\n", capsys.readouterr().err)
    fit_in_sight(head, "ease", training(MATRIX), CONTEXT, quiet=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(ease, "operations_per_second", lambda _: 1.0)
    small, large = (head.estimate_seconds(training(np.tile(MATRIX, (n, n))), torch.device("cpu")) for n in (1, 2))
    assert large == 8 * small


def test_a_small_solve_is_not_predicted(monkeypatch):
    monkeypatch.undo()
    head = build(ModelConfig(head=EaseSettings()))
    assert head.estimate_seconds(training(MATRIX), torch.device("cpu")) == 0


def test_ials_counts_its_iterations(capsys):
    head = build(ModelConfig(head=IalsSettings(embedding_size=4, iterations=3)))
    fit_in_sight(head, "ials", training(MATRIX), CONTEXT)
    assert re.fullmatch(r"ials: 3 iterations took 0\.\d s\n", capsys.readouterr().err)


def test_a_fit_is_named_in_the_lines_of_long_work(monkeypatch):
    head = build(ModelConfig(head=EaseSettings()))
    names = []
    monkeypatch.setattr(head, "fit", lambda data, context: names.extend(map(str, pace._under_way.works)))
    with pace.still_working("finetune"):
        fit_in_sight(head, "ease", training(MATRIX), CONTEXT)
    assert names == ["finetune", "fitting ease"]
