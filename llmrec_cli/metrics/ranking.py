"""Ranking metrics: relevant items and their ranks on recommended lists.

Shapes: Q queries, C cutoffs.

Each function uses `Hits`, which handles the order of the lists: fixed, or in expectation over the order of equal
scores. Relevance is binary; only ndcg uses gains.

Policies, the same for every metric:
- A list shorter than a cutoff has no hits beyond its end: a query without any recommendation scores 0 and is counted.
- Recall is not defined for queries without relevant items; the caller leaves them out.
- Values lie in 0..1, also where a cutoff exceeds the number of relevant items or the length of the list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmrec_cli.metrics.metric import HIGHER, Metric, ViewPositions

if TYPE_CHECKING:
    import numpy as np

    from llmrec_cli.metrics.auc import Areas
    from llmrec_cli.metrics.hits import Hits
    from llmrec_cli.metrics.lists import WeightedHits


def recall(hits: Hits) -> np.ndarray:
    """Share of the relevant items that are on the list."""
    return hits.count() / hits.num_relevant_Q1


def precision(hits: Hits) -> np.ndarray:
    """Number of relevant items on the list divided by k, also where the list is shorter than k."""
    return hits.count() / hits.cutoffs_C


def f1(hits: Hits) -> np.ndarray:
    """Harmonic mean of precision and recall."""
    return 2 * hits.count() / (hits.cutoffs_C + hits.num_relevant_Q1)


def hit(hits: Hits) -> np.ndarray:
    """Share of the lists with at least one relevant item."""
    return hits.any()


def ndcg(hits: Hits) -> np.ndarray:
    """Discounted cumulative gain (relevant items count 1 / log2(rank + 1)) divided by that of the ideal list.

    Järvelin and Kekäläinen 2002. The ideal list has min(k, relevant) hits at its top. Gains are 1; with graded=true
    they are the values of the interactions, linear as in trec_eval, so a 5 is worth five times a 1.
    """
    return hits.dcg() / hits.ideal_dcg()


def map(hits: Hits) -> np.ndarray:
    """Mean over the relevant items of the precision at the rank of each, 0 for those not on the list.

    Divided by the number of all relevant items, as in trec_eval's map_cut and ranx. Some libraries divide by
    min(k, relevant). With more than k relevant items even a perfect list stays below 1.
    """
    return hits.precision_at_hits() / hits.num_relevant_Q1


def mrr(hits: Hits) -> np.ndarray:
    """Reciprocal of the rank of the first relevant item, 0 without a relevant item on the list."""
    return hits.first_reciprocal_rank()


RANKING = (
    Metric(recall, HIGHER, expected=True, monitored=True, sliced=True,
           positions=ViewPositions(table=2, leaderboard=2, terminal=2, panels=2, lengths=2, summary=2),
           formula="h / r",
           use="To see how much of what users want is on the list, for example when a ranker follows."),
    Metric(precision, HIGHER, expected=True, monitored=True,
           positions=ViewPositions(table=3, terminal=3, panels=3, lengths=3),
           formula="h / k",
           use="To see how many places of a list of fixed length are useful, for example in a newsletter."),
    Metric(f1, HIGHER, expected=True, monitored=True, positions=ViewPositions(table=4),
           formula="2h / (k + r)",
           use="To weigh recall and precision equally in one number."),
    Metric(hit, HIGHER, expected=True, monitored=True, sliced=True,
           positions=ViewPositions(table=5, leaderboard=3, terminal=5, panels=6),
           formula="1 if h > 0, else 0",
           use="To see how many users get at least one useful item; the easiest metric to explain."),
    Metric(ndcg, HIGHER, expected=True, monitored=True, sliced=True,
           positions=ViewPositions(table=1, leaderboard=1, terminal=1, panels=1, lengths=1, summary=1),
           formula="Σ over hits 1/log₂(rank + 1) ÷ Σ over n ≤ min(k, r) 1/log₂(n + 1)",
           use="As the main metric when users read lists from the top: it counts hits and their ranks."),
    Metric(map, HIGHER, expected=True, monitored=True, positions=ViewPositions(table=6, terminal=4, panels=4),
           formula="(1/r) · Σ over hits h(rank) / rank",
           use="When most users have several relevant items and the order of all of them matters."),
    Metric(mrr, HIGHER, expected=True, monitored=True, sliced=True, positions=ViewPositions(table=7, panels=5),
           formula="1 / rank of the first hit",
           use="When users look for one item, such as the next one to watch."),
)
"""Metrics of `Hits`."""


def auc(areas: Areas) -> np.ndarray:
    """Probability that a relevant item scores above another candidate (area under the ROC curve), ties count half."""
    return areas.auc_Q


def gauc(areas: Areas) -> np.ndarray:
    """Mean auc, weighted by the number of relevant items of each user or group.

    Zhou et al. 2018, eq. 7, who weight by impressions or clicks.
    """
    return areas.auc_Q


AREAS = (Metric(auc, HIGHER, by_length=False, empty=float("nan"), positions=ViewPositions(table=19, leaderboard=6),
                formula="P(s⁺ > s⁻) + ½ · P(s⁺ = s⁻), scores s⁺ of relevant and s⁻ of other items",
                use="To see how well all candidates are ordered, not only the top; high values are common, so "
                    "compare models."),
         Metric(gauc, HIGHER, by_length=False, empty=float("nan"), positions=ViewPositions(table=20),
                weight=lambda areas: areas.num_relevant_Q.astype("float64"),
                formula="Σ r · auc ÷ Σ r",
                use="Like auc, when users with many held-out items should count more."))
"""Metrics of `Areas`."""


def ips_recall(hits: WeightedHits) -> np.ndarray:
    """Recall with items weighted by 1 / propensity: rarely observed items count for more.

    The mean over queries is the self-normalised inverse-propensity estimate (Schnabel et al. 2016; Yang et al. 2018,
    eq. 9). The propensity is the training interactions to the power that `propensity` sets.
    """
    return hits.recall_QC


def stratified_recall(hits: WeightedHits) -> np.ndarray:
    """Popularity-stratified recall: as ips_recall, but over the relevant items of all users together (Steck 2011)."""
    return hits.recall_QC


WEIGHTED_RECALL = (
    Metric(ips_recall, HIGHER, positions=ViewPositions(table=9),
           formula="Σ over hits w_i ÷ Σ over relevant items w_i, w_i = max(1, n_i)^−propensity",
           use="To check that a gain in recall does not come from popular items only."),
    Metric(stratified_recall, HIGHER, positions=ViewPositions(table=8), weight=lambda hits: hits.total_Q,
           formula="Σ over all hits of all lists w_i ÷ Σ over all relevant items w_i",
           use="Like ips_recall, when every held-out item should count, not every user."),
)
"""Metrics of `WeightedHits`."""
