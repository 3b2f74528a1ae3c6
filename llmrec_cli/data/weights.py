"""Weights of interactions by value and age.

An interaction with value r, a days older than the newest one in training, weighs

    f(r) * 2^-min(a / decay, 20) / mean    f(r) = r with weight=value, log(1 + r / epsilon) with weight=log, 1 with none

where epsilon is the median value in training and `mean` the mean of the numerators over the training interactions. So
the average training interaction has weight 1, as without weights: penalties, learning rates and shrinkage keep their
meaning, and values in other units give the same weights. The two forms of f come from the confidences 1 + alpha * r and
1 + alpha * log(1 + r / epsilon) of Hu, Koren and Volinsky 2008 (eq. 3 and section 6); alpha is a setting of the head
(`heads.ials`). If all values are equal and there is no decay, all weights are exactly 1.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.interactions import Interactions, presence
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.recency import DAY, MOST_HALVINGS, Recency
from llmrec_cli.data.tensors import DOUBLE, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.settings.heads.base import HeadSettings

_NAME = "interaction_weights"
"""Name of the tensor in a saved head."""


@dataclass(frozen=True)
class InteractionWeights:
    """Rule that turns values and times of interactions into weights, in training and at fold-in.

    Attributes
    ----------
    kind : value | log | none, f above
    epsilon : median of the values in training
    mean : mean of the unnormalised training weights
    decay : half-life in days, None without decay
    newest : time of the newest training interaction, milliseconds since 1970 UTC
    """

    kind: str = "none"
    epsilon: float = 1.0
    mean: float = 1.0
    decay: float | None = None
    newest: int = 0

    @property
    def is_uniform(self) -> bool:
        """True if all interactions have weight 1."""
        return self.kind == "none" and self.decay is None

    def of(self, interactions: Interactions) -> np.ndarray:
        """Return the weight of each interaction, float32 (num_interactions,)."""
        if self.is_uniform:
            return np.ones(len(interactions), np.float32)
        return self._weights(interactions.value, interactions.timestamp)

    def by_item(self, interactions: Interactions, power: int = 1) -> np.ndarray:
        """Return the sum of a power of the weights of each item, float64 (num_items,); equal sums are bitwise equal."""
        if self.is_uniform:
            return interactions.item_counts.astype(np.float64)
        raw = self._raw(interactions.value, interactions.timestamp)**power
        return np.bincount(interactions.item, raw, minlength=interactions.num_items) / self.mean**power

    def matrix(self, interactions: Interactions) -> sp.csr_array:
        """Return `interactions.matrix` with weights instead of 1s."""
        return interactions.matrix if self.is_uniform else interactions.with_data(self.of(interactions))

    def history(self, queries: Queries) -> sp.csr_array:
        """Return the histories of queries with the weight of each entry, CSR float32 (num_queries, num_items)."""
        return self.entries(queries.history, queries.times)

    def entries(self, values: sp.csr_array, times: sp.csr_array | None) -> sp.csr_array:
        """Return the weight of each entry of `values`, whose times are in `times`."""
        if self.is_uniform:
            return presence(values)
        if self.decay is not None and times is None and values.nnz:
            raise DataError(f"head.decay={self.decay:g}: the model weights interactions by age, but the histories of "
                            f"this data have no times; prepare the data with a column of times "
                            f"(dataset.columns.timestamp), or train again without head.decay")
        weights = self._weights(values.data, None if times is None else times.data)
        return sp.csr_array((weights, values.indices, values.indptr), shape=values.shape)

    def state(self) -> dict[str, np.ndarray]:
        """Return the tensors to save with a head; none if all weights are 1."""
        if self.is_uniform:
            return {}
        return {_NAME: np.array([_KINDS.index(self.kind), self.epsilon, self.mean, self.decay or 0.0, self.newest])}

    @classmethod
    def read(cls, tensors: TensorReader) -> "InteractionWeights":
        """Return the rule with this state."""
        if _NAME not in tensors:
            return cls()
        kind, epsilon, mean, decay, newest = tensors.take(_NAME, DOUBLE, (5,)).tolist()
        if kind not in range(len(_KINDS)) or epsilon <= 0 or mean <= 0 or decay < 0 or not newest.is_integer():
            raise tensors.error(_NAME, f"holds {[kind, epsilon, mean, decay, newest]}, which must be a kind of 0 to "
                                      f"{len(_KINDS) - 1}, two numbers above 0, one of at least 0, and an integer")
        return cls(_KINDS[int(kind)], epsilon, mean, decay or None, int(newest))

    def _weights(self, values: np.ndarray, times: np.ndarray | None) -> np.ndarray:
        return (self._raw(values, times) / self.mean).astype(np.float32)

    def _raw(self, values: np.ndarray, times: np.ndarray | None) -> np.ndarray:
        """Return the weights before division by their mean, float64."""
        if self.kind == "none":
            weights = np.ones(len(values))
        else:
            # Later interactions may have values of 0 and below, which show no interest.
            positive = np.maximum(values.astype(np.float64), 0.0)
            weights = positive if self.kind == "value" else np.log1p(positive / self.epsilon)
        if self.decay is None or times is None:
            return weights
        # Interactions newer than training, or from the query, count as the newest.
        age = (self.newest - np.minimum(times, self.newest)) / DAY
        return weights * np.exp2(-np.minimum(age / self.decay, MOST_HALVINGS))


_KINDS = ("none", "value", "log")
_USUAL = {"event_weight": "value", "strength": "log"}
"""Default of `weight` (null) by kind of values. Event weights are used directly. Strengths are damped, since the tenth
play or purchase says less than the first. Ratings above a threshold all count the same (none)."""


def fit_weights(data: TrainingData, settings: HeadSettings, groups: bool = False) -> InteractionWeights:
    """Fit the weights of a head's settings to the interactions of users, or with `groups` of groups.

    Raises DataError if the data lacks the times or values that the settings need.
    """
    assert not groups or data.groups is not None
    Recency(*settings.recency_of_histories()).require_order(data)
    interactions = data.groups.interactions if groups and data.groups is not None else data.interactions
    kind = _kind(data, interactions, settings)
    if settings.decay is not None and not data.has_moments:
        raise DataError(f"head.decay={settings.decay:g}: the prepared data has no times, or only an order, so "
                        f"interactions have no age; prepare with a column of times (dataset.columns.timestamp, "
                        f"dataset.timestamp_unit=s, ms or iso), or leave head.decay out")
    if not len(interactions) or (kind == "none" and settings.decay is None):
        return InteractionWeights()
    newest = int(interactions.timestamp.max()) if settings.decay is not None else 0
    rule = InteractionWeights(kind, float(np.median(interactions.value)) if kind == "log" else 1.0, 1.0,
                               settings.decay, newest)
    mean = float(rule._raw(interactions.value, interactions.timestamp).mean())
    return InteractionWeights(kind, rule.epsilon, mean, settings.decay, newest)


def unused_values(data: TrainingData, settings: HeadSettings, groups: bool = False) -> str | None:
    """Return the reason why a head does not weight interactions of users by their values, though the values differ.

    None if it does weight by them or they are equal. With `groups`, the same for interactions of groups.
    """
    if groups and data.groups is None:
        return None
    interactions = data.groups.interactions if groups and data.groups is not None else data.interactions
    values = interactions.value
    if not settings.weighs or not len(values) or values.min() == values.max() or \
            _kind(data, interactions, settings) != "none":
        return None
    whose = "groups' " if groups else ""
    span = f"the values of {whose}interactions ({values.min():g} to {values.max():g}) are not used as weights"
    if settings.weight is not None:
        return f"{span}: head.weight={settings.weight}"
    if values.min() <= 0:
        return (f"{span}: {int((values <= 0).sum()):,} of them are 0 or below, which cannot be weights; prepare "
                f"with dataset.min_value above 0 to weight by the others")
    if data.value_kind == "rating":
        return (f"{span}: they are ratings (dataset.values), which all count the same; head.weight=value weights by "
                f"them")
    return f"{span}: their kind is unknown in this data; prepare it again, or set head.weight=value"


def _kind(data: TrainingData, interactions: Interactions, settings: HeadSettings) -> str:
    """Return the kind of weights, value, log or none, for this data; none also if all values are equal."""
    values = interactions.value
    if settings.weight == "none" or not len(values) or values.min() == values.max():
        return "none"
    if settings.weight is None:
        return _USUAL.get(data.value_kind, "none") if values.min() > 0 else "none"
    if values.min() <= 0:
        raise DataError(f"head.weight={settings.weight}: {int((values <= 0).sum()):,} of {len(values):,} training "
                        f"interactions have a value of 0 or below ({values.min():g} the lowest), which cannot be a "
                        f"weight; prepare with dataset.min_value above 0, or set head.weight=none")
    return settings.weight
