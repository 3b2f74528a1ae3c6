"""Summaries of counts, against numpy on the counts written out."""

import itertools

import numpy as np
import pytest

from llmrec_cli.ingest.audit.shape import Tally


def tally(*counts: int) -> Tally:
    result = Tally()
    result.add(np.array(counts))
    return result


def test_the_summary_of_five_counts() -> None:
    assert tally(5, 1, 3, 1, 10).summary() == {"num": 5, "min": 1, "q1": 1, "median": 3, "q3": 5, "max": 10,
                                               "mean": 4.0}
    assert tally().summary() == {"num": 0}


def test_zeros_are_not_counted_and_batches_add_up() -> None:
    result = tally(0, 2, 2)
    result.add(np.array([2, 7]))
    assert (result.counts.tolist(), result.numbers.tolist(), result.size, result.total) == ([2, 7], [3, 1], 4, 13)


def test_doubling_bins_hold_every_count_once() -> None:
    assert tally(1, 2, 3, 4, 5, 9).doubling() == [
        {"from": 1, "to": 1, "num": 1}, {"from": 2, "to": 2, "num": 1}, {"from": 3, "to": 4, "num": 2},
        {"from": 5, "to": 8, "num": 1}, {"from": 9, "to": 16, "num": 1}]


def test_gini_is_the_mean_difference_over_twice_the_mean() -> None:
    counts = np.random.default_rng(0).zipf(1.6, 300).clip(max=500)
    expected = np.abs(counts[:, None] - counts[None]).mean() / 2 / counts.mean()
    assert tally(*counts).gini() == pytest.approx(expected, abs=1e-6)
    assert tally(4, 4, 4).gini() == 0
    assert tally().gini() == 0


def test_the_share_of_the_top_counts_the_last_one_in_part() -> None:
    result = tally(6, 2, 1, 1)
    assert [result.share_of_top(s) for s in (0.25, 0.5, 0.375, 1)] == [0.6, 0.8, 0.7, 1.0]
    curve = result.long_tail()["curve"]
    assert curve[0] == [0, 0]
    assert curve[-1] == [1, 1]
    assert all(a <= b for (_, a), (_, b) in itertools.pairwise(curve))
