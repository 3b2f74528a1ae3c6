"""Clusters of users by k-means, and the choice of their number on users hidden from training.

Entries of users' rows are the weights of interactions: all of 1 where they count the same.

Shapes: V users with interactions, N items, D dimensions, C clusters, R rows.

Shapes: V users with interactions, H users of a fold that is hidden, N items, C clusters.
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
"""Of each item among the average interactions, so that one that nobody began with is not impossible."""


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

    found = KMeans(num_clusters, n_init=_STARTS, max_iter=100, random_state=seed).fit(vectors_VD)
    return found.labels_.astype(np.int64)


@dataclass(frozen=True)
class Behaviour:
    """Interactions of the members of each cluster.

    Attributes
    ----------
    click_CN : log probability that an interaction that places a user is with the item
    share_CN : share of the members who interact with the item after those, each with the weight of the interaction:
        the behaviour vector
    """

    click_CN: np.ndarray
    share_CN: np.ndarray

    @classmethod
    def of(cls, matrix_VN: sp.csr_array, cluster_V: np.ndarray, num_clusters: int,
           settings: ClustersSettings) -> "Behaviour":
        """Return the behaviour of clusters of users whose rows are oldest first."""
        assert settings.first_clicks is not None
        first_VN, rest_VN = split_rows(matrix_VN, settings.first_clicks)
        members_CV = sp.csr_array((np.ones(len(cluster_V), np.float32), (cluster_V, np.arange(len(cluster_V)))),
                                  shape=(num_clusters, len(cluster_V)))
        rest_CN = (members_CV @ rest_VN).toarray()
        # Members weigh by what they do, not by what share of it an item is: the clusters' sum, weighted by size, is
        # then the popularity of items, which a share of each user's interactions falls far short of.
        sizes_C1 = np.bincount(cluster_V, minlength=num_clusters)[:, None]
        average_N = rest_CN.sum(axis=0) / len(cluster_V)
        share_CN = (rest_CN + settings.smoothing * average_N) / np.maximum(sizes_C1 + settings.smoothing, 1e-9)
        placing_CN = rest_CN if settings.first_clicks == 0 else (members_CV @ first_VN).toarray()
        return cls(_log_shares(placing_CN, settings.click_smoothing), share_CN.astype(np.float32))

    def likelihood(self, history_RM: sp.csr_array, num_first: int) -> np.ndarray:
        """Return the log probability in each cluster (R, C) of what places users in their histories, oldest first.

        That is the first `num_first` interactions, or all where that is 0. Those after them are no such evidence: what
        is chosen after ten others is like what is chosen first by those who choose little, so users would drift to
        their clusters (docs/clusters.md). Items added after training say nothing.
        """
        placing_RM = split_rows(history_RM, num_first)[0] if num_first else history_RM
        return np.asarray(sp.csr_array(placing_RM[:, :self.share_CN.shape[1]]) @ self.click_CN.T)


def posterior(prior_RC: np.ndarray, likelihood_RC: np.ndarray, click_weight: float) -> np.ndarray:
    """Return how likely each cluster is (R, C), from the logs of how likely it was and of the interactions in it.

    Naive Bayes with the interactions' power `click_weight`, since they are far from independent.
    """
    return np.exp(log_softmax(prior_RC + click_weight * likelihood_RC)).astype(np.float32)


def _log_shares(counts_CN: np.ndarray, smoothing: float) -> np.ndarray:
    total_N = counts_CN.sum(axis=0) + _PSEUDO_COUNT
    smoothed_CN = counts_CN + smoothing * total_N / total_N.sum()
    return np.log(smoothed_CN / smoothed_CN.sum(axis=1, keepdims=True)).astype(np.float32)


ASKED = (0, 1, 3, 5)
"""Interactions of a hidden user that are told; what comes after the last of them is to be found, however few are told.
"""
NUM_FOLDS = 3
MOST_USERS = 10_000
"""Most users that a choice looks at, drawn at random."""
_FEWEST = 20
"""Fewest hidden users with something left to find that anything is chosen on."""
_FEWEST_MEMBERS = 4
"""Of a cluster on average, where the number of clusters is chosen: fewer would be single users."""
_MONITOR = "ndcg@10"
"""What is looked at without validation."""
TRIED: dict[str, tuple[int | float, ...]] = {
    "first_clicks": (0, 5), "num_clusters": (4, 8, 16, 32, 64), "click_weight": (0.3, 0.6, 1.0)}
"""What is tried for each setting that is to be chosen; of equals the first stays."""
_USUAL: dict[str, int | float] = {"first_clicks": 0, "num_clusters": 8, "click_weight": 0.6}
"""What stands where there is nobody to choose on."""

Values = dict[tuple[int | float, ...], np.ndarray]
"""The metric of each hidden user, for each combination of what is tried, in the order of TRIED."""


@dataclass(frozen=True)
class Known:
    """Users in training.

    Attributes
    ----------
    matrix_VN : what they did, rows oldest first, with the weights of interactions
    profile_VF : features that place them
    beside_VG : what is clustered beside behaviour, times its weight
    """

    matrix_VN: sp.csr_array
    profile_VF: np.ndarray
    beside_VG: np.ndarray

    def rows(self, which: np.ndarray) -> "Known":
        """Return the chosen users."""
        return Known(self.matrix_VN[which], self.profile_VF[which], self.beside_VG[which])

    def vectors(self, settings: ClustersSettings, seed: int) -> np.ndarray:
        """Return what is clustered, (V, D + G)."""
        return np.hstack([behaviour_vectors(self.matrix_VN, settings.vector_size, seed), self.beside_VG])


def to_choose(settings: ClustersSettings) -> list[str]:
    """Return the settings that are null."""
    return [key for key in TRIED if getattr(settings, key) is None]


def chosen(settings: ClustersSettings, known: Known, ranks_N: np.ndarray, context: Context) -> ClustersSettings:
    """Return the settings with a number for everything that is null: the best of all combinations, or the usual ones.

    The usual settings, as far as they can be tried, stay unless the best ones gain more than the standard error over
    hidden users.
    """
    free = to_choose(settings)
    monitor = _MONITOR if context.validation is None else context.validation.monitor
    tried: dict[str, tuple[int | float, ...]] = {
        key: TRIED[key] if key in free else (getattr(settings, key),) for key in TRIED}
    folds = _folds(known, context.seed)
    fewest_known = known.matrix_VN.shape[0] - max(len(fold) for fold in folds)
    sizes = [size for size in tried["num_clusters"]
             if "num_clusters" not in free or _FEWEST_MEMBERS * size <= fewest_known]
    measurable = sum(int((np.diff(known.matrix_VN.indptr)[fold] > max(ASKED)).sum()) for fold in folds)
    if not sizes or measurable < _FEWEST:
        few = max(1, known.matrix_VN.shape[0] // _FEWEST_MEMBERS)
        usual = _USUAL | {"num_clusters": min(int(_USUAL["num_clusters"]), few)}
        found = _with(settings, {key: usual[key] for key in free})
        context.log("clusters", chosen=False, num_users=measurable, **{key: getattr(found, key) for key in TRIED})
        return found
    values: Values = {}
    for fold in folds:
        trial = _Fold(known, fold, settings, ranks_N, monitor, context.seed)
        for size in sizes:
            for way, value in trial.measured(int(size), tried).items():
                values[way] = np.append(values.get(way, np.zeros(0)), value)
    best, usual_way = max(values, key=lambda way: values[way].mean()), _usual_way(free, tried, sizes)
    gain = accepted(values[best] - values[usual_way])
    kept = best if gain.is_accepted else usual_way
    found = _with(settings, dict(zip(TRIED, kept, strict=True)))
    context.log("clusters", chosen=True, monitor=monitor, value=float(values[kept].mean()), num_users=measurable,
                best=dict(zip(TRIED, best, strict=True)), **gain.facts(), **dict(zip(TRIED, kept, strict=True)))
    return found


def _usual_way(free: list[str], tried: dict[str, tuple[int | float, ...]],
               sizes: list[int | float]) -> tuple[int | float, ...]:
    """Return the combination of the usual settings, or of the first one tried where the usual one is not."""
    choices = tried | {"num_clusters": tuple(sizes)}
    return tuple(_USUAL[key] if key in free and _USUAL[key] in choices[key] else choices[key][0] for key in TRIED)


def _with(settings: ClustersSettings, numbers: dict[str, Any]) -> ClustersSettings:
    return replace(settings, **numbers)


def _folds(known: Known, seed: int) -> list[np.ndarray]:
    drawn = np.random.default_rng(seed).permutation(known.matrix_VN.shape[0])[:MOST_USERS]
    return [np.sort(drawn[n::NUM_FOLDS]) for n in range(NUM_FOLDS)]


class _Fold:
    """Users hidden from training, and the clusters of the others."""

    def __init__(self, known: Known, hidden: np.ndarray, settings: ClustersSettings, ranks_N: np.ndarray, monitor: str,
                 seed: int) -> None:
        lengths_V = np.diff(known.matrix_VN.indptr)
        self.hidden = known.rows(hidden[lengths_V[hidden] > max(ASKED)])
        # What might have been told is neither to be found nor on any list, so that all is about the same items.
        self.seen_HN, self.relevant_HN = split_rows(presence(self.hidden.matrix_VN), max(ASKED))
        self.relevant_HN.sort_indices()
        kept = np.ones(len(lengths_V), bool)
        kept[hidden] = False
        self.others = known.rows(np.flatnonzero(kept))
        self.vectors = self.others.vectors(settings, seed)
        self.settings, self.ranks_N, self.monitor, self.seed = settings, ranks_N, monitor, seed

    def measured(self, num_clusters: int, tried: dict[str, tuple[int | float, ...]]) -> "Values":
        """Return the metric of each hidden user for each combination of settings with `num_clusters`.

        It is the mean over histories of several lengths (ASKED).
        """
        cluster_V = cluster(self.vectors, num_clusters, self.seed)
        prior = Placement.fitted(self.others.profile_VF, cluster_V, num_clusters, self.settings.l2)
        prior_HC = prior(self.hidden.profile_VF)
        found: Values = {}
        for first_clicks in tried["first_clicks"]:
            settings = replace(self.settings, first_clicks=int(first_clicks))
            behaviour = Behaviour.of(self.others.matrix_VN, cluster_V, num_clusters, settings)
            for told in ASKED:
                history_HN, _ = split_rows(self.hidden.matrix_VN, told)
                likelihood_HC = behaviour.likelihood(history_HN, int(first_clicks))
                for weight in tried["click_weight"]:
                    likely_HC = posterior(prior_HC, likelihood_HC, weight)
                    way = (first_clicks, num_clusters, weight)
                    found[way] = found.get(way, 0.0) + self._metric(likely_HC, behaviour.share_CN) / len(ASKED)
        return found

    def _metric(self, likely_HC: np.ndarray, share_CN: np.ndarray) -> np.ndarray:
        """Return the metric of each hidden user (H,), by what each cluster's share of users has."""
        size = len(likely_HC)
        if size == 0:
            return np.zeros(0)
        names = np.array([*map(str, range(size)), None], object)[:-1]
        queries = Queries(names, names, np.arange(size), self.seen_HN, self.seen_HN, np.full(size, "", object))
        return validation_values(lambda block: torch.from_numpy(likely_HC[block.user] @ share_CN), queries,
                                 self.relevant_HN, self.monitor, self.ranks_N)
