"""The fault matrix, evaluation."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import known_users
from llmrec_cli.metrics.hits import ordered_hits
from llmrec_cli.metrics.metric import evaluate_all
from llmrec_cli.metrics.ranking import RANKING
from llmrec_cli.scoring.scorer import hits, recommend_lists
from llmrec_cli.stages import evaluate
from tests.some_slow import some_slow
from tests.tiny import write_tiny


def test_71_a_constant_scorer_scores_like_chance_and_its_ties_are_told(llmrec, counting, monkeypatch):
    def forget(counts_N):
        counts_N[:] = 0
    monkeypatch.setattr(evaluate, "render", lambda content, language: "report")
    data = counting(forget)
    for ties in ("hash", "expected"):
        done = llmrec("evaluate", "model=changed", "baselines=[]", "k=[10]", f"ties={ties}", f"run_dir={ties}")
        assert done.code == 0
        assert "warning: 100% of the lists contain items with equal scores" in done.err
    metrics = {ties: json.loads(Path(ties, "metrics.json").read_text()) for ties in ("hash", "expected")}
    assert metrics["hash"]["tie_rate"] == 1
    asked, test = np.unique(data.part("test").user), data.part("test").matrix
    seen = np.diff(data.part("train", "valid").matrix.indptr)[asked]
    chance_Q = 10 / (len(data.items) - seen)
    assert metrics["expected"]["metrics"]["recall@10"]["mean"] == pytest.approx(chance_Q.mean())
    spread = np.sqrt((chance_Q * (1 - chance_Q) / np.diff(test.indptr)[asked]).sum()) / len(asked)
    assert abs(metrics["hash"]["metrics"]["recall@10"]["mean"] - chance_Q.mean()) < 4 * spread


def test_71_ties_among_sampled_candidates_are_expected_among_these_alone(llmrec, counting, monkeypatch):
    def forget(counts_N):
        counts_N[:] = 0
    monkeypatch.setattr(evaluate, "render", lambda content, language: "report")
    relevant = np.diff(counting(forget).part("test").matrix.indptr)
    done = llmrec("evaluate", "model=changed", "baselines=[]", "k=[2]", "ties=expected", "candidates=sampled:5",
                  "run_dir=few")
    assert done.code == 0
    # Two of a user's five candidates and what they have in the test, any two of them.
    result = json.loads(Path("few/metrics.json").read_text())["metrics"]["recall@2"]["mean"]
    assert result == pytest.approx((2 / (5 + relevant[relevant > 0])).mean())


@pytest.mark.audited
def test_72_the_whole_catalogue_is_ranked_unless_a_label_says_otherwise(llmrec, counting, monkeypatch):
    monkeypatch.setattr(evaluate, "render", lambda content, language: "report")
    data = counting(lambda counts_N: None)
    result = {}
    for name, settings in (("all", []), ("sampled", ["candidates=sampled:5"])):
        done = llmrec("evaluate", "model=changed", "baselines=[]", "k=[10]", *settings, f"run_dir={name}")
        assert done.code == 0
        assert ("Only a few candidates per list" in done.err) == (name == "sampled")
        result[name] = json.loads(Path(name, "metrics.json").read_text())["protocol"]
    assert result["all"]["candidates"] == "all"
    assert result["all"]["num_candidates"] == len(data.items)
    assert result["sampled"]["candidates"] == "sampled: 5 at random per user, plus the held-out items"


def test_73_a_user_without_any_recommendation_scores_0_and_is_counted():
    nobody = sp.csr_array((2, 3), dtype=np.float32)
    own = sp.csr_array(np.array([[0, 0, 0], [1, 1, 1]], np.float32))
    relevant = sp.csr_array(np.array([[1, 0, 0], [1, 0, 0]], np.float32))
    asked = known_users(np.arange(2), np.array(["u", "v"], object), nobody, nobody)
    lists = recommend_lists(lambda queries: torch.tensor([[3.0, 2, 1]] * len(queries)), asked, 2, np.arange(3),
                            candidates_QN=own, relevant_QN=relevant)
    assert lists.items_QK.tolist() == [[-1, -1], [0, 1]]
    result = evaluate_all(RANKING, ordered_hits(hits(lists.items_QK, relevant), np.array([1, 1]), [2]), [2])
    assert all(values.tolist()[0] == 0 for values in result.values())
    assert result["ndcg@2"].mean() == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("head", some_slow(["two_tower", "ease", "user_knn"]))
def test_74_changing_data_after_the_cutoff_changes_no_bit_of_the_weights(
        llmrec, tmp_path, prepare_tiny, tiny_encoder, head):
    config = {"ease": ["head.features.attributes=3"], "user_knn": [], "two_tower": [
        "head.embedding_size=8", "peft=frozen", "optim.epochs=2", "encoder=hf", f"encoder.path={tiny_encoder}",
        "encoder.max_length=16"]}[head]
    write_tiny(tmp_path / "raw")
    file = tmp_path / "raw/interactions.csv"
    settings = [text for text in prepare_tiny if not text.startswith("dataset.interactions")]
    settings += [f"dataset.interactions={file}", "split=temporal"]
    result, tests = [], []
    for n in range(2):
        assert llmrec("prepare", *settings).code == 0
        assert llmrec("finetune", f"head={head}", *config, "refit=none", f"run_dir=run{n}").code == 0
        model = tmp_path / f"run{n}/model"
        result.append([(model / name).read_bytes() for name in ("model.safetensors", "config.yaml")])
        kept = pq.read_table("data/prepared/tiny/interactions.parquet").to_pylist()
        tests.append({(row["user_id"], row["item_id"]) for row in kept if row["split"] == "test"})
        file.write_text(with_other_items(file.read_text(), tests[0], kept))
    assert len(tests[0] - tests[1]) == 20
    assert result[0] == result[1]


def with_other_items(text, test, kept):
    """Return the interactions with other items in 20 test rows, such as are in training and new to the user."""
    warm = sorted({row["item_id"] for row in kept if row["split"] == "train"})
    lines = text.splitlines()
    for user, item in sorted(test)[:20]:
        had = {line.split(",")[1] for line in lines if line.startswith(f"{user},")}
        other = next(key for key in warm if key not in had)
        lines = [line.replace(f"{user},{item},", f"{user},{other},") if line.startswith(f"{user},{item},") else line
                 for line in lines]
    return "\n".join(lines) + "\n"


def test_75_with_k_beyond_the_relevant_items_a_perfect_list_still_scores_one():
    found_QK = np.array([[True, True, False, False, False]])
    metrics = evaluate_all(RANKING, ordered_hits(found_QK, np.array([2]), [1, 5]), [1, 5])
    assert metrics["ndcg@1"] == metrics["ndcg@5"] == metrics["recall@5"] == metrics["map@5"] == 1
    assert all(0 <= value <= 1 for value in metrics.values())


# 76, metrics beside pytrec_eval, ranx, scikit-learn and brute force on generated cases: metrics/test_ranking.py,
# metrics/test_auc.py, metrics/test_rating.py, scoring/test_generated.py and scoring/test_ties.py.
