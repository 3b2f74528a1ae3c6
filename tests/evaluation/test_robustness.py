"""evaluate robustness=true: lists with item texts perturbed at recommendation time."""

import json

import numpy as np
import pytest
import torch

from llmrec_cli.config import compose
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.evaluation.robustness import changed_share, read_synonyms
from llmrec_cli.heads.artifact import save_recommender
from llmrec_cli.heads.base import Context, build
from llmrec_cli.report.sections import robustness_lines, robustness_table
from llmrec_cli.run_dir import RunDir
from llmrec_cli.settings.adversarial import NoAdversarySettings
from llmrec_cli.settings.encoder import HuggingFaceSettings
from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.evaluation import RobustnessSettings
from llmrec_cli.settings.head import ContentSettings, FusionSettings, ItemKnnSettings, ModelConfig, TwoTowerSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.loss import SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import FrozenSettings
from llmrec_cli.stages import evaluate


@pytest.fixture(scope="module")
def prepared(tiny_prepared):
    return read_prepared(tiny_prepared)


def saved(folder, prepared, head, **config):
    fitted = build(ModelConfig(head=head, **config))
    fitted.fit(prepared.training("train", "valid"), Context(torch.device("cpu"), 1))
    save_recommender(folder, fitted, prepared, ("train", "valid"), {"refit": "train_valid", "seed": 1})
    return str(folder)


def tower(tiny_encoder):
    return {"encoder": HuggingFaceSettings(path=str(tiny_encoder), max_length=24), "peft": FrozenSettings(),
            "loss": SoftmaxSettings(),
            "adversarial": NoAdversarySettings(), "optim": AdamWSettings(epochs=2, batch_size=128, learning_rate=0.02)}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "render", lambda content, language: "report")

    def one(*models, name="out", **settings):
        run_dir = RunDir.create("evaluate", str(tmp_path / name))
        cfg = EvaluateConfig(**{"device": "cpu", "k": [10], "num_bootstrap": 100, "baselines": [],
                                "robustness": RobustnessSettings(on=True), "models": list(models), **settings})
        evaluate.run(cfg, run_dir)
        return json.loads(run_dir.file("metrics.json").read_text())

    return one


def test_a_head_that_reads_every_text_is_disturbed_and_one_without_texts_is_listed_as_unaffected(
        run, prepared, tiny_encoder, tmp_path, capsys):
    towers = saved(tmp_path / "towers", prepared, TwoTowerSettings(embedding_size=16, id_scale=0.0),
                   **tower(tiny_encoder))
    metrics = run(towers, saved(tmp_path / "knn", prepared, ItemKnnSettings(k=10)))
    result = metrics["robustness"]
    assert result["unaffected"] == ["item_knn"]
    one = result["models"]["two_tower"]
    assert one["texts"] == "all items"
    assert one["clean"]["ndcg@10"]["mean"] == pytest.approx(metrics["metrics"]["ndcg@10"]["mean"])
    for kind in ("typos", "synonyms", "truncated"):
        difference = one[kind]["difference"]["ndcg@10"]
        assert difference["difference"] == pytest.approx(
            one[kind]["metrics"]["ndcg@10"]["mean"] - one["clean"]["ndcg@10"]["mean"])
        low, high = difference["ci95"]
        assert low <= difference["difference"] <= high
    # Half of "Robot and Moon (1984). Science Fiction" lacks the words that the tower learned from.
    assert one["truncated"]["difference"]["ndcg@10"]["difference"] != 0
    assert result["texts"]["truncated"] == {"strength": 0.5, "changed": 1.0}
    printed = capsys.readouterr().out
    assert "no item text read at recommendation time: item_knn" in printed
    assert "truncated" in printed


def test_for_heads_with_fixed_weights_items_without_interactions_are_added_again(run, tmp_path, tiny_prepared,
                                                                               monkeypatch):
    """Items c0 to c3 have no interactions; give each a test interaction, so that they are relevant."""
    from tests.stages.test_evaluate import write_prepared

    rows = [(f"u{n}", f"i{(n + m) % 8}", "train") for n in range(8) for m in range(3)]
    rows += [(f"u{n}", f"i{8 + n % 2}", "test") for n in range(8)]
    items = [f"i{n}" for n in range(10)]
    folder = write_prepared(tmp_path / "cold", rows, items, title=lambda key: f"{key} red robot")
    prepared = read_prepared(folder)
    texts = np.array([f"number {'story' if n % 2 else 'letters'}" for n in range(10)], object)
    object.__setattr__(prepared.items, "texts", texts)
    monkeypatch.setattr(evaluate, "read_prepared", lambda path: prepared)
    model = saved(tmp_path / "model", prepared,
                  ContentSettings(features=FeatureWeightsSettings(words=1.0), gamma=1.0, l2=1.0,
                                                                denoise=0.0, blend=1.0))
    result = run(model, candidates="cold")["robustness"]
    one = result["models"]["content"]
    assert one["texts"] == "items without training interactions, added as new items"
    assert one["truncated"]["metrics"]["ndcg@10"]["mean"] != one["clean"]["ndcg@10"]["mean"]
    assert result["unaffected"] == []


def test_the_texts_of_items_that_everybody_knows_are_not_read_by_a_head_with_fixed_weights(run, prepared, tmp_path):
    kept = prepared.items.find(np.array(["c0"], object))
    assert kept[0] >= 0
    model = saved(tmp_path / "model", prepared, ItemKnnSettings(k=10))
    assert run(model)["robustness"]["models"] == {}


def test_a_fusion_of_towers_reads_every_text(prepared, tiny_encoder, tmp_path):
    config = tower(tiny_encoder)
    members = {"tower": ModelConfig(head=TwoTowerSettings(embedding_size=16), **config),
               "knn": ModelConfig(head=ItemKnnSettings(k=10))}
    head = build(ModelConfig(head=FusionSettings(members=members, weights={"tower": 1.0, "knn": 1.0}), **config))
    head.fit(prepared.training("train"), Context(torch.device("cpu"), 1))
    assert head.rereads
    before = head.members["tower"].texts.table.clone()
    head.reread(prepared.items.texts)
    torch.testing.assert_close(head.members["tower"].texts.table, before)
    head.reread(np.full(len(prepared.items), "moon", object))
    assert (head.members["tower"].texts.table - head.members["tower"].texts.table[0]).abs().max() < 1e-5


def test_synonyms_come_from_a_file_with_a_group_a_line(tmp_path):
    file = tmp_path / "words.tsv"
    file.write_text("film\tmovie\n\n 酒店\t宾馆 \t旅馆\n", "utf-8")
    assert read_synonyms(str(file)) == [["film", "movie"], ["酒店", "宾馆", "旅馆"]]
    file.write_text("film\tmovie\nalone\n", "utf-8")
    with pytest.raises(DataError, match=r"words.tsv:2: 'alone' has no synonym"):
        read_synonyms(str(file))
    for content in ("", "\n"):
        file.write_text(content, "utf-8")
        with pytest.raises(DataError, match="the file has no words"):
            read_synonyms(str(file))
    with pytest.raises(DataError, match="not readable"):
        read_synonyms(str(tmp_path / "none.tsv"))


def test_the_setting_is_a_word_and_its_strengths_have_ranges():
    cfg = compose("evaluate", ["robustness=true", "robustness.typos=0.3"])
    assert (cfg.robustness.on, cfg.robustness.typos) == (True, 0.3)
    assert compose("evaluate", []).robustness.on is False
    with pytest.raises(ConfigError) as caught:
        compose("evaluate", ["robustness.typos=0.3"])
    assert caught.value.problems == ["robustness.typos=0.3: has no effect without robustness=true"]
    with pytest.raises(ConfigError) as caught:
        compose("evaluate", ["robustness=true", "robustness.typos=2", "robustness.truncated=1"])
    assert caught.value.problems == ["robustness.typos=2.0: must be at most 1",
                                     "robustness.truncated=1.0: must be at most 0.99"]


def test_empty_texts_do_not_count_as_unchanged():
    assert changed_share(np.array(["a", "", "b"], object), np.array(["a", "", "c"], object)) == 0.5
    assert changed_share(np.array([""], object), np.array([""], object)) == 0


CELL = {"ndcg@10": {"mean": 0.3, "ci95": [0.2, 0.4]}, "recall@10": {"mean": 0.5, "ci95": [0.4, 0.6]}}
LOST = {"ndcg@10": {"difference": -0.05, "ci95": [-0.07, -0.03], "p": 0.001}}
FOUND = {"texts": {kind: {"strength": 0.2, "changed": 0.75} for kind in ("typos", "synonyms", "truncated")},
         "models": {"two_tower": {"texts": "all items", "clean": CELL,
                                  **{kind: {"metrics": CELL, "difference": LOST}
                                     for kind in ("typos", "synonyms", "truncated")}}},
         "unaffected": ["ease"], "synonyms": "built in"}


def test_the_tables_show_what_is_lost_and_that_it_is_worse():
    table = robustness_table(FOUND, 10)
    assert [row.name for row in table.rows] == ["two_tower", "Typos", "Synonyms", "Truncated"]
    assert table.rows[1].note == "strength 0.2, 75% of the texts changed"
    assert (table.rows[1].cells[-1].value, table.rows[1].cells[-1].kind) == ("-0.0500", "worse")
    lines = robustness_lines(FOUND, 10).splitlines()
    assert "-0.0500  -0.0700 to -0.0300" in lines[3]
    assert lines[-1] == "not perturbed, no item text read at recommendation time: ease"


@pytest.mark.slow
def test_the_page_has_a_section_for_it():
    from tests.report.test_html import content, render

    page = content()
    page.metrics["robustness"] = FOUND
    text = render(page)
    assert "Robustness to perturbed texts" in text
    assert "75% of the texts changed" in text
    assert "Robustness to perturbed texts" not in render(content())
