"""Item-kNN of transitions: hand-worked numbers, and a loop over histories as the oracle."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.heads.shared.transitions import highest_of_rows, mean_weights, own_where_empty
from llmrec_cli.settings.head import ItemKnnSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.search import proposal
from llmrec_cli.testing.shop import copies
from tests.heads.by_hand import entities, fit, queries
from tests.heads.conftest import configs


def following(histories, num_items, weights=None, attributes=None):
    """Return training data of histories, lists of items, oldest first."""
    user = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    item = np.array([item for history in histories for item in history], np.int64)
    value = np.ones(len(item), np.float32) if weights is None else np.asarray(weights, np.float32)
    interactions = Interactions(user, item, value, np.arange(len(item)), len(histories), num_items)
    return TrainingData(entities(len(histories), kind="u"), entities(num_items, attributes), interactions,
                        value_kind="event_weight", has_order=True)


def forward(**changed):
    return ItemKnnSettings(direction="forward", **({"shrinkage": 0.0} | changed))


def matrix_of(settings, data):
    """Return the similarities of a fitted head, rows are the items of a history."""
    return fit(settings, data).similarity_NN.toarray()


def by_hand(histories, num_items, settings, weights=None):
    """Return the similarities by loops over users, places and items (N, N)."""
    counts, start = np.zeros((num_items, num_items)), 0
    for history in histories:
        for i, first in enumerate(history):
            for j in range(i + 1, min(len(history), i + settings.window + 1)):
                if first != history[j]:
                    pair = 1 if weights is None else weights[start + i] * weights[start + j]
                    counts[first, history[j]] += pair / (j - i)
        start += len(history)
    rows, columns = counts.sum(axis=1) + settings.shrinkage, counts.sum(axis=0) + settings.shrinkage
    share = settings.asymmetry * settings.normalisation
    power = np.outer(rows**(settings.normalisation - share), columns**share)
    similar = np.divide(counts, power, out=np.zeros_like(counts), where=counts > 0)
    lines = similar.T if settings.neighbours_of == "target" else similar
    for line in lines:
        line[np.argsort(-line, kind="stable")[settings.k:]] = 0
    return np.where(similar > 0, similar, 0)**settings.exponent * (similar > 0)


HISTORIES = [[0, 1, 2], [1, 2], [2, 0]]


def test_what_follows_counts_by_one_over_the_gap_and_is_divided_by_the_roots_of_both_sums():
    # 0 to 1: 1, 0 to 2: 1/2, 1 to 2: 1 + 1, 2 to 0: 1. Sums of rows 1.5, 2, 1; of columns 1, 1, 2.5.
    expected = [[0, 1 / 1.5**.5, .5 / (1.5 * 2.5)**.5], [0, 0, 2 / (2 * 2.5)**.5], [1, 0, 0]]
    np.testing.assert_allclose(matrix_of(forward(), following(HISTORIES, 3)), expected, rtol=1e-6)


def test_shrinkage_is_added_to_the_sums_and_the_window_limits_the_gap():
    # With a window of 1 the pair 0, 2 is none: sums of rows 1, 2, 1 and of columns 1, 1, 2, each plus 2.
    expected = [[0, 1 / 9**.5, 0], [0, 0, 2 / 16**.5], [1 / 9**.5, 0, 0]]
    np.testing.assert_allclose(matrix_of(forward(window=1, shrinkage=2.0), following(HISTORIES, 3)), expected,
                               rtol=1e-6)


def test_scores_go_from_the_history_to_what_follows_and_not_back():
    head = fit(forward(), following([[0, 1]] * 3, 3))
    after_first, after_second = head.score(queries(np.array([[1, 0, 0], [0, 1, 0]]))).numpy()
    assert after_first.tolist() == [0, 1, 0]
    assert not after_second.any()
    both = fit(ItemKnnSettings(shrinkage=0.0), following([[0, 1]] * 3, 3))
    assert both.score(queries(np.array([[0, 1, 0]]))).numpy()[0].tolist() == [1, 0, 0]


def test_a_transition_weighs_the_product_of_its_interactions():
    # Weights are divided by their mean, 2: .5, 1, 1.5 and 1; in one history of 0, 1, 2 and one of 3.
    data = following([[0, 1, 2], [3]], 4, weights=[1, 2, 3, 2])
    actual = matrix_of(forward(normalisation=0.0), data)
    np.testing.assert_allclose(actual[0, 1:3], [.5, .5 * 1.5 / 2], rtol=1e-6)
    np.testing.assert_allclose(actual[1, 2], 1.5, rtol=1e-6)


@given(seed=st.integers(0, 10**6), window=st.sampled_from([1, 2, 5, 40]), k=st.integers(1, 8),
       shrinkage=st.sampled_from([0.0, 3.0]), asymmetry=st.sampled_from([0.5, 0.3]),
       normalisation=st.sampled_from([1.0, 0.7]), exponent=st.sampled_from([1.0, 2.0]),
       neighbours_of=st.sampled_from(["target", "history"]), weighted=st.booleans())
def test_similarities_are_those_of_loops_over_histories(seed, window, k, shrinkage, asymmetry, normalisation,
                                                        exponent, neighbours_of, weighted):
    rng = np.random.default_rng(seed)
    histories = [rng.permutation(7)[:rng.integers(0, 8)].tolist() for _ in range(6)]
    num = sum(map(len, histories))
    weights = rng.choice([1.0, 2.0, 7.0], num) if weighted else np.ones(num)
    settings = forward(window=window, k=k, shrinkage=shrinkage, asymmetry=asymmetry, normalisation=normalisation,
                       exponent=exponent, neighbours_of=neighbours_of, weight="value" if weighted else "none")
    scaled = weights / weights.mean() if num and len(set(weights)) > 1 else np.ones(num)
    expected = by_hand(histories, 7, replace(settings, k=7), scaled)
    lines = expected.T if neighbours_of == "target" else expected
    actual = matrix_of(settings, following(histories, 7, weights))
    kept = actual.T if neighbours_of == "target" else actual
    for line, chosen in zip(lines, kept, strict=True):
        # The k highest; which of equal ones may depend on rounding.
        np.testing.assert_allclose(np.sort(chosen)[::-1][:k], np.sort(line)[::-1][:k], rtol=1e-4)
        np.testing.assert_allclose(chosen[chosen > 0], line[chosen > 0], rtol=1e-4)
        assert (chosen > 0).sum() <= k


def test_of_equal_values_the_lowest_columns_are_kept_and_zeros_never():
    matrix = sp.csr_array(np.array([[1, 3, 1, 3, 1], [0, 0, 0, 0, 2], [0, 0, 0, 0, 0]], np.float32))
    matrix.data[0] = 0
    assert highest_of_rows(matrix, 3).toarray().tolist() == [[0, 3, 1, 3, 0], [0, 0, 0, 0, 2], [0, 0, 0, 0, 0]]
    assert highest_of_rows(matrix, 9).nnz == 5


def test_rows_of_nearest_items_sum_to_one_and_an_item_like_no_other_is_like_itself():
    near = sp.csr_array(np.array([[3.0, 1, 0], [0, 0, 0], [0, 2, 2]], np.float32))
    near.data[2] = 0
    means = mean_weights(near)
    assert means.toarray().tolist() == [[.75, .25, 0], [0, 0, 0], [0, 0, 1]]
    assert means.nnz == 3
    assert own_where_empty(means).toarray().tolist() == [[.75, .25, 0], [0, 1, 0], [0, 0, 1]]


ATTRIBUTES = np.array([[1, 0], [1, 0], [0, 1], [1, 1], [0, 0], [0, 1]])


@pytest.mark.parametrize("neighbours_of", ["target", "history"])
@pytest.mark.parametrize("smooth", [0.4, 1.0])
def test_smoothed_transitions_are_those_of_the_dense_formula(neighbours_of, smooth):
    histories = [[0, 2, 3], [1, 5], [4, 0, 2], [2, 3, 4], [5, 1, 0]]
    data = following(histories, 6, attributes=ATTRIBUTES)
    settings = forward(smooth=smooth, smooth_k=5, smooth_exponent=2.0, features=FeatureWeightsSettings(attributes=1.0),
                       neighbours_of=neighbours_of, k=6)
    plain = matrix_of(replace(settings, smooth=0.0, features=FeatureWeightsSettings()), data)
    unit = ATTRIBUTES / np.maximum(np.sqrt(ATTRIBUTES.sum(axis=1, keepdims=True)), 1)
    near = (unit @ unit.T)**2
    for line in near:
        line[np.argsort(-line, kind="stable")[5:]] = 0
    near[4, 4] = 1  # It has no features.
    near /= near.sum(axis=1, keepdims=True)
    expected = (1 - smooth) * plain + smooth * near @ plain @ near
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(matrix_of(settings, data), expected, rtol=1e-5, atol=1e-7)


def test_an_item_that_nothing_led_to_is_reached_through_its_features():
    # Item 1 has the attributes of item 0 and no interactions; item 0 follows item 2.
    data = following([[2, 0], [2, 0]], 4, attributes=np.array([[1, 0], [1, 0], [0, 1], [0, 0]]))
    history = queries(np.array([[0, 0, 1, 0]]))
    assert fit(forward(), data).score(history)[0, 1] == 0
    smoothed = fit(forward(smooth=0.5, features=FeatureWeightsSettings(attributes=1.0)), data).score(history)[0]
    # Half of 1 is item 0's alone; the other half is shared by the two that have its attribute.
    np.testing.assert_allclose(smoothed, [.75, .25, 0, 0], rtol=1e-6)


def test_an_added_item_has_the_mean_of_its_nearest_items_times_smooth(shop, case):
    head = case("item_knn_smooth").copy()
    query = shop.known_users([0, 7])
    scores, num = head.score(query).numpy(), len(shop.data.items)
    # The same features as item 0: nearest to it and to its twins.
    known = head.features
    unit = np.concatenate([known.dense_ND, known.sparse_NF.toarray()], axis=1)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosine = unit @ unit[0]
    weight = np.zeros(num)
    nearest = np.argsort(-cosine, kind="stable")[:20]
    weight[nearest] = np.maximum(cosine[nearest], 0)**6
    head.add_items(copies(shop.data.items, (0,)))
    added = head.score(shop.known_users([0, 7], num_added=1)).numpy()
    np.testing.assert_allclose(added[:, num], 0.5 * scores @ (weight / weight.sum()), rtol=1e-4)
    np.testing.assert_array_equal(added[:, :num], scores)


def test_data_without_times_is_refused():
    with pytest.raises(DataError, match=r"head\.direction=forward: the prepared data has no times"):
        fit(forward(), replace(following([[0, 1]], 2), has_order=False))


def test_features_that_the_data_lacks_leave_the_plain_transitions_and_a_config_that_loads():
    data = following(HISTORIES, 3)
    head = fit(forward(smooth=0.5, smooth_k=7), data)
    np.testing.assert_array_equal(head.similarity_NN.toarray(), matrix_of(forward(), data))
    assert not list(head.tuned_config().head.problems())
    assert head.tuned_config().head.smooth == 0


@pytest.mark.parametrize(("changed", "words"), [
    ({"direction": "back"}, "direction=back: choose one of both, forward"),
    ({"window": 3}, "window=3: has no effect with direction=both"),
    ({"direction": "forward", "weighting": "tfidf"}, "weighting=tfidf: has no effect with direction=forward"),
    ({"direction": "forward", "window": 0}, "window=0: must be at least 1"),
    ({"direction": "forward", "smooth": 0.5}, "smooth=0.5: has no effect without item features"),
    ({"direction": "forward", "smooth_k": 5}, "smooth_k=5: has no effect with smooth=0"),
    ({"features": FeatureWeightsSettings(text=1.0)}, "features: have no effect with smooth=0")])
def test_a_setting_out_of_range_or_without_effect_is_refused(changed, words):
    (problem,) = ItemKnnSettings(**changed).problems()
    assert words in problem


def test_a_search_over_the_direction_proposes_a_window_only_forward(shop):
    config = configs(shop)["item_knn"]
    values = proposal(config, {"direction": "both", "window": 9})
    assert values == {"direction": "both", "window": 5}
    assert proposal(config, {"direction": "forward", "window": 9}) == {"direction": "forward", "window": 9}
