"""item-kNN and user-kNN: hand-worked numbers, and a formula written out with loops."""

import numpy as np
import pytest
import scipy.sparse as sp

from llmrec_cli.heads.neighbours import weighted
from llmrec_cli.settings.head import ItemKnn, UserKnn
from tests.heads.by_hand import fit, queries, training

#                     i0 i1 i2 i3
MATRIX = np.array([[1, 1, 0, 0],
                   [1, 1, 1, 0],
                   [0, 1, 1, 0],
                   [0, 0, 0, 1]])


def scores(settings, matrix, history, user=None):
    return fit(settings, training(matrix)).score(queries(history, user)).numpy()


def cosine(a, b, shrinkage):
    bottom = np.sqrt((a * a).sum()) * np.sqrt((b * b).sum()) + shrinkage
    return (a * b).sum() / bottom if bottom else 0.0


def item_knn(matrix, history, k, shrinkage, exponent):
    """Each item of the history gives its k nearest items their similarity."""
    expected = np.zeros(history.shape)
    for q, row in enumerate(history):
        for i in np.flatnonzero(row):
            near = [(cosine(matrix[:, i], matrix[:, j], shrinkage), j) for j in range(matrix.shape[1]) if j != i]
            for similarity, j in sorted(near, reverse=True)[:k]:
                expected[q, j] += similarity**exponent
    return expected


def user_knn(matrix, history, user, k, shrinkage, exponent):
    """The k nearest users, the query's own row apart, give their items their similarity."""
    expected = np.zeros(history.shape)
    for q, row in enumerate(history):
        near = [(cosine(row, matrix[u], shrinkage), u) for u in range(len(matrix)) if u != user[q]]
        for similarity, u in sorted(near, reverse=True)[:k]:
            expected[q] += similarity**exponent * matrix[u]
    return expected


def test_items_bought_together_score_their_cosine():
    # i0 has users {0, 1}, i1 {0, 1, 2}, i2 {1, 2}: cos(0,1) = 2/sqrt(6), cos(0,2) = 1/2, cos(0,3) = 0.
    found = scores(ItemKnn(shrinkage=0), MATRIX, np.array([[1, 0, 0, 0]]))
    np.testing.assert_allclose(found, [[0, 2 / np.sqrt(6), 0.5, 0]], rtol=1e-6)


def test_shrinkage_damps_and_the_exponent_sharpens():
    found = scores(ItemKnn(shrinkage=2, exponent=2), MATRIX, np.array([[1, 0, 0, 0]]))
    np.testing.assert_allclose(found, [[0, (2 / (np.sqrt(6) + 2))**2, (1 / (2 + 2))**2, 0]], rtol=1e-6)


def test_only_the_k_nearest_of_each_item_count():
    found = scores(ItemKnn(k=1, shrinkage=0), MATRIX, np.array([[1, 0, 1, 0]]))
    # Both i0 and i2 have i1 as their nearest.
    np.testing.assert_allclose(found, [[0, 4 / np.sqrt(6), 0, 0]], rtol=1e-6)


def test_users_alike_give_their_items_and_oneself_is_no_neighbour():
    found = scores(UserKnn(shrinkage=0), MATRIX, MATRIX[[0]], user=[0])
    # User 0 {0, 1}: cos with user 1 {0, 1, 2} = 2/sqrt(6), with user 2 {1, 2} = 1/2.
    near, far = 2 / np.sqrt(6), 0.5
    np.testing.assert_allclose(found, [[near, near + far, near + far, 0]], rtol=1e-6)


def test_a_new_user_with_the_same_history_has_that_user_as_the_nearest():
    found = scores(UserKnn(shrinkage=0, k=1), MATRIX, MATRIX[[0]])
    np.testing.assert_allclose(found, [[1, 1, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize(("k", "shrinkage", "exponent"), [(3, 0.0, 1.0), (5, 10.0, 1.0), (50, 2.0, 1.5)])
def test_random_matrices_score_as_the_formula_says(k, shrinkage, exponent):
    rng = np.random.default_rng(3)
    matrix = rng.random((30, 14)) < 0.3
    matrix[:, 5], matrix[4] = 0, 0  # An item without users, a user without items.
    matrix = matrix * 1.0
    history, user = matrix[:12], list(range(12))
    found = scores(ItemKnn(k=k, shrinkage=shrinkage, exponent=exponent), matrix, history)
    wanted = item_knn(matrix, history, k, shrinkage, exponent)
    # Which of several equally near ones is kept is nobody's business: sums over all items are compared where k cuts.
    np.testing.assert_allclose(*((found, wanted) if k >= 14 else (found.sum(axis=1), wanted.sum(axis=1))), rtol=1e-5)
    if k >= 30:
        np.testing.assert_allclose(scores(UserKnn(k=k, shrinkage=shrinkage, exponent=exponent), matrix, history, user),
                                   user_knn(matrix, history, user, k, shrinkage, exponent), rtol=1e-5, atol=1e-7)


def test_tfidf_is_the_logarithm_of_one_over_the_share():
    # Of 4 rows, features 0 to 3 are in 2, 3, 2 and 1.
    found = weighted(sp.csr_array(MATRIX[[1, 3]].astype(np.float32)), "tfidf", sp.csr_array(MATRIX)).toarray()
    np.testing.assert_allclose(found, [[np.log(3), np.log(7 / 3), np.log(3), 0], [0, 0, 0, np.log(5)]], rtol=1e-6)


def test_bm25_damps_long_rows_by_the_average_length_of_those_known():
    # Rows of 2, 3, 2 and 1 items: 2 on average. k1 = 1.2, b = 0.75.
    found = weighted(sp.csr_array(MATRIX[[1]].astype(np.float32)), "bm25", sp.csr_array(MATRIX)).toarray()
    damping = 2.2 / (1.2 * (0.25 + 0.75 * 3 / 2) + 1)
    idf = np.array([np.log(3), np.log(7 / 3), np.log(3), 0])
    np.testing.assert_allclose(found, [idf * damping], rtol=1e-6)


@pytest.mark.parametrize("weighting", ["none", "tfidf", "bm25"])
@pytest.mark.parametrize("settings", [ItemKnn, UserKnn])
def test_an_empty_history_scores_zero(settings, weighting):
    assert not scores(settings(weighting=weighting), MATRIX, np.zeros((1, 4))).any()
