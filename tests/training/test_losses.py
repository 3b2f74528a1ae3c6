"""Losses against hand-worked numbers, and the conformance checks of every loss."""

import math

import pytest
import torch

from llmrec_cli.settings.head import HEADS
from llmrec_cli.settings.loss import BceSettings, BprSettings, MseSettings, SoftmaxSettings
from llmrec_cli.testing.losses import LOSS_CHECKS, LossCase
from llmrec_cli.testing.suite import examples_of, option_settings, promise
from llmrec_cli.training.losses.base import build_loss
from llmrec_cli.training.losses.softmax import softmax_loss, softmax_of_rows_loss

NOTHING = torch.zeros(1, 2, dtype=torch.bool)
EXAMPLES = examples_of("loss")


@pytest.mark.parametrize("check", LOSS_CHECKS, ids=promise)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_loss_keeps_every_promise(name, check):
    check(LossCase(option_settings(*EXAMPLES[name])))


def test_every_head_that_is_trained_has_a_loss_and_refuses_those_that_it_cannot_use():
    # Restricted to these losses, so that a new loss does not break the test.
    tested = ("softmax", "bpr", "bce", "mse", "readers", "distillation")
    losses = {name: [loss for loss in head.losses() if loss in tested] for name, head in HEADS.items()}
    assert set(HEADS["sequential"].losses()) >= {"softmax", "bpr", "bce", "mse", "sampled_softmax", "gbce"}
    assert not {"sampled_softmax", "gbce"} & set(HEADS["two_tower"].losses())
    assert losses["two_tower"] == ["softmax", "bpr", "bce", "mse"]
    assert losses["interest"] == ["bce", "mse"]
    assert losses["group_attention"] == ["softmax", "bpr", "bce"]
    assert losses["ease"] == ["readers", "distillation"]
    assert all(losses.values())


def test_softmax_of_two_equal_logits_costs_log_two():
    assert softmax_loss(torch.zeros(1, 2), torch.tensor([0])).item() == pytest.approx(math.log(2))


def test_the_popularity_correction_makes_up_for_a_candidate_three_times_as_frequent():
    # exp(0 - log .25) = 4 against exp(0 - log .75) = 4/3, so the target's share is 3/4.
    log_q = build_loss(SoftmaxSettings()).log_q(torch.tensor([0.25, 0.75]).log())
    loss = build_loss(SoftmaxSettings()).of_choices(torch.zeros(1, 2), torch.tensor([0]), NOTHING, log_q)
    assert loss.item() == pytest.approx(-math.log(3 / 4))


def test_excluded_candidates_are_not_negatives_but_the_target_stays():
    logits = torch.tensor([[0.0, 5.0, 0.0]])
    loss = softmax_loss(logits, torch.tensor([0]), excluded_BC=torch.tensor([[True, True, False]]))
    assert loss.item() == pytest.approx(math.log(2))


def test_excluded_candidates_do_not_change_the_loss_of_a_choice():
    logits, target, excluded = torch.tensor([[2.0, 5.0, 0.0]]), torch.tensor([0]), torch.tensor([[True, True, False]])
    # Item 1 is known too, so it is no negative: e^2 / (e^2 + 1).
    expected = math.log1p(math.exp(-2.0))
    for settings, more in ((SoftmaxSettings(), 0), (BprSettings(), 0), (BceSettings(), math.log(2))):
        assert build_loss(settings).of_choices(logits, target, excluded).item() == pytest.approx(expected + more)


def test_bce_takes_logits_once():
    # A logit of log 3 is a probability of 3/4.
    loss = build_loss(BceSettings()).of_values(torch.tensor([math.log(3), math.log(3)]), torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)


def test_bce_of_a_huge_logit_is_finite():
    assert build_loss(BceSettings()).of_values(torch.tensor([200.0]), torch.tensor([0])).item() == pytest.approx(200)


def test_mse_is_the_mean_of_the_squares():
    loss = build_loss(MseSettings()).of_values(torch.tensor([0.5, 1.0]), torch.tensor([1, 0]))
    assert loss.item() == pytest.approx((0.25 + 1) / 2)


def test_bpr_of_a_pair_log_three_apart_costs_log_four_thirds():
    # sigmoid(log 3) = 3/4; the excluded pair would cost more.
    loss = build_loss(BprSettings()).against(torch.tensor([math.log(3)]), torch.tensor([[0.0, 9.0]]),
                                             torch.tensor([[False, True]]))
    assert loss.item() == pytest.approx(math.log(4 / 3))


def test_bpr_with_nothing_to_compare_is_zero():
    assert build_loss(BprSettings()).against(torch.tensor([1.0]), torch.tensor([[0.0]]),
                                             torch.tensor([[True]])).item() == 0


def test_positives_without_negatives_stand_alone():
    loss = build_loss(BceSettings()).against(torch.zeros(1), torch.zeros(1, 1), torch.tensor([[True]]))
    assert loss.item() == pytest.approx(math.log(2))


def test_negatives_count_the_same_whatever_their_positives_weigh():
    positive, negative, none = torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    loss = build_loss(BceSettings()).against(positive, negative, none, torch.tensor([0.5, 3.5]))
    assert loss.item() == pytest.approx(3 * math.log(2))


def test_the_softmax_per_user_equals_the_softmax_per_interaction():
    generator = torch.Generator().manual_seed(0)
    logits, excluded = torch.randn(3, 6, generator=generator), torch.rand(3, 6, generator=generator) < 0.4
    excluded[:, 0] = excluded[2] = True
    user, target = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 0, 5])
    expected = softmax_loss(logits[user], target, excluded_BC=excluded[user])
    loss = softmax_of_rows_loss(logits[user, target], logits, excluded, user)
    assert loss.item() == pytest.approx(expected.item())


def test_a_candidate_of_the_softmax_per_user_counts_as_its_number_of_items():
    loss = softmax_of_rows_loss(torch.zeros(1), torch.zeros(1, 1), torch.tensor([[False]]), torch.tensor([0]),
                                math.log(3))
    assert loss.item() == pytest.approx(math.log(4))


def test_a_user_who_knows_every_candidate_has_no_loss_and_no_gradient():
    logits = torch.zeros(1, 2, requires_grad=True)
    loss = softmax_of_rows_loss(logits[0, :1], logits, torch.tensor([[True, True]]), torch.tensor([0]))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.tolist() == [[0, 0]]
