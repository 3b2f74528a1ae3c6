"""Clusters of users by k-means, and the choice of their number on users hidden from training.

Entries of the users' rows are interaction weights; all 1 if interactions count equally.

Shapes: V users with interactions, H users of the hidden fold, N items, D dimensions, C clusters, R rows.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.interactions import presence
from llmrec_cli.data.queries import Queries
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.clusters.profiles import Placement, log_softmax, unit
from llmrec_cli.scoring.acceptance import accepted
from llmrec_cli.scoring.heldout import split_rows
from llmrec_cli.scoring.scorer import validation_values
from llmrec_cli.settings.heads.clusters import ClustersSettings

_STARTS = 4
"""Random starts of k-means; the best one is kept."""
_PSEUDO_COUNT = 0.1
"""Pseudo-count added per item (Laplace smoothing), so unseen items keep a non-zero probability."""


def behaviour_vectors(matrix_VN: sp.csr_array, size: int, seed: int) -> np.ndarray:
    """Return the leading singular vectors of the users' rows, each of length 1 before, and after centring, (V, D)."""
    # Only here: it takes a second to load.
    from sklearn.utils.extmath import randomized_svd

    squares_VN = sp.csr_array((matrix_VN.data.astype(np.float64)**2, matrix_VN.indices, matrix_VN.indptr),
                              shape=matrix_VN.shape)
    norm_V = np.sqrt(np.asarray(squares_VN @ np.ones(matrix_VN.shape[1])))
    norm_V[norm_V == 0] = 1.0
    values = (matrix_VN.data / np.repeat(norm_V, np.diff(matrix_VN.indptr))).astype(np.float32)
    rows_VN = sp.csr_array((values, matrix_VN.indices, matrix_VN.indptr), shape=matrix_VN.shape)
    left_VD, singular_D, _ = randomized_svd(rows_VN, min(size, *rows_VN.shape), random_state=seed)
    vectors_VD = left_VD * singular_D
    return unit(vectors_VD - vectors_VD.mean(axis=0))


def cluster(vectors_VD: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Return the cluster of each row, int64 (V,), by k-means (Lloyd 1982, k-means++ starts)."""
    from sklearn.cluster import KMeans

    kmeans = KMeans(num_clusters, n_init=_STARTS, max_iter=100, random_state=seed).fit(vectors_VD)
    return kmeans.labels_.astype(np.int64)


@dataclass(frozen=True)
class Behaviour:
    """Interactions of the members of each cluster.

    Attributes
    ----------
    click_CN : log probability of the item in a placing interaction, one that assigns a user to clusters
    share_CN : share of the members who interact with the item after the placing interactions, weighted: the
        cluster's behaviour vector
    """

    click_CN: np.ndarray
    share_CN: np.ndarray

    @classmethod
    def of(cls, matrix_VN: sp.csr_array, cluster_V: np.ndarray, num_clusters: int,
           settings: ClustersSettings) -> "Behaviour":
        """Return the behaviour of the clusters; rows of users are oldest first."""
        assert settings.first_clicks is not None
        first_VN, rest_VN = split_rows(matrix_VN, settings.first_clicks)
        members_CV = sp.csr_array((np.ones(len(cluster_V), np.float32), (cluster_V, np.arange(len(cluster_V)))),
                                  shape=(num_clusters, len(cluster_V)))
        rest_CN = (members_CV @ rest_VN).toarray()
        # Members count by their number of interactions, without normalising each member to 1: the clusters' sum,
        # weighted by size, is then the items' popularity, which normalised members miss by far.
        sizes_C1 = np.bincount(cluster_V, minlength=num_clusters)[:, None]
        average_N = rest_CN.sum(axis=0) / len(cluster_V)
        share_CN = (rest_CN + settings.smoothing * average_N) / np.maximum(sizes_C1 + settings.smoothing, 1e-9)
        placing_CN = rest_CN if settings.first_clicks == 0 else (members_CV @ first_VN).toarray()
        return cls(_log_shares(placing_CN, settings.click_smoothing), share_CN.astype(np.float32))

    def likelihood(self, history_RM: sp.csr_array, num_first: int) -> np.ndarray:
        """Return the log probability of each history's placing interactions in each cluster (R, C).

        Placing interactions are the first `num_first`, or all if that is 0; histories are oldest first. Later
        interactions are not used: an eleventh choice resembles the first choices of users with few interactions, so
        users would drift to the clusters of inactive users (docs/clusters.md). Items added after training are ignored.
        """
        placing_RM = split_rows(history_RM, num_first)[0] if num_first else history_RM
        return np.asarray(sp.csr_array(placing_RM[:, :self.share_CN.shape[1]]) @ self.click_CN.T)


def posterior(prior_RC: np.ndarray, likelihood_RC: np.ndarray, click_weight: float) -> np.ndarray:
    """Return the posterior probability of each cluster (R, C) from its log prior and the log likelihood.

    Naive Bayes with the likelihood raised to the power `click_weight`, because interactions are far from independent.
    """
    return np.exp(log_softmax(prior_RC + click_weight * likelihood_RC)).astype(np.float32)


def _log_shares(counts_CN: np.ndarray, smoothing: float) -> np.ndarray:
    total_N = counts_CN.sum(axis=0) + _PSEUDO_COUNT
    smoothed_CN = counts_CN + smoothing * total_N / total_N.sum()
    return np.log(smoothed_CN / smoothed_CN.sum(axis=1, keepdims=True)).astype(np.float32)


HISTORY_LENGTHS = (0, 1, 3, 5)
"""Numbers of a hidden user's first interactions given as history. The relevant items are always those after the
longest history."""
NUM_FOLDS = 3
MOST_USERS = 10_000
"""Most users that settings are chosen on, drawn at random."""
_FEWEST = 20
"""Fewest hidden users with relevant items for choosing settings."""
_FEWEST_MEMBERS = 4
"""Fewest members of a cluster on average when the number of clusters is chosen."""
_MONITOR = "ndcg@10"
"""Metric without validation data."""
GRID: dict[str, tuple[int | float, ...]] = {
    "first_clicks": (0, 5), "num_clusters": (4, 8, 16, 32, 64), "click_weight": (0.3, 0.6, 1.0)}
"""Values to try for each setting that is null; the first wins a tie."""
_DEFAULTS: dict[str, int | float] = {"first_clicks": 0, "num_clusters": 8, "click_weight": 0.6}
"""Values if there are too few users to choose on."""

Combination = tuple[int | float, ...]
"""A value for each setting, in the order of GRID."""
Values = dict[Combination, np.ndarray]
"""The metric of each hidden user, for each combination of settings."""


@dataclass(frozen=True)
class TrainingUsers:
    """Users in training.

    Attributes
    ----------
    matrix_VN : CSR of interaction weights, rows oldest first
    profile_VF : profile features, from which users are assigned to clusters
    extra_VG : weighted features that are clustered together with behaviour
    """

    matrix_VN: sp.csr_array
    profile_VF: np.ndarray
    extra_VG: np.ndarray

    def rows(self, which: np.ndarray) -> "TrainingUsers":
        """Return the users at these rows."""
        return TrainingUsers(self.matrix_VN[which], self.profile_VF[which], self.extra_VG[which])

    def vectors(self, settings: ClustersSettings, seed: int) -> np.ndarray:
        """Return the vectors for k-means, (V, D + G)."""
        return np.hstack([behaviour_vectors(self.matrix_VN, settings.vector_size, seed), self.extra_VG])


def null_settings(settings: ClustersSettings) -> list[str]:
    """Return the names of the settings that are null, which are chosen on hidden users."""
    return [key for key in GRID if getattr(settings, key) is None]


def choose_settings(settings: ClustersSettings, users: TrainingUsers, ranks_N: np.ndarray,
                    context: Context) -> ClustersSettings:
    """Return the settings with a number for each null: the best combination of GRID, or the defaults.

    The defaults (where the grid allows them) stay unless the best combination gains more than the standard error over
    hidden users.
    """
    free = null_settings(settings)
    monitor = _MONITOR if context.validation is None else context.validation.monitor
    grid: dict[str, Combination] = {key: GRID[key] if key in free else (getattr(settings, key),) for key in GRID}
    folds = _folds(users, context.seed)
    fewest_others = users.matrix_VN.shape[0] - max(len(fold) for fold in folds)
    sizes = [size for size in grid["num_clusters"]
             if "num_clusters" not in free or _FEWEST_MEMBERS * size <= fewest_others]
    num_measurable = sum(int((np.diff(users.matrix_VN.indptr)[fold] > max(HISTORY_LENGTHS)).sum()) for fold in folds)
    if not sizes or num_measurable < _FEWEST:
        few = max(1, users.matrix_VN.shape[0] // _FEWEST_MEMBERS)
        usual = _DEFAULTS | {"num_clusters": min(int(_DEFAULTS["num_clusters"]), few)}
        tuned = _with(settings, {key: usual[key] for key in free})
        context.log("clusters", chosen=False, num_users=num_measurable, **{key: getattr(tuned, key) for key in GRID})
        return tuned
    values: Values = {}
    for fold in folds:
        trial = _Fold(users, fold, settings, ranks_N, monitor, context.seed)
        for size in sizes:
            for combination, value in trial.evaluate(int(size), grid).items():
                values[combination] = np.append(values.get(combination, np.zeros(0)), value)
    best = max(values, key=lambda combination: values[combination].mean())
    default = _default_combination(free, grid, sizes)
    gain = accepted(values[best] - values[default])
    winner = best if gain.is_accepted else default
    tuned = _with(settings, dict(zip(GRID, winner, strict=True)))
    context.log("clusters", chosen=True, monitor=monitor, value=float(values[winner].mean()), num_users=num_measurable,
                best=dict(zip(GRID, best, strict=True)), **gain.facts(), **dict(zip(GRID, winner, strict=True)))
    return tuned


def _default_combination(free: list[str], grid: dict[str, Combination], sizes: list[int | float]) -> Combination:
    """Return the combination of the defaults; a setting whose default is not in the grid takes its first value."""
    choices = grid | {"num_clusters": tuple(sizes)}
    return tuple(_DEFAULTS[key] if key in free and _DEFAULTS[key] in choices[key] else choices[key][0] for key in GRID)


def _with(settings: ClustersSettings, numbers: dict[str, Any]) -> ClustersSettings:
    return replace(settings, **numbers)


def _folds(users: TrainingUsers, seed: int) -> list[np.ndarray]:
    sample = np.random.default_rng(seed).permutation(users.matrix_VN.shape[0])[:MOST_USERS]
    return [np.sort(sample[n::NUM_FOLDS]) for n in range(NUM_FOLDS)]


class _Fold:
    """Hidden users, and the other users, who are clustered without them."""

    def __init__(self, users: TrainingUsers, fold: np.ndarray, settings: ClustersSettings, ranks_N: np.ndarray,
                 monitor: str, seed: int) -> None:
        lengths_V = np.diff(users.matrix_VN.indptr)
        self.hidden_users = users.rows(fold[lengths_V[fold] > max(HISTORY_LENGTHS)])
        # Items of the longest history are never relevant nor listed, so that all lengths are compared on equal items.
        self.seen_HN, self.relevant_HN = split_rows(presence(self.hidden_users.matrix_VN), max(HISTORY_LENGTHS))
        self.relevant_HN.sort_indices()
        is_other = np.ones(len(lengths_V), bool)
        is_other[fold] = False
        self.others = users.rows(np.flatnonzero(is_other))
        self.vectors = self.others.vectors(settings, seed)
        self.settings, self.ranks_N, self.monitor, self.seed = settings, ranks_N, monitor, seed

    def evaluate(self, num_clusters: int, grid: dict[str, Combination]) -> "Values":
        """Return the metric of each hidden user for each combination of settings with `num_clusters`.

        The metric is the mean over HISTORY_LENGTHS.
        """
        cluster_V = cluster(self.vectors, num_clusters, self.seed)
        prior = Placement.fit(self.others.profile_VF, cluster_V, num_clusters, self.settings.l2)
        prior_HC = prior(self.hidden_users.profile_VF)
        values: Values = {}
        for first_clicks in grid["first_clicks"]:
            settings = replace(self.settings, first_clicks=int(first_clicks))
            behaviour = Behaviour.of(self.others.matrix_VN, cluster_V, num_clusters, settings)
            for num_given in HISTORY_LENGTHS:
                history_HN, _ = split_rows(self.hidden_users.matrix_VN, num_given)
                likelihood_HC = behaviour.likelihood(history_HN, int(first_clicks))
                for weight in grid["click_weight"]:
                    likely_HC = posterior(prior_HC, likelihood_HC, weight)
                    key = (first_clicks, num_clusters, weight)
                    value_H = self._metric(likely_HC, behaviour.share_CN) / len(HISTORY_LENGTHS)
                    values[key] = values.get(key, 0.0) + value_H
        return values

    def _metric(self, likely_HC: np.ndarray, share_CN: np.ndarray) -> np.ndarray:
        """Return the metric of each hidden user (H,); scores are the clusters' shares, weighted by probability."""
        size = len(likely_HC)
        if size == 0:
            return np.zeros(0)
        names = np.array([*map(str, range(size)), None], object)[:-1]
        queries = Queries(names, names, np.arange(size), self.seen_HN, self.seen_HN, np.full(size, "", object))
        return validation_values(lambda block: torch.from_numpy(likely_HC[block.user] @ share_CN), queries,
                                 self.relevant_HN, self.monitor, self.ranks_N)
