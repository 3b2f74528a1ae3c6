"""How far predictions of single interactions are off: arrays in, one number out.

Shapes: P pairs of a user and an item. Every function wants at least one pair; `rmse`, `mae` are in units of the
values, `logloss` in nats, `accuracy` in 0..1. The AUC of pairs is `llmrec_cli.metrics.auc.binary_auc`.
"""

import numpy as np


def rmse(predicted_P: np.ndarray, values_P: np.ndarray) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.mean(squared_errors(predicted_P, values_P))))


def mae(predicted_P: np.ndarray, values_P: np.ndarray) -> float:
    """Return the mean absolute error."""
    return float(np.mean(absolute_errors(predicted_P, values_P)))


def logloss(logits_P: np.ndarray, liked_P: np.ndarray) -> float:
    """Return the mean of -log p of what happened, p = sigmoid(logit) for a like."""
    return float(np.mean(log_losses(logits_P, liked_P)))


def accuracy(logits_P: np.ndarray, liked_P: np.ndarray) -> float:
    """Return the share of pairs whose like is foretold: a logit above 0 foretells one, 0 itself does not."""
    return float(np.mean(correct(logits_P, liked_P)))


def detected(logits_P: np.ndarray, liked_P: np.ndarray) -> dict[str, float]:
    """Return precision, recall and F1 of the likes, where a logit above 0 foretells one; 0 where none is foretold."""
    foretold, liked = logits_P > 0, liked_P.astype(bool)
    right = float((foretold & liked).sum())
    precision, recall = right / max(1, foretold.sum()), right / max(1, liked.sum())
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}


def squared_errors(predicted_P: np.ndarray, values_P: np.ndarray) -> np.ndarray:
    """Return the squared error of each pair, float64 (P,)."""
    return (predicted_P.astype(np.float64) - values_P) ** 2


def absolute_errors(predicted_P: np.ndarray, values_P: np.ndarray) -> np.ndarray:
    """Return the absolute error of each pair, float64 (P,)."""
    return np.abs(predicted_P.astype(np.float64) - values_P)


def log_losses(logits_P: np.ndarray, liked_P: np.ndarray) -> np.ndarray:
    """Return -log p of what happened to each pair, float64 (P,), from the logit: finite also where p rounds to 0."""
    logits_P = logits_P.astype(np.float64)
    return np.logaddexp(0, np.where(liked_P, -logits_P, logits_P))


def correct(logits_P: np.ndarray, liked_P: np.ndarray) -> np.ndarray:
    """Return whether each pair's like was foretold, float64 (P,)."""
    return ((logits_P > 0) == liked_P.astype(bool)).astype(np.float64)
