"""Fusion: a weighted sum of the scores of other heads.

Shapes: Q queries, N items.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import BYTE, INTEGER, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.encoders.sources import ENCODING_BYTES
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.heads.fusion.fast_validation import CELLS, Scored, depth_for, drawn, gather
from llmrec_cli.heads.fusion.weights import Learned, Weights, learn, limit_for, share_of_long
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.scoring.groups import scaled
from llmrec_cli.scoring.scorer import BLOCK_CELLS
from llmrec_cli.scoring.validation import Validation
from llmrec_cli.settings.head import FusionSettings, ModelConfig

MOST_QUERIES = 10_000
"""Most validation queries that weights are learned on, drawn at random."""
_LENGTHS = "fit_lengths"
"""Name, in the head's state, of the lengths of the users' (or groups') histories at the fit."""
_RANK = 60
"""Reciprocal rank fusion's constant (Cormack et al. 2009)."""


class Fusion(Head):
    """Members' scores, scaled per query, times their weights.

    Learned weights (`fusion_weights`): the best member on validation, or all members if their sum gains more than its
    standard error on held-out folds. Separate weights for long histories and for cold items are kept by the same rule.
    A member whose weights end at 0 is left out. Scores are scaled over the whole catalogue; then only
    the items that a member ranks high, and the relevant ones, are held of each query (`fusion_scored`), so that any
    catalogue is learned on MOST_QUERIES queries.
    """

    settings: FusionSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.members = {name: build(member) for name, member in self.settings.members.items()}
        given = self.settings
        self.weights = Weights({} if isinstance(given.weights, str) else dict(given.weights), dict(given.long_weights),
                               dict(given.cold_weights), given.long_history)
        self.long_share = given.long_share
        self.long_share_of = given.long_share_of
        self.cold_N: np.ndarray = np.zeros(0, bool)
        self.fit_lengths: np.ndarray = np.zeros(0, np.int64)

    @property
    def supports_text_queries(self) -> bool:
        """True if a member answers texts."""
        return any(member.supports_text_queries for member in self.members.values())

    @property
    def uses_user_profiles(self) -> bool:
        """True if a member does."""
        return any(member.uses_user_profiles for member in self.members.values())

    @property
    def item_texts(self) -> ItemTexts | None:
        """Those of the first member that has any."""
        return next((m.item_texts for m in self.members.values() if m.item_texts is not None), None)

    @property
    def is_personal(self) -> bool:
        """True if a member is."""
        return any(member.is_personal for member in self.members.values())

    @property
    def uses_identity(self) -> bool:
        """True if a member does."""
        return any(member.uses_identity for member in self.members.values())

    @property
    def without_fold_in(self) -> list[str]:
        """The members that answer known users by what was learned of each."""
        return [name for name, member in self.members.items() if member.without_fold_in]

    @property
    def history_limit(self) -> int | None:
        """The smallest limit of a member."""
        return min((member.history_limit for member in self.members.values() if member.history_limit is not None),
                   default=None)

    @property
    def rereads(self) -> bool:
        """True if all members do that read texts."""
        reading = [member for member in self.members.values() if member.supports_text_queries]
        return bool(reading) and all(member.rereads for member in reading)

    def reread(self, texts: np.ndarray) -> None:
        """Let the members that know texts take other texts (N,)."""
        for member in self.members.values():
            if member.rereads:
                member.reread(texts)

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of all members, and of the scores that weights are learned on.

        A member fitted before keeps what it learned, for which what its fit takes is the bound that it states. What
        encoding takes beside an encoder's weights is there for the next member that has one, and then for the scores.
        """
        encoders = sum("encoder" in member.config.head.uses() for member in self.members.values())
        members = (sum(member.estimate_memory(data) for member in self.members.values())
                   - ENCODING_BYTES * max(0, encoders - 1))
        return max(members, members - ENCODING_BYTES * min(1, encoders) + self._memory_of_learning(data))

    def _memory_of_learning(self, data: TrainingData) -> int:
        """Return the bytes of a block of all members' scores and of the candidates held for the ascent."""
        if not self._learns():
            return 0
        queries, items, members = min(MOST_QUERIES, len(data.users)), len(data.items), len(self.members)
        width = min(items, members * depth_for(queries, members))
        # Of each candidate its scores, whether it is relevant, cold or padding, and its rank: while they are put into
        # chunks, twice.
        held = 2 * min(queries * width, CELLS) * (4 * members + 11)
        return held + 2 * 4 * min(BLOCK_CELLS, min(queries, 1024) * items * members)

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
            if self.weights.long:
                self.long_share_of = "users" if context.validation.queries.groups is None else "groups"
                self.long_share = share_of_long(self._histories(data), self.weights.long_history)
        elif self.settings.weights == "learned":
            self.weights = Weights(dict.fromkeys(self.members, 1.0), {}, {}, 0)
        elif self.long_share > 0:
            limit = limit_for(self._histories(data), self.long_share, self.weights.long_history)
            context.log("long_history", share=self.long_share, of=self.long_share_of,
                        before=self.weights.long_history, now=limit)
            self.weights = replace(self.weights, long_history=limit)
        if self.long_share > 0:
            self.fit_lengths = np.diff(self._histories(data).matrix.indptr).astype(np.int64)

    def _histories(self, data: TrainingData) -> Interactions:
        """Return the interactions of users, or of groups, whose history lengths the limit is about."""
        if self.long_share_of == "users":
            return data.interactions
        if data.groups is None:
            raise DataError("head.long_share_of=groups: the data has no groups; prepare it with dataset.groups=<file>, "
                            "or leave the setting out")
        return data.groups.interactions

    def _learn(self, validation: Validation, context: Context) -> Weights:
        chosen = drawn(validation, MOST_QUERIES, context.seed)
        with torch.inference_mode():
            scored = Scored(gather(self.scaled_members(), chosen, self.cold_N))
            learned = learn(scored, context.seed)
        num_available = int((np.diff(validation.relevant.indptr) > 0).sum())
        weights = learned.weights
        context.log("fusion", members=learned.alone, weights=weights.all, long_weights=weights.long,
                    cold_weights=weights.cold, value=float(weights.values(scored).mean()),
                    num_queries=scored.num_queries, num_available=num_available,
                    tried=[{"name": step.name, "kept": step.kept} | step.held_out.facts() for step in learned.steps])
        print(_report(learned, validation.monitor, scored.num_queries, num_available), file=sys.stderr)
        return weights.used()

    def scaled_members(self) -> dict[str, Callable[[Queries], torch.Tensor]]:
        """Return a function for each fitted member that returns its scaled scores (Q, N)."""
        return {name: partial(self._scaled_scores, member) for name, member in self.members.items()}

    def _scaled_scores(self, member: Head, queries: Queries) -> torch.Tensor:
        return self._scaled(self._asked(member, queries).cpu())

    def _scaled(self, scores_QN: torch.Tensor) -> torch.Tensor:
        if self.settings.normalise == "raw":
            return scores_QN
        if self.settings.normalise == "rank":
            below_QN = (-scores_QN).contiguous()
            # Equal scores have the same rank, so the catalogue's order plays no part.
            rank_QN = 1 + torch.searchsorted(below_QN.sort(dim=1).values, below_QN)
            return 1 / (_RANK + rank_QN).float()
        return scaled(scores_QN)

    def _asked(self, member: Head, queries: Queries) -> torch.Tensor:
        """Return a member's scores (Q, N) of users or groups."""
        return member.score(queries)

    def score_groups(self, queries: Queries) -> torch.Tensor:
        """Return the weighted sum of what the members score groups (Q, N)."""
        return self.score_users(queries)

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return the weighted sum of the members' scores (Q, N)."""
        scores = {name: score(queries) for name, score in self.scaled_members().items()}
        return self.weights.sum(scores, torch.from_numpy(self._lengths(queries)), torch.from_numpy(self.cold_N))

    def _lengths(self, queries: Queries) -> np.ndarray:
        """Return the length (Q,) of each history that decides whether it is long.

        A learned limit is about histories of the fit. A known user (or group) who is asked with newer interactions too
        counts by the fit's, so that no more have a long history than had one when the weights were learned.
        """
        lengths_Q = np.diff(queries.history.indptr).astype(np.int64)
        row_Q = queries.user if self.long_share_of == "users" else \
            np.full(len(queries), -1) if queries.groups is None else queries.groups.group
        known = np.flatnonzero(row_Q >= 0)
        if self.long_share > 0 and len(self.fit_lengths) and len(known):
            fitted = self.fit_lengths[row_Q[known]]
            lengths_Q[known] = np.where(fitted > 0, fitted, lengths_Q[known])
        return lengths_Q

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return the weighted sum of the scores of those members that can be asked in words (T, N).

        Weighted by how much they count where they count most: one that is for cold items alone answers as well.
        """
        scores = {name: self._scaled(member.score_text(texts).cpu()) for name, member in self.members.items()
                  if member.supports_text_queries}
        most = {name: max(part[name] for part in self.weights.parts) for name in scores}
        return torch.stack([most[name] * scaled for name, scaled in scores.items()]).sum(dim=0)

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the learned weights and what the members chose."""
        members = {name: member.tuned_config() for name, member in self.members.items()}
        return replace(self.config, head=replace(self.settings, members=members, weights=dict(self.weights.all),
                                                  long_weights=dict(self.weights.long),
                                                  cold_weights=dict(self.weights.cold),
                                                  long_history=self.weights.long_history,
                                                  long_share=self.long_share, long_share_of=self.long_share_of))

    def add_items(self, items: Catalogue) -> None:
        """Append items to every member."""
        for member in self.members.values():
            member.add_items(items)
        self.cold_N = np.concatenate([self.cold_N, np.ones(len(items), bool)])

    def state(self) -> dict[str, np.ndarray]:
        """Return the members' states, each under its name, which items are cold, and lengths of the fit's histories."""
        states = {f"{name}/{key}": value for name, m in self.members.items() for key, value in m.state().items()}
        lengths = {_LENGTHS: self.fit_lengths} if self.long_share > 0 else {}
        return states | {"cold": self.cold_N.astype(np.uint8)} | lengths

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Take what `state` returned."""
        if self._learns():
            raise tensors.error("cold", "config.yaml has weights=learned, where a fitted model has a number each")
        self.cold_N = tensors.take("cold", BYTE, (len(items),), high=1).astype(bool)
        # A model of an earlier version has none: its users count by the histories that they are asked with.
        self.fit_lengths = np.zeros(0, np.int64)
        if self.long_share > 0 and _LENGTHS in tensors:
            rows = len(users) if self.long_share_of == "users" else tensors.num_groups
            self.fit_lengths = tensors.take(_LENGTHS, INTEGER, (rows,), low=0)
        for name, member in self.members.items():
            member.read(tensors.inside(f"{name}/"), users, items, context)


def _report(learned: Learned, monitor: str, num_queries: int, num_available: int) -> str:
    """Return lines about the members alone, and about each step beyond the best of them."""
    alone = ", ".join(f"{name} {value:.4f}" for name, value in learned.alone.items())
    lines = [f"fusion: {monitor} of the members alone on {num_queries:,} of {num_available:,} validation queries: "
             f"{alone}"]
    lines += [f"fusion: {step.name}: gain on held-out folds {step.held_out}: {'kept' if step.kept else 'not kept'}"
              for step in learned.steps]
    used = learned.weights.used()
    named = {"weights": used.all, f"histories of {used.long_history} items or more": used.long, "cold items": used.cold}
    return "\n".join([*lines, *(f"fusion: {part}: " + ", ".join(f"{name} {weight:g}" for name, weight in of.items())
                                for part, of in named.items() if of)])
