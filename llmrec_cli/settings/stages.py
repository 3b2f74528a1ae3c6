"""One dataclass per command: what its config holds."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llmrec_cli.metrics.table import MONITORED
from llmrec_cli.settings.base import LARGEST, LARGEST_SEED, nearest, option
from llmrec_cli.settings.command import FIT, LATEST, LONGEST_LIST, CacheSettings, DeviceSettings, StageSettings
from llmrec_cli.settings.encoder import EncoderSettings, TransformerSettings
from llmrec_cli.settings.evaluation import ColdUsersSettings, KnowledgeReportSettings, RobustnessSettings
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.recommend import RecommendConfig
from llmrec_cli.settings.search import TuneSettings, search_problems, tuned_parts

_MOST_QUANTILES = 1000
_MOST_RESAMPLES = 1_000_000
_AUDIENCES = ("auto", "users", "groups")


def _number_after(mark: str, text: str) -> float:
    """Return the number that ends a text; infinity where it has more digits than any setting takes."""
    digits = text.rpartition(mark)[2]
    return float(digits) if len(digits) <= 20 else math.inf


@dataclass
class PrepareConfig(StageSettings):
    """Raw files to prepared data."""

    dataset: Any = option("dataset", "files")
    split: Any = option("split", "random")
    engine: Any = option("engine", "duckdb")
    output: str = ""
    """Folder of the prepared data; empty for data/prepared/<dataset.name>."""
    mode: str = "new"
    """new | append: whether the files are all there is, or come on top of what is prepared in the folder already."""
    force: bool = False
    """Prepare even if the same files were already prepared with the same settings; if the new data has fewer than half
    of the rows that it replaces; and, with mode=append, if files or rows may have been appended before."""

    def problems(self) -> Iterator[str]:
        yield from self.check("mode", among=("new", "append"))


@dataclass
class PretrainConfig(DeviceSettings):
    """Domain training of a text encoder."""

    prepared: str = ""
    """Folder of prepared data; empty for the one prepared last."""
    encoder: Any = option("encoder", "minilm")
    objective: Any = option("objective", "mlm")
    optim: Any = option("optim", "adamw")
    tracker: Any = option("tracker", "none")
    seed: int = 1
    """Seed of everything random, 0 to 2^63 - 1."""
    resume: str = ""
    """A run directory to go on from; empty to start anew."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("seed", least=0, most=LARGEST_SEED)
        yield from self._problems_of_encoder()

    def _problems_of_encoder(self) -> Iterator[str]:
        """Yield what of the encoder would have no effect here, or would be in the way."""
        if not isinstance(self.encoder, TransformerSettings):
            if isinstance(self.encoder, EncoderSettings):
                yield (f"encoder={self.encoder.kind}: has no transformer that could be trained; choose minilm, hf, "
                       f"pretrained or scratch")
            return
        for key, usual in (("whitening", 0), ("projection", None)):
            if getattr(self.encoder, key) != usual:
                yield (f"encoder.{key}={getattr(self.encoder, key)}: has no effect on pretraining, since it is learned "
                       f"from the vectors of items; leave it to `llmrec finetune`")
        score_meaning = getattr(self.objective, "kind", "") in ("mlm", "clm")
        if score_meaning and self.encoder.pooling == "attention":
            yield (f"encoder.pooling=attention: has no effect with objective={self.objective.kind}, which learns from "
                   f"tokens and makes no vectors; leave it out")
        if score_meaning and self.encoder.bidirectional:
            yield (f"encoder.bidirectional=true: cannot be combined with objective={self.objective.kind}; leave it "
                   f"out, or choose objective=contrastive")


@dataclass
class FinetuneConfig(CacheSettings, ModelConfig):
    """Training of a recommender."""

    prepared: str = ""
    """Folder of prepared data; empty for the one prepared last."""
    monitor: str = "ndcg@10"
    """Validation metric that early stopping and every choice look at: <metric>@<k>."""
    audience: str = "auto"
    """auto | users | groups: whose validation `monitor` looks at; auto takes groups for the heads made for them."""
    refit: str = "train_valid"
    """none | train_valid | all: what the chosen settings are fitted on in the end."""
    tune: TuneSettings = field(default_factory=TuneSettings)
    """Trying settings on validation; off with tune.trials=0."""
    tracker: Any = option("tracker", "none")
    seed: int = 1
    """Seed of everything random, 0 to 2^63 - 1."""
    resume: str = ""
    """A run directory to go on from; empty to start anew."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("seed", least=0, most=LARGEST_SEED)
        yield from self.check("refit", among=("none", "train_valid", "all"))
        yield from self.check("audience", among=_AUDIENCES)
        name = self.monitor.partition("@")[0]
        if not re.fullmatch(f"({'|'.join(MONITORED)})@[1-9][0-9]*", self.monitor):
            yield (f"monitor={self.monitor}: write <metric>@<k> with one of {', '.join(MONITORED)}"
                   f"{nearest(name, set(MONITORED) - {name})}")
        elif _number_after("@", self.monitor) > LONGEST_LIST:
            yield f"monitor={self.monitor}: k must be from 1 to {LONGEST_LIST}"
        yield from self.config.problems()
        # Without tuning nobody asks what the ranges are, and settings given by hand may lie outside them.
        if self.tune.trials > 0:
            yield from search_problems(self.config)
        yield from self._tuning_problems()

    def _tuning_problems(self) -> Iterator[str]:
        """Yield what of tuning would have no effect on the head."""
        if self.tune.trials <= 0:
            return
        tuned = tuned_parts(self.config)
        if not tuned:
            yield (f"tune.trials={self.tune.trials}: head={self.head.kind} has nothing to tune, since its search space "
                   f"is empty; give a range, head.search.<setting>={{low: ..., high: ...}}, or leave out tune.trials")
        elif not self.tune.pruning and not any("optim" in part.head.uses() for part in tuned.values()):
            yield (f"tune.pruning=false: has no effect, since head={self.head.kind} is not trained by epochs; leave it "
                   f"out")

    @property
    def config(self) -> ModelConfig:
        """The head with all it is trained with, without the rest of the command's settings."""
        return ModelConfig(head=self.head, encoder=self.encoder, peft=self.peft, adversarial=self.adversarial,
                           loss=self.loss, optim=self.optim, entities=self.entities)


@dataclass
class EvaluateConfig(CacheSettings):
    """Measuring a recommender."""

    model: str = ""
    """A finetune run directory or model folder; empty for runs/finetune/latest."""
    models: list[str] = field(default_factory=list)
    """Several of them, instead of `model`, to be compared in one report; metrics.json is about the first. Those that
    differ only by seed are counted as one."""
    prepared: str = ""
    """Prepared data to measure on; empty for the data that the (first) model was trained on."""
    split: str = "test"
    """test | valid: the held-out interactions that count as relevant."""
    audience: str = "auto"
    """auto | users | groups: who is asked for; auto takes whom the model was chosen for."""
    candidates: str = "all"
    """all | cold | sampled:<n> | a file: what is ranked. cold: items without training interactions. sampled:99: what
    was held out and 99 items that the user or group has nothing to do with. A file with item_id alone: these items, as
    in recommend. With user_id, group_id or query_id too: each query's own items and its held-out items. With a column
    negatives too (ids with spaces between them): every row is a list of its own, item_id among its negatives, as papers
    publish it. Results with candidates per query are labelled as sampled."""
    history: str = LATEST
    """latest | fit: history of a known user. latest: all interactions before the measured split, whatever the model was
    fitted on. fit: the interactions that the model was fitted on. mf, neural_cf and factorization_machine score known
    users from learned vectors, with either setting."""
    graded: bool = False
    """Let the values of the held-out interactions be the gains of ndcg, instead of 1."""
    ties: str = "hash"
    """hash | expected: rank equal scores by a salted hash of the item id, or take the expectation over all orders."""
    slices: list[str] = field(default_factory=list)
    """More to look at apart: item:<attribute> or user:<attribute> for each value, with :<n> for n quantiles of a
    number; item:popularity:<n> and user:history:<n> always can be. With audience=groups `group` instead of `user`."""
    exposure: list[str] = field(default_factory=list)
    """Item attributes whose values' shares of the lists are compared with their shares of the catalogue."""
    propensity: float = 0.5
    """How much easier popular items are observed, at least 0: the exponent of an item's training interactions in
    stratified_recall and ips_recall; 0 makes them plain recall."""
    k: list[int] = field(default_factory=lambda: [5, 10, 20, 50])
    """List lengths, each at least 1."""
    exclude_seen: bool | None = None
    """Leave out items that the user or group has interacted with before. null: true, but false with a file of
    candidates, which is ranked as given."""
    baselines: list[str] = field(default_factory=lambda: ["popularity", "item_knn"])
    """Heads fitted on the same data to compare with."""
    robustness: RobustnessSettings = field(default_factory=RobustnessSettings)
    """Measure with disturbed item texts as well: robustness=true."""
    knowledge: KnowledgeReportSettings = field(default_factory=KnowledgeReportSettings)
    """Measure on validation what each relation of the knowledge graph contributes: knowledge=true."""
    cold_users: ColdUsersSettings = field(default_factory=ColdUsersSettings)
    """Measure users without a history instead, by profile and first interactions: cold_users=true."""
    num_bootstrap: int = 1000
    """Resamples of the queries behind each interval, at least 100."""
    seed: int = 1
    """Seed of the bootstrap, 0 to 2^63 - 1."""
    block_size: int = 1024
    """Queries scored at a time, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("split", among=("test", "valid"))
        yield from self.check("ties", among=("hash", "expected"))
        yield from self.check("history", among=(LATEST, FIT))
        yield from self.check("audience", among=_AUDIENCES)
        yield from self.check("propensity", least=0)
        if self.model and self.models:
            yield f"model={self.model}: cannot be combined with models; put it first among them"
        for entry in self.slices:
            if not re.fullmatch("(item|user|group):[^:].*", entry) or re.search(":[01]?$", entry):
                yield (f"slices={entry}: write item:<attribute>, user:<attribute> or group:<attribute>, with :<n>, at "
                       f"least 2, for n quantiles of a number")
            elif re.fullmatch(".*:[0-9]+", entry) and _number_after(":", entry) > _MOST_QUANTILES:
                yield f"slices={entry}: the number of quantiles must be from 2 to {_MOST_QUANTILES}"
        if self.candidates.startswith("sampled:"):
            if not re.fullmatch("sampled:[1-9][0-9]*", self.candidates):
                yield f"candidates={self.candidates}: write sampled:<n>, n at least 1"
            elif _number_after(":", self.candidates) > LARGEST:
                yield f"candidates={self.candidates}: n must be from 1 to {LARGEST}"
        if not self.candidates:
            yield "candidates: empty; choose all, cold, sampled:<n> or a file"
        if self.cold_users.on and self.exclude_seen is False:
            yield ("exclude_seen=false: cannot be combined with cold_users=true, where what a user did first is on no "
                   "list however much of it is told; leave out one of the two")
        if self.cold_users.on and self.history == FIT:
            yield "history=fit: has no effect with cold_users=true, whose users have no history; leave it out"
        if self.cold_users.on and self.audience == "groups":
            yield "audience=groups: cannot be combined with cold_users=true, which is about users"
        if self.cold_users.on and self.knowledge.on:
            yield "knowledge=true: cannot be combined with cold_users=true; measure them one after the other"
        yield from self.check("num_bootstrap", least=100, most=_MOST_RESAMPLES)
        yield from self.check("block_size", least=1)
        yield from self.check("seed", least=0, most=LARGEST_SEED)
        if not self.k or min(self.k) < 1:
            yield f"k={self.k}: list lengths must be at least 1"
        elif max(self.k) > LONGEST_LIST:
            yield f"k={self.k}: list lengths must be from 1 to {LONGEST_LIST}"


COMMANDS = {"prepare": PrepareConfig, "pretrain": PretrainConfig, "finetune": FinetuneConfig,
            "evaluate": EvaluateConfig, "recommend": RecommendConfig}
