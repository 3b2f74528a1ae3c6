"""Chinese places through all stages: a tokenizer and an encoder trained from scratch, lists and a report."""

import json
import re
from html import unescape
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


@pytest.fixture
def messy_places(places, tmp_path):
    """The places, with faults that notes, warnings and rejects of `prepare` are about."""
    visits = tmp_path / "visits.csv"
    rows = visits.read_text("utf-8").splitlines()
    days = [f"{row},{4 + n % 2},2024-01-{n % 28 + 1:02}" for n, row in enumerate(rows[1:])]
    bad = ["旅客1,3,高,2024-01-05", "旅客1,,4,2024-01-05", "旅客1,3,4", "user_id,item_id,value,timestamp",
           "旅客2,5,4,昨天", "unknown,5,4,2024-01-03", "unknown,6,4,2024-01-03", "旅客3,7,0,2024-01-03",
           "旅客3,没有,5,2031-01-03", "旅客4,8.0,5,2024-01-03"]
    visits.write_text("\n".join(["user_id,item_id,value,timestamp", *days, *bad]) + "\n", "utf-8")
    listed = tmp_path / "places.csv"
    described = listed.read_text("utf-8").splitlines()
    listed.write_text("\n".join([described[0] + ",price", *(f"{row},{n if n % 5 else '免费'}"
                                                            for n, row in enumerate(described[1:])),
                                 "3,凤凰古镇二,9", ",无名,1"]) + "\n", "utf-8")
    (tmp_path / "triples.csv").write_text("head,relation,tail\n" + "".join(
        f"e{n},kind,k{n // 10}\n" for n in range(40)) + "e1,same,e1\n", "utf-8")
    (tmp_path / "links.csv").write_text("item_id,entity_id\n" + "".join(f"{n},e{n}\n" for n in range(30)) +
                                        "99,e3\n5,e77\n", "utf-8")
    return [*places, "dataset.max_reject_share=0.2", "dataset.attributes.price=number",
            "dataset.knowledge=triples.csv", "dataset.links=links.csv", "dataset.synthetic_groups=random",
            "dataset.num_groups=6", "split=leave_last_out"]


def visible(html):
    """The text of a page, its tooltips and its labels for screen readers."""
    attributes = re.findall(r'(?:title|aria-label)="([^"]*)"', html)
    return unescape(" ".join([re.sub(r"(?s)<style>.*?</style>|<[^>]*>", "\n", html), *attributes]))


@pytest.mark.slow
def test_the_audit_page_of_messy_data_has_no_english_sentence(llmrec, messy_places):
    done = llmrec("prepare", *messy_places, "language=zh")
    assert done.code == 0, done.err
    prepared = Path("data/prepared/places")
    audit = json.loads((prepared / "audit.json").read_text("utf-8"))
    # The other outputs are in English, and each of these sentences is in Chinese on the page.
    assert len(audit["notes"]) >= 12
    assert len(audit["warnings"]) >= 3
    assert len(audit["rejects"]["by_reason"]) >= 5
    assert all(note in done.err for note in audit["notes"])
    page = visible((prepared / "audit.html").read_text("utf-8"))
    # Examples of leaks are columns with their values.
    assert not set(re.findall("[A-Za-z]{3,} [A-Za-z]{3,}", page)) - {"split valid", "split test"}
    for chinese in ("个冷启动物品：出现在验证或测试中", "“…”不是数字", "个字段，而表头有 4 个", "与表头重复",
                    "可能代表未知的用户", "不是数字，因此这些物品没有该属性", "群组是合成的（随机）"):
        assert chinese in page


def test_chinese_names_go_all_the_way_to_lists_and_reports(llmrec, places):
    for command in (["prepare", *places],
                    ["pretrain", *SMALL, "objective=contrastive", "objective.holdout_share=0.2", "optim.epochs=2",
                     "language=zh"],
                    ["finetune", "head=ease", "head.features.text=2", "encoder=pretrained", "encoder.max_length=32",
                     "device=cpu"],
                    ["evaluate", "num_bootstrap=100", "baselines=[popularity]", "device=cpu", "candidates=sampled:12",
                     "robustness=true", "language=zh"],
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
        assert not set(re.findall("[A-Za-z]{3,} [A-Za-z]{3,}", visible(html)))
    result = pq.read_table("lists.parquet").to_pylist()
    assert len(result) == 5
    assert all(row["title"] in NAMES and row["source"] == "text" for row in result)
