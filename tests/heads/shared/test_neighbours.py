"""item-kNN and user-kNN: hand-worked numbers, and the formulas written out densely."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmrec_cli.heads.shared import matrix_products as sparse_products
from llmrec_cli.heads.shared.matrix_products import RightFactor
from llmrec_cli.heads.shared.neighbours import Weighting, _highest
from llmrec_cli.settings.head import ItemKnnSettings, UserKnnSettings
from tests.heads.by_hand import fit, queries, training

#                     i0 i1 i2 i3
MATRIX = np.array([[1, 1, 0, 0],
                   [1, 1, 1, 0],
                   [0, 1, 1, 0],
                   [0, 0, 0, 1]])


def scores(settings, matrix, history, user=None):
    return fit(settings, training(matrix)).score(queries(history, user)).numpy()


def weights_by_hand(rows, candidates, settings):
    """Return the rows with weighted features, by the formulas written out densely."""
    idf = np.log1p(len(candidates) / np.maximum((candidates > 0).sum(0), 1))
    if settings.weighting == "none":
        return rows * 1.0
    if settings.weighting == "tfidf":
        return rows * idf
    average, length = max(candidates.sum() / len(candidates), 1e-9), rows.sum(1, keepdims=True)
    damping = settings.k1 * (1 - settings.b + settings.b * length / average) + rows
    return rows * idf * (settings.k1 + 1) / np.where(rows > 0, damping, 1)


def similarities_by_hand(targets, others, settings):
    """Return the similarity of each target with each of the others, before the exponent."""
    power = 2 * settings.normalisation
    norm_t, norm_o = np.sqrt((targets**2).sum(1)), np.sqrt((others**2).sum(1))
    bottom = np.outer(norm_t**(power * settings.asymmetry), norm_o**(power * (1 - settings.asymmetry)))
    return targets @ others.T / (bottom + settings.shrinkage + 1e-12)


def nearest_by_hand(similarity, k):
    """Return each row with all but its k highest values set to 0; the first wins a tie."""
    nearest = np.zeros_like(similarity)
    for row, values in enumerate(similarity):
        near = np.argsort(-values, kind="stable")[:k]
        nearest[row, near] = values[near]
    return nearest


def item_knn(matrix, history, settings):
    items = weights_by_hand(matrix.T, matrix.T, settings)
    similarity_TH = similarities_by_hand(items, items, settings)
    np.fill_diagonal(similarity_TH, 0)
    if settings.neighbours_of == "target":
        nearest_TH = nearest_by_hand(similarity_TH, settings.k)
    else:
        nearest_TH = nearest_by_hand(similarity_TH.T, settings.k).T
    return history @ (nearest_TH ** settings.exponent).T


def user_knn(matrix, history, user, settings):
    rows, users = weights_by_hand(history, matrix, settings), weights_by_hand(matrix, matrix, settings)
    similarity_QU = similarities_by_hand(rows, users, settings)
    for query, own in enumerate(user):
        if own >= 0:
            similarity_QU[query, own] = 0
    return nearest_by_hand(similarity_QU, settings.k) ** settings.exponent @ matrix


def test_items_bought_together_score_their_cosine():
    # i0 has users {0, 1}, i1 {0, 1, 2}, i2 {1, 2}: cos(0,1) = 2/sqrt(6), cos(0,2) = 1/2, cos(0,3) = 0.
    actual = scores(ItemKnnSettings(shrinkage=0), MATRIX, np.array([[1, 0, 0, 0]]))
    np.testing.assert_allclose(actual, [[0, 2 / np.sqrt(6), 0.5, 0]], rtol=1e-6)


def test_shrinkage_damps_and_the_exponent_sharpens():
    actual = scores(ItemKnnSettings(shrinkage=2, exponent=2), MATRIX, np.array([[1, 0, 0, 0]]))
    np.testing.assert_allclose(actual, [[0, (2 / (np.sqrt(6) + 2))**2, (1 / (2 + 2))**2, 0]], rtol=1e-6)


def test_only_the_k_nearest_of_each_item_count():
    actual = scores(ItemKnnSettings(k=1, shrinkage=0, neighbours_of="history"), MATRIX, np.array([[1, 0, 1, 0]]))
    # Both i0 and i2 have i1 as their nearest.
    np.testing.assert_allclose(actual, [[0, 4 / np.sqrt(6), 0, 0]], rtol=1e-6)


def test_similar_users_contribute_their_items_and_nobody_is_their_own_neighbour():
    actual = scores(UserKnnSettings(shrinkage=0), MATRIX, MATRIX[[0]], user=[0])
    # User 0 {0, 1}: cos with user 1 {0, 1, 2} = 2/sqrt(6), with user 2 {1, 2} = 1/2.
    near, far = 2 / np.sqrt(6), 0.5
    np.testing.assert_allclose(actual, [[near, near + far, near + far, 0]], rtol=1e-6)


def test_a_new_user_with_the_same_history_has_that_user_as_the_nearest():
    actual = scores(UserKnnSettings(shrinkage=0, k=1), MATRIX, MATRIX[[0]])
    np.testing.assert_allclose(actual, [[1, 1, 0, 0]], rtol=1e-6)


@st.composite
def settings_of(draw, kind):
    """Draw settings in range."""
    weighting = draw(st.sampled_from(["none", "tfidf", "bm25"]))
    bm25 = {"k1": draw(st.sampled_from([0.5, 1.2, 20.0])), "b": draw(st.sampled_from([0.0, 0.5, 1.0]))}
    values = {"k": draw(st.integers(1, 12)), "shrinkage": draw(st.sampled_from([0.0, 0.7, 10.0])),
              "weighting": weighting, "exponent": draw(st.sampled_from([0.5, 1.0, 2.3])),
              "asymmetry": draw(st.sampled_from([0.0, 0.2, 0.5, 1.0])),
              "normalisation": draw(st.sampled_from([0.3, 0.8, 1.0]))} | (bm25 if weighting == "bm25" else {})
    if kind is ItemKnnSettings:
        values["neighbours_of"] = draw(st.sampled_from(["target", "history"]))
    settings = kind(**values)
    assert not list(settings.problems())
    return settings


def random_matrix(seed, num_users, num_items):
    """Return a 0/1 matrix with crowded and empty rows and columns, some of each."""
    rng = np.random.default_rng(seed)
    return (rng.random((num_users, num_items)) < np.outer(rng.random(num_users), rng.random(num_items) * 1.5)) * 1.0


def random_weights(seed, num_users, num_items, weighted):
    """Return a matrix of values, 1s unless `weighted`, and its weights, whose average is 1."""
    values = random_matrix(seed, num_users, num_items)
    if weighted:
        values *= np.random.default_rng(seed + 1).choice([1.0, 5.0, 30.0], values.shape)
    return values, values / (values[values > 0].mean() if values.any() else 1)


def sure(similarity, k):
    """Return True if rounding cannot change the k nearest: the k-th similarity is clearly above the next one."""
    ordered = -np.sort(-similarity, axis=1)
    return k >= ordered.shape[1] or bool((ordered[:, k - 1] - ordered[:, k] > 1e-5 * ordered[:, k - 1])[
        ordered[:, k] > 0].all())


sizes = {"seed": st.integers(0, 10**6), "num_users": st.integers(1, 14), "num_items": st.integers(1, 14),
         "weighted": st.booleans()}


@given(settings=settings_of(ItemKnnSettings), **sizes)
def test_item_knn_scores_as_the_dense_formula_says(settings, seed, num_users, num_items, weighted):
    values, matrix = random_weights(seed, num_users, num_items, weighted)
    items = weights_by_hand(matrix.T, matrix.T, settings)
    similarity = similarities_by_hand(items, items, settings)
    np.fill_diagonal(similarity, 0)
    assume(sure(similarity if settings.neighbours_of == "target" else similarity.T, settings.k))
    np.testing.assert_allclose(scores(settings, values, values), item_knn(matrix, matrix, settings),
                               rtol=1e-4, atol=1e-6)


@given(settings=settings_of(UserKnnSettings), known=st.booleans(), **sizes)
def test_user_knn_scores_as_the_dense_formula_says(settings, known, seed, num_users, num_items, weighted):
    values, matrix = random_weights(seed, num_users, num_items, weighted)
    user = list(range(num_users)) if known else [-1] * num_users
    rows = weights_by_hand(matrix, matrix, settings)
    similarity = similarities_by_hand(rows, rows, settings)
    if known:
        np.fill_diagonal(similarity, 0)
    assume(sure(similarity, settings.k))
    np.testing.assert_allclose(scores(settings, values, values, user), user_knn(matrix, matrix, user, settings),
                               rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings",
                         [ItemKnnSettings(k=5), ItemKnnSettings(k=5, neighbours_of="history"), UserKnnSettings(k=5)])
@pytest.mark.parametrize(("cells", "share"), [(1, 2.0), (100, 0.1), (2**22, 0.0)])
def test_blocks_and_dense_features_change_no_score(monkeypatch, settings, cells, share):
    matrix = random_matrix(3, 40, 30)
    before = scores(settings, matrix, matrix)
    monkeypatch.setattr(sparse_products, "BLOCK_CELLS", cells)
    monkeypatch.setattr(sparse_products, "DENSE_SHARE", share)
    np.testing.assert_allclose(scores(settings, matrix, matrix), before, rtol=1e-5)


@given(similarity=arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)),
                         elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])), k=st.integers(1, 10))
def test_among_equally_near_neighbours_the_first_are_kept_and_zeros_never(similarity, k):
    actual = np.where(_highest(similarity, k), similarity, 0)
    np.testing.assert_array_equal(actual, nearest_by_hand(similarity, k))


@given(share=st.floats(0, 1), most=st.integers(0, 60), seed=st.integers(0, 10**6))
def test_a_product_is_the_same_however_much_of_it_is_dense(share, most, seed):
    rng = np.random.default_rng(seed)
    left, right = (rng.random((7, 9)) * (rng.random((7, 9)) < 0.5) for _ in range(2))
    right = right.T.astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_products, "DENSE_SHARE", share)
        patch.setattr(sparse_products, "DENSE_CELLS", most)
        factor = RightFactor(sp.csr_array(right))
    assert len(factor.dense_D) * 7 <= most
    np.testing.assert_allclose(factor.product(sp.csr_array(left.astype(np.float32))), left @ right, rtol=1e-5)


def test_the_share_of_the_target_in_the_norm_is_the_asymmetry():
    # i0 has users {0, 1}, i1 {0, 1, 2}: two in common. The history is i0, the scored item i1.
    for asymmetry in (0.0, 0.15, 0.5, 1.0):
        actual = scores(ItemKnnSettings(shrinkage=0, asymmetry=asymmetry), MATRIX, np.array([[1, 0, 0, 0]]))
        np.testing.assert_allclose(actual[0, 1], 2 / (3**asymmetry * 2**(1 - asymmetry)), rtol=1e-6)


def test_the_share_of_the_user_who_asks_is_the_asymmetry():
    # The query is user 1 {0, 1, 2}; user 0 {0, 1} has 2 in common and no other item; besides user 1, i0 has user 0.
    actual = scores(UserKnnSettings(shrinkage=0, asymmetry=0.3), MATRIX, MATRIX[[1]], user=[1])
    np.testing.assert_allclose(actual[0, 0], 2 / (3**0.3 * 2**0.7), rtol=1e-6)


def test_without_normalisation_the_common_users_are_counted():
    actual = scores(ItemKnnSettings(shrinkage=0, normalisation=0), MATRIX, np.array([[1, 0, 0, 0]]))
    np.testing.assert_allclose(actual, [[0, 2, 1, 0]], rtol=1e-6)


def test_each_scored_item_takes_the_sum_over_its_own_neighbours():
    # The nearest of i0 and of i2 is i1, so a history of i1 alone scores both by their own nearest neighbours.
    actual = scores(ItemKnnSettings(k=1, shrinkage=0, neighbours_of="target"), MATRIX, np.array([[0, 1, 0, 0]]))
    near = 2 / np.sqrt(6)
    np.testing.assert_allclose(actual, [[near, 0, near, 0]], rtol=1e-6)


@pytest.mark.parametrize(("settings", "words"), [
    (ItemKnnSettings(k=0), "k=0"), (UserKnnSettings(shrinkage=-1), "shrinkage=-1"),
    (UserKnnSettings(asymmetry=1.5), "asymmetry=1.5"),
    (ItemKnnSettings(neighbours_of="users"), "neighbours_of=users"), (ItemKnnSettings(k1=2.0), "set weighting=bm25"),
    (ItemKnnSettings(weighting="bm25", b=2.0), "b=2.0"),
    (UserKnnSettings(normalisation=0, asymmetry=0.2), "has no effect"),
])
def test_a_setting_out_of_range_or_without_effect_is_refused(settings, words):
    problems = list(settings.problems())
    assert len(problems) == 1
    assert words in problems[0]


def test_memory_is_estimated_from_shapes_and_grows_with_k():
    data = training(random_matrix(1, 60, 50))
    few, many = (fit(ItemKnnSettings(k=k), data).estimate_memory(data) for k in (2, 20))
    assert fit(UserKnnSettings(), data).estimate_memory(data) == 8 * len(data.interactions)
    # 18 more neighbours of each of the items that have as many, 12 to 16 bytes each.
    assert 0 <= many - few <= 16 * 18 * 50


def test_tfidf_is_the_logarithm_of_one_over_the_share():
    # Of 4 rows, features 0 to 3 are in 2, 3, 2 and 1.
    weighting = Weighting(sp.csr_array(MATRIX), UserKnnSettings(weighting="tfidf"))
    actual = weighting(sp.csr_array(MATRIX[[1, 3]].astype(np.float32))).toarray()
    np.testing.assert_allclose(actual, [[np.log(3), np.log(7 / 3), np.log(3), 0], [0, 0, 0, np.log(5)]], rtol=1e-6)


def test_bm25_damps_long_rows_by_the_average_length_of_those_known():
    # Rows of 2, 3, 2 and 1 items: 2 on average. k1 = 1.2, b = 0.75.
    weighting = Weighting(sp.csr_array(MATRIX), UserKnnSettings(weighting="bm25"))
    actual = weighting(sp.csr_array(MATRIX[[1]].astype(np.float32))).toarray()
    damping = 2.2 / (1.2 * (0.25 + 0.75 * 3 / 2) + 1)
    idf = np.array([np.log(3), np.log(7 / 3), np.log(3), 0])
    np.testing.assert_allclose(actual, [idf * damping], rtol=1e-6)


@pytest.mark.parametrize("weighting", ["none", "tfidf", "bm25"])
@pytest.mark.parametrize("settings", [ItemKnnSettings, UserKnnSettings])
def test_an_empty_history_scores_zero(settings, weighting):
    assert not scores(settings(weighting=weighting), MATRIX, np.zeros((1, 4))).any()
