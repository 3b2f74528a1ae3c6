"""A model with all that there is, and one whose scores are what a test says."""

import contextlib
import shutil
from pathlib import Path

import pytest

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.heads.artifact import save_recommender
from llmrec_cli.heads.base import build
from llmrec_cli.settings.head import ModelConfig, PopularitySettings
from tests.conftest import once_per_run
from tests.faults.common import CONTEXT

TOWER = ["finetune", "device=cpu", "encoder=hf", "encoder.max_length=16", "head=two_tower", "head.embedding_size=8",
         "peft=lora", "peft.num_layers=1", "optim.epochs=1", "optim.batch_size=128"]


@pytest.fixture(scope="session")
def tower_model(tmp_path_factory, tiny_prepared, tiny_encoder):
    """A model folder with all that there is: ids, texts, an encoder and its adapter."""
    from llmrec_cli import cli

    def fit(folder):
        with contextlib.chdir(folder):
            cli.run([*TOWER, f"prepared={tiny_prepared}", "run_dir=tower", f"encoder.path={tiny_encoder}"])

    return once_per_run(tmp_path_factory, "fit", fit) / "tower" / "model"


@pytest.fixture
def model(tower_model, tmp_path):
    """A copy of the model to do damage to."""
    return Path(shutil.copytree(tower_model, tmp_path / "model"))


@pytest.fixture
def changed(tmp_path, tiny_prepared):
    """Save a model of these settings that was changed after its fit, and return the data."""
    def save(settings, change):
        data = read_prepared(tiny_prepared)
        head = build(ModelConfig(head=settings))
        head.fit(data.training("train", "valid"), CONTEXT)
        change(head)
        save_recommender(tmp_path / "changed", head, data, ("train", "valid"), {"refit": "train_valid", "seed": 1})
        return data
    return save


@pytest.fixture
def counting(changed):
    """Save a popularity model whose counts were changed, and return the data."""
    return lambda change: changed(PopularitySettings(), lambda head: change(head.counts_N))
