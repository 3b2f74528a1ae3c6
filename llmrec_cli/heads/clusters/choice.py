"""Choosing the number of clusters, and how users are placed, on users hidden from training.

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
from llmrec_cli.heads.clusters.fit import Behaviour, behaviour_vectors, cluster, posterior
from llmrec_cli.heads.clusters.profiles import Placement
from llmrec_cli.scoring.acceptance import accepted
from llmrec_cli.scoring.first_clicks import divided
from llmrec_cli.scoring.scorer import validation_values
from llmrec_cli.settings.heads.clusters import Clusters as Settings

ASKED = (0, 1, 3, 5)
"""Interactions of a hidden user that are told; what comes after the last of them is to be found, however few are told.
"""
NUM_FOLDS = 3
MOST_USERS = 10_000
"""Most users that a choice looks at, drawn at random."""
FEWEST = 20
"""Fewest hidden users with something left to find that anything is chosen on."""
FEWEST_MEMBERS = 4
"""Of a cluster on average, where the number of clusters is chosen: fewer would be single users."""
MONITOR = "ndcg@10"
"""What is looked at without validation."""
TRIED: dict[str, tuple[int | float, ...]] = {
    "first_clicks": (0, 5), "num_clusters": (4, 8, 16, 32, 64), "click_weight": (0.3, 0.6, 1.0)}
"""What is tried for each setting that is to be chosen; of equals the first stays."""
USUAL: dict[str, int | float] = {"first_clicks": 0, "num_clusters": 8, "click_weight": 0.6}
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

    def vectors(self, settings: Settings, seed: int) -> np.ndarray:
        """Return what is clustered, (V, D + G)."""
        return np.hstack([behaviour_vectors(self.matrix_VN, settings.vector_size, seed), self.beside_VG])


def to_choose(settings: Settings) -> list[str]:
    """Return the settings that are null."""
    return [key for key in TRIED if getattr(settings, key) is None]


def chosen(settings: Settings, known: Known, ranks_N: np.ndarray, context: Context) -> Settings:
    """Return the settings with a number for everything that is null: the best of all combinations, or the usual ones.

    The usual settings, as far as they can be tried, stay unless the best ones gain more than the standard error over
    hidden users.
    """
    free = to_choose(settings)
    monitor = MONITOR if context.validation is None else context.validation.monitor
    tried: dict[str, tuple[int | float, ...]] = {
        key: TRIED[key] if key in free else (getattr(settings, key),) for key in TRIED}
    folds = _folds(known, context.seed)
    fewest_known = known.matrix_VN.shape[0] - max(len(fold) for fold in folds)
    sizes = [size for size in tried["num_clusters"]
             if "num_clusters" not in free or FEWEST_MEMBERS * size <= fewest_known]
    measurable = sum(int((np.diff(known.matrix_VN.indptr)[fold] > max(ASKED)).sum()) for fold in folds)
    if not sizes or measurable < FEWEST:
        few = max(1, known.matrix_VN.shape[0] // FEWEST_MEMBERS)
        usual = USUAL | {"num_clusters": min(int(USUAL["num_clusters"]), few)}
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
    return tuple(USUAL[key] if key in free and USUAL[key] in choices[key] else choices[key][0] for key in TRIED)


def _with(settings: Settings, numbers: dict[str, Any]) -> Settings:
    return replace(settings, **numbers)


def _folds(known: Known, seed: int) -> list[np.ndarray]:
    drawn = np.random.default_rng(seed).permutation(known.matrix_VN.shape[0])[:MOST_USERS]
    return [np.sort(drawn[n::NUM_FOLDS]) for n in range(NUM_FOLDS)]


class _Fold:
    """Users hidden from training, and the clusters of the others."""

    def __init__(self, known: Known, hidden: np.ndarray, settings: Settings, ranks_N: np.ndarray, monitor: str,
                 seed: int) -> None:
        lengths_V = np.diff(known.matrix_VN.indptr)
        self.hidden = known.rows(hidden[lengths_V[hidden] > max(ASKED)])
        # What might have been told is neither to be found nor on any list, so that all is about the same items.
        self.seen_HN, self.relevant_HN = divided(presence(self.hidden.matrix_VN), max(ASKED))
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
                history_HN, _ = divided(self.hidden.matrix_VN, told)
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
