"""Content against kernel ridge and nearest neighbours written out densely."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.config import compose
from llmrec_cli.data.recency import DAY, Recency
from llmrec_cli.errors import ConfigError, ResourceError
from llmrec_cli.heads.base import Context, build
from llmrec_cli.heads.content import choice as content_choice
from llmrec_cli.heads.content import head as module
from llmrec_cli.heads.content.choice import START
from llmrec_cli.heads.shared.cold_item_validation import make_cold_task
from llmrec_cli.heads.shared.item_kernel import Denoiser, UnitFeatures, kernel
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.scoring.validation import Validation
from llmrec_cli.settings.head import ContentSettings, ModelConfig
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from tests.heads.by_hand import CONTEXT, entities, fit, queries, training

RNG = np.random.default_rng(3)
GROUPS = np.arange(40) % 4
# Users of group g like items of group g; item n has the attribute of its group, and one by chance.
LIKES = (RNG.random((60, 40)) < np.where(np.arange(60)[:, None] % 4 == GROUPS, 0.5, 0.05)) * 1.0
ATTRIBUTES = np.concatenate([np.eye(4)[GROUPS], RNG.random((40, 3)) < 0.5], axis=1) * 1
COLD = np.arange(32, 40)
WARM_LIKES = LIKES.copy()
WARM_LIKES[:, COLD] = 0
ONLY_ATTRIBUTES = FeatureWeightsSettings(attributes=1.0)


def content(**changed):
    usual = {"features": ONLY_ATTRIBUTES, "gamma": 2.0, "l2": 0.5, "denoise": 0.0, "blend": 0.0, "k": 3}
    return ContentSettings(**(usual | changed))


def cosines():
    unit = ATTRIBUTES / np.linalg.norm(ATTRIBUTES, axis=1, keepdims=True)
    return unit @ unit.T


def ease(matrix, l2):
    inverse = np.linalg.inv(matrix.T @ matrix + l2 * np.eye(matrix.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def size(weights):
    """Return the mean absolute value off the diagonal."""
    num = len(weights)
    return np.abs(weights[~np.eye(num, dtype=bool)]).sum() / (num * (num - 1))


def ridge(target, gamma, l2):
    """Return the ridge weights from warm items to all items: target (K + l2)^-1 K, scaled."""
    warm = np.arange(32)
    kernel = np.exp(gamma * (cosines() - 1))
    weights = target @ np.linalg.inv(kernel[:32, :32] + l2 * np.eye(32)) @ kernel[warm]
    return weights / size(weights[:, :32])


def near(k, exponent):
    weights = np.zeros((32, 40))
    for item in range(40):
        similar = cosines()[:32, item].copy()
        if item < 32:
            similar[item] = 0
        nearest = np.argsort(-similar, kind="stable")[:k]
        weights[nearest, item] = similar[nearest]**exponent
    return weights / size(weights[:, :32])


def scores(settings, history=WARM_LIKES):
    return fit(settings, training(WARM_LIKES, ATTRIBUTES)).score(queries(history)).numpy()


def test_a_cold_items_score_is_that_of_kernel_ridge_regression():
    # Two items in training with cosine 0, and a third like the first: K = [[1, e^-1], [e^-1, 1]], l2 = 1.
    likes, attributes = np.array([[1, 0, 0], [1, 1, 0]]), np.array([[1, 0], [0, 1], [1, 0]])
    head = fit(content(gamma=1.0, l2=1.0), training(likes, attributes))
    actual = head.score(queries(np.array([[1, 0, 0]]))).numpy()[0]
    dual = np.linalg.inv([[2, np.exp(-1)], [np.exp(-1), 2]])[0]
    expected = np.array([dual @ [1, np.exp(-1)], dual @ [np.exp(-1), 1], dual @ [1, np.exp(-1)]])
    np.testing.assert_allclose(actual / actual[0], expected / expected[0], rtol=1e-5)
    assert actual[2] == pytest.approx(actual[0])


@pytest.mark.parametrize(("gamma", "l2"), [(0.5, 0.3), (3.0, 4.0)])
def test_scores_are_those_of_the_closed_form(gamma, l2):
    expected = WARM_LIKES[:, :32] @ ridge(np.eye(32), gamma, l2)
    np.testing.assert_allclose(scores(content(gamma=gamma, l2=l2)), expected, rtol=1e-3, atol=1e-3)


def test_the_regression_target_can_be_eases_scores():
    target = 0.7 * ease(WARM_LIKES[:, :32], 10) + 0.3 * np.eye(32)
    expected = WARM_LIKES[:, :32] @ ridge(target, 2.0, 0.5)
    np.testing.assert_allclose(scores(content(denoise=0.7, denoise_l2=10)), expected, rtol=1e-3, atol=1e-3)


def test_neighbours_are_the_nearest_in_training_and_an_item_is_not_its_own():
    # Distinct cosines, so that the nearest are unambiguous.
    actual = fit(content(blend=1.0, k=40), training(WARM_LIKES, ATTRIBUTES)).score(queries(WARM_LIKES)).numpy()
    np.testing.assert_allclose(actual, WARM_LIKES[:, :32] @ near(40, 3.0), rtol=1e-3, atol=1e-3)


def test_a_blend_is_the_weighted_sum_of_both():
    ridge_alone, near_alone = scores(content()), scores(content(blend=1.0))
    np.testing.assert_allclose(scores(content(blend=0.3)), 0.7 * ridge_alone + 0.3 * near_alone, rtol=1e-3, atol=1e-3)


def test_only_the_nearest_k_count():
    likes, attributes = np.eye(3), np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    head = fit(content(blend=1.0, k=1, exponent=1.0), training(likes, attributes))
    actual = head.score(queries(np.eye(3))).numpy()
    # cos(0,1) = 2/sqrt(6) = .816, cos(1,2) = 3/sqrt(12) = .866, cos(0,2) = 2/sqrt(8) = .707.
    expected = np.array([[0, 0, 0], [2 / 6**0.5, 0, 3 / 12**0.5], [0, 3 / 12**0.5, 0]])
    np.testing.assert_allclose(actual, expected / size(expected), rtol=1e-5)


@pytest.mark.parametrize("blend", [0.0, 0.4, 1.0])
def test_an_item_added_later_scores_as_if_it_had_been_there_without_interactions(blend):
    settings = content(blend=blend, denoise=0.5)
    before = scores(settings)[:, 32:]
    head = fit(settings, training(LIKES[:, :32], ATTRIBUTES[:32]))
    head.add_items(entities(8, ATTRIBUTES[32:]))
    after = head.score(queries(WARM_LIKES)).numpy()[:, 32:]
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4)


def test_an_item_without_interactions_in_a_history_is_passed_over():
    history = WARM_LIKES.copy()
    history[:, COLD] = 1
    np.testing.assert_array_equal(scores(content(), history), scores(content()))


def test_cold_items_of_the_users_kind_score_higher():
    cold = scores(content(gamma=None, l2=None, denoise=None, blend=None))[:, COLD]
    own = np.arange(60)[:, None] % 4 == GROUPS[COLD]
    some = WARM_LIKES.sum(axis=1) > 3
    assert np.mean(cold[some][own[some]]) > np.mean(cold[some][~own[some]]) + cold[some].std()


def validation(relevant, history):
    return Validation(queries(history, list(range(len(history)))), queries(relevant).history,
                      item_hash_ranks(entities(40).ids), "ndcg@5")


def learn(context):
    events = []
    head = build(ModelConfig(head=content(gamma=None, l2=None, denoise=None, blend=None)))
    head.fit(training(WARM_LIKES, ATTRIBUTES), Context(torch.device("cpu"), 1, **context,
                                                     log=lambda event, **values: events.append(values)))
    return head, events[0]


def test_settings_are_chosen_on_validations_cold_items_if_there_are_enough(monkeypatch):
    relevant = LIKES - WARM_LIKES
    monkeypatch.setattr("llmrec_cli.heads.shared.cold_item_validation.ENOUGH", int(relevant.sum()))
    head, event = learn({"validation": validation(relevant, WARM_LIKES)})
    assert (event["num_cold"], event["monitor"]) == (8, "ndcg@5")
    actual = head.score(queries(WARM_LIKES))
    actual[:, :32] = actual.min() - 1
    # The logged value is the metric of the fitted head among cold items.
    assert validation(relevant, WARM_LIKES).of(actual) == pytest.approx(event["value"])
    other = fit(content(**START), training(WARM_LIKES, ATTRIBUTES)).score(queries(WARM_LIKES))
    other[:, :32] = other.min() - 1
    assert event["value"] >= validation(relevant, WARM_LIKES).of(other)
    assert head.tuned_config().head.gamma == event["gamma"]


def test_with_too_few_cold_items_in_validation_a_fifth_of_those_in_training_is_hidden():
    _, event = learn({"validation": validation(LIKES - WARM_LIKES, WARM_LIKES)})
    assert event["num_cold"] == int(0.2 * 32)


def test_hidden_items_are_in_no_history_and_in_nothing_that_is_learned_from():
    task = make_cold_task(training(WARM_LIKES, ATTRIBUTES), CONTEXT)
    cold = np.flatnonzero(task.cold_N)
    assert len(cold) == 6
    assert not np.isin(cold, task.trained_T).any()
    for matrix in (task.queries.history, task.queries.seen, task.matrix_UN):
        assert not np.isin(cold, matrix.indices).any()
    assert np.isin(task.relevant_QN.indices, cold).all()
    np.testing.assert_array_equal(task.relevant_QN.toarray()[:, cold], WARM_LIKES[task.queries.user][:, cold])


@pytest.mark.parametrize("kind", ["place", "time"])
def test_histories_of_hidden_items_are_weighed_by_the_recency_that_they_will_be_asked_with(kind):
    data = replace(training(WARM_LIKES, ATTRIBUTES), has_order=True, has_moments=True)
    # The interactions of a user, hidden ones too, are a millisecond apart.
    task = make_cold_task(data, CONTEXT, recency=Recency(kind, 1 if kind == "place" else 1 / DAY))
    history = task.queries.history
    for row, user in enumerate(task.queries.user):
        entries = slice(history.indptr[row], history.indptr[row + 1])
        place = np.flatnonzero(np.isin(np.flatnonzero(WARM_LIKES[user]), history.indices[entries]))
        ages = np.arange(len(place))[::-1] if kind == "place" else place[-1] - place
        np.testing.assert_allclose(history.data[entries], 0.5**np.minimum(ages, 20), rtol=1e-5)


def test_without_users_to_validate_on_the_defaults_are_used():
    head = fit(content(gamma=None), training(np.zeros((2, 3)), np.eye(3)))
    assert head.tuned_config().head.gamma == START["gamma"]
    assert not head.score(queries(np.eye(3))).any()


def test_an_item_without_features_is_equally_far_from_all():
    attributes = ATTRIBUTES.copy()
    attributes[39] = 0
    head = fit(content(), training(WARM_LIKES, attributes))
    assert np.isfinite(head.score(queries(WARM_LIKES)).numpy()).all()


def test_no_features_and_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="all weights are 0, so items have no features"):
        compose("finetune", ["head=content", "head.features={text: 0, attributes: 0}"])
    with pytest.raises(ConfigError, match=r"head.l2=0.0: must be above 0"):
        compose("finetune", ["head=content", "head.l2=0.0"])
    with pytest.raises(ConfigError, match=r"head.blend=2.0: must be at most 1"):
        compose("finetune", ["head=content", "head.blend=2.0"])


def test_a_catalogue_that_does_not_fit_into_memory_is_refused_before_anything_is_computed(monkeypatch):
    class Memory:
        available = 1000

    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: Memory)
    with pytest.raises(ResourceError, match=r"head=content: 40 items need .* choose head=two_tower"):
        fit(content(), training(WARM_LIKES, ATTRIBUTES))


@pytest.mark.parametrize("num_users", [9, 60])
def test_the_denoiser_is_ease_whether_users_or_items_are_fewer(num_users):
    matrix = WARM_LIKES[:num_users, :32]
    denoiser = Denoiser(sp.csr_array(matrix.astype(np.float32)), 10, torch.device("cpu"))
    assert denoiser.by_users == (num_users < 32)
    history = torch.from_numpy(matrix[:5].astype(np.float32))
    np.testing.assert_allclose(denoiser.scores(history), matrix[:5] @ ease(matrix, 10), atol=1e-5)
    inverse = np.linalg.inv(matrix.T @ matrix + 10 * np.eye(32))
    np.testing.assert_allclose(denoiser.columns(np.array([3, 0])), inverse[:, [3, 0]], atol=1e-6)
    np.testing.assert_allclose(denoiser.product(torch.from_numpy(inverse.astype(np.float32))), inverse @ inverse,
                               atol=1e-6)


def test_with_fewer_users_than_items_the_target_is_still_eases_scores():
    few = WARM_LIKES[:9]
    warm = np.flatnonzero(few.any(axis=0))
    actual = fit(content(denoise=0.7, denoise_l2=10, blend=0.2), training(few, ATTRIBUTES)).score(queries(few)).numpy()
    matrix, cosine = few[:, warm], cosines()
    target = 0.7 * ease(matrix, 10) + 0.3 * np.eye(len(warm))
    weights = target @ np.linalg.inv(np.exp(2 * (cosine[np.ix_(warm, warm)] - 1)) + 0.5 * np.eye(len(warm)))
    weights = weights @ np.exp(2 * (cosine[warm] - 1))
    alone = fit(content(blend=1.0), training(few, ATTRIBUTES)).score(queries(few)).numpy()
    expected = 0.8 * matrix @ weights / size(weights[:, warm]) + 0.2 * alone
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)


def test_landmark_predictions_equal_the_subset_of_regressors(monkeypatch):
    monkeypatch.setattr(content_choice, "LANDMARKS", 6)
    unit = UnitFeatures.of(np.random.default_rng(4).standard_normal((20, 5)).astype(np.float32),
                           sp.csr_array((20, 0), dtype=np.float32))
    warm, cold = unit.rows(np.arange(15)), unit.rows(np.arange(15, 20))
    solver = content_choice._Landmarks(warm, cold, torch.device("cpu"), np.random.default_rng(2))
    landmarks = np.sort(np.random.default_rng(2).permutation(15)[:6])
    cosine = unit.dense_ND @ unit.dense_ND.T
    targets = np.random.default_rng(5).random((3, 15))
    for gamma, l2 in ((1.0, 0.5), (2.0, 0.1), (1.0, 3.0)):
        to_landmarks = np.exp(gamma * (cosine - 1))[landmarks]
        inner = to_landmarks[:, :15] @ to_landmarks[:, :15].T + l2 * to_landmarks[:, landmarks]
        expected = targets @ to_landmarks[:, :15].T @ np.linalg.solve(inner, to_landmarks)
        solver.set_gamma(gamma)
        projection = solver.project(torch.from_numpy(targets.astype(np.float32)))
        np.testing.assert_allclose(solver.predict(projection, l2, True), expected[:, 15:], rtol=0.01, atol=1e-3)
        np.testing.assert_allclose(solver.predict(projection, l2, False), expected[:, :15], rtol=0.01, atol=1e-3)
        of_sparse = solver.project_history(sp.csr_array(targets.astype(np.float32)))
        np.testing.assert_allclose(of_sparse, projection, rtol=1e-4, atol=1e-5)


def test_with_all_items_as_landmarks_the_chosen_settings_are_those_of_the_full_regression(monkeypatch):
    _, whole = learn({})
    monkeypatch.setattr(content_choice, "MOST_EXACT", 0)
    _, actual = learn({})
    assert whole["landmarks"] is None
    assert actual.pop("landmarks") == content_choice.LANDMARKS
    assert actual.pop("value") == pytest.approx(whole.pop("value"), abs=1e-6)
    assert actual == {key: value for key, value in whole.items() if key != "landmarks"}


def test_with_many_items_settings_are_chosen_on_landmarks_with_progress(monkeypatch, capsys):
    monkeypatch.setattr(content_choice, "MOST_EXACT", 0)
    monkeypatch.setattr(content_choice, "LANDMARKS", 10)
    monkeypatch.setattr(content_choice, "PROGRESS_AFTER", -1.0)
    monkeypatch.setattr(module, "PROGRESS_AFTER", -1.0)
    sizes = []
    plain = content_choice.ridge_factor
    monkeypatch.setattr(content_choice, "ridge_factor", lambda cosine, gamma, l2: (
        sizes.append(len(cosine)), plain(cosine, gamma, l2))[1])
    learn({})
    assert set(sizes) == {10}
    output = capsys.readouterr().err
    assert "choosing denoise, gamma, l2, blend on 6 cold items takes about" in output
    assert "solving for 32 items in training takes about" in output
    assert "round 1 of at most 2" in output


def test_a_kernel_computed_in_place_is_the_same():
    cosine = torch.from_numpy(cosines().astype(np.float32))
    apart = kernel(cosine, 0.7)
    assert torch.equal(kernel(cosine, 0.7, in_place=True), apart)
    assert torch.equal(cosine, apart)


def test_memory_of_the_choice_counts_what_is_kept_of_each_gamma():
    num_items, num_users, landmarks = 2 * content_choice.MOST_EXACT, 50, content_choice.LANDMARKS

    data = training(np.arange(num_items)[None] % num_users == np.arange(num_users)[:, None])

    def stated(gamma):
        return content_choice.choice_memory(content(gamma=gamma, l2=None), data)

    # Projections of denoised and plain histories, a Gram matrix, and the features of the hidden fifth of the items.
    kept = 4 * landmarks * (2 * num_users + landmarks + num_items // 5)
    assert stated(None) - stated(1.0) == (len(content_choice.GRID["gamma"]) - 1) * kept
