"""Distillation: co-occurrence targets and their loss."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.settings.loss import DistillationSettings
from llmrec_cli.training.losses.distillation import Similarity, SoftTargets, distillation_loss

CPU = torch.device("cpu")
# Four users and four items; no user has the last item together with another.
INTERACTIONS = sp.csr_array(np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], np.float32))


def test_targets_are_the_shares_of_items_chosen_together():
    targets = SoftTargets(INTERACTIONS, DistillationSettings(), CPU)
    assert targets.rows.tolist() == [0, 1, 2]
    np.testing.assert_allclose(targets.of(np.array([0, 1, 2])), [[0, 2 / 3, 1 / 3, 0], [1, 0, 0, 0], [1, 0, 0, 0]])


def test_a_pair_in_a_long_history_weighs_less():
    interactions = sp.csr_array(np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], np.float32))
    # The long history gives each of its four pairs with item 0 1/4, the short one its only pair 1.
    np.testing.assert_allclose(SoftTargets(interactions, DistillationSettings(), CPU).of(np.array([0]))[0],
                               [0, 1.25 / 2, 0.25 / 2, 0.25 / 2, 0.25 / 2])


def test_targets_of_ease_are_its_positive_weights():
    dense = INTERACTIONS.toarray()
    inverse = np.linalg.inv(dense.T @ dense + 5 * np.eye(4))
    weights = np.clip(-inverse / np.diag(inverse), 0, None)
    np.fill_diagonal(weights, 0)
    expected = weights[:3] / weights[:3].sum(1, keepdims=True)
    targets = SoftTargets(INTERACTIONS, DistillationSettings(targets="ease", l2=5.0), CPU)
    np.testing.assert_allclose(targets.of(np.arange(3)), expected, rtol=1e-4, atol=1e-6)


def test_the_minimum_of_the_loss_is_the_entropy_of_the_targets():
    targets = torch.tensor([[0.5, 0.25, 0.25]])
    entropy = 1.5 * np.log(2)
    assert float(distillation_loss(targets.log() + 3, targets)) == pytest.approx(entropy, rel=1e-5)
    assert float(distillation_loss(torch.zeros(1, 3), targets)) == pytest.approx(np.log(3), rel=1e-5)


def test_an_item_is_no_target_of_its_own_and_popularity_is_added_to_the_logits():
    settings = DistillationSettings(temperature=0.5, popularity=0.5)
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    popularity = torch.tensor([0.0, -2.0, -4.0])
    logits = Similarity(settings)(vectors, torch.tensor([0]), popularity)
    torch.testing.assert_close(logits[0, 1:], torch.tensor([-1.0, 1.2 - 2.0]))
    assert logits[0, 0] == -1e9
