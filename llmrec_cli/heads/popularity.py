"""Popularity: the same list for everybody."""

import numpy as np
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.recency import DAY
from llmrec_cli.data.tensors import FLOAT, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, fit_weights
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.settings.head import ModelConfig, PopularitySettings


class Popularity(Head):
    """Items by their number or total weight of training interactions: the baseline any recommender must beat.

    With `window`, interactions of the newest days only, and with `trend` times the ratio to the days before. Items
    without an interaction in the window score 0.
    """

    weighs_groups = True
    settings: PopularitySettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.counts_N = np.zeros(0, np.float32)
        self.together_N = np.zeros(0, np.float32)

    @property
    def is_personal(self) -> bool:
        """Never: everybody gets the same list."""
        return False

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the counts, and with a window of the ages and the interactions in it."""
        in_windows = 0 if self.settings.window is None else 48 * len(data.interactions)
        return 24 * len(data.items) + in_windows

    def fit(self, data: TrainingData, context: Context) -> None:
        """Add up the weights of each item's interactions."""
        settings, groups = self.settings, data.groups
        if settings.window is not None and not data.has_moments:
            raise DataError(f"head.window={settings.window:g}: the prepared data has no times, or only an order, so "
                            f"interactions have no age; prepare with a column of times (dataset.columns.timestamp, "
                            f"dataset.timestamp_unit=s, ms or iso), or leave head.window out")
        self.counts_N = self._counts(data.interactions, fit_weights(data, settings))
        self.together_N = self.counts_N
        if groups is not None and len(groups.interactions) > 0:
            weights = fit_weights(data, settings, groups=True)
            self.together_N = self._counts(groups.interactions, weights)

    def _counts(self, interactions: Interactions, weights: InteractionWeights) -> np.ndarray:
        """Return the weighted number of interactions of each item in the window, times its trend, float32 (N,)."""
        settings, counts_N = self.settings, weights.by_item(interactions)
        if settings.window is not None and len(interactions):
            age = _days(interactions)
            counts_N = weights.by_item(interactions.rows(age < settings.window))
            if settings.trend > 0:
                before = (age >= settings.window) & (age < 2 * settings.window)
                before_N = weights.by_item(interactions.rows(before))
                added = settings.trend_shrinkage
                counts_N = counts_N * ((counts_N + added) / (before_N + added))**settings.trend
        return counts_N.astype(np.float32)

    def unused_settings(self, data: TrainingData) -> dict[str, str]:
        """Return the settings of the window for data without times."""
        if data.has_moments:
            return {}
        return dict.fromkeys(("window", "trend", "trend_shrinkage"), "the prepared data has no times")

    def unused_values(self, data: TrainingData) -> list[str]:
        """Return also how many interactions are in the window, and whether the data begins before it."""
        reasons, window = super().unused_values(data), self.settings.window
        if window is None or not len(data.interactions):
            return reasons
        age = _days(data.interactions)
        reasons.append(f"head=popularity counts the {int((age < window).sum()):,} of {len(age):,} interactions of the "
                       f"newest {window:g} days (head.window)")
        if self.settings.trend > 0 and age.max() < 2 * window:
            reasons.append(f"head=popularity: the interactions span {age.max():.1f} days, less than two windows of "
                           f"{window:g} days, so the trend is that of a part of the window before")
        return reasons

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return the counts, once per query (Q, N)."""
        return torch.from_numpy(self.counts_N).expand(len(queries), -1)

    def score_groups(self, queries: Queries) -> torch.Tensor:
        """Return the counts of group interactions, once per query (Q, N); counts of users if groups have none."""
        return torch.from_numpy(self.together_N).expand(len(queries), -1)

    def add_items(self, items: Catalogue) -> None:
        """Append items that nobody has interacted with yet."""
        zeros_K = np.zeros(len(items), np.float32)
        self.counts_N = np.concatenate([self.counts_N, zeros_K])
        self.together_N = np.concatenate([self.together_N, zeros_K])

    def state(self) -> dict[str, np.ndarray]:
        """Return the counts."""
        return {"counts": self.counts_N, "together": self.together_N}

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore the counts."""
        self.counts_N = self.together_N = tensors.take("counts", FLOAT, (len(items),), low=0)
        # Models saved before group support have none.
        if "together" in tensors:
            self.together_N = tensors.take("together", FLOAT, (len(items),), low=0)


def _days(interactions: Interactions) -> np.ndarray:
    """Return the age of each interaction in days, counted from the newest of all."""
    return (interactions.timestamp.max() - interactions.timestamp) / DAY
