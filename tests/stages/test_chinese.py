"""Chinese places through all stages: a tokenizer and an encoder trained from scratch, lists and a report."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

NAMES = [f"{place}{kind}" for kind in ("古镇", "雪山", "海滩", "草原") for place in
         ("大理", "丽江", "三亚", "凤凰", "桂林", "黄山", "泰山", "青岛", "厦门", "拉萨")]
SMALL = ["encoder=scratch", "encoder.max_length=32", "encoder.vocabulary_size=200", "encoder.hidden_size=16",
         "encoder.num_layers=1", "encoder.num_attention_heads=2", "device=cpu"]


@pytest.fixture
def places(tmp_path):
    """Files of forty places of four kinds, and travellers who each like one kind; the last place has no visits."""
    rng, rows = np.random.default_rng(3), ["user_id,item_id"]
    for user in range(60):
        own = np.flatnonzero(np.arange(39) // 10 == user % 4)
        rows += [f"旅客{user},{item}" for item in [*rng.choice(own, 6, replace=False), rng.integers(39)]]
    (tmp_path / "visits.csv").write_text("\n".join(dict.fromkeys(rows)) + "\n", "utf-8")
    (tmp_path / "places.csv").write_text("item_id,name\n" + "".join(f"{n},{name}\n" for n, name in enumerate(NAMES)),
                                         "utf-8")
    return ["dataset=files", "dataset.name=places", f"dataset.path={tmp_path}", "dataset.interactions=visits.csv",
            "dataset.items=places.csv", "dataset.item_columns={title: name}", "dataset.item_text={name}"]


def test_chinese_names_go_all_the_way_to_lists_and_reports(llmrec, places):
    for command in (["prepare", *places],
                    ["pretrain", *SMALL, "objective=contrastive", "objective.holdout_share=0.2", "optim.epochs=2"],
                    ["finetune", "head=ease", "head.features.text=2", "encoder=pretrained", "encoder.max_length=32",
                     "device=cpu"],
                    ["evaluate", "num_bootstrap=100", "baselines=[popularity]", "device=cpu"],
                    ["recommend", "query.text=想看雪山和草原", "k=5", "output=lists.parquet"]):
        done = llmrec(*command)
        assert done.code == 0, done.err

    run = Path("runs/pretrain/latest")
    metrics = json.loads(run.joinpath("metrics.json").read_text("utf-8"))
    assert metrics["probe"]["kind"] == "history"
    assert metrics["probe"]["num_titles"] == 40
    tokenizer = json.loads(run.joinpath("encoder/tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    assert set("雪山海滩草原古镇") <= set(tokenizer)
    for report in (run / "report.html", Path("runs/evaluate/latest/report.html")):
        html = report.read_text("utf-8")
        assert sum(name in html for name in NAMES) >= 15
        assert '<meta charset="utf-8">' in html
    result = pq.read_table("lists.parquet").to_pylist()
    assert len(result) == 5
    assert all(row["title"] in NAMES and row["source"] == "text" for row in result)
