"""`finetune tune.trials=N`: trials, accepted settings and reports; resume after a kill; no use of the test split."""

import csv
import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from llmrec_cli import cli
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.device import choose_device
from llmrec_cli.errors import in_bytes
from llmrec_cli.heads import fitting, memory
from llmrec_cli.heads.ease.head import Ease
from llmrec_cli.scoring.acceptance import Acceptance, accepted
from llmrec_cli.settings.head import EaseSettings, MfSettings, ModelConfig
from llmrec_cli.settings.heads.base import RangeSettings
from llmrec_cli.settings.loss import BprSettings, MseSettings
from llmrec_cli.settings.search import TuneSettings
from llmrec_cli.tuning import tune as tuning
from tests.heads.by_hand import CONTEXT, training
from tests.some_slow import some_slow

SPACE = ["head=ease", *(f"head.search.{key}=null" for key in ("l2_exponent", "user_exponent", "recency",
                                                              "recency_half_life")),
         "head.search.l2={low: 1, high: 1000, log: true}",
         "head.search.features.attributes={low: 0, high: 8}"]
TOWER = ["head=two_tower", "head.embedding_size=8", "peft=frozen", "optim.batch_size=128", "head.search={}",
         "head.search.optim.learning_rate={low: 0.00001, high: 0.1, log: true}", "optim.learning_rate=0.03"]


FUSION = ["head=fusion", "~head.members"]
"""A fusion without the default members."""


@pytest.fixture
def settings(tiny_prepared):
    """Arguments of every run here."""
    return ["finetune", f"prepared={tiny_prepared}", "device=cpu"]


@pytest.fixture
def tower(tiny_encoder):
    """A two-tower head that trains in a second."""
    return [*TOWER, "encoder=hf", f"encoder.path={tiny_encoder}", "encoder.max_length=16"]


def events(run, event=None):
    entries = [json.loads(line) for line in Path(run, "log.jsonl").read_text("utf-8").splitlines()]
    return [each for each in entries if event in (None, each["event"])]


def trials(run):
    with Path(run, "trials.csv").open(encoding="utf-8") as stream:
        return [{key: row[key] for key in row if key != "seconds"} for row in csv.DictReader(stream)]


def manifest(run):
    return json.loads(Path(run, "model/manifest.json").read_text("utf-8"))


def saved(run):
    return yaml.safe_load(Path(run, "model/config.yaml").read_text("utf-8"))


@pytest.fixture
def any_gain_counts(monkeypatch):
    """Accept the best trial whatever its gain: the tiny shop has too few users for a small standard error."""
    monkeypatch.setattr(tuning, "accepted", lambda gain_Q: Acceptance(float(gain_Q.mean()), 0.0, len(gain_Q)))


# --- trials and accepted settings

@pytest.mark.usefixtures("any_gain_counts")
def test_the_given_settings_come_first_and_the_best_of_all_are_refitted_and_saved(llmrec, settings):
    done = llmrec(*settings, *SPACE, "tune.trials=12", "head.l2=900", "run_dir=run")
    assert done.code == 0
    rows = trials("run")
    assert [row["trial"] for row in rows] == [str(n) for n in range(12)]
    assert (rows[0]["l2"], rows[0]["features.attributes"]) == ("900.0", "0.0")
    assert {row["state"] for row in rows} == {"complete"}
    assert all(1 <= float(row["l2"]) <= 1000 and 0 <= float(row["features.attributes"]) <= 8 for row in rows)
    best = max(rows, key=lambda row: float(row["value"]))
    assert float(best["value"]) > float(rows[0]["value"])
    model, head = manifest("run"), saved("run")["head"]
    assert (head["l2"], head["features"]["attributes"]) == (float(best["l2"]), float(best["features.attributes"]))
    assert head["search"] == {}
    assert model["fitted_on"] == ["train", "valid"]
    # Validated again after tuning, so it is the value of the saved settings.
    assert model["metrics"]["valid"]["ndcg@10"] == float(best["value"]) == model["tuning"]["ease"]["value"]
    assert model["tuning"]["ease"]["settings"] == {"l2": float(best["l2"]),
                                                   "features.attributes": float(best["features.attributes"])}
    assert (model["tuning"]["ease"]["trials"], model["tuning"]["ease"]["given"]) == (12, float(rows[0]["value"]))
    logged = events("run", "trial")
    assert [(e["trial"], e["state"], str(e["value"])) for e in logged] == [
        (n, "complete", row["value"]) for n, row in enumerate(rows)]
    assert logged[3]["settings"] == {key: float(rows[3][key]) for key in ("l2", "features.attributes")}


@pytest.mark.usefixtures("any_gain_counts")
def test_the_gain_and_the_settings_are_printed_and_reproduce_the_model(llmrec, settings):
    done = llmrec(*settings, *SPACE, "tune.trials=12", "head.l2=900", "run_dir=run")
    best = max(float(row["value"]) for row in trials("run"))
    first, verdict, header, _, *rows, by_hand, _, last = done.out.splitlines()
    initial = float(trials("run")[0]["value"])
    assert first == f"ease: ndcg@10 on validation {best:.4f} after 12 trials, {initial:.4f} with the given settings"
    assert re.fullmatch(rf"ease: gain of the best settings over the given ones \+{best - initial:.4f}, standard error "
                        r"0\.0000, \d+ queries: accepted", verdict)
    assert header.split() == ["setting", "given", "best", "tried", "importance"]
    assert {row.split()[0] for row in rows} == {"l2", "features.attributes"}
    assert sum(float(row.split()[-1]) for row in rows) == pytest.approx(1, abs=0.02)
    assert last == f"ndcg@10 on validation: {best:.4f}"
    typed = by_hand.removeprefix("equivalent overrides: ").split()
    assert llmrec(*settings, "head=ease", *typed, "run_dir=typed").code == 0
    assert Path("typed/model/model.safetensors").read_bytes() == Path("run/model/model.safetensors").read_bytes()
    assert saved("typed") == saved("run")


def test_the_given_settings_stay_where_the_best_trial_gains_less_than_its_standard_error(llmrec, settings, monkeypatch):
    """`accepted` is called with the difference of each query; their mean is the difference of the two trials."""
    differences = []
    monkeypatch.setattr(tuning, "accepted", lambda gain_Q: differences.append(gain_Q) or accepted(gain_Q))
    done = llmrec(*settings, *SPACE, "tune.trials=12", "head.l2=900", "run_dir=run")
    assert done.code == 0
    rows = trials("run")
    initial, best = float(rows[0]["value"]), max(float(row["value"]) for row in rows)
    (gain_Q,) = differences
    verdict = accepted(gain_Q)
    assert verdict.gain == pytest.approx(best - initial, abs=1e-6)
    assert 0 < verdict.gain < verdict.standard_error
    model, head = manifest("run"), saved("run")["head"]
    assert (head["l2"], head["features"]["attributes"]) == (900, 0)
    assert model["metrics"]["valid"]["ndcg@10"] == model["tuning"]["ease"]["value"] == initial
    assert (model["tuning"]["ease"]["tried_value"], model["tuning"]["ease"]["gain"]["accepted"]) == (best, False)
    assert (f"ease: gain of the best settings over the given ones {verdict}: too small, so the given settings stay"
            in done.out)


def test_the_same_seed_tries_the_same_and_another_seed_tries_others(llmrec, settings):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert llmrec(*settings, *SPACE, "tune.trials=5", "tune.num_startup=2", f"seed={seed}",
                      f"run_dir={name}").code == 0
    assert trials("a") == trials("b")
    assert trials("a")[0] == trials("c")[0]
    assert trials("a")[1:] != trials("c")[1:]


@pytest.mark.usefixtures("any_gain_counts")
def test_given_settings_outside_the_range_are_tried_as_they_are(llmrec, settings):
    done = llmrec(*settings, "head=ease", "head.search={}", "head.search.l2={low: 500, high: 1000}", "head.l2=20",
                  "tune.trials=4", "run_dir=run")
    assert done.code == 0
    rows = trials("run")
    assert [float(row["l2"]) for row in rows[:1]] == [20]
    assert all(500 <= float(row["l2"]) <= 1000 for row in rows[1:])
    assert saved("run")["head"]["l2"] == float(max(rows, key=lambda row: float(row["value"]))["l2"])


def test_whole_numbers_and_choices_are_tried_with_their_types(llmrec, settings):
    assert llmrec(*settings, "head=item_knn", "head.search={}", "head.search.k={low: 1, high: 9}",
                  "head.search.weighting={choices: [none, bm25]}", "tune.trials=8", "run_dir=run").code == 0
    rows = trials("run")
    assert (rows[0]["k"], rows[0]["weighting"]) == ("100", "none")
    assert {row["k"] for row in rows[1:]} <= {str(n) for n in range(1, 10)}
    assert {row["weighting"] for row in rows} == {"none", "bm25"}
    assert type(saved("run")["head"]["k"]) is int


def test_settings_for_missing_data_are_not_tuned_and_reported(llmrec, settings):
    done = llmrec(*settings, *SPACE, "head.search.features.knowledge={low: 1, high: 9}", "tune.trials=2", "run_dir=run")
    assert done.code == 0
    assert ("ease: features.knowledge is not tuned: the items of the prepared data have no knowledge"
            in done.err.splitlines())
    assert saved("run")["head"]["features"]["knowledge"] == 0
    assert events("run", "search")[0]["settings"] == ["l2", "features.attributes"]
    none = [f"head.search.{key}=null" for key in ("l2", "l2_exponent", "user_exponent", "recency", "recency_half_life")]
    only = llmrec(*settings, "head=ease", *none,
                  "head.search.features.knowledge={low: 1, high: 9}", "tune.trials=2")
    assert only.code == 3
    assert "tune.trials=2: ease has nothing to tune on this data: " in only.err
    assert "features.knowledge: the items of the prepared data have no knowledge" in only.err


@pytest.mark.parametrize(("loss", "expected"),
                         [(MseSettings(), ["embedding_size"]), (BprSettings(), ["embedding_size", "weight"])])
def test_weights_are_not_tuned_where_values_are_the_target_and_said_so(loss, expected, capsys):
    data = training(np.array([[1.0, 2, 0], [3, 0, 5]]))
    search = {"embedding_size": RangeSettings(low=2, high=8), "weight": RangeSettings(choices=["value", "none"])}
    config = ModelConfig(head=MfSettings(search=search), loss=loss)
    found = tuning._Search("mf", config, TuneSettings(trials=2), data, CONTEXT, None, None, None)
    assert list(found.space) == expected
    assert ("mf: weight is not tuned: the head predicts the value of each interaction" in
            capsys.readouterr().err) == ("weight" not in expected)


def test_recency_is_not_tuned_where_histories_have_no_order_and_said_so(capsys):
    data = training(np.ones((2, 3)))
    search = {"l2": RangeSettings(low=2, high=8), "recency": RangeSettings(choices=["none", "place"]),
              "recency_half_life": RangeSettings(low=1, high=5)}
    config = ModelConfig(head=EaseSettings(search=search))
    found = tuning._Search("ease", config, TuneSettings(trials=2), data, CONTEXT, None, None, None)
    assert list(found.space) == ["l2"]
    assert "ease: recency is not tuned: the prepared data has no times" in capsys.readouterr().err
    found = tuning._Search("ease", config, TuneSettings(trials=2), dataclasses.replace(data, has_order=True),
                           CONTEXT, None, None, None)
    assert list(found.space) == ["l2", "recency", "recency_half_life"]


def test_no_trial_begins_after_the_time_is_over_but_the_first(llmrec, settings):
    done = llmrec(*settings, *SPACE, "tune.trials=50", "tune.timeout_s=0.000001", "run_dir=run")
    assert done.code == 0
    assert len(trials("run")) == 1


def test_a_member_with_nothing_to_tune_on_the_data_keeps_its_settings_and_says_so(llmrec):
    Path("clicks.csv").write_text("user_id,item_id\n" + "".join(
        f"u{user},i{(user + step) % 12}\n" for user in range(30) for step in range(5)))
    done = llmrec("prepare", "dataset=files", "dataset.name=shop", "dataset.interactions=clicks.csv")
    assert done.code == 0, done.err
    members = "head.members={popular: {head: popularity}, near: {head: item_knn}}"
    done = llmrec("finetune", *FUSION, members, "tune.trials=1", "run_dir=run")
    assert done.code == 0, done.err
    assert ("note: popular keeps its settings: tune.trials=1: popular has nothing to tune on this data: window: "
            in done.err)
    assert {row["part"] for row in trials("run")} == {"near"}
    alone = llmrec("finetune", "head=popularity", "tune.trials=1")
    assert alone.code == 3
    assert "popularity has nothing to tune on this data" in alone.err


@pytest.fixture
def five_seconds_a_trial(monkeypatch):
    """Let every trial take five seconds of CPU time."""
    ticks = itertools.count(step=5)
    monkeypatch.setattr(tuning, "time", SimpleNamespace(monotonic=time.monotonic, process_time=lambda: next(ticks)))


@pytest.mark.usefixtures("five_seconds_a_trial")
def test_a_budget_of_cpu_time_is_shared_equally_whatever_the_first_member_takes(llmrec, settings):
    members = ("head.members={ease: {head: ease, features: {text: 0}, search: {l2: {low: 1, high: 1000, log: true}}}, "
               "near: {head: item_knn, search: {k: {low: 1, high: 30}}}, popular: {head: popularity, "
               "search: {window: null, trend: null}}}")
    done = llmrec(*settings, *FUSION, members, "tune.budget=25s", "run_dir=run")
    assert done.code == 0, done.err
    # 12.5 s for each: the third trial of 5 s begins before they are over.
    assert [row["part"] for row in trials("run")] == ["ease"] * 3 + ["near"] * 3
    assert "ease: trial 3, " in done.err


@pytest.mark.usefixtures("five_seconds_a_trial")
def test_a_budget_too_small_for_a_second_trial_keeps_the_given_settings_and_says_so(llmrec, settings):
    done = llmrec(*settings, *SPACE, "tune.budget=4s", "run_dir=run")
    assert done.code == 0, done.err
    assert len(trials("run")) == 1
    assert ("not tuned: the first trial, of the given settings, took 5 CPU seconds of the 4 that it may use; give a "
            "larger tune.budget") in done.err


@pytest.mark.parametrize(("text", "seconds"), [
    ("90s", 90), ("20m", 1200), ("1.5h", 5400), ("20", None), ("0m", None), ("m", None), ("1e3s", None)])
def test_a_budget_is_a_number_of_seconds_minutes_or_hours(text, seconds):
    assert TuneSettings(budget=text).budget_s == seconds
    problems = " ".join(TuneSettings(budget=text).problems())
    assert ("write a number above 0 with s, m or h" in problems) == (seconds is None)


@pytest.mark.slow
def test_without_validation_nothing_is_tuned(llmrec, prepare_tiny):
    assert llmrec("prepare", *prepare_tiny, "split=none").code == 0
    done = llmrec("finetune", *SPACE, "tune.trials=2")
    assert done.code == 3
    assert "tune.trials=2: the prepared data has no validation split" in done.err


def test_a_multirun_tunes_each_of_its_runs(llmrec, settings):
    done = llmrec(*settings, "head=ease", "head.search.l2.low=1", "head.search.l2.high=1000", "tune.trials=2,3",
                  "run_dir=many", "--multirun")
    assert done.code == 0, done.err
    assert [len(trials(f"many/{n}")) for n in range(2)] == [2, 3]


# --- the test split is not looked at

def test_the_test_split_is_not_read(llmrec, settings, monkeypatch):
    part, training, splits_read = PreparedData.part, PreparedData.training, []

    def watched(function):
        def of(self, *splits):
            splits_read.extend(splits)
            return function(self, *splits)
        return of

    # Neither tuning nor saving the model reads the test split.
    monkeypatch.setattr(PreparedData, "part", watched(part))
    monkeypatch.setattr(PreparedData, "training", watched(training))
    assert llmrec(*settings, *SPACE, "tune.trials=3", "run_dir=run").code == 0
    assert set(splits_read) == {"train", "valid"}


def test_whatever_is_in_the_test_split_the_same_is_tried_and_found(llmrec, prepare_tiny):
    """The same training and validation rows with other test rows: every trial has the same value."""
    assert llmrec("prepare", *prepare_tiny).code == 0
    assert llmrec("finetune", *SPACE, "tune.trials=4", "run_dir=real").code == 0
    import pyarrow.parquet as pq

    rows = pq.read_table("data/prepared/tiny/interactions.parquet").to_pandas()
    rows = rows[["user_id", "item_id", "value", "timestamp", "split"]]
    rows["timestamp"] = rows["timestamp"].astype("int64")
    for split in ("train", "valid", "test"):
        part = rows[rows["split"] == split].drop(columns="split")
        if split == "test":
            part["item_id"] = [f"c{n % 4}" for n in range(len(part))]
            part = part.drop_duplicates(["user_id", "item_id"])
        part.to_csv(f"{split}.csv", index=False)
    arguments = [text for text in prepare_tiny if not text.startswith(("dataset.interactions=", "dataset.min_value="))]
    assert llmrec("prepare", *arguments, "split=given", "dataset.train=train.csv", "dataset.valid=valid.csv",
                  "dataset.test=test.csv", "dataset.values=rating", "dataset.name=garbage").code == 0
    assert llmrec("finetune", *SPACE, "tune.trials=4", "run_dir=garbage", "prepared=data/prepared/garbage").code == 0
    assert trials("garbage") == trials("real")


# --- trained by epochs

@pytest.mark.slow
def test_a_trial_below_the_median_is_given_up_and_its_checkpoints_and_curves_are_not_kept(llmrec, settings, tower):
    run = [*settings, *tower, "optim.epochs=6", "tune.num_startup=3", "tune.trials=8", "optim.checkpoint_every=1"]
    assert llmrec(*run, "run_dir=run").code == 0
    rows = trials("run")
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert pruned
    assert len(pruned) == manifest("run")["tuning"]["two_tower"]["pruned"]
    epochs = [[e for e in events("run", "validation") if e.get("trial") == n] for n in range(8)]
    for row, validations in zip(rows, epochs, strict=True):
        assert len(validations) < 6 if row["state"] == "pruned" else validations
    last = int(pruned[0]["trial"])
    assert epochs[last][-1]["value"] == float(pruned[0]["value"])
    # Below the median of the earlier ones at that epoch, as its best so far.
    assert max(float(e["value"]) for e in epochs[last]) < max(float(row["value"]) for row in rows[:last])
    assert not Path("run/checkpoints").exists()
    assert {path.name for path in Path("run/tensorboard").iterdir() if path.is_dir()} == {"refit"}
    assert not [e for e in events("run", "step") if "trial" in e]
    best = max((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["value"]))
    assert manifest("run")["metrics"]["valid"]["ndcg@10"] == float(best["value"])


@pytest.mark.slow
def test_without_pruning_every_trial_runs_to_its_end(llmrec, settings, tower):
    assert llmrec(*settings, *tower, "optim.epochs=4", "tune.num_startup=1", "tune.trials=4", "tune.pruning=false",
                  "run_dir=run").code == 0
    assert {row["state"] for row in trials("run")} == {"complete"}


def test_a_diverging_trial_fails_and_tuning_continues(llmrec, settings, tower):
    huge = ["head.search={}", "head.search.optim.learning_rate={low: 1e30, high: 1e38, log: true}",
            "optim.max_gradient_norm=1e38"]
    done = llmrec(*settings, *tower, *huge, "optim.epochs=2", "tune.trials=3", "run_dir=run")
    assert done.code == 0, done.err
    rows = trials("run")
    assert [row["state"] for row in rows] == ["complete", "fail", "fail"]
    assert rows[1]["reason"].startswith("diverged: two_tower: the ")
    assert saved("run")["optim"]["learning_rate"] == 0.03


# --- fusion

def test_each_member_of_a_fusion_is_tuned_alone_and_the_weights_are_learned_after(llmrec, settings):
    members = ("head.members={ease: {head: ease, l2: 900, features: {text: 0}, "
               "search: {l2: {low: 1, high: 1000, log: true}, recency: null, recency_half_life: null}}, "
               "near: {head: item_knn, search: {k: {low: 1, high: 30}, recency: null, recency_half_life: null}}, "
               "popular: {head: popularity, search: {window: null, trend: null}}}")
    done = llmrec(*settings, *FUSION, members, "tune.trials=4", "run_dir=run")
    assert done.code == 0, done.err
    rows = trials("run")
    assert [row["part"] for row in rows] == ["ease"] * 4 + ["near"] * 4
    for name in ("ease", "near"):
        own = [row for row in rows if row["part"] == name]
        assert manifest("run")["tuning"][name]["value"] == max(float(row["value"]) for row in own)
    alone = events("run", "fusion")[0]["members"]
    assert {name: alone[name] for name in ("ease", "near")} == pytest.approx(
        {name: facts["value"] for name, facts in manifest("run")["tuning"].items()})
    assert "equivalent overrides: head.members.ease.l2=" in done.out
    saved_members = saved("run")["head"]["members"]
    for name in saved_members.keys() - {"popular"}:
        key = {"ease": "l2", "near": "k"}[name]
        assert saved_members[name]["head"][key] == manifest("run")["tuning"][name]["settings"][key]
        assert saved_members[name]["head"]["search"] == {}


# --- resume after a kill

def tuned_in_parts(llmrec, settings, kill):
    """Run `kill`, which ends a run in `cut`, resume it, and compare it with an uninterrupted run."""
    assert llmrec(*settings, "run_dir=whole").code == 0
    kill([*settings, "run_dir=cut"])
    assert not Path("cut/model").exists()
    before = Path("cut/tuning.journal").read_bytes()
    assert llmrec("finetune", "resume=cut").code == 0
    assert Path("cut/tuning.journal").read_bytes().startswith(before[:before.rfind(b"\n") + 1])
    assert trials("cut") == trials("whole")
    assert {k: v for k, v in manifest("cut").items() if k != "files"} == {
        k: v for k, v in manifest("whole").items() if k != "files"}
    for name in ("model.safetensors", "config.yaml"):
        assert Path("cut/model", name).read_bytes() == Path("whole/model", name).read_bytes()
    logged = [(e["part"], e["trial"]) for e in events("cut", "trial")]
    assert len(logged) == len(set(logged)), "a finished trial was done again"


def killed_in_fit(monkeypatch, number):
    """Return a function that runs a command in a child process and ends it like kill -9 at this number of fits."""
    def kill(arguments):
        child = os.fork()
        if child == 0:
            fit, count = fitting.fit, []

            def fitted(*args, **named):
                count.append(1)
                if len(count) == number:
                    os._exit(9)
                return fit(*args, **named)

            from llmrec_cli.stages import finetune
            from llmrec_cli.tuning import tune as tuning
            monkeypatch.setattr(tuning, "fit", fitted)
            monkeypatch.setattr(finetune, "fit", fitted)
            cli.run(arguments)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    return kill


# The first trial, a random one, one proposed by the estimator, and the fit after all six trials.
@pytest.mark.parametrize("number", some_slow([5, 1, 2, 7]))
def test_a_run_killed_in_a_trial_goes_on_to_the_same_trials_and_the_same_model(llmrec, settings, monkeypatch, number):
    config = [*settings, *SPACE, "tune.trials=6", "tune.num_startup=3"]
    tuned_in_parts(llmrec, config, killed_in_fit(monkeypatch, number))


@pytest.mark.slow
def test_pruned_trials_and_half_lines_of_the_journal_do_not_disturb(llmrec, settings, tower, monkeypatch):
    def kill(arguments):
        killed_in_fit(monkeypatch, 6)(arguments)
        with Path("cut/tuning.journal").open("ab") as stream:
            stream.write(b'{"op_code": 5, "worker_id": "half a li')

    tuned_in_parts(llmrec, [*settings, *tower, "optim.epochs=4", "tune.num_startup=2", "tune.trials=7"], kill)


def test_a_fusion_killed_while_its_second_member_is_tuned_goes_on(llmrec, settings, monkeypatch):
    members = ("head.members={ease: {head: ease, features: {text: 0}, search: {l2: {low: 1, high: 1000, log: true}}}, "
               "near: {head: item_knn, search: {k: {low: 1, high: 30}}}}")
    tuned_in_parts(llmrec, [*settings, *FUSION, members, "tune.trials=3"], killed_in_fit(monkeypatch, 5))


def test_a_damaged_journal_is_refused_by_name(llmrec, settings, monkeypatch):
    killed_in_fit(monkeypatch, 3)([*settings, *SPACE, "tune.trials=6", "run_dir=cut"])
    journal = Path("cut/tuning.journal")
    journal.write_bytes(journal.read_bytes().replace(b'"op_code"', b'"op_c', 1))
    done = llmrec("finetune", "resume=cut")
    assert done.code == 4
    assert "cut/tuning.journal: is damaged" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [
    (signal.SIGTERM, 143), *(pytest.param(*case, marks=pytest.mark.faults) for case in (
        (signal.SIGKILL, -9), (signal.SIGINT, 130)))])
def test_a_signal_ends_the_installed_command_and_the_run_can_be_resumed(llmrec, settings, sent, code):
    arguments = [*settings, *SPACE, "tune.trials=400", "run_dir=cut"]
    command = [str(Path(sys.executable).with_name("llmrec")), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        deadline = time.monotonic() + 100
        assert process.stderr is not None
        for line in process.stderr:
            assert time.monotonic() < deadline
            if re.match("ease: trial 4/400", line):
                process.send_signal(sent)
                break
        process.stderr.read()
        assert process.wait() == code
    assert not Path("cut/model").exists()
    done = [e["trial"] for e in events("cut", "trial")]
    assert done[:4] == [0, 1, 2, 3]
    # The resumed run has one more trial instead of four hundred.
    file = Path("cut/config.yaml")
    file.write_text(file.read_text().replace("trials: 400", f"trials: {len(done) + 1}"))
    again = llmrec("finetune", "resume=cut")
    assert again.code == 0
    # A kill between the end of a trial and its log line leaves a finished trial without the line.
    assert re.search(rf"ease: resuming after ({len(done)}|{len(done) + 1}) of {len(done) + 1} trials", again.err)
    assert len(trials("cut")) == len(done) + 1


# --- memory

def test_memory_is_estimated_before_and_logged_after(llmrec, settings):
    done = llmrec(*settings, "head=ease", "run_dir=run")
    assert done.code == 0
    stated = events("run", "memory")[0]["stated"]
    assert done.err.splitlines()[1] == f"head=ease: fitting takes about {in_bytes(stated)} of memory"
    fitted = events("run", "fitted")[0]
    assert fitted["memory_stated"] == stated
    assert fitted["memory_taken"] is None or fitted["memory_taken"] >= 0


@pytest.mark.parametrize(("typed", "expected"), [
    (["head=ease"], "head=ease: fitting takes about 8.0 GiB of memory for 60 users, 44 items and 453 interactions, but "
                    "only 4.0 GiB are free; prepare with a larger dataset.min_item_interactions"),
    ([*FUSION, "head.members={big: {head: ease}, near: {head: item_knn}}"],
     "leave out the largest member (head.members.big=null, 8.0 GiB), prepare with"),
    ([*SPACE, "tune.trials=3"], "head=ease: fitting takes about 8.0 GiB of memory"),
])
def test_a_head_that_does_not_fit_into_memory_is_refused_before_it_begins(llmrec, settings, monkeypatch, typed,
                                                                         expected):
    def fit(*_):
        raise AssertionError("began to fit")

    monkeypatch.setattr(Ease, "estimate_memory", lambda self, data: 8 * 2**30)
    monkeypatch.setattr(Ease, "fit", fit)
    monkeypatch.setattr(memory, "available_memory", lambda device: 4 * 2**30)
    done = llmrec(*settings, *typed)
    assert done.code == 5
    assert expected in done.err
    assert not Path("runs/finetune/latest").exists()


@pytest.mark.slow
def test_measured_memory_is_the_growth_of_the_process(tmp_path):
    """64 MiB are taken and given back, then next to nothing behind the higher peak.

    The limits are wide: if memory is short, the system takes pages of libraries away and reads them again.
    """
    code = ("import numpy as np; from llmrec_cli.heads.memory import measure_memory_growth; "
            "print(*(measure_memory_growth(lambda: np.ones(2**size).sum()) for size in (23, 10)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.split()
    assert 0.5 * 2**26 < int(first) < 1.5 * 2**26
    assert int(second) < 2**25
    assert memory.available_memory(choose_device("cpu")) > 0


def test_every_field_of_the_validation_is_passed_to_a_pruned_trial():
    from llmrec_cli.scoring.validation import Validation
    from llmrec_cli.tuning.tune import _PruningValidation

    own = {f.name for f in dataclasses.fields(Validation)}
    assert {f.name for f in dataclasses.fields(_PruningValidation)} == own | {"report"}
