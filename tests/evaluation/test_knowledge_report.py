"""evaluate knowledge=true: contribution of each relation on validation, compared with controls."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.knowledge import Knowledge
from llmrec_cli.data.manifest import sha256
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.evaluation.knowledge_ablation import (
    kinds_without_data,
    uses_knowledge,
    with_neighbours_only,
    without_graph,
)
from llmrec_cli.heads.artifact import save_recommender
from llmrec_cli.heads.base import Context, build
from llmrec_cli.report.sections import knowledge_lines, knowledge_table
from llmrec_cli.run_dir import RunDir
from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.evaluation import KnowledgeReportSettings
from llmrec_cli.settings.head import EaseSettings, FusionSettings, ItemKnnSettings, ModelConfig
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.stages import evaluate

EASE = EaseSettings(l2=20, features=FeatureWeightsSettings(knowledge=6.0, two_hops=2.0))


def put(table, file):
    """Write a table into prepared data, and its SHA-256 into the manifest."""
    pq.write_table(table, file)
    place = file.parent / "manifest.json"
    manifest = json.loads(place.read_text("utf-8"))
    manifest["files"][file.name] = sha256(file)
    place.write_text(json.dumps(manifest), "utf-8")


@pytest.fixture(scope="module")
def known(tiny_prepared, tmp_path_factory):
    """The tiny shop with a graph: the attribute of an item, and its maker, which is random."""
    folder = tmp_path_factory.mktemp("graph") / "prepared"
    shutil.copytree(tiny_prepared, folder)
    items = read_prepared(folder).items
    coo, rng = items.attributes.tocoo(), np.random.default_rng(0)
    rows = [(f"m{n}", "of", f"a{a}") for n, a in zip(coo.row, coo.col, strict=True)]
    rows += [(f"p{rng.integers(8)}", "made", f"m{n}") for n in range(len(items) - 2)]
    head, relation, tail = zip(*rows, strict=True)
    put(pa.table({"head": head, "relation": relation, "tail": tail}), folder / "triples.parquet")
    put(pa.table({"item": pa.array(range(len(items)), pa.int64()), "item_id": list(items.ids),
                  "entity_id": [f"m{n}" for n in range(len(items))]}), folder / "links.parquet")
    return read_prepared(folder)


def saved(folder, data, head, fitted_on=("train", "valid")):
    fitted = build(ModelConfig(head=head))
    fitted.fit(data.training(*fitted_on), Context(torch.device("cpu"), 1))
    save_recommender(folder, fitted, data, fitted_on, {"seed": 1})
    return str(folder)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def one(*models, **settings):
        run_dir = RunDir.create("evaluate", str(tmp_path / "out"))
        cfg = EvaluateConfig(**{"device": "cpu", "k": [10], "num_bootstrap": 100, "baselines": [],
                                "knowledge": KnowledgeReportSettings(on=True), "models": list(models), **settings})
        assert not list(cfg.problems())
        evaluate.run(cfg, run_dir)
        return json.loads(run_dir.file("metrics.json").read_text()), run_dir.file("report.html").read_text()

    return one


def test_each_relation_and_each_control_is_compared_with_all_knowledge(run, known, tmp_path, capsys):
    metrics, page = run(saved(tmp_path / "ease", known, EASE), saved(tmp_path / "knn", known, ItemKnnSettings(k=10)))
    result = metrics["knowledge"]
    assert result["unaffected"] == ["item_knn"]
    one = result["models"]["ease"]
    for kind, key in (("none", "gain"), ("swapped", "over_swapped"), ("counts", "over_counts")):
        difference = one[key]["ndcg@10"]
        assert difference["difference"] == pytest.approx(
            one["metrics"]["all"]["ndcg@10"]["mean"] - one["metrics"][kind]["ndcg@10"]["mean"])
        assert difference["ci95"][0] <= difference["difference"] <= difference["ci95"][1]
    assert set(one["relations"]) == {"made", "of"}
    # Interactions depend on the attributes, so these help, and swapped ones do not.
    assert one["relations"]["of"]["ndcg@10"]["difference"] > 0
    assert one["over_swapped"]["ndcg@10"]["difference"] > 0
    assert result["coverage"]["linked"] == len(known.items)
    lines = knowledge_lines(result, 10)
    assert lines in capsys.readouterr().out
    assert "without of" in lines
    assert "Contribution of the knowledge graph" in page
    assert [row.name for row in knowledge_table(result, 10).rows][:4] == [
        "ease", "Without the graph", "Swapped knowledge", "Triple counts"]


@pytest.mark.slow
def test_whatever_split_is_measured_knowledge_is_compared_on_validation(run, known, tmp_path):
    model = saved(tmp_path / "ease", known, EASE, ("train",))
    test = run(model, split="test")[0]["knowledge"]
    shutil.rmtree(tmp_path / "out")
    assert run(model, split="valid")[0]["knowledge"] == test


@pytest.mark.slow
def test_leaving_out_the_only_relation_is_leaving_out_all(run, known, tmp_path):
    shutil.copytree(known.path, tmp_path / "one")
    file = tmp_path / "one" / "triples.parquet"
    table = pq.read_table(file)
    put(table.filter(pc.equal(table["relation"], "of")), file)
    data = read_prepared(tmp_path / "one")
    one = run(saved(tmp_path / "ease", data, EASE))[0]["knowledge"]["models"]["ease"]
    assert one["relations"] == {"of": one["gain"]}


@pytest.mark.slow
def test_a_relation_is_left_out_with_its_inverse(run, known, tmp_path):
    shutil.copytree(known.path, tmp_path / "both")
    file = tmp_path / "both" / "triples.parquet"
    table = pq.read_table(file)
    of = table.filter(pc.equal(table["relation"], "of"))
    inverse = pa.table({"head": of["tail"], "relation": pa.array(["has"] * len(of)), "tail": of["head"]})
    put(pa.concat_tables([of.select(inverse.column_names), inverse.cast(of.schema)]), file)
    data = read_prepared(tmp_path / "both")
    one = run(saved(tmp_path / "ease", data, EASE))[0]["knowledge"]["models"]["ease"]
    assert list(one["relations"].values()) == [one["gain"]]


def test_the_remaining_relations_of_a_graph_are_still_used():
    far = Knowledge(sp.csr_array((2, 0), dtype=np.float32), [])
    far.__dict__["two_hops"] = sp.csr_array(np.eye(2, dtype=np.float32))
    config = ModelConfig(head=EaseSettings(features=FeatureWeightsSettings(knowledge=1.0, two_hops=2.0)))
    assert kinds_without_data(config, far) == ["knowledge"]
    assert without_graph(config, kinds_without_data(config, far)).head.features.two_hops == 2
    assert with_neighbours_only(config).head.features == FeatureWeightsSettings(knowledge=2.0)


@pytest.mark.slow
def test_only_the_relations_of_most_items_are_left_out(run, known, tmp_path):
    one = run(saved(tmp_path / "ease", known, EASE),
              knowledge=KnowledgeReportSettings(on=True, relations=1))[0]["knowledge"]
    assert list(one["models"]["ease"]["relations"]) == [one["coverage"]["relations"][0]["relation"]]


def test_models_and_data_without_knowledge_are_refused(run, known, tiny_prepared, tmp_path):
    plain = read_prepared(tiny_prepared)
    with pytest.raises(DataError, match=r"knowledge=true: the prepared data has no knowledge graph; prepare with"):
        run(saved(tmp_path / "plain", plain, ItemKnnSettings(k=10)))
    with pytest.raises(ConfigError, match=r"none of the models \(item_knn\) uses the knowledge graph; train one with"):
        run(saved(tmp_path / "knn", known, ItemKnnSettings(k=10)), audience="users")


def test_knowledge_settings_are_found_in_members_of_a_fusion():
    members = {"ease": ModelConfig(head=EASE), "near": ModelConfig(head=ItemKnnSettings(k=10))}
    fusion = ModelConfig(head=FusionSettings(members=members))
    assert uses_knowledge(fusion)
    without = without_graph(fusion)
    assert not uses_knowledge(without)
    assert without.head.members["ease"].head.l2 == 20
    assert uses_knowledge(without_graph(fusion, ["entities"]))
    assert not uses_knowledge(members["near"])
