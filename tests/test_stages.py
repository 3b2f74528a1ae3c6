"""All five stages, as on the command line, on the tiny shop with a tiny encoder."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import transformers

TOWER = ["head.members.tower={head: two_tower, embedding_size: 8}", "head.members.ease.features.text=3", "peft=lora",
         "peft.num_layers=1", "adversarial=fgm", "optim.epochs=2", "optim.batch_size=128"]


def test_five_stages_in_a_row(llmrec, prepare_tiny, tiny_encoder):
    done = llmrec("prepare", *prepare_tiny)
    assert done.code == 0, done.err
    assert json.loads(Path("data/prepared/latest/manifest.json").read_text("utf-8"))["counts"]["train"] == 453

    done = llmrec("pretrain", "encoder=hf", f"encoder.path={tiny_encoder}", "encoder.max_length=24", "optim.epochs=1",
                  "device=cpu")
    assert done.code == 0, done.err
    model = transformers.AutoModel.from_pretrained("runs/pretrain/latest/encoder")
    assert model.config.hidden_size == 16

    done = llmrec("finetune", "encoder=pretrained", "encoder.max_length=24", *TOWER, "device=cpu", "seed=1")
    assert done.code == 0, done.err
    model = json.loads(Path("runs/finetune/latest/model/manifest.json").read_text("utf-8"))
    assert model["head"] == "fusion"
    assert any(name.startswith("encoders/") for name in model["files"])

    done = llmrec("evaluate", "device=cpu", "num_bootstrap=200")
    assert done.code == 0, done.err
    metrics = json.loads(Path("runs/evaluate/latest/metrics.json").read_text("utf-8"))
    assert metrics["protocol"]["num_queries"] == 60
    assert metrics["comparisons"]["popularity"]["ndcg@10"]["ci95"][0] > 0
    assert Path("runs/evaluate/latest/report.html").stat().st_size > 10_000

    done = llmrec("recommend", "queries=all", "k=5", "output=recs.parquet")
    assert done.code == 0, done.err
    lists = pq.read_table("recs.parquet").to_pylist()
    assert len(lists) == 300
    assert {row["source"] for row in lists} == {"model"}
    interactions = pq.read_table("data/prepared/tiny/interactions.parquet").to_pylist()
    seen = {(row["user_id"], row["item_id"]) for row in interactions if row["split"] != "test"}
    assert not seen & {(row["user_id"], row["item_id"]) for row in lists}

    Path("new.csv").write_text("item_id,title,year,genres\nnew1,Robot and Moon,1999,Science Fiction\n", "utf-8")
    done = llmrec("recommend", "items=new.csv", "query.text=a robot on the moon, {1999}", "k=45", "output=text.jsonl")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in Path("text.jsonl").read_text("utf-8").splitlines()]
    assert {row["source"] for row in rows} == {"text"}
    assert "new1" in {row["item_id"] for row in rows}

    # The model's folder contains everything the model needs.
    Path("runs/finetune/latest/model").resolve().rename("copied")
    Path("data").rename("gone")
    Path("runs").rename("gone too")
    done = llmrec("recommend", "model=copied", "queries=all", "k=5", "output=again.parquet")
    assert done.code == 0, done.err
    assert pq.read_table("again.parquet").to_pylist() == lists


@pytest.mark.slow
def test_the_same_commands_twice_give_the_same_bytes(llmrec, prepare_tiny, tiny_encoder):
    contents = []
    for n in range(2):
        assert llmrec("prepare", *prepare_tiny, f"output=data{n}").code == 0
        assert llmrec("finetune", f"prepared=data{n}", "encoder=hf", f"encoder.path={tiny_encoder}",
                      "encoder.max_length=24", *TOWER, f"run_dir=run{n}").code == 0
        assert llmrec("recommend", f"model=run{n}", "queries=all", f"output=recs{n}.jsonl").code == 0
        contents.append([Path(name).read_bytes() for name in (f"data{n}/interactions.parquet", f"recs{n}.jsonl",
                                                           f"run{n}/model/model.safetensors")])
    assert contents[0] == contents[1]
