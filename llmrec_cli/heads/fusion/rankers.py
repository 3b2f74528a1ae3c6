"""Small models that order the candidates of a query by features: a linear one and gradient-boosted trees.

Both are learned on queries with relevant candidates and kept as arrays, so that no other library is needed to score.

Shapes: P candidates of all queries, F features, T trees, M nodes of all trees.
"""

import importlib.util
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from llmrec_cli.data.tensors import DOUBLE, INTEGER, TensorReader
from llmrec_cli.errors import ConfigError

_L2 = 0.03
"""Penalty on the squared coefficients of standardised features."""
_STEPS = 60
"""Most steps of L-BFGS."""
_BOOSTING = {"objective": "lambdarank", "num_leaves": 15, "learning_rate": 0.05, "min_data_in_leaf": 200,
             "lambda_l2": 10.0, "feature_fraction": 0.5, "bagging_fraction": 0.7, "bagging_freq": 1,
             "lambdarank_truncation_level": 20, "deterministic": True, "force_row_wise": True, "num_threads": 1,
             "verbose": -1}
"""Small and strongly regularised: a few thousand queries teach it."""
_ROUNDS = 100


class Ranker(Protocol):
    """A model that scores candidates."""

    def score(self, features_PF: np.ndarray) -> np.ndarray:
        """Return a score of each candidate, float64 (P,); higher is better."""

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays that `read` restores."""


@dataclass(frozen=True)
class LinearRanker:
    """Conditional logit (McFadden 1974): a relevant candidate is chosen among all candidates of its query.

    Differs: several relevant candidates of a query count as several choices.
    """

    coefficients_F: np.ndarray

    @classmethod
    def fit(cls, features_PF: np.ndarray, relevant_P: np.ndarray, query_P: np.ndarray, seed: int) -> "LinearRanker":
        """Fit by L-BFGS; `query_P` is the query of each candidate, ascending. Nothing is random."""
        del seed
        deviation_F = features_PF.std(axis=0) + 1e-6
        scaled = torch.from_numpy((features_PF / deviation_F).astype(np.float32))
        query, num = torch.from_numpy(_numbered(query_P)), int(_numbered(query_P)[-1]) + 1
        relevant = torch.from_numpy(relevant_P.astype(np.float32))
        # The first feature is the weighted sum; the fit starts from it and is not pulled away from it.
        weights = torch.zeros(features_PF.shape[1])
        weights[0] = 2 * float(deviation_F[0])
        weights.requires_grad_()
        optimiser = torch.optim.LBFGS([weights], max_iter=_STEPS, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimiser.zero_grad()
            scores = scaled @ weights
            highest = torch.full((num,), -torch.inf).scatter_reduce(0, query, scores.detach(), "amax")
            sums = torch.zeros(num).index_add(0, query, torch.exp(scores - highest[query]))
            likelihood = (scores - (highest + sums.log())[query]) @ relevant
            value: torch.Tensor = _L2 * weights[1:].square().sum() - likelihood / num
            value.backward()
            return value

        with torch.enable_grad():
            optimiser.step(loss)
        return cls(weights.detach().double().numpy() / deviation_F)

    @staticmethod
    def require() -> None:
        """Need nothing: torch fits it."""

    def score(self, features_PF: np.ndarray) -> np.ndarray:
        """Return the weighted sum of the features, float64 (P,)."""
        scores: np.ndarray = features_PF.astype(np.float64) @ self.coefficients_F
        return scores

    def state(self) -> dict[str, np.ndarray]:
        """Return the coefficients."""
        return {"coefficients": self.coefficients_F}

    @classmethod
    def read(cls, tensors: TensorReader, num_features: int) -> "LinearRanker":
        """Restore `state`."""
        return cls(tensors.take("coefficients", DOUBLE, (num_features,)))


@dataclass(frozen=True)
class TreeRanker:
    """LambdaMART (Burges 2010), fitted by LightGBM (Ke et al. 2017).

    Attributes
    ----------
    feature_M : int64, the feature that a node compares; -1 for a leaf
    threshold_M : float64, a value of at most this goes to the left
    child_M2 : int64, left and right child, which come after the node; 0 for a leaf
    value_M : float64, the value of a leaf; 0 for other nodes
    root_T : int64, the first node of each tree
    """

    feature_M: np.ndarray
    threshold_M: np.ndarray
    child_M2: np.ndarray
    value_M: np.ndarray
    root_T: np.ndarray

    @classmethod
    def fit(cls, features_PF: np.ndarray, relevant_P: np.ndarray, query_P: np.ndarray, seed: int) -> "TreeRanker":
        """Fit the trees; `query_P` is the query of each candidate, ascending."""
        import lightgbm  # Slow to load, and in an extra.

        sizes_Q = np.unique(query_P, return_counts=True)[1]
        table = lightgbm.Dataset(features_PF.astype(np.float64), relevant_P.astype(np.int64), group=sizes_Q)
        booster = lightgbm.train({**_BOOSTING, "seed": seed % 2**31}, table, _ROUNDS)
        return cls._of_trees([tree["tree_structure"] for tree in booster.dump_model()["tree_info"]])

    @classmethod
    def _of_trees(cls, trees: list[dict[str, Any]]) -> "TreeRanker":
        """Return the trees of LightGBM's dump as arrays, each node before its children."""
        feature, root, child = list[int](), list[int](), list[list[int]]()
        threshold, value = list[float](), list[float]()
        for tree in trees:
            root.append(len(feature))
            waiting: list[tuple[dict[str, Any], int, int]] = [(tree, -1, 0)]
            while waiting:
                node, parent, side = waiting.pop()
                place = len(feature)
                if parent >= 0:
                    child[parent][side] = place
                is_leaf = "leaf_value" in node
                feature.append(-1 if is_leaf else int(node["split_feature"]))
                threshold.append(0.0 if is_leaf else float(node["threshold"]))
                value.append(float(node["leaf_value"]) if is_leaf else 0.0)
                child.append([0, 0])
                if not is_leaf:
                    waiting += [(node["right_child"], place, 1), (node["left_child"], place, 0)]
        return cls(np.array(feature, np.int64), np.array(threshold), np.array(child, np.int64).reshape(-1, 2),
                   np.array(value), np.array(root, np.int64))

    @staticmethod
    def require() -> None:
        """Raise ConfigError if the library that fits the trees is not installed."""
        if importlib.util.find_spec("lightgbm") is None:
            raise ConfigError("head.stack=lambdamart: needs LightGBM; install it with pip install 'llmrec-cli[stack]', "
                              "or set head.stack=logistic or none")

    def score(self, features_PF: np.ndarray) -> np.ndarray:
        """Return the sum of the trees, float64 (P,)."""
        scores_P = np.zeros(len(features_PF))
        for root in self.root_T:
            node_P = np.full(len(features_PF), root)
            inside = np.arange(len(features_PF))
            while len(inside := inside[self.feature_M[node_P[inside]] >= 0]):
                node = node_P[inside]
                goes_right = features_PF[inside, self.feature_M[node]] > self.threshold_M[node]
                node_P[inside] = self.child_M2[node, goes_right.astype(np.int64)]
            scores_P += self.value_M[node_P]
        return scores_P

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays of the trees."""
        return {"feature": self.feature_M, "threshold": self.threshold_M, "child": self.child_M2,
                "value": self.value_M, "root": self.root_T}

    @classmethod
    def read(cls, tensors: TensorReader, num_features: int) -> "TreeRanker":
        """Restore `state`; the children of a node must come after it, so that every walk ends."""
        feature_M = tensors.take("feature", INTEGER, (None,), low=-1, high=num_features - 1)
        num = len(feature_M)
        child_M2 = tensors.take("child", INTEGER, (num, 2), low=0, high=max(0, num - 1))
        if (child_M2[feature_M >= 0] <= np.flatnonzero(feature_M >= 0)[:, None]).any():
            raise tensors.error("child", "has a node that does not come after its parent")
        return cls(feature_M, tensors.take("threshold", DOUBLE, (num,)), child_M2,
                   tensors.take("value", DOUBLE, (num,)),
                   tensors.take("root", INTEGER, (None,), low=0, high=max(0, num - 1)))


def _numbered(query_P: np.ndarray) -> np.ndarray:
    """Return ascending query numbers without gaps."""
    numbers: np.ndarray = np.unique(query_P, return_inverse=True)[1].ravel()
    return numbers


RANKERS: dict[str, type[LinearRanker] | type[TreeRanker]] = {"logistic": LinearRanker, "lambdamart": TreeRanker}
"""Values of the setting `stack` of a fusion."""
