"""Settings of the commands, a dataclass per command."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrec_cli.metrics.table import MONITORED
from llmrec_cli.run_subject import RunSubject
from llmrec_cli.settings.base import LARGEST, LARGEST_SEED, nearest, option
from llmrec_cli.settings.command import (
    FIT,
    LATEST,
    LONGEST_LIST,
    CacheSettings,
    DeviceSettings,
    PageSettings,
    StageSettings,
)
from llmrec_cli.settings.encoder import ENCODERS, EncoderSettings, TransformerSettings
from llmrec_cli.settings.evaluation import ColdUsersSettings, KnowledgeReportSettings, RobustnessSettings
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.recommend import RecommendConfig
from llmrec_cli.settings.runs import RunsConfig
from llmrec_cli.settings.search import TuneSettings, search_problems, tuned_parts

_MOST_QUANTILES = 1000
_MOST_RESAMPLES = 1_000_000
_AUDIENCES = ("auto", "users", "groups")


def _number_after(mark: str, text: str) -> float:
    """Return the number that ends a text; infinity where it has more digits than any setting takes."""
    digits = text.rpartition(mark)[2]
    return float(digits) if len(digits) <= 20 else math.inf


@dataclass
class PrepareConfig(PageSettings):
    """Settings of `prepare`: raw files to prepared data."""

    main_input: ClassVar[str] = "dataset.interactions=clicks.csv"
    dataset: Any = option("dataset", "files", implied=True)
    """Data set: files for your own data, or a public data set."""
    split: Any = option("split", "random")
    """Rule that holds out interactions for validation and test."""
    engine: Any = option("engine", "duckdb")
    """Engine that processes the tables."""
    output: str = ""
    """Folder of the prepared data; empty for data/prepared/<dataset.name>."""
    mode: str = "new"
    """new | append: new builds the prepared data from the files; append adds the files to the prepared data in the
    folder."""
    force: bool = False
    """true: also run in cases that are otherwise refused or skipped: the same files were already prepared with the
    same settings; the new data has fewer than half of the rows that it replaces; with mode=append, files or rows may
    have been appended before."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("mode", among=("new", "append"))
        yield from self.dataset.problems_of_made_groups(self.split.group, self.mode)
        # A missing file is reported by the data set alone.
        if not any("missing; " in problem for problem in self.dataset.problems()):
            yield from self.dataset.split_problems(self.split.kind)

    @property
    def subject(self) -> RunSubject:
        """The data set."""
        return RunSubject(data=self.dataset.name)


@dataclass
class PretrainConfig(PageSettings, DeviceSettings):
    """Settings of `pretrain`: training a text encoder on the texts of the data."""

    main_input: ClassVar[str] = "prepared=data/prepared/shop"
    reads_latest: ClassVar[bool] = True
    prepared: str = ""
    """Folder of prepared data; empty for data/prepared/latest, or for that of the data set that a settings file names
    (dataset.name)."""
    encoder: Any = option("encoder", "minilm")
    """Text encoder to train."""
    objective: Any = option("objective", "mlm")
    """Training objective."""
    optim: Any = option("optim", "adamw")
    """Optimiser, its schedule and the length of training."""
    tracker: Any = option("tracker", "none")
    """Experiment tracker in addition to TensorBoard."""
    seed: int = 1
    """Random seed of the run, 0 to 2^63 - 1."""
    resume: str = ""
    """Run directory of an interrupted run to resume; empty for a new run."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("seed", least=0, most=LARGEST_SEED)
        yield from self._problems_of_encoder()

    @property
    def subject(self) -> RunSubject:
        """The encoder and the prepared data."""
        return RunSubject(self.encoder.kind, prepared=self.prepared)

    def _problems_of_encoder(self) -> Iterator[str]:
        """Yield the problems of encoder settings that do not work with pretraining."""
        if not isinstance(self.encoder, TransformerSettings):
            if isinstance(self.encoder, EncoderSettings):
                yield (f"encoder={self.encoder.kind}: has no trainable layers; choose one of "
                       f"{', '.join(name for name, each in ENCODERS.items() if each.fits_command('pretrain'))}")
            return
        for key, usual in (("whitening", 0), ("projection", None)):
            if getattr(self.encoder, key) != usual:
                yield (f"encoder.{key}={getattr(self.encoder, key)}: has no effect on pretraining; set it for `llmrec "
                       f"finetune`, which fits it on item vectors")
        predicts_tokens = getattr(self.objective, "kind", "") in ("mlm", "clm")
        if predicts_tokens and self.encoder.pooling == "attention":
            yield (f"encoder.pooling=attention: has no effect with objective={self.objective.kind}, which trains on "
                   f"tokens and makes no vectors; leave it out")
        if predicts_tokens and self.encoder.bidirectional:
            yield (f"encoder.bidirectional=true: cannot be combined with objective={self.objective.kind}; leave it "
                   f"out, or choose objective=contrastive")


@dataclass
class FinetuneConfig(CacheSettings, ModelConfig):
    """Settings of `finetune`: training a recommender."""

    main_input: ClassVar[str] = "prepared=data/prepared/shop"
    reads_latest: ClassVar[bool] = True
    prepared: str = ""
    """Folder of prepared data; empty for data/prepared/latest, or for that of the data set that a settings file names
    (dataset.name)."""
    monitor: str = "ndcg@10"
    """Validation metric for early stopping, tuning and other choices, <metric>@<k>, for example recall@20."""
    audience: str = "auto"
    """auto | users | groups: queries that `monitor` is measured on; auto: groups for group heads, else users."""
    refit: str = "train_valid"
    """none | train_valid | all: final fit with the selected settings. none: keep the model fitted on training only.
    train_valid: fit again on training and validation. all: also on the test split."""
    tune: TuneSettings = field(default_factory=TuneSettings)
    """Hyper-parameter search on validation; off with tune.trials=0."""
    tracker: Any = option("tracker", "none")
    """Experiment tracker in addition to TensorBoard."""
    seed: int = 1
    """Random seed of the run, 0 to 2^63 - 1."""
    resume: str = ""
    """Run directory of an interrupted run to resume; empty for a new run."""

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
        # Without tuning the ranges are not used, and settings given by hand may lie outside them.
        if self.tune.trials > 0:
            yield from search_problems(self.config)
        yield from self._tuning_problems()

    def _tuning_problems(self) -> Iterator[str]:
        """Yield the problems of tuning settings without effect on the head."""
        if self.tune.trials <= 0:
            return
        tuned = tuned_parts(self.config)
        if not tuned:
            yield (f"tune.trials={self.tune.trials}: head={self.head.kind} cannot be tuned, since its search space is "
                   f"empty; give a range, head.search.<setting>={{low: ..., high: ...}}, or leave out tune.trials")
        elif not self.tune.pruning and not any("optim" in part.head.uses() for part in tuned.values()):
            yield (f"tune.pruning=false: has no effect, since head={self.head.kind} is not trained by epochs; leave it "
                   f"out")

    @property
    def subject(self) -> RunSubject:
        """The head and the prepared data."""
        return RunSubject(self.head.kind, prepared=self.prepared)

    @property
    def config(self) -> ModelConfig:
        """The model config: the head and the config groups that it is trained with."""
        return ModelConfig(head=self.head, encoder=self.encoder, peft=self.peft, adversarial=self.adversarial,
                           loss=self.loss, optim=self.optim, entities=self.entities)


@dataclass
class EvaluateConfig(PageSettings, CacheSettings):
    """Settings of `evaluate`: metrics of a recommender."""

    main_input: ClassVar[str] = "model=runs/finetune/latest"
    model: str = ""
    """A finetune run directory or model folder; empty for runs/finetune/latest."""
    models: list[str] = field(default_factory=list)
    """Several models instead of `model`, compared in one report. The main metrics in metrics.json are those of the
    first model. Models that differ only by seed are reported as one."""
    about: str = ""
    """With several models: the model that report.html and the table on the terminal are about, by its name on the
    leaderboard or as given in `models`; empty for the best model."""
    prepared: str = ""
    """Folder of prepared data to evaluate on; empty for the data that the (first) model was trained on."""
    split: str = "test"
    """test | valid: the held-out interactions that count as relevant."""
    audience: str = "auto"
    """auto | users | groups: queries to evaluate; auto: the audience of the model's validation."""
    candidates: str = "all"
    """all | cold | sampled:<n> | a file: items that are ranked. cold: items without training interactions. sampled:99:
    the held-out items and 99 items without interactions of the user or group. A file with the column item_id only: its
    items are ranked for every query. A file that also has user_id, group_id or query_id: each query has its own
    candidates, and its held-out items are added. A file that also has negatives (ids separated by spaces, as in
    published benchmarks): each row is ranked as a separate list, a held-out item_id and its negatives. Results with
    candidates per query are labelled as sampled."""
    history: str = LATEST
    """latest | fit: history of a known user. latest: all interactions before the evaluated split, whatever the model
    was fitted on. fit: the interactions that the model was fitted on. mf, neural_cf and factorization_machine score
    known users from learned vectors, with either setting."""
    graded: bool = False
    """Use the values of held-out interactions as gains in ndcg, instead of 1."""
    ties: str = "hash"
    """hash | expected: handling of equal scores. hash: order by a salted hash of the item id. expected: expectation
    over all orders."""
    slices: list[str] = field(default_factory=list)
    """Additional slices, for which metrics are reported separately. item:<attribute> or user:<attribute>: a slice for
    each value of the attribute. item:<attribute>:<n> or user:<attribute>:<n>: n quantiles of a number attribute. For
    example [item:genres,user:age:4]. item:popularity:<n> and user:history:<n> are always available. With
    audience=groups write group instead of user."""
    exposure: list[str] = field(default_factory=list)
    """Item attributes whose exposure is reported: the share of each value in the lists, compared with its share of the
    catalogue."""
    propensity: float = 0.5
    """Exponent of an item's training interactions in the propensity of ips_recall and stratified_recall, at least 0;
    higher assumes a stronger popularity bias, 0 gives plain recall."""
    k: list[int] = field(default_factory=lambda: [5, 10, 20, 50])
    """List lengths, each at least 1."""
    exclude_seen: bool | None = None
    """Leave out items in the history of the user or group. null: true, but false with a file of candidates, which is
    ranked as given."""
    baselines: list[str] = field(default_factory=lambda: ["popularity", "item_knn"])
    """Heads with default settings, fitted on the same data for comparison; [] for none."""
    robustness: RobustnessSettings = field(default_factory=RobustnessSettings)
    """true: also evaluate with perturbed item texts (typos, synonyms, truncation)."""
    knowledge: KnowledgeReportSettings = field(default_factory=KnowledgeReportSettings)
    """true: measure the contribution of each relation of the knowledge graph, on validation."""
    cold_users: ColdUsersSettings = field(default_factory=ColdUsersSettings)
    """true: evaluate cold-start users instead, given their profile and first interactions; needs data prepared with
    split=cold_users."""
    num_bootstrap: int = 1000
    """Number of bootstrap resamples of the queries for each confidence interval, at least 100."""
    seed: int = 1
    """Seed of the bootstrap, 0 to 2^63 - 1."""
    block_size: int = 1024
    """Queries scored at a time, at least 1."""

    @property
    def subject(self) -> RunSubject:
        """The models."""
        return RunSubject(models=self.models or [self.model])

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("split", among=("test", "valid"))
        yield from self.check("ties", among=("hash", "expected"))
        yield from self.check("history", among=(LATEST, FIT))
        yield from self.check("audience", among=_AUDIENCES)
        yield from self.check("propensity", least=0)
        if self.model and self.models:
            yield f"model={self.model}: cannot be combined with models; put it first among them"
        if self.about and len(self.models) < 2:
            yield f"about={self.about}: has an effect only with several models; leave it out, or set models=[<a>,<b>]"
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
            yield ("exclude_seen=false: cannot be combined with cold_users=true, which never recommends a user's first "
                   "interactions; leave out one of the two")
        if self.cold_users.on and self.history == FIT:
            yield "history=fit: has no effect with cold_users=true, whose users have no history; leave it out"
        if self.cold_users.on and self.audience == "groups":
            yield "audience=groups: cannot be combined with cold_users=true, which is about users"
        if self.cold_users.on and self.knowledge.on:
            yield "knowledge=true: cannot be combined with cold_users=true; run evaluate once for each"
        yield from self.check("num_bootstrap", least=100, most=_MOST_RESAMPLES)
        yield from self.check("block_size", least=1)
        yield from self.check("seed", least=0, most=LARGEST_SEED)
        if not self.k or min(self.k) < 1:
            yield f"k={self.k}: list lengths must be at least 1"
        elif max(self.k) > LONGEST_LIST:
            yield f"k={self.k}: list lengths must be from 1 to {LONGEST_LIST}"


@dataclass
class InitConfig(StageSettings):
    """Settings of `init`: a settings file drafted from your files."""

    has_run_dir: ClassVar[bool] = False
    words: ClassVar[str] = "files"
    files: list[str] = field(default_factory=list)
    """Files of interactions, items, users and groups, in any order; `llmrec init a.csv b.csv` names them too."""
    output: str = "shop.yaml"
    """Settings file to write; an existing file is never written over."""
    name: str = ""
    """Name of the prepared data; empty for the name of the settings file."""

    def problems(self) -> Iterator[str]:
        if not self.output.endswith((".yaml", ".yml")):
            yield f"output={self.output}: must end in .yaml"


COMMANDS: dict[str, type[StageSettings]] = {
    "prepare": PrepareConfig, "pretrain": PretrainConfig, "finetune": FinetuneConfig, "evaluate": EvaluateConfig,
    "recommend": RecommendConfig, "runs": RunsConfig, "init": InitConfig}
