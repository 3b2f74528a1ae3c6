"""Beyond-accuracy metrics: coverage, popularity, novelty and diversity of the recommended items.

Shapes: Q queries, C cutoffs, M candidates. An empty list has no average: NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmrec_cli.metrics.metric import Metric, ViewPositions

if TYPE_CHECKING:
    import numpy as np

    from llmrec_cli.metrics.lists import RecommendedLists, VectorLists


def coverage(lists: RecommendedLists) -> np.ndarray:
    """Share of the candidate items that are on any list."""
    return (lists.exposure_CM > 0).mean(axis=1)


def gini(lists: RecommendedLists) -> np.ndarray:
    """Inequality of how often candidate items are recommended (Gini coefficient): 0 all equally, near 1 only a few.

    (M - 1) / M if every list has the same single item. NaN where nothing is recommended.
    """
    import numpy as np

    num_items = lists.exposure_CM.shape[1]
    weights_M = 2 * np.arange(1, num_items + 1) - num_items - 1
    return np.array([weights_M @ np.sort(counts_M) / (num_items * counts_M.sum()) if counts_M.any() else np.nan
                     for counts_M in lists.exposure_CM])


def novelty(lists: RecommendedLists) -> np.ndarray:
    """Mean self-information of the items on a list: -log2 of their share of the training interactions, in bits.

    Zhou et al. 2010. An item without training interactions counts as if it had one; otherwise its information would
    be infinite.
    """
    import numpy as np

    return lists.mean(-np.log2(np.maximum(lists.counts_N, 1) / max(1, lists.counts_N.sum())))


def arp(lists: RecommendedLists) -> np.ndarray:
    """Average recommendation popularity: mean number of training interactions of the items on a list.

    Yin et al. 2012.
    """
    return lists.mean(lists.counts_N.astype("float64"))


def tail_share(lists: RecommendedLists) -> np.ndarray:
    """Share of the items on a list that are in the slice item:tail, the 80% least popular training items."""
    return lists.mean(lists.tail_N)


LISTS = (
    Metric(coverage, pooled=True, axis="share of the catalogue that is recommended",
           positions=ViewPositions(table=10, leaderboard=4, terminal=6),
           formula="number of items on any list / M",
           use="To see how much of the catalogue can be found through recommendations."),
    Metric(gini, pooled=True, empty=float("nan"), positions=ViewPositions(table=14),
           formula="Σ over j (2j − M − 1) · e_j ÷ (M · Σ e_j), e_j: lists with item j, in ascending order",
           use="To see whether recommendations concentrate on a few items, although many are covered."),
    Metric(novelty, highest=float("inf"), empty=float("nan"), positions=ViewPositions(table=11),
           formula="mean over the list of −log₂(max(1, n_i) / N)",
           use="To see whether lists go beyond the items that everybody knows."),
    Metric(arp, highest=float("inf"), empty=float("nan"), positions=ViewPositions(table=15),
           formula="mean over the list of n_i",
           use="To see popularity bias: compare with the baseline popularity."),
    Metric(tail_share, empty=float("nan"), axis="share of the lists taken up by the 80% least popular items",
           positions=ViewPositions(table=12, leaderboard=5),
           formula="number of tail items on the list / length of the list",
           use="To see whether long-tail items get places on the lists."),
)
"""Metrics of `RecommendedLists`."""


def diversity(lists: VectorLists) -> np.ndarray:
    """1 - the mean cosine between two items of a list, by text vectors, words or attributes (Ziegler et al. 2005)."""
    return 1 - lists.mean_cosine()


VARIETY = (Metric(diversity, shortest=2, highest=2.0, empty=float("nan"), positions=ViewPositions(table=13),
                  formula="1 − mean over pairs of cos(v_i, v_j), v_i: vector of item i",
                  use="To see whether the items of a list differ from each other; near 0 they are nearly the same."),)
"""Metrics of `VectorLists`."""
