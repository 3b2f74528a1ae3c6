"""Losses and the adversary, by hand."""

import math

import pytest
import torch

from llmrec_cli.settings.adversarial import Fgm, NoAdversary
from llmrec_cli.training.adversary import adversarial_loss, fgm
from llmrec_cli.training.losses import (
    against_negatives,
    bce_loss,
    bpr_loss,
    mse_loss,
    softmax_loss,
    softmax_of_rows_loss,
)


def test_softmax_of_two_equal_logits_costs_log_two():
    assert softmax_loss(torch.zeros(1, 2), torch.tensor([0])).item() == pytest.approx(math.log(2))


def test_the_popularity_correction_makes_up_for_a_candidate_three_times_as_frequent():
    # exp(0 - log .25) = 4 against exp(0 - log .75) = 4/3, so the target's share is 3/4.
    loss = softmax_loss(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([0.25, 0.75]).log())
    assert loss.item() == pytest.approx(-math.log(3 / 4))


def test_a_known_positive_is_no_negative_and_the_target_stays_even_where_it_is_marked():
    logits = torch.tensor([[0.0, 5.0, 0.0]])
    loss = softmax_loss(logits, torch.tensor([0]), excluded_BC=torch.tensor([[True, True, False]]))
    assert loss.item() == pytest.approx(math.log(2))


def test_bce_takes_logits_once():
    # A logit of log 3 is a probability of 3/4.
    loss = bce_loss(torch.tensor([math.log(3), math.log(3)]), torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)


def test_bce_of_a_huge_logit_is_finite():
    assert bce_loss(torch.tensor([200.0]), torch.tensor([0])).item() == pytest.approx(200)


def test_mse_is_the_mean_of_the_squares():
    assert mse_loss(torch.tensor([0.5, 1.0]), torch.tensor([1, 0])).item() == pytest.approx((0.25 + 1) / 2)


def test_fgm_moves_each_vector_by_its_share_of_its_own_norm_along_the_gradient():
    hidden = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 1.0]])
    gradient = torch.tensor([[0.0, 2.0], [-3.0, -4.0], [0.0, 0.0]])
    expected = torch.tensor([[0.0, 0.5], [-0.12, -0.16], [0.0, 0.0]])
    assert torch.allclose(fgm(hidden, gradient, 0.1), expected)


def test_the_adversarial_loss_of_a_line_is_the_clean_one_plus_the_loss_one_step_uphill():
    # loss(h) = w.h with w = (3, 4), h = (1, 0): clean 3; perturbation .1 * 1 * (.6, .8), so 3 + .1 * 5 uphill.
    hidden, weight = torch.tensor([[1.0, 0.0]]), torch.tensor([3.0, 4.0], requires_grad=True)
    loss = adversarial_loss(lambda h: (h @ weight).sum(), hidden, Fgm(epsilon=0.1, weight=2.0))
    assert loss.item() == pytest.approx(3 + 2 * 3.5)
    loss.backward()
    assert weight.grad.tolist() == pytest.approx([1 + 2 * 1.06, 2 * 0.08])


def test_the_perturbation_is_a_constant_for_the_gradient_of_what_lies_below():
    below = torch.tensor([[1.0, 0.0]], requires_grad=True)
    weight = torch.tensor([3.0, 4.0])
    adversarial_loss(lambda h: (h @ weight).sum(), below * 1, Fgm(epsilon=0.1)).backward()
    assert below.grad.tolist() == [[6.0, 8.0]]


def test_without_an_adversary_the_loss_is_the_loss():
    hidden = torch.ones(1, 2)
    assert adversarial_loss(lambda h: h.sum(), hidden, NoAdversary()).item() == 2
    assert not hidden.requires_grad


def test_bpr_of_a_pair_log_three_apart_costs_log_four_thirds():
    # sigmoid(log 3) = 3/4; the excluded pair would cost more.
    loss = bpr_loss(torch.tensor([math.log(3)]), torch.tensor([[0.0, 9.0]]), torch.tensor([[False, True]]))
    assert loss.item() == pytest.approx(math.log(4 / 3))
    assert bpr_loss(torch.tensor([0.0]), torch.tensor([[0.0, 0.0]])).item() == pytest.approx(math.log(2))


def test_bpr_with_nothing_to_compare_is_zero():
    assert bpr_loss(torch.tensor([1.0]), torch.tensor([[0.0]]), torch.tensor([[True]])).item() == 0


def test_a_weight_of_two_is_the_row_twice():
    generator = torch.Generator().manual_seed(2)
    logits, target = torch.randn(3, 5, generator=generator), torch.tensor([0, 3, 4])
    excluded, rows = torch.rand(3, 5, generator=generator) < 0.3, torch.tensor([0, 1, 1, 2])
    weight, positive, user = torch.tensor([1.0, 2.0, 1.0]), logits[:, 0], torch.arange(3)
    every = torch.zeros_like(excluded)
    pairs = [
        (softmax_loss(logits, target, None, excluded, 0.2, weight),
         softmax_loss(logits[rows], target[rows], None, excluded[rows], 0.2)),
        (softmax_of_rows_loss(positive, logits, excluded, user, 0.5, weight),
         softmax_of_rows_loss(positive[rows], logits, excluded, rows, 0.5)),
        (bpr_loss(positive, logits, every, weight), bpr_loss(positive[rows], logits[rows], every[rows])),
        (bce_loss(positive, torch.ones(3), weight), bce_loss(positive[rows], torch.ones(4))),
        (mse_loss(positive, target, weight), mse_loss(positive[rows], target[rows]))]
    for weighted, repeated in pairs:
        # A mean over three rows in the one, over four in the other.
        assert 3 * weighted.item() == pytest.approx(4 * repeated.item(), rel=1e-5)


def test_negatives_count_the_same_whatever_their_positives_weigh():
    positive, negative, none = torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    found = against_negatives(bce_loss, positive, negative, none, torch.tensor([0.5, 3.5]))
    assert found.item() == pytest.approx(3 * math.log(2))


def test_the_softmax_of_rows_is_the_softmax_of_each_interaction():
    generator = torch.Generator().manual_seed(0)
    logits, known = torch.randn(3, 6, generator=generator), torch.rand(3, 6, generator=generator) < 0.4
    known[:, 0] = known[2] = True
    user, target = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 0, 5])
    expected = softmax_loss(logits[user], target, excluded_BC=known[user])
    loss = softmax_of_rows_loss(logits[user, target], logits, known, user)
    assert loss.item() == pytest.approx(expected.item())


def test_a_candidate_of_the_softmax_of_rows_stands_for_as_many_items_as_it_says():
    loss = softmax_of_rows_loss(torch.zeros(1), torch.zeros(1, 1), torch.tensor([[False]]), torch.tensor([0]),
                                math.log(3))
    assert loss.item() == pytest.approx(math.log(4))


def test_a_user_who_knows_every_candidate_has_no_loss_and_no_gradient():
    logits = torch.zeros(1, 2, requires_grad=True)
    loss = softmax_of_rows_loss(logits[0, :1], logits, torch.tensor([[True, True]]), torch.tensor([0]))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.tolist() == [[0, 0]]
