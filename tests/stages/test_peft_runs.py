"""finetune with every peft option: output files, and the table of a multirun."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.heads.artifact import load_recommender
from llmrec_cli.heads.base import Context
from llmrec_cli.settings.encoder import HuggingFaceSettings

TUNED = ["head=content", "head.features.attributes=0", "head.features.tuned=true", "loss=distillation",
         "optim.epochs=2", "optim.batch_size=32", "monitor=ndcg@10"]


@pytest.fixture
def settings(tiny_prepared, tiny_encoder):
    """Settings of every run in this file."""
    return ["finetune", f"prepared={tiny_prepared}", "device=cpu", "encoder=hf", f"encoder.path={tiny_encoder}",
            "encoder.max_length=16", *TUNED]


@pytest.mark.slow
def test_a_multirun_ends_with_a_table_of_costs_and_metrics(llmrec, settings):
    done = llmrec(*settings, "peft=frozen,embedding_adapter,lora", "refit=none", "--multirun", "run_dir=many")
    assert done.code == 0, done.err
    table = done.out[done.out.index("3 runs, ndcg@10 on validation"):]
    for kind in ("frozen", "embedding_adapter", "lora"):
        row = next(line for line in table.splitlines() if kind in line.split())
        log = [json.loads(line) for run in Path().glob("many*/**/log.jsonl") for line in
               run.read_text("utf-8").splitlines()]
        assert "0." in row
    frozen = next(line for line in table.splitlines() if "frozen" in line.split())
    assert "0" in frozen.split()
    trained = {entry["trained_of_encoder"] for entry in log if entry["event"] == "fitted"}
    assert len(trained) == 3
    assert all(f"{number:,}" in table for number in trained)


def test_several_values_without_multirun_are_refused_with_the_hint(llmrec):
    done = llmrec("finetune", "experiment=peft_comparison")
    assert done.code == 2
    assert "to run several values add --multirun" in done.err


def test_trained_adapters_are_saved_separately_and_merged_on_request(llmrec, settings):
    done = llmrec(*settings, "peft=lora", "peft.num_layers=1", "peft.merge=true", "head.features.stop_after=2",
                  "optim.encoder_learning_rate=0.01", "refit=none", "run_dir=run")
    assert done.code == 0, done.err
    assert {file.name for file in Path("run/adapter").iterdir()} == {"adapter.safetensors", "adapter.json"}
    cpu = torch.device("cpu")
    model = load_recommender(Path("run/model"), Context(cpu, seed=1))
    merged = load_encoder(HuggingFaceSettings(path="run/encoder", max_length=16), None, cpu)
    texts = model.head.item_texts
    raw = merged.encode([str(text) for text in model.items.texts])
    np.testing.assert_allclose(raw, texts.raw_table.numpy(), atol=1e-4)
    start = f"peft.adapter={Path('run/adapter').resolve()}"
    again = llmrec(*settings, "peft=lora", "peft.num_layers=1", start, "head.features.stop_after=0", "refit=none",
                   "run_dir=again")
    assert again.code == 0, again.err
    second = load_recommender(Path("again/model"), Context(cpu, seed=1)).head.item_texts
    np.testing.assert_allclose(second.table.numpy(), texts.table.numpy(), atol=1e-5)
    assert str(Path("run").resolve()) not in Path("again/model/config.yaml").read_text("utf-8")


def test_an_adapter_is_refused_on_another_encoder(llmrec, settings, tmp_path):
    from tests.tiny_models import save_tiny

    llmrec(*settings, "peft=lora", "peft.num_layers=1", "head.features.stop_after=1", "refit=none", "run_dir=run")
    other = save_tiny(tmp_path / "other", "roberta")
    done = llmrec(*[s for s in settings if not s.startswith("encoder.path")], f"encoder.path={other}", "peft=lora",
                  "peft.num_layers=1", "peft.adapter=run/adapter", "refit=none")
    assert done.code == 4
    assert "was trained on another encoder" in done.err
