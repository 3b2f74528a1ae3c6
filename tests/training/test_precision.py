"""optim.precision=auto: the first steps are timed in both precisions, and the faster one stays."""

import json
from pathlib import Path

import pytest
import torch

from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.training import precision as precision_module
from llmrec_cli.training.loop import Length, TrainContext, train
from llmrec_cli.training.precision import PrecisionTrial

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock: `costs` are the seconds between two of its readings."""
    def set_to(costs: list[float]) -> None:
        readings = iter([sum(costs[:n]) for n in range(len(costs) + 1)])
        monkeypatch.setattr(precision_module, "work_seconds", lambda device: next(readings))

    return set_to


@pytest.mark.parametrize(("bfloat16", "chosen"), [(0.5, "bfloat16"), (0.95, "float32"), (9.0, "float32")])
def test_the_second_step_of_each_precision_decides(clock, capsys, bfloat16: float, chosen: str) -> None:
    # Steps and the time between them, in turns; the first step of each precision is slow.
    clock([20, 0, 20, 0, 1.0, 0, bfloat16])
    trial, result, steps = PrecisionTrial(CPU, "two_tower"), "", []
    while not result:
        steps.append(trial.begin())
        result = trial.end(steps[-1])
    assert steps == ["float32", "bfloat16"] * 2
    assert result == chosen
    assert f"optim.precision=auto: {chosen}, since a step in bfloat16 takes {bfloat16:.2f}" in capsys.readouterr().err


def test_all_later_steps_take_the_chosen_precision_and_a_resumed_run_keeps_it(clock, tmp_path: Path) -> None:
    clock([1, 0, 1, 0, 1, 0, 0.1])
    model, seen = torch.nn.Linear(3, 1), []

    def loss(rows: torch.Tensor) -> torch.Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return model(torch.ones(4, 3)).float().square().mean()

    def run(**folders: Path) -> None:
        train(model, lambda epoch, generator: iter(range(6)), loss, [(model, 0.01)],
              AdamWSettings(precision="auto", epochs=1, checkpoint_every=5), Length(1, 6, 1),
              TrainContext(CPU, 1, **folders))

    run(checkpoints=tmp_path)
    assert seen == [False, True, False, True, True, True]
    newest = sorted(tmp_path.iterdir())[-1]
    assert json.loads((newest / "progress.json").read_text())["progress"]["precision"] == "bfloat16"
    seen.clear()
    run(resume_from=tmp_path)
    assert seen == [True]
