"""Fusion: a weighted sum of the scores of other heads.

Shapes: Q queries, N items.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.scoring.validation import Validation
from llmrec_cli.settings.head import Fusion as Settings
from llmrec_cli.settings.head import Recipe

STEPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
"""Weights tried for a member, as multiples of the largest weight."""
ROUNDS = 3
"""Most rounds over the members."""


class Fusion(Head):
    """Members' scores, scaled per query, times their weights.

    Learned weights: coordinate ascent on the validation metric from the best member alone. A member whose weight ends
    at 0 is left out, so where nothing helps the best member what remains is that member.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.head, Settings)
        self.settings = recipe.head
        self.members = {name: build(member) for name, member in self.settings.members.items()}
        self.weights = {} if isinstance(self.settings.weights, str) else dict(self.settings.weights)

    @property
    def answers_text(self) -> bool:
        """Whether one of the members can be asked in words."""
        return any(member.answers_text for member in self.members.values())

    def memory(self, data: TrainingData) -> int:
        """Return the bytes of the members, one beside the other."""
        return sum(member.memory(data) for member in self.members.values())

    def fit(self, data: TrainingData, context: Context) -> None:
        """Fit every member, then learn the weights if they are to be learned."""
        learned = self.settings.weights == "learned"
        if learned and context.validation is None and len(self.members) > 1:
            raise DataError("head.weights=learned: the prepared data holds nothing out for validation, on which the "
                            "weights are learned; prepare with split.valid=0.1, or give a number each, "
                            "head.weights={" + ", ".join(f"{name}: 1" for name in self.members) + "}")
        for name, member in self.members.items():
            member.fit(data, context.inside(name))
        if not learned:
            return
        self.weights = dict.fromkeys(self.members, 1.0)
        if context.validation is not None and len(self.members) > 1:
            self.weights = self._learn(context.validation, context)
            self.members = {name: member for name, member in self.members.items() if self.weights[name] > 0}
            self.weights = {name: self.weights[name] for name in self.members}

    def _learn(self, validation: Validation, context: Context) -> dict[str, float]:
        with torch.inference_mode():
            scaled = {name: self._scaled(m.score(validation.queries).cpu()) for name, m in self.members.items()}

        def value_of(weights: dict[str, float]) -> float:
            return validation.of(torch.stack([w * scaled[name] for name, w in weights.items() if w > 0]).sum(dim=0))

        alone = {name: validation.of(scores) for name, scores in scaled.items()}
        best = max(alone, key=lambda name: alone[name])
        weights, value = dict.fromkeys(scaled, 0.0) | {best: 1.0}, alone[best]
        for _ in range(ROUNDS):
            before = value
            for name in weights:
                weights, value = _ascend(weights, name, value, value_of)
            if value == before:
                break
        context.log("fusion", members=alone, weights=weights, value=value)
        return weights

    def _scaled(self, scores_QN: torch.Tensor) -> torch.Tensor:
        if self.settings.normalise == "raw":
            return scores_QN
        deviation_Q1 = scores_QN.std(dim=1, keepdim=True, correction=0)
        return (scores_QN - scores_QN.mean(dim=1, keepdim=True)) / deviation_Q1.clamp_min(1e-9)

    def score(self, queries: Queries) -> torch.Tensor:
        """Return the weighted sum of the members' scores (Q, N)."""
        return self._sum({name: member.score(queries) for name, member in self.members.items()})

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return the weighted sum of the scores of those members that can be asked in words (T, N)."""
        return self._sum({name: m.score_text(texts) for name, m in self.members.items() if m.answers_text})

    def _sum(self, scores: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack([self.weights[name] * self._scaled(s.cpu()) for name, s in scores.items()]).sum(dim=0)

    def chosen(self) -> Recipe:
        """Return the recipe with the learned weights and what the members chose."""
        members = {name: member.chosen() for name, member in self.members.items()}
        return replace(self.recipe, head=replace(self.settings, members=members, weights=dict(self.weights)))

    def add_items(self, items: Entities) -> None:
        """Append items to every member."""
        for member in self.members.values():
            member.add_items(items)

    def state(self) -> dict[str, np.ndarray]:
        """Return the members' states, each under its name."""
        return {f"{name}/{key}": value for name, m in self.members.items() for key, value in m.state().items()}

    def load(self, state: dict[str, np.ndarray], users: Entities, items: Entities, context: Context) -> None:
        """Take what `state` returned."""
        for name, member in self.members.items():
            own = {key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")}
            member.load(own, users, items, context)


def _ascend(weights: dict[str, float], name: str, value: float,
            value_of: Callable[[dict[str, float]], float]) -> tuple[dict[str, float], float]:
    """Return the weights with the best weight for one member, and their value; unchanged where none is better."""
    top = max(weights.values())
    best = weights
    for step in STEPS:
        tried = weights | {name: step * top}
        if max(tried.values()) > 0 and (found := value_of(tried)) > value:
            best, value = tried, found
    return best, value

