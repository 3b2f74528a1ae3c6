"""Fusion: a weighted sum of the scores of other heads.

Shapes: Q queries, N items.
"""

from dataclasses import replace

import numpy as np
import torch

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.heads.fusion_scored import Scored, drawn
from llmrec_cli.heads.fusion_weights import Weights, learn
from llmrec_cli.heads.item_texts import ItemTexts
from llmrec_cli.scoring.group_strategies import scaled
from llmrec_cli.scoring.validation import Validation
from llmrec_cli.settings.head import Fusion as Settings
from llmrec_cli.settings.head import Recipe

CELLS = 2**28
"""Most scores of members held while weights are learned: 1 GB."""
MOST_QUERIES = 20_000
"""Most validation queries that weights are learned on."""
RANK = 60
"""Reciprocal rank fusion's constant (Cormack et al. 2009)."""


class Fusion(Head):
    """Members' scores, scaled per query, times their weights.

    Learned weights: coordinate ascent on the validation metric from the best member alone. Weights of their own for
    long histories and for cold items are kept where those learned on either half of the validation queries are better
    on the other. A member whose weights end at 0 is left out, so where nothing helps the best member what remains is
    that member. At most MOST_QUERIES validation queries, drawn at random, and as many as CELLS allows.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.head, Settings)
        self.settings = recipe.head
        self.members = {name: build(member) for name, member in self.settings.members.items()}
        given = self.settings
        self.weights = Weights({} if isinstance(given.weights, str) else dict(given.weights), dict(given.long_weights),
                               dict(given.cold_weights), given.long_history)
        self.cold_N: np.ndarray = np.zeros(0, bool)

    @property
    def answers_text(self) -> bool:
        """Whether one of the members can be asked in words."""
        return any(member.answers_text for member in self.members.values())

    @property
    def reads_profiles(self) -> bool:
        """Whether one of the members does."""
        return any(member.reads_profiles for member in self.members.values())

    @property
    def item_texts(self) -> ItemTexts | None:
        """Those of the first member that has any."""
        return next((m.item_texts for m in self.members.values() if m.item_texts is not None), None)

    @property
    def rereads(self) -> bool:
        """Whether all members do that know texts."""
        reading = [member for member in self.members.values() if member.answers_text]
        return bool(reading) and all(member.rereads for member in reading)

    def reread(self, texts: np.ndarray) -> None:
        """Let the members that know texts take other texts (N,)."""
        for member in self.members.values():
            if member.rereads:
                member.reread(texts)

    def memory(self, data: TrainingData) -> int:
        """Return the bytes of all members, and of the scores that weights are learned on.

        A member fitted before keeps what it learned, for which what its fit takes is the bound that it states.
        """
        queries = min(MOST_QUERIES, len(data.users))
        cells = min(CELLS, queries * len(data.items) * len(self.members)) if self._learns() else 0
        return 4 * cells + sum(member.memory(data) for member in self.members.values())

    def unused_values(self, data: TrainingData) -> list[str]:
        """Return what the members say, each with its name."""
        return [f"{name}: {reason}" for name, member in self.members.items() for reason in member.unused_values(data)]

    def _learns(self) -> bool:
        return self.settings.weights == "learned" and len(self.members) > 1

    def fit(self, data: TrainingData, context: Context) -> None:
        """Fit every member, then learn the weights if they are to be learned."""
        if self._learns() and context.validation is None:
            raise DataError("head.weights=learned: the prepared data holds nothing out for validation, on which the "
                            "weights are learned; prepare with split.valid=0.1, or give a number each, "
                            "head.weights={" + ", ".join(f"{name}: 1" for name in self.members) + "}")
        for name, member in self.members.items():
            member.fit(data, context.inside(name))
        self.cold_N = data.interactions.item_counts == 0
        if self._learns() and context.validation is not None:
            self.weights = self._learn(context.validation, context)
            self.members = {name: self.members[name] for name in self.weights.all}
        elif self.settings.weights == "learned":
            self.weights = Weights(dict.fromkeys(self.members, 1.0), {}, {}, 0)

    def _learn(self, validation: Validation, context: Context) -> Weights:
        num = min(MOST_QUERIES, CELLS // (len(self.cold_N) * len(self.members)))
        chosen = drawn(validation, max(1, num), context.seed)
        with torch.inference_mode():
            scores = {name: self._scaled_blocks(member, chosen.queries) for name, member in self.members.items()}
            scored = Scored(scores, chosen, torch.from_numpy(self.cold_N))
            weights, alone = learn(scored, context.seed)
            context.log("fusion", members=alone, weights=weights.all, long_weights=weights.long,
                        cold_weights=weights.cold, value=scored.value(weights), num_queries=len(chosen.queries))
        return weights.used()

    def _scaled_blocks(self, member: Head, queries: Queries) -> torch.Tensor:
        """Return a member's scaled scores (Q, N), computed block by block."""
        scaled_QN = torch.empty((len(queries), len(self.cold_N)))
        for start in range(0, len(queries), 1024):
            rows = slice(start, start + 1024)
            scaled_QN[rows] = self._scaled(self._asked(member, queries.rows(rows)).cpu())
        return scaled_QN

    def _scaled(self, scores_QN: torch.Tensor) -> torch.Tensor:
        if self.settings.normalise == "raw":
            return scores_QN
        if self.settings.normalise == "rank":
            below_QN = (-scores_QN).contiguous()
            # Equal scores have the same rank, so the catalogue's order plays no part.
            rank_QN = 1 + torch.searchsorted(below_QN.sort(dim=1).values, below_QN)
            return 1 / (RANK + rank_QN).float()
        return scaled(scores_QN)

    def _asked(self, member: Head, queries: Queries) -> torch.Tensor:
        """Return a member's scores (Q, N) of users or groups."""
        return member.score(queries)

    def score_groups(self, queries: Queries) -> torch.Tensor:
        """Return the weighted sum of what the members score groups (Q, N)."""
        return self.score_users(queries)

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return the weighted sum of the members' scores (Q, N)."""
        scores = {name: self._scaled(self._asked(member, queries).cpu()) for name, member in self.members.items()}
        lengths_Q = torch.from_numpy(np.diff(queries.history.indptr))
        return self.weights.sum(scores, lengths_Q, torch.from_numpy(self.cold_N))

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return the weighted sum of the scores of those members that can be asked in words (T, N).

        Weighted by how much they count where they count most: one that is for cold items alone answers as well.
        """
        scores = {name: self._scaled(m.score_text(texts).cpu()) for name, m in self.members.items() if m.answers_text}
        most = {name: max(part[name] for part in self.weights.parts) for name in scores}
        return torch.stack([most[name] * scaled for name, scaled in scores.items()]).sum(dim=0)

    def chosen(self) -> Recipe:
        """Return the recipe with the learned weights and what the members chose."""
        members = {name: member.chosen() for name, member in self.members.items()}
        return replace(self.recipe, head=replace(self.settings, members=members, weights=dict(self.weights.all),
                                                  long_weights=dict(self.weights.long),
                                                  cold_weights=dict(self.weights.cold),
                                                  long_history=self.weights.long_history))

    def add_items(self, items: Entities) -> None:
        """Append items to every member."""
        for member in self.members.values():
            member.add_items(items)
        self.cold_N = np.concatenate([self.cold_N, np.ones(len(items), bool)])

    def state(self) -> dict[str, np.ndarray]:
        """Return the members' states, each under its name, and which items are cold."""
        states = {f"{name}/{key}": value for name, m in self.members.items() for key, value in m.state().items()}
        return states | {"cold": self.cold_N.astype(np.uint8)}

    def load(self, state: dict[str, np.ndarray], users: Entities, items: Entities, context: Context) -> None:
        """Take what `state` returned."""
        self.cold_N = state["cold"].astype(bool)
        for name, member in self.members.items():
            own = {key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")}
            member.load(own, users, items, context)
