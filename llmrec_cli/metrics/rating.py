"""Metrics of predicted interactions: values (ratings) or likes.

Shapes: P pairs of a user and an item, at least one. Values of pairs are averaged over the pairs of each user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmrec_cli.metrics.metric import HIGHER, LOWER, Metric, ViewPositions

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Predictions:
    """Scores and true values of pairs.

    Attributes
    ----------
    scores_P : predicted values, or logits of likes; a logit above 0 predicts a like
    truth_P : observed values, or bool for likes
    """

    scores_P: np.ndarray
    truth_P: np.ndarray

    @property
    def num_right(self) -> float:
        """Number of true positives: likes that are predicted to be likes."""
        return float(((self.scores_P > 0) & self.truth_P).sum())


def rmse(predictions: Predictions) -> np.ndarray:
    """Root of the mean squared error of the predicted values, in their unit."""
    return mse(predictions)


def mse(predictions: Predictions) -> np.ndarray:
    """Mean squared error of the predicted values."""
    return (predictions.scores_P.astype("float64") - predictions.truth_P) ** 2


def mae(predictions: Predictions) -> np.ndarray:
    """Mean absolute error of the predicted values, in their unit."""
    return abs(predictions.scores_P.astype("float64") - predictions.truth_P)


VALUES = (Metric(rmse, LOWER, by_length=False, root=True, highest=float("inf"),
                 positions=ViewPositions(table=21, leaderboard=7),
                 formula="√ mean (s − y)², predicted value s, observed value y",
                 use="For predicted ratings, when large errors are worse than several small ones."),
          Metric(mse, LOWER, by_length=False, highest=float("inf"), positions=ViewPositions(table=22),
                 formula="mean (s − y)²",
                 use="Like rmse, in squared units; to compare with papers that report it."),
          Metric(mae, LOWER, by_length=False, highest=float("inf"), positions=ViewPositions(table=23, leaderboard=8),
                 formula="mean of the absolute value of s − y",
                 use="For predicted ratings, when errors count in proportion to their size; easy to explain."))
"""Metrics of `Predictions` of values."""


def logloss(predictions: Predictions) -> np.ndarray:
    """Mean of -log p of the observed likes and dislikes, p = sigmoid(score), in nats.

    From the logit: finite also where p rounds to 0.
    """
    import numpy as np

    logits_P = predictions.scores_P.astype("float64")
    return np.logaddexp(0, np.where(predictions.truth_P, -logits_P, logits_P))


def accuracy(predictions: Predictions) -> np.ndarray:
    """Share of the likes and dislikes that are predicted correctly; a score above 0 predicts a like."""
    return ((predictions.scores_P > 0) == predictions.truth_P).astype("float64")


def auc_pairs(predictions: Predictions) -> float:
    """Probability that a like scores above a dislike, over all pairs together, ties count half."""
    from llmrec_cli.metrics.auc import binary_auc

    return binary_auc(predictions.scores_P, predictions.truth_P)


def precision_pairs(predictions: Predictions) -> float:
    """Share of the predicted likes that are likes, 0 without a predicted like."""
    return float(predictions.num_right / max(1, (predictions.scores_P > 0).sum()))


def recall_pairs(predictions: Predictions) -> float:
    """Share of the likes that are predicted."""
    return float(predictions.num_right / max(1, predictions.truth_P.sum()))


def f1_pairs(predictions: Predictions) -> float:
    """Harmonic mean of precision_pairs and recall_pairs."""
    precision, recall = precision_pairs(predictions), recall_pairs(predictions)
    return float(2 * precision * recall / (precision + recall)) if predictions.num_right else 0.0


def likes_share(predictions: Predictions) -> float:
    """Share of the pairs that are likes, which is the precision_pairs of predicting a like for every pair."""
    return float(predictions.truth_P.mean())


LIKES = (Metric(logloss, LOWER, by_length=False, highest=float("inf"),
                positions=ViewPositions(table=24, leaderboard=9),
                formula="mean of −log p for likes and −log(1 − p) for dislikes",
                use="When scores are used as probabilities: confident errors cost most."),
         Metric(accuracy, HIGHER, by_length=False, positions=ViewPositions(table=25, leaderboard=10),
                formula="number of correct predictions / number of pairs",
                use="For a first view of predicted likes; compare with likes_share, since frequent likes make it "
                    "high."),
         Metric(auc_pairs, HIGHER, by_length=False, pooled=True, positions=ViewPositions(table=26, leaderboard=11),
                formula="P(s⁺ > s⁻) + ½ · P(s⁺ = s⁻), scores s⁺ of likes and s⁻ of dislikes",
                use="To see how well scores separate likes from dislikes, whatever the threshold."),
         Metric(precision_pairs, HIGHER, by_length=False, pooled=True, positions=ViewPositions(table=27),
                formula="number of correctly predicted likes / number of predicted likes",
                use="When a wrongly predicted like is costly."),
         Metric(recall_pairs, HIGHER, by_length=False, pooled=True, positions=ViewPositions(table=28),
                formula="number of correctly predicted likes / number of likes",
                use="When a missed like is costly."),
         Metric(f1_pairs, HIGHER, by_length=False, pooled=True, positions=ViewPositions(table=29),
                formula="2 · precision_pairs · recall_pairs / (precision_pairs + recall_pairs)",
                use="To weigh precision_pairs and recall_pairs equally in one number."),
         Metric(likes_share, by_length=False, pooled=True, positions=ViewPositions(table=30),
                formula="number of likes / number of pairs",
                use="As the reference for accuracy and precision_pairs."))
"""Metrics of `Predictions` of likes."""
