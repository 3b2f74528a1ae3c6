"""Heads: the recommenders. The settings of each are in a file under `heads/`; those of fusions are here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from llmrec_cli.settings.base import Settings, option, to_plain
from llmrec_cli.settings.heads.base import HeadSettings, PopularitySettings
from llmrec_cli.settings.heads.clusters import ClustersSettings
from llmrec_cli.settings.heads.content import ContentSettings
from llmrec_cli.settings.heads.ease import EaseSettings
from llmrec_cli.settings.heads.groups import GroupAttentionSettings, GroupFusionSettings, GroupHypergraphSettings
from llmrec_cli.settings.heads.ials import IalsSettings
from llmrec_cli.settings.heads.interest import InterestSettings
from llmrec_cli.settings.heads.item_similarity import ItemSimilaritySettings
from llmrec_cli.settings.heads.neighbours import ItemKnnSettings, UserKnnSettings
from llmrec_cli.settings.heads.pairs import FactorizationMachineSettings, MfSettings, NeuralCfSettings
from llmrec_cli.settings.heads.repeat import RepeatSettings
from llmrec_cli.settings.heads.rp3beta import Rp3BetaSettings
from llmrec_cli.settings.heads.sequential import SequentialSettings
from llmrec_cli.settings.heads.turbo_cf import TurboCfSettings
from llmrec_cli.settings.heads.two_tower import TwoTowerSettings


@dataclass
class FusionSettings(HeadSettings):
    """A weighted sum of the scores of other heads; the weights are learned on validation.

    Each member is a model config of its own: a head and its settings; settings not given come from the top level.
    """

    implementation: ClassVar[str] = "llmrec_cli.heads.fusion.head.Fusion"
    combines: ClassVar[bool] = True
    weighs: ClassVar[bool] = False
    kind: str = "fusion"
    members: dict[str, "ModelConfig"] = field(default_factory=dict)
    """Heads that are added up, each under a name of your choice: head.members.<name>.head=<head>, its settings
    head.members.<name>.<setting>=<value>. head.members.<name>=null leaves a member out, ~head.members all of them."""
    unfit: str = "refuse"
    """refuse | leave_out: what happens to members that the data cannot serve. leave_out, for a recipe that serves any
    data: those that need an order of the interactions that the data lacks, and the largest ones until the others fit
    into memory, are left out and named."""
    normalise: str = "zscore"
    """zscore | rank | raw: scaling of a member's scores for a query before they are added; rank uses 1 / (60 +
    rank)."""
    weights: str | dict[str, float] = "learned"
    """`learned`, or a number for each member, for example {ease: 1, item_knn: 0.5}. learned: on validation; the best
    member alone unless a weighted sum gains more than its standard error on held-out folds of the queries."""
    stack: str = "none"
    """none | logistic | lambdamart: a second stage that orders the best items of the weighted sum anew, by the members'
    scores and places, popularity and its trend, and the history: a linear model, or gradient-boosted trees (needs the
    extra llmrec-cli[stack] to learn). Learned on validation; left out unless it gains more than its standard error on
    held-out folds."""
    cold_weights: dict[str, float] = field(default_factory=dict)
    """With fixed weights: weights for items without training interactions; empty for the same as `weights`."""
    long_weights: dict[str, float] = field(default_factory=dict)
    """With fixed weights: weights for queries with at least `long_history` items in their history; empty for the same
    as `weights`."""
    long_history: int = 0
    """Smallest length of a long history, in items; 0 without long_weights."""
    long_share: float = 0.0
    """With long_weights: share of users (or groups) with a long history, 0 to 1; set when weights are learned.
    Histories grow, so a fit on other interactions resets `long_history` to keep this share; known users (or groups) are
    then classified by their history at the fit. 0 keeps `long_history` and classifies by the history of the query.
    """
    long_share_of: str = "users"
    """users | groups: histories that `long_share` counts; set when weights are learned. A group's history is its own
    interactions."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        ease, tower = "head.members.ease", "head.members.tower"
        small = [f"{ease}.l2=20", f"{ease}.features.text=3", f"{ease}.features.attributes=3",
                 "head.members.neighbours.k=20"]
        trained = [f"{tower}.head=two_tower", f"{tower}.embedding_size=16", f"{tower}.dropout=0.1"]
        others = [f"head.members.{name}=null" for name in ("plain_ease", "item_knn", "item_similarity", "ials")]
        return {"": small, "trained": [*small, *others, *trained],
                "raw": [*small, *others, *trained, "head.normalise=raw",
                        "head.weights={ease: 1, neighbours: 0.5, tower: 0.1}"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("normalise", among=("zscore", "rank", "raw"))
        yield from self.check("unfit", among=("refuse", "leave_out"))
        if self.unfit == "leave_out" and not isinstance(self.weights, str):
            yield "unfit=leave_out: has no effect with a fixed weight for each member; leave it out"
        yield from self.check("stack", among=("none", "logistic", "lambdamart"))
        if self.stack != "none" and len(self.members) == 1:
            yield f"stack={self.stack}: needs at least two members; add one, or leave it out"
        if not self.members:
            yield "members: empty; name at least one, head.members.<name>.head=<head>"
        for name, member in self.members.items():
            if member.head.combines:
                yield f"members.{name}.head={member.head.kind}: a fusion cannot be a member of a fusion"
            if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
                yield f"members.{name}: use letters, digits, '_' and '-' in the name of a member"
        if isinstance(self.weights, str):
            yield from self.check("weights", among=("learned",))
            for key in ("cold_weights", "long_weights"):
                if getattr(self, key):
                    yield f"{key}: has no effect with weights=learned; give each member a number in weights too"
        else:
            yield from self._problems_of_weights(self.weights)
        if bool(self.long_weights) != (self.long_history > 0):
            yield f"long_history={self.long_history}: give long_weights and a long_history of at least 1, or neither"
        yield from self.check("long_share", least=0, most=1)
        if self.long_share > 0 and not self.long_weights:
            yield f"long_share={self.long_share}: has no effect without long_weights; leave it out"
        yield from self.check("long_share_of", among=("users", "groups"))
        if self.long_share_of != "users" and self.long_share == 0:
            yield f"long_share_of={self.long_share_of}: has no effect without long_share; leave it out"

    def _problems_of_weights(self, weights: dict[str, float]) -> Iterator[str]:
        for key, by_member in (("weights", weights), ("cold_weights", self.cold_weights),
                               ("long_weights", self.long_weights)):
            for name in sorted(set(self.members) ^ set(by_member)) if by_member or key == "weights" else ():
                yield f"{key}.{name}: weights and members must have the same names"
            for name, weight in by_member.items():
                if weight < 0:
                    yield f"{key}.{name}={weight}: must be at least 0"
            if by_member and max(by_member.values()) == 0:
                yield f"{key}: at least one weight must be above 0"

    def uses(self) -> set[str]:
        return set().union(*(member.head.uses() for member in self.members.values()))

    def uses_times(self) -> bool:
        return any(member.head.uses_times() for member in self.members.values())

    def default_audience(self) -> str:
        audiences = {member.head.default_audience() for member in self.members.values()}
        return "groups" if "groups" in audiences else self.audience

    def has_effect(self, group: str) -> bool:
        return super().has_effect(group) and (group != "adversarial" or self._has_adversary())

    def member_configs(self) -> dict[str, Any]:
        return self.members

    def with_members(self, members: dict[str, Any]) -> HeadSettings:
        return replace(self, members=members)

    def _has_adversary(self) -> bool:
        """Return True if a member is trained against an adversary."""
        return any(member.adversarial is not None and bool(member.adversarial.perturbs)
                   and "adversarial" in member.head.uses() for member in self.members.values())


@dataclass
class GroupAggregateSettings(FusionSettings):
    """Recommendations for groups from the scores of their members; only the heads that score the members are trained.

    The heads form a fusion that scores every member of the group; a single user gets the scores of the fusion.
    """

    implementation: ClassVar[str] = "llmrec_cli.heads.groups.aggregate.GroupAggregate"
    audience: ClassVar[str] = "groups"
    kind: str = "group_aggregate"
    strategy: str = "average"
    """average | weighted | least_misery | most_pleasure | borda | approval | fair_greedy | fair_proportional:
    aggregation of the members' scores (docs/groups.md)."""
    depth: int = 50
    """Number of items that each member approves of (strategy=approval), or that are picked one by one
    (strategy=fair_*), at least 1."""
    own_history: bool = True
    """Score the group's own interactions like one more member."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        small = ["head.members.base.l2=20", "head.members.base.features.attributes=3"]
        return {strategy: [*small, f"head.strategy={strategy}", *["head.depth=8"] * (strategy in _OF_DEPTH)]
                for strategy in STRATEGIES}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("strategy", among=STRATEGIES)
        yield from self.check("depth", least=1)
        if self.depth != 50 and self.strategy not in _OF_DEPTH:
            yield (f"depth={self.depth}: has no effect with strategy={self.strategy}; leave it out, or choose one of "
                   f"{', '.join(_OF_DEPTH)}")


STRATEGIES = ("average", "weighted", "least_misery", "most_pleasure", "borda", "approval", "fair_greedy",
              "fair_proportional")
_OF_DEPTH = ("approval", "fair_greedy", "fair_proportional")


@dataclass
class ModelConfig(Settings):
    """A head and all config groups that it is trained with; sufficient to rebuild it."""

    head: HeadSettings = option("head")
    """Recommender to train."""
    encoder: Any = option("encoder", optional=True)
    """Text encoder, for heads that use texts."""
    peft: Any = option("peft", optional=True)
    """Fine-tuning method of the text encoder."""
    adversarial: Any = option("adversarial", optional=True)
    """Adversarial training."""
    loss: Any = option("loss", optional=True)
    """Training loss, for heads trained by gradients."""
    optim: Any = option("optim", optional=True)
    """Optimiser, its schedule and the length of training."""
    entities: Any = option("entities", optional=True)
    """Model of entity vectors, for heads that use the knowledge graph."""

    @property
    def members(self) -> dict[str, "ModelConfig"]:
        """The model configs of the heads that this head combines, by name."""
        return self.head.member_configs()

    @property
    def parts(self) -> dict[str, "ModelConfig"]:
        """The model configs that are fitted separately: the members by name, or this config under its head's kind."""
        return self.members or {self.head.kind: self}

    def note_on_untimed(self, num_interactions: int) -> str:
        """Return a note about interactions of histories without a time; "" if no part weighs by time, or for 0."""
        heads = [part.head for part in self.parts.values()]
        effects = []
        if any(head.recency_of_histories()[0] == "time" for head in heads):
            effects.append("with recency=time each counts as the newest of its history")
        if any(isinstance(head, SequentialSettings) and head.time_gaps for head in heads):
            effects.append("with time_gaps=true the time before each is unknown")
        if not num_interactions or not effects:
            return ""
        return f"{num_interactions:,} interactions of histories have no time, as they come from a query: " + "; ".join(
            effects)

    @property
    def seen_only(self) -> str:
        """Names of the parts that score only items of the history; "" if there are none."""
        return ", ".join(name for name, part in self.parts.items() if part.head.ranks_seen_only)

    def note_on_seen_items(self, excludes_seen: bool) -> str:
        """Return a note about parts that rank only items that lists leave out; "" if there are none."""
        if not excludes_seen or not self.seen_only:
            return ""
        return (f"{self.seen_only} scores only items of the history, and lists leave these out; set "
                f"exclude_seen=false to keep them")

    def mapped(self, change: Callable[["ModelConfig"], "ModelConfig"]) -> "ModelConfig":
        """Return the model config with `change` applied to each member, or to itself if it has no members."""
        if not self.head.combines:
            return change(self)
        members = {name: member.mapped(change) for name, member in self.members.items()}
        return replace(self, head=self.head.with_members(members))

    def flat(self, *without: str) -> dict[str, Any]:
        """Return all settings as `<part>.<key>`, except the parts `without`; a resumed run must have the same."""
        return {f"{part}.{key}": value for part, settings in to_plain(self).items()
                if settings is not None and part not in without for key, value in settings.items()}

    def problems(self) -> Iterator[str]:
        if self.encoder is not None and self.encoder.begins_at_random and self.head.has_effect("encoder"):
            kind = self.encoder.kind
            yield (f"encoder={kind}: has random weights; run `llmrec pretrain encoder={kind}` first, and then choose "
                   f"encoder=pretrained")
        if self.head.combines:
            return
        uses = self.head.uses()
        if self.loss is not None and "loss" in uses:
            if self.loss.kind in self.head.losses():
                yield from self.head.problems_with(self.loss)
            else:
                yield (f"loss={self.loss.kind}: cannot train head={self.head.kind}; choose one of "
                       f"{', '.join(self.head.losses())}")
        layers = self.peft is not None and self.peft.trains_layers
        # An unreadable encoder (None) is reported elsewhere.
        without = self.encoder is not None and not self.encoder.has_layers
        if "peft" in uses and layers and without:
            yield (f"peft={self.peft.kind}: encoder={self.encoder.kind} has no trainable layers; choose peft=frozen, "
                   f"peft=embedding_adapter or another encoder")
        decay = 1.0 if self.optim is None or "optim" not in uses else self.optim.layer_decay
        num_trained = getattr(self.peft, "num_layers", None)
        if decay != 1 and (not layers or "peft" not in uses or num_trained == 1):
            yield (f"optim.layer_decay={decay}: has no effect, since fewer than two layers of an encoder are trained; "
                   f"leave it out, or choose peft.num_layers=2 or more")
        if (self.adversarial is not None and "adversarial" in uses
                and self.adversarial.kind not in self.head.adversaries()):
            yield (f"adversarial={self.adversarial.kind}: has no effect on head={self.head.kind}; choose one of "
                   f"{', '.join(self.head.adversaries())}")


HEADS: dict[str, type[HeadSettings]] = {
    "popularity": PopularitySettings, "repeat": RepeatSettings,
    "item_knn": ItemKnnSettings, "user_knn": UserKnnSettings, "rp3beta": Rp3BetaSettings, "turbo_cf": TurboCfSettings,
    "ease": EaseSettings, "ials": IalsSettings, "mf": MfSettings, "neural_cf": NeuralCfSettings,
    "factorization_machine": FactorizationMachineSettings,
    "two_tower": TwoTowerSettings, "sequential": SequentialSettings, "content": ContentSettings,
    "item_similarity": ItemSimilaritySettings,
    "interest": InterestSettings, "clusters": ClustersSettings, "fusion": FusionSettings,
    "group_aggregate": GroupAggregateSettings,
    "group_fusion": GroupFusionSettings, "group_attention": GroupAttentionSettings,
    "group_hypergraph": GroupHypergraphSettings}
