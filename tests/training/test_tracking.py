"""Trackers: logged curves and settings, offline use, and missing packages."""

import os
import sqlite3

import pytest

from llmrec_cli.errors import ConfigError
from llmrec_cli.run_dir import RunDir
from llmrec_cli.settings.tracker import MlflowSettings, NoTrackerSettings, WandbSettings
from llmrec_cli.training import tracking
from llmrec_cli.training.tracking import Listener, flat, track_run

TRAINED = ["head=mf", "head.embedding_size=4", "optim.epochs=2", "optim.batch_size=128", "device=cpu"]


def test_the_curves_of_parts_follow_each_other_and_other_events_are_left_out():
    heard = []
    listener = Listener(lambda values, step: heard.append((step, values)))
    for step in (1, 2):
        listener("step", step=step, loss=0.5 / step)
    listener("validation", epoch=1, value=0.3)
    listener("memory", head="mf", stated=7)
    listener("step", step=1, loss=0.4, part="refit")
    listener("step", step=2, loss=0.3, part="refit")
    assert heard == [(1, {"step/loss": 0.5}), (2, {"step/loss": 0.25}), (2, {"validation/value": 0.3}),
                     (3, {"refit/step/loss": 0.4}), (4, {"refit/step/loss": 0.3})]


def test_settings_are_logged_under_their_command_line_keys():
    assert flat({"optim": {"batch_size": 8, "ema": 0.5}, "k": [1, 2], "resume": "", "tune": None}) == {
        "optim.batch_size": 8, "optim.ema": 0.5, "k": "[1, 2]", "resume": "", "tune": "None"}


@pytest.mark.parametrize(("settings", "extra"), [(WandbSettings(), "wandb"), (MlflowSettings(), "mlflow")])
def test_a_tracker_that_is_not_installed_is_refused_with_the_extra_to_install(tmp_path, monkeypatch, settings, extra):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with (pytest.raises(ConfigError, match=rf"tracker={extra}: needs {extra}.*pip install 'llmrec-cli\[{extra}\]'"),
          track_run(settings, RunDir(tmp_path), settings)):
        pytest.fail("the run began")


def test_without_a_tracker_nothing_is_tracked(tmp_path):
    run_dir = RunDir(tmp_path)
    with track_run(NoTrackerSettings(), run_dir, NoTrackerSettings()):
        assert run_dir.listeners == []


@pytest.mark.parametrize("database", ["file:///tmp/runs", "mlruns", "http://server"])
def test_a_folder_or_a_server_is_no_database_of_mlflow(llmrec, database):
    done = llmrec("finetune", "tracker=mlflow", f"tracker.database={database}")
    assert done.code == 2
    assert f"tracker.database={database}: write sqlite:///<file>" in done.err


def test_mlflow_has_the_curves_of_a_run_in_its_own_directory(llmrec, tiny_prepared):
    pytest.importorskip("mlflow")
    done = llmrec("finetune", f"prepared={tiny_prepared}", *TRAINED, "tracker=mlflow", "run_dir=run")
    assert done.code == 0, done.err
    with sqlite3.connect("run/mlflow.db") as database:
        curves = dict(database.execute("select key, count(*) from metrics group by key"))
        settings = dict(database.execute("select key, value from params"))
    assert curves["validation/value"] == 2
    assert curves["step/loss"] > 2
    assert {"refit/step/loss", "step/learning_rate"} <= curves.keys()
    assert (settings["head.kind"], settings["optim.epochs"]) == ("mf", "2")
    assert sorted(os.listdir()) == ["run", "runs"]


def test_wandb_writes_its_run_offline_and_says_nothing_of_the_machine(llmrec, tiny_prepared, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setattr("socket.gethostname", lambda: "name-of-the-machine")
    done = llmrec("finetune", f"prepared={tiny_prepared}", *TRAINED, "tracker=wandb", "run_dir=run")
    assert done.code == 0, done.err
    wandb.teardown()  # As at the end of a process; it completes the file.
    (written,) = [os.path.join(folder, name) for folder, _, names in os.walk("run/wandb") for name in names
                  if name.endswith(".wandb")]
    with open(written, "rb") as stream:
        content = stream.read()
    assert b"validation/value" in content
    assert b"name-of-the-machine" not in content
    assert sorted(os.listdir()) == ["run", "runs"]
