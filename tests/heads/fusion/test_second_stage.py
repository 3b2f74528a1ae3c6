"""The second stage of a fusion: what it learns, what it leaves as it is, and that it survives saving and a refit."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.errors import ArtifactError
from llmrec_cli.heads.fusion import second_stage
from llmrec_cli.heads.fusion.rankers import RANKERS, LinearRanker, TreeRanker
from llmrec_cli.heads.fusion.second_stage import (
    ItemFacts,
    SecondStage,
    TooFewError,
    candidates_of,
    learn_second_stage,
    num_features,
)
from llmrec_cli.scoring.validation import Validation
from tests.heads.by_hand import training

QUERIES, ITEMS = 400, 30
FACTS = ItemFacts(np.linspace(0, 1, ITEMS, dtype=np.float32), np.zeros(ITEMS, np.float32))
COLD = np.zeros(ITEMS, bool)


def queries_of(history: sp.csr_array, users: list[str] | None = None) -> Queries:
    ids = np.array([f"q{n}" for n in range(history.shape[0])], object)
    nothing = sp.csr_array(history.shape, dtype=np.float32)
    return Queries(ids, ids if users is None else np.array(users, object), np.full(len(ids), -1), history, nothing,
                   np.full(len(ids), "", object))


@pytest.fixture
def task():
    """Members a and b with random scores; an item is relevant by a if it is popular, else by b."""
    draw = np.random.default_rng(5)
    scores = {name: torch.from_numpy(draw.normal(size=(QUERIES, ITEMS)).astype(np.float32)) for name in "ab"}
    best = torch.where(torch.from_numpy(FACTS.popularity_N > 0.5), scores["a"], scores["b"]).argmax(dim=1).numpy()
    relevant = sp.csr_array((np.ones(QUERIES, np.float32), best, np.arange(QUERIES + 1)), shape=(QUERIES, ITEMS))
    queries = queries_of(sp.csr_array((QUERIES, ITEMS), dtype=np.float32))

    def score(block: Queries):
        rows = [int(name[1:]) for name in block.ids]
        own = {name: values[rows] for name, values in scores.items()}
        return own, own["a"] + own["b"]

    return score, Validation(queries, relevant, np.arange(ITEMS), "ndcg@5")


@pytest.mark.parametrize(("kind", "least"), [("lambdamart", 0.1), ("logistic", -0.02)])
def test_it_gains_on_held_out_users_where_a_sum_cannot_say_which_member_to_trust(task, kind, least) -> None:
    score, validation = task
    learned = learn_second_stage(kind, score, validation, FACTS, COLD, 1)
    before = validation.values(lambda block: score(block)[1]).mean()
    assert learned.gain.gain > least
    assert learned.values_Q.mean() == pytest.approx(before + learned.gain.gain)
    # The model learned on all queries reaches at least as much on them as on held-out ones.
    after = validation.values(lambda block: learned.stage.reordered(block, *score(block), COLD)).mean()
    assert after >= learned.values_Q.mean() - 0.02


def test_noise_is_not_kept(task) -> None:
    score, validation = task
    shuffled = replace(validation, relevant=validation.relevant[np.random.default_rng(2).permutation(QUERIES)])
    learned = learn_second_stage("lambdamart", score, shuffled, replace(FACTS, popularity_N=np.zeros(ITEMS)), COLD, 1)
    assert not learned.gain.is_accepted


def test_too_few_queries_teach_nothing(task) -> None:
    score, validation = task
    few = replace(validation, queries=validation.queries.rows(slice(50)), relevant=validation.relevant[:50])
    with pytest.raises(TooFewError, match="50 validation queries have a relevant item among the 100 best, and at least "
                                          "100 are needed"):
        learn_second_stage("logistic", score, few, FACTS, COLD, 1)


def test_only_the_best_of_all_and_the_best_outside_the_history_move(monkeypatch) -> None:
    monkeypatch.setattr(second_stage, "DEPTH", 2)
    scores = torch.tensor([[5.0, 4, 3, 2, 1, 0]])
    history = sp.csr_array(([1.0, 1.0], [0, 1], [0, 2]), shape=(1, 6))
    facts = ItemFacts(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], np.float32), np.zeros(6, np.float32))
    found = candidates_of(queries_of(history), {"m": scores}, scores, facts, np.array([False] * 5 + [True]))
    assert found.item_P.tolist() == [0, 1, 2, 3]
    assert found.features_PF.shape == (4, num_features(1))
    # Sum, popularity, trend, cold, in the history, length of the history, the member's score and place.
    length = np.log(3) / np.log(51)
    np.testing.assert_allclose(found.features_PF[1], [4, 0.2, 0, 0, 1, length, 4, 10 / 11], rtol=1e-6)
    np.testing.assert_allclose(found.features_PF[3], [2, 0.4, 0, 0, 0, length, 2, 10 / 13], rtol=1e-6)
    by_popularity = LinearRanker(np.array([0, 1.0, 0, 0, 0, 0, 0, 0]))
    result = SecondStage("logistic", by_popularity, facts).reordered(queries_of(history), {"m": scores}, scores,
                                                                     np.zeros(6, bool))
    assert result.argsort(dim=1, descending=True).tolist() == [[3, 2, 1, 0, 4, 5]]
    assert result[0, 4:].tolist() == [1, 0]


def test_equal_scores_share_a_place() -> None:
    scores = torch.tensor([[1.0, 3, 3, 0]])
    found = candidates_of(queries_of(sp.csr_array((1, 4), dtype=np.float32)), {"m": scores}, scores,
                          ItemFacts(np.zeros(4, np.float32), np.zeros(4, np.float32)), np.zeros(4, bool))
    np.testing.assert_allclose(found.features_PF[:, -1], [10 / 12, 1, 1, 10 / 13], rtol=1e-6)


def test_the_trend_is_the_share_of_the_newest_interactions_over_the_share_of_all() -> None:
    data = training(np.zeros((1, 2)))
    item = np.array([0] * 18 + [1] * 2)
    interactions = Interactions(np.zeros(20, np.int64), item, np.ones(20, np.float32), np.arange(20), 1, 2)
    facts = ItemFacts.of(replace(data, interactions=interactions, has_order=True))
    # A tenth of 20 interactions are new: both of item 1, none of item 0.
    np.testing.assert_allclose(facts.trend_N, [np.log(1 / (0.1 * 18 + 1)), np.log(3 / (0.1 * 2 + 1))], rtol=1e-6)
    assert ItemFacts.of(replace(data, interactions=interactions)).trend_N.tolist() == [0, 0]
    assert facts.extended(1).popularity_N.tolist()[2] == 0


def test_queries_of_one_user_are_in_one_fold() -> None:
    queries = queries_of(sp.csr_array((60, 3), dtype=np.float32), [f"u{n % 20}" for n in range(60)])
    folds = second_stage._folds(queries, 1)
    assert (folds[:20] == folds[20:40]).all()
    assert (folds[:20] == folds[40:]).all()
    assert np.bincount(folds).tolist() == [12] * 5
    # Queries without a user are their own users.
    assert len(set(second_stage._folds(replace(queries, user_ids=np.full(60, "", object)), 1)[:20])) == 5


def test_trees_score_as_lightgbm_does() -> None:
    import lightgbm

    draw = np.random.default_rng(0)
    features, query = draw.normal(size=(4000, 5)).astype(np.float32), np.repeat(np.arange(40), 100)
    relevant = features[:, 1] * (features[:, 2] > 0) > 1
    trees = TreeRanker.fit(features, relevant, query, 3)
    booster = lightgbm.train({**_boosting(), "seed": 3}, lightgbm.Dataset(
        features.astype(np.float64), relevant.astype(np.int64), group=np.full(40, 100)), 100)
    np.testing.assert_allclose(trees.score(features), booster.predict(features.astype(np.float64)), rtol=1e-9)
    read = TreeRanker.read(TensorReader(trees.state()), 5)
    assert (read.score(features) == trees.score(features)).all()


def _boosting() -> dict[str, object]:
    from llmrec_cli.heads.fusion.rankers import _BOOSTING

    return _BOOSTING


def test_the_linear_ranker_finds_the_larger_coefficient_and_is_fitted_by_its_own_gradient() -> None:
    draw = np.random.default_rng(0)
    features, query = draw.normal(size=(6000, 3)).astype(np.float32), np.repeat(np.arange(300), 20)
    utility = 2 * features[:, 1] - features[:, 2] + draw.gumbel(size=6000)
    relevant = np.zeros(6000, bool)
    relevant[[query * 20 + utility[query * 20:query * 20 + 20].argmax() for query in range(300)]] = True
    fitted = LinearRanker.fit(features, relevant, query, 1)
    # The penalty shrinks them, but not their order or signs.
    assert fitted.coefficients_F[1] > 1
    assert -1.2 < fitted.coefficients_F[2] < -0.4
    assert abs(fitted.coefficients_F[0]) < 0.3


@pytest.mark.parametrize(("change", "said"), [
    ({"child": np.array([[0, 1], [0, 0], [0, 0]])}, "has a node that does not come after its parent"),
    ({"feature": np.array([9, -1, -1])}, "must be at most 4"),
    ({"threshold": np.array([np.nan, 0, 0])}, "must be finite")])
def test_trees_of_a_crafted_model_are_refused(change, said: str) -> None:
    state = TreeRanker(np.array([1, -1, -1]), np.array([0.5, 0, 0]), np.array([[1, 2], [0, 0], [0, 0]]),
                       np.array([0.0, -1, 1]), np.array([0])).state()
    assert TreeRanker.read(TensorReader(state), 5).score(np.array([[0, 0.5], [0, 0.6]])).tolist() == [-1, 1]
    with pytest.raises(ArtifactError, match=said):
        TreeRanker.read(TensorReader({**state, **change}), 5)


def stacked(llmrec, *words: str):
    members = ("head.members={ease: {head: ease, features: {text: 0}}, near: {head: item_knn}, "
               "popular: {head: popularity}}")
    return llmrec("finetune", "head=fusion", "~head.members", members, *words)


def test_a_second_stage_goes_through_refit_saving_and_lists(llmrec, tiny_prepared: Path, monkeypatch) -> None:
    monkeypatch.setattr(second_stage, "_LEAST_QUERIES", 10)
    monkeypatch.setattr("llmrec_cli.scoring.acceptance.Acceptance.is_accepted", property(lambda gain: True))
    done = stacked(llmrec, f"prepared={tiny_prepared}", "head.stack=logistic", "run_dir=run")
    assert done.code == 0, done.err
    assert "fusion: second stage logistic: gain on held-out folds" in done.err
    manifest = json.loads(Path("run/model/manifest.json").read_text())
    assert manifest["fitted_on"] == ["train", "valid"]
    config = Path("run/model/config.yaml").read_text()
    assert "stack: logistic" in config
    assert all(f"{name}:" in config for name in ("ease", "near", "popular"))
    lists = llmrec("recommend", "model=run", "queries=all", "k=5", "output=lists.jsonl")
    assert lists.code == 0, lists.err
    again = stacked(llmrec, f"prepared={tiny_prepared}", "head.stack=logistic", "run_dir=again")
    assert again.code == 0
    assert llmrec("recommend", "model=again", "queries=all", "k=5", "output=other.jsonl").code == 0
    assert Path("lists.jsonl").read_bytes() == Path("other.jsonl").read_bytes()


def test_with_too_few_queries_the_sum_stays_and_it_is_said(llmrec, tiny_prepared: Path) -> None:
    done = stacked(llmrec, f"prepared={tiny_prepared}", "head.stack=lambdamart", "run_dir=run")
    assert done.code == 0, done.err
    assert "second stage lambdamart: not learned: " in done.err
    assert "stack: none" in Path("run/model/config.yaml").read_text()


@pytest.mark.parametrize(("words", "code", "said"), [
    (["head.stack=logistic", "head.members.near=null", "head.members.popular=null"], 2,
     "stack=logistic: needs at least two members"),
    (["head.stack=lambda"], 2, "choose one of none, logistic, lambdamart (did you mean 'lambdamart'?)")])
def test_a_stack_that_cannot_be_is_refused(llmrec, tiny_prepared: Path, words, code: int, said: str) -> None:
    done = stacked(llmrec, f"prepared={tiny_prepared}", *words)
    assert done.code == code
    assert said in done.err


def test_without_lightgbm_trees_are_refused_before_a_member_is_fitted(llmrec, tiny_prepared: Path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = stacked(llmrec, f"prepared={tiny_prepared}", "head.stack=lambdamart")
    assert done.code == 2
    assert "needs LightGBM; install it with pip install 'llmrec-cli[stack]'" in done.err


def test_every_kind_of_the_settings_has_a_ranker() -> None:
    assert set(RANKERS) == {"logistic", "lambdamart"}
