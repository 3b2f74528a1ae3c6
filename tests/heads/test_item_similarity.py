"""Items similar to the history's items."""

from dataclasses import replace

import numpy as np
import pytest

from llmrec_cli.heads import item_similarity as module
from llmrec_cli.heads.shared.item_kernel import UnitFeatures
from llmrec_cli.settings.head import ItemSimilaritySettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from tests.heads.by_hand import fit, queries, training

# Items: (a, b), (a), (b), none. Cosines of the first with the others: .7071, .7071, 0; of the second and third 0.
ATTRIBUTES = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])


def head_of(**changed):
    return fit(ItemSimilaritySettings(**({"features": FeatureWeightsSettings(attributes=1.0)} | changed)),
               training(np.ones((2, 4)), ATTRIBUTES))


def test_scores_are_sums_of_cosines_to_the_power():
    half = 0.5**0.5
    scores = head_of(exponent=2.0).score(queries(np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])))
    np.testing.assert_allclose(scores, [[1, 0.5, 0.5, 0], [1, 1, 1, 0], [0, 0, 0, 0]], atol=1e-6)
    linear = head_of(exponent=1.0).score(queries(np.array([[0, 1, 1, 0]])))
    np.testing.assert_allclose(linear, [[2 * half, 1, 1, 0]], atol=1e-6)


def test_cosines_are_computed_for_a_block_of_items_at_a_time(monkeypatch):
    head, query, widths = head_of(), queries(np.array([[1, 0, 0, 0], [0, 1, 1, 0]])), []
    whole, plain = head.score(query), UnitFeatures.cosine

    def cosine(self, others, device):
        widths.append(len(others.dense_ND))
        return plain(self, others, device)

    monkeypatch.setattr(module, "_BLOCK_ITEMS", 3)
    monkeypatch.setattr(UnitFeatures, "cosine", cosine)
    np.testing.assert_array_equal(head.score(query), whole)
    assert widths == [3, 1]


def test_the_last_item_of_a_history_counts_most():
    ordered = replace(training(np.ones((2, 4)), ATTRIBUTES), has_order=True)
    settings = ItemSimilaritySettings(features=FeatureWeightsSettings(attributes=1.0), exponent=1.0, recency="place",
                                      recency_half_life=1.0)
    query = queries(np.array([[0, 1, 1, 0]]))  # item 1, then item 2
    scores = fit(settings, ordered).score(query)[0]
    np.testing.assert_allclose(scores[1:3], [0.5, 1.0], atol=1e-6)
    query.history.indices[:] = [2, 1]
    np.testing.assert_allclose(fit(settings, ordered).score(query)[0][1:3], [1.0, 0.5], atol=1e-6)


def test_perturbed_texts_change_only_word_features():
    data = training(np.ones((2, 3)), np.array([[1, 0], [1, 0], [0, 1]]))
    texts = np.array(["red tea", "red tea", "blue cup blue cup red"], object)
    data = replace(data, items=replace(data.items, texts=texts))
    head = fit(ItemSimilaritySettings(features=FeatureWeightsSettings(words=1.0, attributes=1.0), exponent=1.0), data)
    query = queries(np.array([[1, 0, 0]]))
    before = head.score(query)[0]
    assert before[1] == pytest.approx(1)
    head.reread(texts)
    np.testing.assert_allclose(head.score(query)[0], before, atol=1e-6)
    head.reread(np.array(["red tea", "", "blue cup blue cup red"], object))
    # The second item has only its attribute left: the cosine of (words, attribute) with (attribute).
    assert head.score(query)[0][1] == pytest.approx(0.5**0.5, abs=1e-6)


def test_all_weights_of_zero_are_refused():
    assert "set features.text=1" in " ".join(ItemSimilaritySettings(features=FeatureWeightsSettings()).problems())
