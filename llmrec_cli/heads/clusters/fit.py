"""Clusters of users: k-means on what they did and are, and what a cluster does.

Entries of users' rows are the weights of interactions: all of 1 where they count the same.

Shapes: V users with interactions, N items, D dimensions, C clusters, R rows.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from llmrec_cli.heads.clusters.profiles import log_softmax, unit
from llmrec_cli.scoring.first_clicks import divided
from llmrec_cli.settings.heads.clusters import Clusters as Settings

STARTS = 4
"""Random starts of k-means, of which the best is taken."""
PSEUDO_COUNT = 0.1
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

    found = KMeans(num_clusters, n_init=STARTS, max_iter=100, random_state=seed).fit(vectors_VD)
    return found.labels_.astype(np.int64)


@dataclass(frozen=True)
class Behaviour:
    """What the members of each cluster do.

    Attributes
    ----------
    click_CN : log probability that an interaction that places a user is with the item
    share_CN : share of the members who interact with the item after those, each with the weight of the interaction:
        the behaviour vector
    """

    click_CN: np.ndarray
    share_CN: np.ndarray

    @classmethod
    def of(cls, matrix_VN: sp.csr_array, cluster_V: np.ndarray, num_clusters: int, settings: Settings) -> "Behaviour":
        """Return the behaviour of clusters of users whose rows are oldest first."""
        assert settings.first_clicks is not None
        first_VN, rest_VN = divided(matrix_VN, settings.first_clicks)
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
        placing_RM = divided(history_RM, num_first)[0] if num_first else history_RM
        return np.asarray(sp.csr_array(placing_RM[:, :self.share_CN.shape[1]]) @ self.click_CN.T)


def posterior(prior_RC: np.ndarray, likelihood_RC: np.ndarray, click_weight: float) -> np.ndarray:
    """Return how likely each cluster is (R, C), from the logs of how likely it was and of the interactions in it.

    Naive Bayes with the interactions' power `click_weight`, since they are far from independent.
    """
    return np.exp(log_softmax(prior_RC + click_weight * likelihood_RC)).astype(np.float32)


def _log_shares(counts_CN: np.ndarray, smoothing: float) -> np.ndarray:
    total_N = counts_CN.sum(axis=0) + PSEUDO_COUNT
    smoothed_CN = counts_CN + smoothing * total_N / total_N.sum()
    return np.log(smoothed_CN / smoothed_CN.sum(axis=1, keepdims=True)).astype(np.float32)
