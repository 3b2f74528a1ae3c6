"""Published protocols by name: what they set, what they refuse, and that the report names them."""

import json
from pathlib import Path

import pytest

from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.protocols import PROTOCOLS


def test_a_protocol_sets_what_is_left_at_its_default() -> None:
    cfg = EvaluateConfig(protocol="ncf").with_protocol()
    assert (cfg.candidates, cfg.exclude_seen, cfg.ties, cfg.k) == ("sampled:99", False, "expected", [5, 10])
    given = EvaluateConfig(protocol="ncf", candidates="negatives.csv", k=[1]).with_protocol()
    assert (given.candidates, given.k) == ("negatives.csv", [1])
    assert EvaluateConfig().with_protocol() == EvaluateConfig()


@pytest.mark.parametrize(("settings", "said"), [
    ({"protocol": "sequential", "exclude_seen": False}, "exclude_seen=false: protocol=sequential has "
                                                        "exclude_seen=true"),
    ({"protocol": "sequential", "candidates": "sampled:99"}, "protocol=sequential has candidates=all"),
    ({"protocol": "rows"}, "protocol=rows: needs queries=<file>, with the columns history and relevant"),
    ({"protocol": "groups"}, "protocol=groups: needs candidates=<file>, with the columns group_id, item_id and"),
    ({"protocol": "ncf", "queries": "rows.jsonl"}, "queries=rows.jsonl: cannot be combined with protocol=ncf"),
    ({"protocol": "sequentail"}, "protocol=sequentail: choose one of sequential, rows, ncf, groups (did you mean "
                                 "'sequential'?)")])
def test_a_setting_that_a_protocol_has_otherwise_is_refused(settings: dict[str, object], said: str) -> None:
    problems = list(EvaluateConfig(**settings).problems())
    assert said in " ".join(problems), problems


def test_every_setting_of_a_protocol_is_one_of_evaluate() -> None:
    for protocol in PROTOCOLS.values():
        assert {*protocol.values, *protocol.chosen} <= set(vars(EvaluateConfig()))


def test_a_protocol_of_the_last_interaction_refuses_another_split_and_is_named(llmrec, tiny_prepared: Path,
                                                                              prepare_tiny: list[str]) -> None:
    assert llmrec("finetune", "head=popularity", f"prepared={tiny_prepared}").code == 0
    refused = llmrec("evaluate", "protocol=sequential")
    assert refused.code == 2
    assert "was prepared with split=random; prepare with split=leave_last_out" in refused.err
    assert llmrec("prepare", *prepare_tiny, "split=leave_last_out").code == 0
    assert llmrec("finetune", "head=popularity").code == 0
    done = llmrec("evaluate", "protocol=sequential", "num_bootstrap=100", "baselines=[]", "language=zh")
    assert done.code == 0, done.err
    assert "protocol=sequential: sequential papers: each user's last interaction" in done.out
    content = json.loads(Path("runs/evaluate/latest/metrics.json").read_text())
    assert content["protocol"]["name"] == "sequential"
    assert "ndcg@50" not in content["metrics"]
    assert "序列推荐论文：每个用户的最后一次交互" in Path("runs/evaluate/latest/report.html").read_text("utf-8")
