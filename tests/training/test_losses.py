"""Losses by hand, and what the table promises of each."""

import math

import pytest
import torch

from llmrec_cli.settings.head import HEADS
from llmrec_cli.settings.loss import CHOICES, LOSSES, SIMILARITIES, VALUES, Bce, Bpr, Mse, Softmax
from llmrec_cli.training.losses.base import PointwiseLoss, UserScores, build_loss
from llmrec_cli.training.losses.softmax import softmax_loss, softmax_of_rows_loss

NOTHING = torch.zeros(1, 2, dtype=torch.bool)
of_choices = pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if CHOICES in loss.works_with])
of_values = pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if VALUES in loss.works_with])


def rows(seed=2):
    """Return logits (3, 5), targets, what is excluded, and as many rows as weights of 1, 2 and 1 stand for."""
    generator = torch.Generator().manual_seed(seed)
    logits, target = torch.randn(3, 5, generator=generator), torch.tensor([0, 3, 4])
    excluded = torch.rand(3, 5, generator=generator) < 0.3
    excluded[torch.arange(3), target] = True
    return logits, target, excluded, torch.tensor([0, 1, 1, 2])


@of_choices
def test_a_higher_score_of_what_was_chosen_costs_less_and_one_of_another_item_more(name):
    loss, logits, target, own = build_loss(LOSSES[name]()), torch.zeros(2, 3), torch.tensor([0, 1]), torch.eye(2, 3)
    usual = loss.of_choices(logits, target, own.bool())
    assert loss.of_choices(logits + 0.5 * own, target, own.bool()) < usual
    assert loss.of_choices(logits + torch.tensor([0.0, 0.0, 0.5]), target, own.bool()) > usual


@of_choices
def test_what_is_excluded_costs_nothing_whatever_its_score(name):
    loss, (logits, target, excluded, _) = build_loss(LOSSES[name]()), rows()
    others = excluded.clone()
    others[torch.arange(3), target] = False
    torch.testing.assert_close(loss.of_choices(logits + 7.0 * others, target, excluded),
                               loss.of_choices(logits, target, excluded))


@of_choices
def test_a_weight_of_two_is_the_row_twice(name):
    loss, (logits, target, _, twice), weight = build_loss(LOSSES[name]()), rows(), torch.tensor([1.0, 2.0, 1.0])
    excluded = torch.zeros_like(logits, dtype=torch.bool)
    weighted = loss.of_choices(logits, target, excluded, weight_B=weight)
    repeated = loss.of_choices(logits[twice], target[twice], excluded[twice])
    if isinstance(loss, PointwiseLoss):
        # Negatives count the same whatever their positives weigh, so only the chosen are compared.
        chosen = logits[torch.arange(3), target]
        weighted, repeated = (loss.of_values(of, torch.ones_like(of), w) for of, w in
                              ((chosen, weight), (chosen[twice], None)))
    # A mean over three rows in the one, over four in the other.
    assert 3 * weighted.item() == pytest.approx(4 * repeated.item(), rel=1e-5)


@of_choices
def test_a_choice_and_its_positive_against_the_others_are_the_same(name):
    loss, (logits, target, excluded, _) = build_loss(LOSSES[name]()), rows()
    found = loss.against(logits[torch.arange(3), target], logits, excluded)
    torch.testing.assert_close(found, loss.of_choices(logits, target, excluded))


@of_choices
def test_users_with_one_interaction_each_cost_what_their_rows_do(name):
    loss, (logits, target, excluded, _) = build_loss(LOSSES[name]()), rows()
    drawn = torch.arange(5).expand(3, 5) if loss.draws else None
    step = UserScores(logits[torch.arange(3), target], logits, excluded, torch.arange(3), drawn)
    torch.testing.assert_close(loss.of_users(step), loss.against(step.positive_B, logits, excluded))


@of_choices
def test_parts_of_a_step_add_up_to_it(name):
    loss, (logits, target, excluded, _) = build_loss(LOSSES[name]()), rows()
    positive, drawn = logits[torch.arange(3), target], torch.arange(5).expand(3, 5)
    free = (~excluded).sum(dim=1)

    def of(users):
        share, negative_share = len(users) / 3, (free[users].sum() / free.sum()).item()
        return loss.of_users(UserScores(positive[users], logits[users], excluded[users], torch.arange(len(users)),
                                        drawn[users] if loss.draws else None, 0.0, None, share, negative_share))

    torch.testing.assert_close(of([0, 1]) + of([2]), of([0, 1, 2]))


@of_choices
def test_a_loss_over_the_catalogue_is_that_of_the_products(name):
    loss, generator = build_loss(LOSSES[name]()), torch.Generator().manual_seed(4)
    if not loss.normalises:
        return
    users, items = torch.randn(6, 3, generator=generator), torch.randn(4, 3, generator=generator)
    target, log_q = torch.tensor([0, 1, 2, 3, 0, 1]), torch.rand(4, generator=generator).log()
    expected = loss.of_choices(users @ items.T, target, torch.zeros(6, 4, dtype=torch.bool), log_q)
    torch.testing.assert_close(loss.of_catalogue(users, items, target, log_q), expected)


@of_values
def test_the_value_that_is_expected_costs_least(name):
    loss, scores = build_loss(LOSSES[name]()), torch.tensor([-0.5, 0.25, 0.75], requires_grad=True)
    loss.of_values(scores, loss.expected(scores).detach()).backward()
    torch.testing.assert_close(scores.grad, torch.zeros(3))


@of_values
def test_a_negative_costs_what_the_value_0_does(name):
    loss, scores = build_loss(LOSSES[name]()), torch.tensor([-0.5, 0.25, 3.0])
    torch.testing.assert_close(loss.of_negatives(scores).mean(), loss.of_values(scores, torch.zeros(3)))


def test_what_a_loss_can_learn_is_what_its_class_can():
    for loss in LOSSES.values():
        if SIMILARITIES not in loss.works_with:
            assert isinstance(build_loss(loss()), PointwiseLoss) == (VALUES in loss.works_with)


def test_every_head_that_is_trained_has_a_loss_and_refuses_those_that_it_cannot_use():
    found = {name: head.losses() for name, head in HEADS.items()}
    assert found["two_tower"] == ["softmax", "bpr", "bce", "mse"]
    assert found["interest"] == ["bce", "mse"]
    assert found["group_attention"] == ["softmax", "bpr", "bce"]
    assert found["ease"] == ["distillation"]
    assert all(found.values())


def test_softmax_of_two_equal_logits_costs_log_two():
    assert softmax_loss(torch.zeros(1, 2), torch.tensor([0])).item() == pytest.approx(math.log(2))


def test_the_popularity_correction_makes_up_for_a_candidate_three_times_as_frequent():
    # exp(0 - log .25) = 4 against exp(0 - log .75) = 4/3, so the target's share is 3/4.
    log_q = build_loss(Softmax()).log_q(torch.tensor([0.25, 0.75]).log())
    loss = build_loss(Softmax()).of_choices(torch.zeros(1, 2), torch.tensor([0]), NOTHING, log_q)
    assert loss.item() == pytest.approx(-math.log(3 / 4))


def test_a_known_positive_is_no_negative_and_the_target_stays_even_where_it_is_marked():
    logits = torch.tensor([[0.0, 5.0, 0.0]])
    loss = softmax_loss(logits, torch.tensor([0]), excluded_BC=torch.tensor([[True, True, False]]))
    assert loss.item() == pytest.approx(math.log(2))


def test_a_choice_is_compared_with_what_is_not_known_to_be_liked():
    logits, target, known = torch.tensor([[2.0, 5.0, 0.0]]), torch.tensor([0]), torch.tensor([[True, True, False]])
    # Item 1 is known too, so it is no negative: e^2 / (e^2 + 1).
    expected = math.log1p(math.exp(-2.0))
    for settings, more in ((Softmax(), 0), (Bpr(), 0), (Bce(), math.log(2))):
        assert build_loss(settings).of_choices(logits, target, known).item() == pytest.approx(expected + more)


def test_bce_takes_logits_once():
    # A logit of log 3 is a probability of 3/4.
    loss = build_loss(Bce()).of_values(torch.tensor([math.log(3), math.log(3)]), torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)


def test_bce_of_a_huge_logit_is_finite():
    assert build_loss(Bce()).of_values(torch.tensor([200.0]), torch.tensor([0])).item() == pytest.approx(200)


def test_mse_is_the_mean_of_the_squares():
    loss = build_loss(Mse()).of_values(torch.tensor([0.5, 1.0]), torch.tensor([1, 0]))
    assert loss.item() == pytest.approx((0.25 + 1) / 2)


def test_bpr_of_a_pair_log_three_apart_costs_log_four_thirds():
    # sigmoid(log 3) = 3/4; the excluded pair would cost more.
    loss = build_loss(Bpr()).against(torch.tensor([math.log(3)]), torch.tensor([[0.0, 9.0]]),
                                     torch.tensor([[False, True]]))
    assert loss.item() == pytest.approx(math.log(4 / 3))


def test_bpr_with_nothing_to_compare_is_zero():
    assert build_loss(Bpr()).against(torch.tensor([1.0]), torch.tensor([[0.0]]), torch.tensor([[True]])).item() == 0


def test_positives_without_negatives_stand_alone():
    loss = build_loss(Bce()).against(torch.zeros(1), torch.zeros(1, 1), torch.tensor([[True]]))
    assert loss.item() == pytest.approx(math.log(2))


def test_negatives_count_the_same_whatever_their_positives_weigh():
    positive, negative, none = torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    found = build_loss(Bce()).against(positive, negative, none, torch.tensor([0.5, 3.5]))
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
