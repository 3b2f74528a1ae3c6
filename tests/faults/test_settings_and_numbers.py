"""The fault matrix, configuration and training."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.heads.pairs.steps import ChoiceSteps
from llmrec_cli.settings.head import ItemKnnSettings
from llmrec_cli.settings.heads.pairs import MfSettings
from llmrec_cli.settings.loss import SoftmaxSettings
from tests.faults.common import CONTEXT


@pytest.mark.parametrize(("command", "setting"), [
    ("evaluate", "k=[0]"), ("evaluate", "k=[10,-1]"), ("evaluate", "k=[nan]"), ("evaluate", "propensity=nan"),
    ("recommend", "k=0"), ("finetune", "optim.learning_rate=-1"), ("finetune", "optim.learning_rate=nan"),
    ("finetune", "optim.batch_size=0"), ("finetune", "tune.trials=-1")])
def test_51_a_number_out_of_range_ends_with_2_and_names_it(llmrec, tmp_path, command, setting):
    done = llmrec(command, setting)
    assert done.code == 2
    name, _, value = setting.partition("=")
    assert name in done.err
    assert value.strip("[]").rpartition(",")[2] in done.err
    assert not list(tmp_path.iterdir())


def test_52_a_gpu_that_is_not_there_is_refused_and_the_cpu_not_taken_instead(llmrec, tiny_prepared, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:1"):
        done = llmrec("finetune", "head=popularity", f"prepared={tiny_prepared}", f"device={device}")
        assert done.code == 2
        assert f"device={device}: torch" in done.err
        assert "choose device=cpu" in done.err
    assert not Path("runs/finetune/latest").exists()


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_53_a_loss_that_is_no_number_ends_with_6_and_publishes_nothing(llmrec, tiny_prepared, tiny_encoder, similarity):
    assert llmrec("finetune", "head=popularity", f"prepared={tiny_prepared}", "run_dir=before").code == 0
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=two_tower", "head.embedding_size=8", "encoder=hf",
                  f"encoder.path={tiny_encoder}", "encoder.max_length=16", "peft=frozen",
                  f"loss.similarity={similarity}", "optim.learning_rate=1e30", "optim.batch_size=128",
                  "optim.warmup_share=0", "run_dir=run")
    assert done.code == 6
    assert done.err.splitlines()[-1].startswith("llmrec: diverged: ")
    assert "optim.learning_rate" in done.err
    assert not Path("run/model").exists()
    assert Path("runs/finetune/latest").resolve() == Path("before").resolve()


def test_55_batches_are_the_same_however_many_threads_there_are():
    """There are no data workers to have: batches are drawn in the process from its own generator and from nothing else.

    A step takes rows of arrays that are in memory, so a process beside it would cost more than it does.
    """
    interactions = Interactions(np.arange(90) % 9, np.arange(90) % 10, np.ones(90, np.float32), np.arange(90), 9, 10)
    steps = ChoiceSteps(None, MfSettings(embedding_size=4), SoftmaxSettings(), interactions, 16, CONTEXT.device)
    result, before = [], torch.get_num_threads()
    try:
        for threads in (1, 4, 8):
            torch.set_num_threads(threads)
            sample = steps.batches(1, np.random.default_rng(1))
            result.append([(rows.tolist(), seeds.tolist()) for rows, seeds in sample])
    finally:
        torch.set_num_threads(before)
    assert result[0] == result[1] == result[2]
    assert sorted(row for rows, _ in result[0] for row in rows) == list(range(90))


def test_56_scores_that_are_no_numbers_end_with_6_and_nothing_is_published(llmrec, changed):
    def near_overflow(head):
        head.similarity_NN.data[:] = 3e38
    changed(ItemKnnSettings(), near_overflow)
    for command in (["evaluate", "baselines=[]"], ["recommend", "queries=all", "output=lists.jsonl"]):
        done = llmrec(*command, "model=changed", "run_dir=run")
        assert done.code == 6
        assert done.err.splitlines()[-1].startswith("llmrec: diverged: ")
        assert not Path("run/metrics.json").exists()
        assert not Path("lists.jsonl").exists()
        assert not Path(f"runs/{command[0]}/latest").exists()
        shutil.rmtree("run", ignore_errors=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_56_nan_in_a_model_ends_with_4_and_publishes_nothing(llmrec, counting, value):
    def spoil(counts_N):
        counts_N[3] = value
    counting(spoil)
    done = llmrec("evaluate", "baselines=[]", "model=changed", "run_dir=run")
    assert done.code == 4
    assert "changed/model.safetensors: counts: has " in done.err
    assert not Path("run/metrics.json").exists()


def test_57_a_list_longer_than_the_catalogue_is_short_and_not_padded(llmrec, model):
    done = llmrec("recommend", "model=model", "query.history=[i0,i1]", "k=1000", "output=lists.parquet")
    assert done.code == 0
    lists = pq.read_table("lists.parquet")
    assert lists["rank"].to_pylist() == list(range(1, 43))
    assert len(set(lists["item_id"].to_pylist())) == 42
