"""The pretraining report: its content, and the escaping of data."""

import html
import json
import re

from llmrec_cli.language.phrases import Phrase
from llmrec_cli.report.pretraining import PretrainingReport, ProbeExample, logged_losses, render, settings_in_words
from llmrec_cli.settings.objective import OBJECTIVES

METRICS = {
    "objective": "contrastive", "base": "scratch", "best_epoch": 2, "scored": "views", "head_is_new": False,
    "num_texts": {"train": 1200, "held_out": 90}, "warnings": [],
    "before": {"loss": 4.0, "accuracy": 0.1, "num_scored": 90, "chance": 0.02},
    "after": {"loss": 3.25, "accuracy": 0.4, "num_scored": 90, "chance": 0.02},
    "epochs": [{"training_loss": 3.9, "held_out_loss": 3.5}, {"training_loss": 3.4, "held_out_loss": 3.25}],
    "probe": {"kind": "history", "question": Phrase("which title comes next after these?"), "num_questions": 90,
              "num_titles": 1236,
              "before": {"recall@1": 0.01, "recall@10": 0.1, "mrr": 0.05},
              "after": {"recall@1": 0.02, "recall@10": 0.2, "mrr": 0.0712},
              "mrr_difference": {"difference": 0.0212, "ci95": [0.01, 0.03]}, "verdict": "better"}}
HOSTILE = "<script>alert(1)</script>"
EXAMPLE = ProbeExample("五台山; 柳州", "九寨沟", [("峨眉山", False), (HOSTILE, False)], [("九寨沟", True)], 12, 1)


def page(language="en", **changed):
    facts = {"Data": [("Name", HOSTILE)]}
    return render(PretrainingReport(METRICS | changed, HOSTILE, facts, [(1, 4.0), (2, 3.5)], [EXAMPLE],
                                    ["黄山 <b>", HOSTILE]), language)


def test_titles_in_any_script_are_shown_and_escaped():
    text = page()
    for title in ("五台山; 柳州", "九寨沟", "峨眉山", "黄山 &lt;b&gt;"):
        assert title in text
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 4
    assert not re.search(r"(src|href)=\"?(http|//)", text)
    assert "Content-Security-Policy" in text


def test_the_report_shows_the_result_each_epoch_and_each_metric():
    text = page()
    assert "<h1>The encoder finds titles better than before; held-out loss 4.00 to 3.25</h1>" in text
    for number in ("3.5000", "3.2500", "+0.0212", "+0.0100 to +0.0300", "0.2000", "1,236", "by chance 2.0%"):
        assert number in text
    assert re.search(r'<tr class="ours"><td>2<small>saved</small>', text)
    assert 'class="hit">九寨沟' in text
    assert '<p class="warning">' not in text


def test_harm_and_a_missing_probe_are_said():
    text = page(warnings=["Pretraining did harm: <look>"], probe=METRICS["probe"] | {"verdict": "worse"})
    assert '<p class="warning">Pretraining did harm: &lt;look&gt;</p>' in text
    assert "finds titles worse than before" in text
    assert "No probe" in page(probe=None)


def test_steps_that_were_taken_again_count_once(tmp_path):
    steps = [(1, 4.0), (2, 3.0), (3, 2.9), (2, 2.5), (3, 2.0)]
    lines = [json.dumps({"event": "step", "step": step, "loss": loss}) for step, loss in steps]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, json.dumps({"event": "before"})]))
    assert logged_losses(tmp_path / "log.jsonl") == [(1, 4.0), (2, 2.5), (3, 2.0)]
    assert logged_losses(tmp_path / "missing.jsonl") == []


def test_settings_are_named_in_words():
    labels = {label: value for settings in OBJECTIVES.values() for label, value in settings_in_words(vars(settings()))}
    assert labels["Share held out"] == "10%"
    assert labels["Two views of an item"] == "its text and the history before it"
    assert labels["Histories written as texts"] == "yes"
    assert all(isinstance(label, Phrase) for label in labels), "a setting has no name on the page"
    assert all(settings.in_words for settings in OBJECTIVES.values())


def test_the_page_is_in_chinese_but_for_data_and_names():
    text = html.unescape(re.sub(r"(?s)<style>.*?</style>|<title>.*?</title>|<figure>.*?</figure>|<[^>]*>", " ",
                                page(language="zh")))
    for chinese in ("编码器比之前更能找到标题；留出损失 4.00 变为 3.25", "探测：正确标题是否最近？", "召回率"):
        assert chinese in text
    assert not re.findall("[a-z]{3,} [a-z]{3,}", text.replace(HOSTILE, ""))
