"""Losses against negatives that all positions of a step share: hand-worked numbers, gradients, and limits."""

import math

import pytest
import torch
from torch.nn import functional

from llmrec_cli.settings.loss import GbceSettings, SampledSoftmaxSettings, SoftmaxSettings
from llmrec_cli.training.losses.base import build_loss
from llmrec_cli.training.losses.catalogue_softmax import CHUNKS
from tests.heads.peak_bytes import PeakBytes

BOTH = [SampledSoftmaxSettings(), GbceSettings()]
NOT_DRAWN = torch.tensor([-1])


def step(num_positions=CHUNKS["cpu"] + 5, num_negatives=7, size=4):
    """Return users, positives, negatives in float64, with gradients, and the columns of targets that were drawn."""
    generator = torch.Generator().manual_seed(3)
    users, positives, negatives = (torch.randn(n, size, generator=generator, dtype=torch.float64).requires_grad_(True)
                                   for n in (num_positions, num_positions, num_negatives))
    column = torch.randint(-1, num_negatives, (num_positions,), generator=generator)
    return users, positives, negatives, column


def one_position(positive, negatives):
    """Return arguments whose scores are `positive` and `negatives`."""
    return torch.ones(1, 1), torch.tensor([[positive]]), torch.tensor(negatives)[:, None]


def test_sampled_softmax_of_a_target_and_two_negatives():
    # e^log2 = 2 against 1 and 3: the target's share is 2 / 6.
    users, positives, negatives = one_position(math.log(2), [0.0, math.log(3)])
    loss = build_loss(SampledSoftmaxSettings())
    assert loss.of_positions(users, positives, negatives, NOT_DRAWN, 100).item() == pytest.approx(math.log(3))
    # If the second negative is the target itself, only the first is left: 2 / 3.
    drawn = loss.of_positions(users, positives, negatives, torch.tensor([1]), 100)
    assert drawn.item() == pytest.approx(math.log(3 / 2))


def test_the_correction_for_popularity_divides_by_the_chance_of_being_drawn():
    # 2 / .5 = 4 against 1 / .25 = 4 and 3 / .75 = 4: a third each.
    users, positives, negatives = one_position(math.log(2), [0.0, math.log(3)])
    value = build_loss(SampledSoftmaxSettings()).of_positions(users, positives, negatives, NOT_DRAWN, 100,
                                                              torch.tensor([0.5]).log(),
                                                              torch.tensor([0.25, 0.75]).log())
    assert value.item() == pytest.approx(math.log(3))


def test_gbce_of_a_target_and_two_negatives():
    # Two of 10 other items are drawn: alpha .2, so beta is .2 (.75 (1 - 5) + 5) = .4, and the offset log(.4 / 2).
    # With it, the logits are log 3 and 0, log 3, and the probabilities 3/4 and 1/2, 3/4.
    users, positives, negatives = one_position(math.log(15), [math.log(5), math.log(15)])
    loss = build_loss(GbceSettings())
    assert loss.beta(2, 11) == pytest.approx(0.4)
    expected = -(0.4 * math.log(3 / 4) + math.log(1 / 2) + math.log(1 / 4)) / 3
    assert loss.of_positions(users, positives, negatives, NOT_DRAWN, 11).item() == pytest.approx(expected)


def test_gbce_gains_nothing_by_moving_all_equal_scores_together():
    shift = torch.zeros(1, 1, requires_grad=True)
    value = build_loss(GbceSettings()).of_positions(shift, torch.ones(1, 1), torch.ones(5, 1), NOT_DRAWN, 1000)
    assert torch.autograd.grad(value, shift)[0].item() == pytest.approx(0, abs=1e-6)


def test_beta_is_1_without_calibration_and_for_a_whole_catalogue_and_the_sampling_rate_with_full_calibration():
    assert build_loss(GbceSettings(calibration=0.0)).beta(16, 1001) == pytest.approx(1)
    assert build_loss(GbceSettings(calibration=0.75)).beta(1000, 1001) == pytest.approx(1)
    assert build_loss(GbceSettings(calibration=1.0)).beta(16, 1001) == pytest.approx(0.016)


@pytest.mark.parametrize("settings", BOTH, ids=lambda settings: settings.kind)
@pytest.mark.parametrize("weighted", [False, True])
def test_values_and_gradients_are_those_of_all_scores_at_once(settings, weighted):
    users, positives, negatives, column = step()
    weight = torch.linspace(0.5, 1.5, len(users)) if weighted else None
    log_q = (torch.linspace(-3, -1, len(users)), torch.linspace(-2, -1, 7)) if settings.kind != "gbce" else (None, None)
    loss = build_loss(settings)
    value = loss.of_positions(users, positives, negatives, column, 50, *log_q, weight)
    positive, scores = (users * positives).sum(dim=1), users @ negatives.T
    if log_q[0] is not None:
        positive, scores = positive - log_q[0], scores - log_q[1]
    scores = scores.masked_fill(functional.one_hot(column + 1, 8)[:, 1:].bool(), float("-inf"))
    if settings.kind == "gbce":
        positive, scores = positive + loss.offset(7, 50), scores + loss.offset(7, 50)
        each = (loss.beta(7, 50) * functional.softplus(-positive) + functional.softplus(scores).sum(dim=1)) / 8
    else:
        each = torch.cat([positive[:, None], scores], dim=1).logsumexp(dim=1) - positive
    expected = (each if weight is None else each * weight).mean()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(torch.autograd.grad(value, (users, positives, negatives)),
                            torch.autograd.grad(expected, (users, positives, negatives)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", BOTH, ids=lambda settings: settings.kind)
def test_the_gradient_is_the_difference_quotient(settings):
    users, positives, negatives, column = step(num_positions=3)
    loss = build_loss(settings)

    def value(other):
        return loss.of_positions(other, positives, negatives, column, 50).item()

    gradient, = torch.autograd.grad(loss.of_positions(users, positives, negatives, column, 50), users)
    for place in ((0, 0), (1, 3), (2, 1)):
        moved = torch.zeros_like(users)
        moved[place] = 1e-2
        quotient = (value(users + moved) - value(users - moved)) / 2e-2
        assert gradient[place].item() == pytest.approx(quotient, rel=2e-3, abs=1e-5)


def test_with_all_items_drawn_it_is_the_softmax_over_the_catalogue():
    generator = torch.Generator().manual_seed(5)
    users, items = torch.randn(9, 4, generator=generator), torch.randn(6, 4, generator=generator)
    target = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2])
    sampled = build_loss(SampledSoftmaxSettings()).of_positions(users, items[target], items, target, 6)
    torch.testing.assert_close(sampled, build_loss(SoftmaxSettings()).of_catalogue(users, items, target))


@pytest.mark.parametrize("settings", BOTH, ids=lambda settings: settings.kind)
def test_huge_scores_and_a_single_negative_that_is_the_target_stay_finite(settings):
    users = torch.tensor([[300.0], [-300.0], [0.0]], requires_grad=True)
    loss = build_loss(settings)
    for column in ([0, 0, 0], [-1, -1, -1]):
        value = loss.of_positions(users, torch.ones(3, 1), torch.ones(1, 1), torch.tensor(column), 5)
        assert torch.isfinite(value)
        assert torch.isfinite(torch.autograd.grad(value, users)[0]).all()


@pytest.mark.parametrize("settings", BOTH, ids=lambda settings: settings.kind)
def test_memory_does_not_hold_the_scores_of_all_positions(settings):
    users, positives, negatives = (torch.randn(n, 8, requires_grad=True) for n in (4096, 4096, 4096))
    loss, column = build_loss(settings), torch.full((4096,), -1)
    with PeakBytes():  # The first use imports modules, which would be counted.
        loss.of_positions(users, positives, negatives, column, 10_000).backward()
    with PeakBytes() as counted:
        loss.of_positions(users, positives, negatives, column, 10_000).backward()
    # A chunk of 64 positions has a MiB of scores, and its temporaries another two; all scores would be 64 MiB.
    assert counted.peak < 4 * 2**20
