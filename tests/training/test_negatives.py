"""Sampled candidates of a step, hard negatives, and the softmax over candidates."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from llmrec_cli.heads.shared.negatives import PopularityDraws, draw_from_lists, draw_uniform, log_chances
from llmrec_cli.training.losses.catalogue_softmax import CHUNKS, catalogue_softmax_loss
from llmrec_cli.training.losses.softmax import softmax_loss


def test_an_items_sampling_probability_equals_a_hand_worked_example():
    """Items 0 and 1 have 3 and 1 of 4 interactions, item 2 none; a step has two targets and one sampled item."""
    chances = np.exp(log_chances(np.array([3, 1, 0]), 2, 1))
    np.testing.assert_allclose(chances, [1 - (1 / 4) ** 2 / 2, 1 - (3 / 4) ** 2 / 2, 0], rtol=1e-6)
    np.testing.assert_allclose(np.exp(log_chances(np.array([3, 1, 0]), 2, 0)), [15 / 16, 7 / 16, 0], rtol=1e-6)


def test_the_chance_of_an_item_is_how_often_it_is_drawn():
    counts, rng = np.array([50, 30, 15, 4, 1]), np.random.default_rng(0)
    seen = np.zeros(5)
    for _ in range(20_000):
        targets = rng.choice(5, size=6, p=counts / 100)
        seen[np.unique(np.concatenate([targets, draw_uniform(np.arange(5), 2, rng)]))] += 1
    np.testing.assert_allclose(np.exp(log_chances(counts, 6, 2)), seen / 20_000, atol=0.012)


def test_draws_by_popularity_know_each_items_chance():
    # Counts 9, 4 and 1 to the power .5 are 3, 2 and 1 of 6; of two draws at least one is the first: 1 - (1/2)^2.
    draws = PopularityDraws(np.array([9, 4, 0, 1]), 0.5, 2)
    np.testing.assert_allclose(np.exp(draws.log_chance_N), [3 / 4, 5 / 9, 0, 11 / 36], rtol=1e-6)
    generator, seen = np.random.default_rng(0), np.zeros(4)
    for _ in range(20_000):
        items = draws.draw(generator)
        assert (np.diff(items) > 0).all()
        seen[items] += 1
    np.testing.assert_allclose(seen / 20_000, np.exp(draws.log_chance_N), atol=0.012)


def test_without_sampling_nothing_is_corrected():
    assert log_chances(np.array([3, 1, 2]), 2, 3).tolist() == [0, 0, 0]


def test_hard_negatives_come_from_their_users_lists_and_short_lists_give_what_they_have():
    lists = np.array([[4, 7, -1], [-1, -1, -1], [9, 2, 5]])
    seen = set()
    for seed in range(20):
        seen |= set(draw_from_lists(lists[[0, 1]], 2, np.random.default_rng(seed)).tolist())
    assert seen == {4, 7}
    assert draw_from_lists(lists[:, :0], 2, np.random.default_rng(0)).tolist() == []


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_softmax_in_chunks_is_torchs_with_its_gradients(smoothing, weighted):
    generator = torch.Generator().manual_seed(0)
    size = 2 * CHUNKS["cpu"] + 3  # Two chunks and a rest.
    hidden = torch.randn(size, 8, generator=generator, requires_grad=True)
    items = torch.randn(30, 8, generator=generator, requires_grad=True)
    log_q, target = torch.randn(30, generator=generator), torch.randint(30, (size,), generator=generator)
    weight = torch.rand(size, generator=generator) if weighted else torch.ones(size)
    ours = catalogue_softmax_loss(hidden, items, target, log_q, smoothing, weight if weighted else None)
    torchs = (weight * functional.cross_entropy(hidden @ items.T - log_q, target, label_smoothing=smoothing,
                                                reduction="none")).mean()
    torch.testing.assert_close(ours, torchs)
    for mine, theirs in zip(torch.autograd.grad(3 * ours, (hidden, items)), torch.autograd.grad(3 * torchs,
                            (hidden, items)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_without_exclusions_the_softmax_in_chunks_equals_softmax_loss():
    generator = torch.Generator().manual_seed(1)
    hidden, items = torch.randn(5, 4, generator=generator), torch.randn(6, 4, generator=generator)
    target, log_q = torch.tensor([0, 5, 2, 2, 1]), torch.randn(6, generator=generator)
    torch.testing.assert_close(catalogue_softmax_loss(hidden, items, target, log_q, 0.1),
                               softmax_loss(hidden @ items.T, target, log_q, label_smoothing=0.1))


def test_label_smoothing_is_spread_over_what_is_not_excluded_by_hand():
    """Logits log 1, log 2, log 5 and an excluded one: the target's part is log 8 - log 5, the even part log 8 minus
    the mean of the three logits."""
    logits = torch.tensor([[1.0, 2.0, 5.0, 100.0]]).log()
    excluded = torch.tensor([[False, False, True, True]])  # The target is never excluded.
    value = softmax_loss(logits, torch.tensor([2]), excluded_BC=excluded, label_smoothing=0.25)
    by_hand = 0.75 * np.log(8 / 5) + 0.25 * (np.log(8) - np.log(10) / 3)
    assert value.item() == pytest.approx(by_hand, rel=1e-6)
