"""Group strategies, with numbers worked by hand."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.scoring.groups import STRATEGIES, MemberScores, points, scaled
from llmrec_cli.settings.head import STRATEGIES as NAMED

# Two members, four items: one likes a best, the other d; both like b second, and nobody likes c.
ONE, OTHER = [3.0, 2.0, 0.0, -1.0], [-2.0, 1.0, 0.0, 4.0]


def member_scores(*scores, groups=((0, 1),), activity=None, depth=2):
    rows = sp.csr_array((np.ones(sum(map(len, groups)), np.float32), np.concatenate([list(g) for g in groups]),
                         np.cumsum([0, *map(len, groups)])), shape=(len(groups), len(scores)))
    active = torch.tensor(activity or [1.0] * len(scores))
    return MemberScores(torch.tensor(scores), rows, active, depth)


def test_every_strategy_that_settings_name_is_there():
    assert tuple(STRATEGIES) == NAMED


@pytest.mark.parametrize(("strategy", "expected"), [
    ("average", [0.5, 1.5, 0.0, 1.5]), ("least_misery", [-2.0, 1.0, 0.0, -1.0]),
    ("most_pleasure", [3.0, 2.0, 0.0, 4.0]),
    # Shares ranked below: 1, 2/3, 1/3, 0 and 0, 2/3, 1/3, 1.
    ("borda", [1 / 2, 2 / 3, 1 / 3, 1 / 2])])
def test_plain_strategies_equal_hand_worked_examples(strategy, expected):
    np.testing.assert_allclose(STRATEGIES[strategy](member_scores(ONE, OTHER))[0], expected, rtol=1e-6)


def test_the_weighted_average_weighs_by_the_log_of_one_plus_interactions():
    # log(1 + 1) : log(1 + 7) = 1 : 3.
    scores = STRATEGIES["weighted"](member_scores(ONE, OTHER, activity=[1.0, 7.0]))[0]
    np.testing.assert_allclose(scores, (np.array(ONE) + 3 * np.array(OTHER)) / 4, rtol=1e-6)


def test_approval_counts_members_with_the_item_in_their_top_k_and_breaks_ties_by_average():
    # Two best each: a and b, d and b. So b has two votes, a and d one, c none; d is liked more than a on average.
    scores = STRATEGIES["approval"](member_scores(ONE, OTHER))[0]
    assert scores.argsort(descending=True).tolist() == [1, 3, 0, 2]
    assert 2 < scores[1] < 3
    assert 1 < scores[0] < scores[3] < 2
    assert 0 < scores[2] < 1


def test_equal_scores_share_borda_points():
    np.testing.assert_allclose(points(torch.tensor([[1.0, 1.0, 1.0], [0.0, 5.0, 5.0]])), [[0.5] * 3, [0, 0.75, 0.75]])


@pytest.mark.parametrize("strategy", ["fair_greedy", "fair_proportional"])
def test_fair_lists_serve_the_minority_second_where_the_average_serves_it_last(strategy):
    # Two members agree and one does not: the average ranks the items of the two first.
    # Worth 1 and 1/2 to the many are a and b, to the one d and a. After a the many have got 1 each and the one 1/2:
    # b adds 2 * 1/2 / 2 in proportion, d 1 / 1.5; of what is still to be found b gets 2 * 1/3 * 1/3, d 2/3 * 2/3.
    many, few = [4.0, 3.0, 2.0, -3.0], [-1.0, -3.0, -2.0, 4.0]
    asked = member_scores(many, many, few, groups=((0, 1, 2),), depth=2)
    assert STRATEGIES["average"](asked)[0].argsort(descending=True).tolist()[-1] == 3
    assert STRATEGIES[strategy](asked)[0].argsort(descending=True).tolist().index(3) == 1


def test_fair_greedy_equals_a_hand_worked_example():
    # depth 2: chances 2/3 for the best and 1/3 for the second of each. Sums: a 2/3, b 1/3 + 1/3, d 2/3, c 0: all equal
    # but c, so the first of the best average, b, is picked; then a adds 2/3 * (1 - 1/3) as d does.
    scores = STRATEGIES["fair_greedy"](member_scores(ONE, OTHER))[0]
    order = scores.argsort(descending=True).tolist()
    assert order[0] == 1
    assert order[1] in (0, 3)
    assert order[-1] == 2


def test_fair_proportional_equals_a_hand_worked_example():
    # depth 2: worth 1 for the best, 1/2 for the second. b is worth 1/2 + 1/2, a 1, d 1; b is looked at first (average
    # 1.5, as d). After b both have got 1/2, so a and d count 1 / 1.5.
    scores = STRATEGIES["fair_proportional"](member_scores(ONE, OTHER))[0]
    assert scores.argsort(descending=True).tolist()[0] == 1


@pytest.mark.parametrize("strategy", NAMED)
def test_a_group_of_one_gets_its_members_order(strategy):
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    asked = member_scores(*scaled(scores).tolist(), groups=((0,), (1,), (2,)), depth=10)
    scores = STRATEGIES[strategy](asked)
    assert torch.equal(scores.argsort(dim=1, descending=True), scores.argsort(dim=1, descending=True))


@pytest.mark.parametrize("strategy", NAMED)
def test_groups_are_scored_each_by_itself(strategy):
    scores = scaled(torch.randn(6, 30, generator=torch.Generator().manual_seed(2))).tolist()
    groups = ((0, 1, 2), (3,), (4, 5, 0))
    together = STRATEGIES[strategy](member_scores(*scores, groups=groups, depth=4))
    for n, group in enumerate(groups):
        alone = STRATEGIES[strategy](member_scores(*[scores[m] for m in group], groups=(range(len(group)),), depth=4))
        torch.testing.assert_close(together[n], alone[0])


def test_scaled_rows_have_mean_0_and_deviation_1_and_equal_scores_become_0():
    scores = scaled(torch.tensor([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]]))
    np.testing.assert_allclose(scores, [[-1.224745, 0, 1.224745], [0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("number", [0.1, 3.3, -0.7, 1234.567])
def test_a_row_of_equal_scores_is_scaled_to_zero(number):
    assert scaled(torch.full((1, 100_001), number)).abs().max() < 1e-2


@pytest.mark.parametrize("strategy", ["fair_greedy", "fair_proportional"])
def test_fair_picks_depend_on_all_earlier_picks(strategy):
    for seed in range(20):
        scores = np.random.default_rng(seed).normal(size=(3, 12))
        worth = np.clip(1 - (-scores).argsort(axis=1).argsort(axis=1) / 4, 0, None)
        chance, greedy = worth / worth.sum(axis=1, keepdims=True), strategy == "fair_greedy"
        scores = STRATEGIES[strategy](member_scores(*scores.tolist(), groups=((0, 1, 2),), depth=4))[0]
        picked = scores.argsort(descending=True)[:4].tolist()
        for place, item in enumerate(picked):
            before = picked[:place]
            due = np.prod(1 - chance[:, before], axis=1) if greedy else 1 / (1 + worth[:, before].sum(axis=1))
            gain = (due[:, None] * (chance if greedy else worth)).sum(axis=0)
            gain[before] = 0
            assert gain[item] > gain.max() - 1e-6
