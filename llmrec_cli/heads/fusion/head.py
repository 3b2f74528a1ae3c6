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
from llmrec_cli.encoders.base import encoder_class
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.heads.fusion.fast_validation import CELLS, WeightedMetric, depth_for, gather, sample_queries
from llmrec_cli.heads.fusion.rankers import RANKERS
from llmrec_cli.heads.fusion.second_stage import (
    DEPTH,
    ItemFacts,
    SecondStage,
    TooFewError,
    learn_second_stage,
    num_features,
)
from llmrec_cli.heads.fusion.weights import SearchResult, Weights, learn, limit_for, share_of_long
from llmrec_cli.heads.shared.fit_progress import fit_in_sight
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.scoring.groups import scaled
from llmrec_cli.scoring.scorer import BLOCK_CELLS
from llmrec_cli.scoring.validation import Validation
from llmrec_cli.settings.head import FusionSettings, ModelConfig

MOST_QUERIES = 10_000
"""Most validation queries for learning weights, drawn at random."""
_LENGTHS = "fit_lengths"
"""State key of the lengths of the users' (or groups') histories at the fit."""
_STACK = ".stack/"
"""Prefix of the state keys of the second stage; the name of a member has no dot."""
_RANK = 60
"""Constant of reciprocal rank fusion (Cormack et al. 2009)."""


class Fusion(Head):
    """Members' scores, scaled per query, times their weights.

    Learned weights (`weights`): the best member on validation, or all members if their sum gains more than its
    standard error on held-out folds. Separate weights for long histories and for cold items follow the same rule.
    Members whose weights end at 0 are dropped, except the smallest that answers text queries if no other member does;
    it scores text queries only. A second stage (`stack`, off by default) orders the best items of the sum anew; then
    all members stay, since it reads their scores. Scores are scaled over the whole catalogue; learning then stores only
    the items that a member ranks high, and the relevant ones, of each query (`fast_validation`), so memory does not
    grow with the catalogue.
    """

    settings: FusionSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.members = {name: build(member) for name, member in self.settings.members.items()}
        settings = self.settings
        self.weights = Weights({} if isinstance(settings.weights, str) else dict(settings.weights),
                               dict(settings.long_weights), dict(settings.cold_weights), settings.long_history)
        self.long_share = settings.long_share
        self.long_share_of = settings.long_share_of
        self.second_stage: SecondStage | None = None
        self.held_out_values_Q: np.ndarray | None = None
        self.cold_N: np.ndarray = np.zeros(0, bool)
        self.fit_lengths: np.ndarray = np.zeros(0, np.int64)

    @property
    def supports_text_queries(self) -> bool:
        """True if a member supports text queries."""
        return any(member.supports_text_queries for member in self.members.values())

    @property
    def uses_user_profiles(self) -> bool:
        """True if a member uses them."""
        return any(member.uses_user_profiles for member in self.members.values())

    @property
    def item_texts(self) -> ItemTexts | None:
        """Item texts of the first member that has any."""
        return next((m.item_texts for m in self.members.values() if m.item_texts is not None), None)

    @property
    def is_personal(self) -> bool:
        """True if a member is personal."""
        return any(member.is_personal for member in self.members.values())

    @property
    def uses_identity(self) -> bool:
        """True if a member uses it."""
        return any(member.uses_identity for member in self.members.values())

    @property
    def without_fold_in(self) -> list[str]:
        """The members that score known users from learned user parameters."""
        return [name for name, member in self.members.items() if member.without_fold_in]

    @property
    def history_limit(self) -> int | None:
        """The smallest limit of the members."""
        return min((member.history_limit for member in self.members.values() if member.history_limit is not None),
                   default=None)

    @property
    def rereads(self) -> bool:
        """True if all members with texts reread them."""
        readers = [member for member in self.members.values() if member.supports_text_queries]
        return bool(readers) and all(member.rereads for member in readers)

    def reread(self, texts: np.ndarray) -> None:
        """Replace the item texts (N,) of the members that reread them."""
        for member in self.members.values():
            if member.rereads:
                member.reread(texts)

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of all members, and of the scores for learning weights.

        A fitted member stays in memory; its own estimate is the bound for it. Buffers of encoding and of training steps
        through an encoder are freed and reused by the next member with an encoder, and then by the scores.
        """
        freed = [member.freed_memory(data) for member in self.members.values()]
        members = sum(member.estimate_memory(data) for member in self.members.values()) - sum(freed)
        return members - self._memory_of_unopened(data) + max([self._memory_of_learning(data), *freed])

    def _memory_of_unopened(self, data: TrainingData) -> int:
        """Return the bytes of frozen encoders whose vectors an earlier member has left in `Context.memo`."""
        opened, unopened = set(), 0
        for config in (member.config for member in self.members.values()):
            encoder, uses = config.encoder, config.head.uses()
            is_trained = "peft" in uses and config.peft is not None and config.peft.trains_layers
            if encoder is None or "encoder" not in uses or is_trained or encoder_class(encoder).learns:
                continue
            if str(encoder) in opened:
                option = encoder_class(encoder)
                unopened += option.estimate_memory(encoder, list(data.items.texts)) - option.buffer_memory(encoder)
            opened.add(str(encoder))
        return unopened

    def _memory_of_learning(self, data: TrainingData) -> int:
        """Return the bytes of a block of all members' scores and of the stored candidates."""
        if not self._learns() and self.settings.stack == "none":
            return 0
        queries, items, members = min(MOST_QUERIES, len(data.users)), len(data.items), len(self.members)
        width = min(items, members * depth_for(queries, members))
        # Per candidate: scores, three flags (relevant, cold, padding) and the rank; twice while chunks are built.
        candidates = 2 * min(queries * width, CELLS) * (4 * members + 11)
        # Features, twice while blocks are joined and once as doubles.
        stack = 0 if self.settings.stack == "none" else 16 * 2 * DEPTH * queries * num_features(members)
        return max(candidates, stack) + 2 * 4 * min(BLOCK_CELLS, min(queries, 1024) * items * members)

    def unused_values(self, data: TrainingData) -> list[str]:
        """Return the members' sentences, each with the member's name."""
        return [f"{name}: {reason}" for name, member in self.members.items() for reason in member.unused_values(data)]

    def _learns(self) -> bool:
        return self.settings.weights == "learned" and len(self.members) > 1

    def fit(self, data: TrainingData, context: Context) -> None:
        """Fit every member, then learn the weights if weights=learned."""
        if self._learns() and context.validation is None:
            raise DataError("head.weights=learned: the prepared data has no validation split, on which the weights are "
                            "learned; prepare with split.valid=0.1, or give a number each, "
                            "head.weights={" + ", ".join(f"{name}: 1" for name in self.members) + "}")
        if self.settings.stack != "none" and context.validation is not None:
            RANKERS[self.settings.stack].require()  # Before the members take their time.
        for name, member in self.members.items():
            fit_in_sight(member, name, data, context.inside(name))
        self.cold_N = data.interactions.item_counts == 0
        if self._learns() and context.validation is not None:
            self.weights = self._learn(context.validation, context)
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
        self.second_stage = self._fit_second_stage(data, context)
        if self._learns() and self.second_stage is None:
            self.weights = self._with_text_queries(self.weights.without_zeros())
            self.members = {name: self.members[name] for name in self.weights.all}
        if self.long_share > 0:
            self.fit_lengths = np.diff(self._histories(data).matrix.indptr).astype(np.int64)

    def _fit_second_stage(self, data: TrainingData, context: Context) -> SecondStage | None:
        """Return the second stage, learned now or in the first fit; None if there is none or it gains too little."""
        kind, facts = self.settings.stack, ItemFacts.of(data)
        if kind == "none":
            return None
        if context.validation is None:
            if not context.learned:
                raise DataError(f"head.stack={kind}: the prepared data has no validation split to learn it on; "
                                f"prepare with split.valid=0.1, or leave out head.stack")
            tensors = TensorReader(context.learned).inside(_STACK)
            return SecondStage(kind, RANKERS[kind].read(tensors, num_features(len(self.members))), facts)
        sample = sample_queries(context.validation, MOST_QUERIES, context.seed)
        with torch.no_grad():
            try:
                learned = learn_second_stage(kind, self._scores, sample, facts, self.cold_N, context.seed)
            except TooFewError as error:
                context.log("second_stage", kind=kind, not_learned=str(error))
                print(f"fusion: second stage {kind}: not learned: {error}", file=sys.stderr)
                return None
        context.log("second_stage", kind=kind, **learned.gain.facts())
        print(f"fusion: second stage {kind}: gain on held-out folds {learned.gain}: "
              f"{'kept' if learned.gain.is_accepted else 'not kept'}", file=sys.stderr)
        if not learned.gain.is_accepted:
            return None
        self.held_out_values_Q = learned.values_Q
        return learned.stage

    def _histories(self, data: TrainingData) -> Interactions:
        """Return the interactions of users, or of groups, to whose history lengths the limit applies."""
        if self.long_share_of == "users":
            return data.interactions
        if data.groups is None:
            raise DataError("head.long_share_of=groups: the data has no groups; prepare it with dataset.groups=<file>, "
                            "or remove the setting")
        return data.groups.interactions

    def _learn(self, validation: Validation, context: Context) -> Weights:
        sample = sample_queries(validation, MOST_QUERIES, context.seed)
        with torch.inference_mode():
            metric = WeightedMetric(gather(self.scaled_members(), sample, self.cold_N))
            result = learn(metric, context.seed)
        num_available = int((np.diff(validation.relevant.indptr) > 0).sum())
        weights = result.weights
        context.log("fusion", members=result.alone, weights=weights.all, long_weights=weights.long,
                    cold_weights=weights.cold, value=float(weights.values(metric).mean()),
                    num_queries=metric.num_queries, num_available=num_available,
                    tried=[{"name": step.name, "kept": step.is_kept} | step.held_out.facts() for step in result.steps])
        print(_report(result, validation.monitor, metric.num_queries, num_available), file=sys.stderr)
        return weights

    def _with_text_queries(self, weights: Weights) -> Weights:
        """Return the weights with a member of weight 0 for text queries, if only members without weight answer them."""
        readers = [name for name, member in self.members.items() if member.supports_text_queries]
        if not readers or any(name in weights.all for name in readers):
            return weights
        # They answer by the similarity of texts, so the smallest will do.
        smallest = min(readers, key=lambda name: sum(array.nbytes for array in self.members[name].state().values()))
        print(f"fusion: {smallest} has no weight, and is kept for text queries", file=sys.stderr)
        return weights.with_zero(smallest)

    def scaled_members(self) -> dict[str, Callable[[Queries], torch.Tensor]]:
        """Return a function for each fitted member that returns its scaled scores (Q, N)."""
        return {name: partial(self._scaled_scores, member) for name, member in self.members.items()}

    def _scaled_scores(self, member: Head, queries: Queries) -> torch.Tensor:
        return self._scaled(self._score_member(member, queries).cpu())

    def _scaled(self, scores_QN: torch.Tensor) -> torch.Tensor:
        if self.settings.normalise == "raw":
            return scores_QN
        if self.settings.normalise == "rank":
            below_QN = (-scores_QN).contiguous()
            # Equal scores share a rank, so the catalogue's order has no effect.
            rank_QN = 1 + torch.searchsorted(below_QN.sort(dim=1).values, below_QN)
            return 1 / (_RANK + rank_QN).float()
        return scaled(scores_QN)

    def _score_member(self, member: Head, queries: Queries) -> torch.Tensor:
        """Return a member's scores (Q, N) of users or groups."""
        return member.score(queries)

    def score_groups(self, queries: Queries) -> torch.Tensor:
        """Return the weighted sum of the members' scores of groups (Q, N)."""
        return self.score_users(queries)

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return the weighted sum of the members' scores (Q, N)."""
        scores, sum_QN = self._scores(queries)
        if self.second_stage is None:
            return sum_QN
        return self.second_stage.reordered(queries, scores, sum_QN, self.cold_N)

    def _scores(self, queries: Queries) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return the members' scaled scores and their weighted sum, (Q, N) each; for a second stage all members."""
        scores = {name: score(queries) for name, score in self.scaled_members().items()
                  if self.settings.stack != "none" or self.weights.most(name) > 0}
        sum_QN = self.weights.sum(scores, torch.from_numpy(self._lengths(queries)), torch.from_numpy(self.cold_N))
        return scores, sum_QN

    def _lengths(self, queries: Queries) -> np.ndarray:
        """Return the length (Q,) by which each history counts as short or long.

        A learned limit applies to histories at the fit. A known user (or group) queried with newer interactions counts
        by the length at the fit, so that the share of long histories stays as it was when the weights were learned.
        """
        lengths_Q = np.diff(queries.history.indptr).astype(np.int64)
        row_Q = queries.user if self.long_share_of == "users" else \
            np.full(len(queries), -1) if queries.groups is None else queries.groups.group
        rows = np.flatnonzero(row_Q >= 0)
        if self.long_share > 0 and len(self.fit_lengths) and len(rows):
            fit_lengths = self.fit_lengths[row_Q[rows]]
            lengths_Q[rows] = np.where(fit_lengths > 0, fit_lengths, lengths_Q[rows])
        return lengths_Q

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return the weighted sum of the scores of the members that support text queries (T, N).

        Each member takes its largest weight over all parts, so a member used only for cold items counts too. If all of
        them have weight 0, they count alike.
        """
        scores = {name: self._scaled(member.score_text(texts).cpu()) for name, member in self.members.items()
                  if member.supports_text_queries}
        most = {name: self.weights.most(name) for name in scores}
        if not any(most.values()):
            most = dict.fromkeys(scores, 1.0)
        return torch.stack([most[name] * scaled for name, scaled in scores.items()]).sum(dim=0)

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the learned weights and the members' tuned configs."""
        members = {name: member.tuned_config() for name, member in self.members.items()}
        stack = "none" if self.second_stage is None else self.second_stage.kind
        return replace(self.config, head=replace(self.settings, members=members, weights=dict(self.weights.all),
                                                  stack=stack, unfit="refuse",
                                                  long_weights=dict(self.weights.long),
                                                  cold_weights=dict(self.weights.cold),
                                                  long_history=self.weights.long_history,
                                                  long_share=self.long_share, long_share_of=self.long_share_of))

    def validation_values(self, validation: Validation) -> np.ndarray:
        """Return the metric of each validation query; with a second stage, by models learned without its user."""
        return super().validation_values(validation) if self.held_out_values_Q is None else self.held_out_values_Q

    def learned_on_validation(self) -> dict[str, np.ndarray]:
        """Return the model of the second stage."""
        if self.second_stage is None:
            return {}
        return {f"{_STACK}{key}": value for key, value in self.second_stage.ranker.state().items()}

    def add_items(self, items: Catalogue) -> None:
        """Append items to every member."""
        for member in self.members.values():
            member.add_items(items)
        self.cold_N = np.concatenate([self.cold_N, np.ones(len(items), bool)])
        if self.second_stage is not None:
            self.second_stage = replace(self.second_stage, facts=self.second_stage.facts.extended(len(items)))

    def state(self) -> dict[str, np.ndarray]:
        """Return the members' states under their names, the mask of cold items, history lengths at the fit, and the
        second stage."""
        states = {f"{name}/{key}": value for name, m in self.members.items() for key, value in m.state().items()}
        lengths = {_LENGTHS: self.fit_lengths} if self.long_share > 0 else {}
        stack = {} if self.second_stage is None else self.second_stage.state()
        return (states | {"cold": self.cold_N.astype(np.uint8)} | lengths
                | {f"{_STACK}{key}": value for key, value in stack.items()})

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore `state`."""
        if self._learns():
            raise tensors.error("cold", "config.yaml has weights=learned, but a fitted model has a number each")
        self.cold_N = tensors.take("cold", BYTE, (len(items),), high=1).astype(bool)
        # Models of earlier versions have none: their users count by the history of the query.
        self.fit_lengths = np.zeros(0, np.int64)
        if self.long_share > 0 and _LENGTHS in tensors:
            rows = len(users) if self.long_share_of == "users" else tensors.num_groups
            self.fit_lengths = tensors.take(_LENGTHS, INTEGER, (rows,), low=0)
        if self.settings.stack != "none":
            self.second_stage = SecondStage.read(self.settings.stack, tensors.inside(_STACK), len(self.members),
                                                 len(items))
        for name, member in self.members.items():
            member.read(tensors.inside(f"{name}/"), users, items, context)


def _report(result: SearchResult, monitor: str, num_queries: int, num_available: int) -> str:
    """Return lines about the metric of each member alone, each step of the search, and the weights."""
    alone = ", ".join(f"{name} {value:.4f}" for name, value in result.alone.items())
    lines = [f"fusion: {monitor} of the members alone on {num_queries:,} of {num_available:,} validation queries: "
             f"{alone}"]
    lines += [f"fusion: {step.name}: gain on held-out folds {step.held_out}: {'kept' if step.is_kept else 'not kept'}"
              for step in result.steps]
    final = result.weights.without_zeros()
    parts = {"weights": final.all, f"histories of {final.long_history} items or more": final.long,
             "cold items": final.cold}
    return "\n".join([*lines, *(f"fusion: {part}: " + ", ".join(f"{name} {weight:g}" for name, weight in of.items())
                                for part, of in parts.items() if of)])
