"""evaluate and recommend print a memory estimate before they read anything, and log the memory used."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llmrec_cli.config import compose
from llmrec_cli.encoders.sources import IMPORTED_BYTES
from llmrec_cli.errors import in_bytes
from llmrec_cli.heads import memory
from llmrec_cli.heads.artifact import model_folder
from llmrec_cli.heads.memory import Watch, model_memory, num_rows
from llmrec_cli.scoring.memory import (
    KEPT,
    READ,
    history_memory,
    latest_memory,
    lists_memory,
    scoring_memory,
    validation_memory,
)
from llmrec_cli.stages import evaluate, recommend


def noted(run: str) -> dict:
    lines = [json.loads(line) for line in (Path(run) / "log.jsonl").read_text("utf-8").splitlines()]
    return next(line for line in lines if line["event"] == "memory_taken")


@pytest.fixture
def fitted(llmrec, tiny_prepared):
    assert llmrec("finetune", f"prepared={tiny_prepared}", "head=popularity", "run_dir=fit").code == 0
    return llmrec


@pytest.mark.parametrize(("command", "more"), [("evaluate", ["baselines=[item_knn]"]),
                                               ("recommend", ["queries=all", "output=lists.csv", "k=5"])])
def test_a_commands_memory_is_estimated_first_and_logged(fitted, command, more):
    done = fitted(command, "model=fit", "run_dir=run", *more)
    assert done.code == 0
    result = noted("run")
    assert done.err.splitlines()[0] == f"{command}: takes about {in_bytes(result['stated'])} of memory"
    assert result["command"] == command
    assert "taken" in result


@pytest.mark.slow
@pytest.mark.parametrize(("command", "stage"), [("evaluate", evaluate), ("recommend", recommend)])
def test_the_heads_code_is_imported_before_memory_is_measured(fitted, monkeypatch, command, stage):
    order = []
    plain = stage.import_head
    monkeypatch.setattr(stage, "import_head", lambda folder: (order.append("head"), plain(folder)))

    class Seen(Watch):
        def __init__(self, *arguments):
            order.append("watch")
            super().__init__(*arguments)

    monkeypatch.setattr(stage, "Watch", Seen)
    assert fitted(command, "model=fit", "run_dir=run", *(["queries=all"] if command == "recommend" else [])).code == 0
    assert order == ["head", "watch"]


def test_measured_memory_is_the_growth_of_the_peak_since_the_start(monkeypatch):
    peaks, held, events = iter([700, 950]), 600, {}
    monkeypatch.setattr(memory, "peak", lambda: next(peaks))
    monkeypatch.setattr(memory, "_reset_peak", lambda: True)
    monkeypatch.setattr(memory.psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=held))
    Watch("recommend", 400, torch.device("cpu"), lambda event, **values: events.update({event: values})).done()
    assert events == {"memory_taken": {"command": "recommend", "stated": 400, "taken": 350}}


@pytest.mark.parametrize(("after", "taken"), [(700, None), (950, 350)])
def test_if_the_peak_cannot_be_reset_only_a_new_peak_is_logged(monkeypatch, after, taken):
    peaks, events = iter([700, after]), {}
    monkeypatch.setattr(memory, "peak", lambda: next(peaks))
    monkeypatch.setattr(memory, "_reset_peak", lambda: False)
    monkeypatch.setattr(memory.psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=600))
    Watch("evaluate", 400, torch.device("cpu"), lambda event, **values: events.update({event: values})).done()
    assert events["memory_taken"]["taken"] == taken


@pytest.mark.parametrize("query", [["query.user_id=u1"], ["queries=all"], ["query.members=[u1,u2]"]])
def test_recommend_counts_the_prepared_data_where_it_reads_latest_histories(fitted, tiny_prepared, query):
    def stated(*settings: str) -> int:
        return recommend.memory_of(compose("recommend", ["model=fit", *query, *settings]), model_folder("fit"))

    rows = num_rows(Path(tiny_prepared) / "interactions.parquet")
    assert stated() - stated("history=fit") >= 50 * rows
    text = ["model=fit", "query.text=tea"]
    assert (recommend.memory_of(compose("recommend", text), model_folder("fit"))
            == recommend.memory_of(compose("recommend", [*text, "history=fit"]), model_folder("fit")))


def test_memory_of_latest_histories_is_the_larger_of_reading_and_scoring():
    assert latest_memory(1000, 0) == 1000 * READ
    assert latest_memory(1000, 10**6) == 1000 * KEPT + 10**6


@pytest.mark.parametrize(("command", "stage"), [("evaluate", evaluate), ("recommend", recommend)])
def test_a_command_that_does_not_fit_into_memory_ends_before_anything_is_loaded(fitted, monkeypatch, command, stage):
    def load(*_):
        raise AssertionError("began to load")

    monkeypatch.setattr(memory, "available_memory", lambda device: 1000)
    monkeypatch.setattr(stage, "load_models" if command == "evaluate" else "load_recommender", load)
    done = fitted(command, "model=fit", "run_dir=run", *(["queries=all"] if command == "recommend" else []))
    assert done.code == 5
    assert f"{command}: takes about" in done.err
    assert "1000 bytes are free" in done.err


def test_evaluate_counts_the_histories_of_each_model(fitted, tiny_prepared):
    shutil.copytree("fit", "other")
    one, two = (evaluate.memory_of(compose("evaluate", [f"models=[{names}]", f"prepared={tiny_prepared}"]))
                for names in ("fit", "fit,other"))
    rows = num_rows(Path(tiny_prepared) / "interactions.parquet")
    assert two - one >= history_memory(rows) + model_memory(model_folder("fit"))


def test_memory_of_a_model_is_the_size_of_its_arrays(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    (tmp_path / "histories.safetensors").write_bytes(bytes(10))
    assert model_memory(tmp_path) == 1010


def test_memory_of_scores_is_per_block_and_of_lists_per_entry():
    assert scoring_memory(10, 100, 1024) == 2 * 4 * 10 * 100
    assert scoring_memory(10**6, 100, 50) == 2 * 4 * 50 * 100
    assert lists_memory(7, 20) == 20 * lists_memory(7, 1)


def test_memory_of_validation_is_a_block_of_queries_and_histories():
    assert validation_memory(10, 100, 0) == scoring_memory(10, 100, 1024)
    assert validation_memory(10**6, 100, 70) == validation_memory(1024, 100, 70) == (
        scoring_memory(1024, 100, 1024) + history_memory(70))


def test_memory_freed_before_a_fit_is_returned_so_that_the_fits_growth_is_measured(monkeypatch):
    order = []
    monkeypatch.setattr(memory, "return_freed_memory", lambda: order.append("given back"))
    memory.measure_memory_growth(lambda: order.append("fitted"))
    assert order == ["given back", "fitted"]


def libraries_memory(*settings):
    return memory.libraries_memory(compose("finetune", settings).config)


def test_libraries_of_training_are_counted_once_beside_an_encoder():
    plain, trained, both = map(libraries_memory, ("head=popularity", "head=mf", "head=two_tower"))
    assert plain < trained
    assert both - IMPORTED_BYTES < trained


def test_modules_that_a_text_encoder_imports_are_counted_once_for_all_members():
    text = ["head=ease", "head.features.text=1"]
    frozen = libraries_memory(*text)
    assert frozen == libraries_memory("head=ease") + IMPORTED_BYTES
    assert libraries_memory(*text, "encoder=static") == frozen
    assert libraries_memory(*text, "encoder=concat") == frozen
    assert libraries_memory(*text, "encoder=lsa") == libraries_memory("head=ease")
    members = ["head.members.tower.head=two_tower", "head.members.near.head=item_similarity"]
    assert libraries_memory("head=fusion", *members) == libraries_memory("head=two_tower")


@pytest.mark.slow
def test_the_validated_head_is_freed_before_the_published_one_is_fitted(llmrec, tiny_prepared, monkeypatch):
    import gc
    import weakref

    from llmrec_cli.stages import finetune

    heads: list[weakref.ref] = []
    alive = []
    plain = finetune.fit

    def fit(*arguments, **options):
        gc.collect()
        alive.append(sum(head() is not None for head in heads))
        head = plain(*arguments, **options)
        heads.append(weakref.ref(head))
        return head

    monkeypatch.setattr(finetune, "fit", fit)
    assert llmrec("finetune", f"prepared={tiny_prepared}", "head=ease", "run_dir=fit").code == 0
    np.testing.assert_array_equal(alive, [0, 0])
