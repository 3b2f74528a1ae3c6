"""Settings of the commands, a dataclass per command."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrec_cli.metrics.table import MONITORED
from llmrec_cli.run_subject import RunSubject
from llmrec_cli.settings.base import LARGEST_SEED, nearest, option
from llmrec_cli.settings.command import LONGEST_LIST, CacheSettings, DeviceSettings, PageSettings, StageSettings
from llmrec_cli.settings.encoder import ENCODERS, EncoderSettings, TransformerSettings
from llmrec_cli.settings.evaluate import AUDIENCES, EvaluateConfig, number_after
from llmrec_cli.settings.evaluation import ValidationSettings
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.publish import PublishConfig
from llmrec_cli.settings.recommend import RecommendConfig
from llmrec_cli.settings.retrain import RetrainConfig
from llmrec_cli.settings.runs import RunsConfig
from llmrec_cli.settings.search import TuneSettings, search_problems, tuned_parts


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
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    """File of queries to choose settings on, in place of the validation split."""
    measure_cold_items: bool = False
    """true: also measure `monitor` on cold items, ranked among each other: those of validation or, if fewer than 300
    validation interactions have a cold item, a fifth of the items in training, hidden from another fit. Decides
    nothing."""
    refit: str = "train_valid"
    """none | train_valid | all: final fit with the selected settings. none: keep the model fitted on training only.
    train_valid: fit again on training and validation. all: also on the test split."""
    tune: TuneSettings = field(default_factory=TuneSettings)
    """Hyper-parameter search on validation; off without tune.trials and tune.budget."""
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
        yield from self.check("audience", among=AUDIENCES)
        if self.validation.queries and self.audience == "groups":
            yield "audience=groups: cannot be combined with validation=<file>, whose rows are of users"
        if self.measure_cold_items and self.validation.queries:
            yield "measure_cold_items=true: cannot be combined with validation=<file>, whose queries are rows of a file"
        if self.measure_cold_items and "groups" in (self.audience, self.head.default_audience()):
            yield "measure_cold_items=true: is about users, and this run is about groups; leave it out"
        name = self.monitor.partition("@")[0]
        if not re.fullmatch(f"({'|'.join(MONITORED)})@[1-9][0-9]*", self.monitor):
            yield (f"monitor={self.monitor}: write <metric>@<k> with one of {', '.join(MONITORED)}"
                   f"{nearest(name, set(MONITORED) - {name})}")
        elif number_after("@", self.monitor) > LONGEST_LIST:
            yield f"monitor={self.monitor}: k must be from 1 to {LONGEST_LIST}"
        yield from self.config.problems()
        # Without tuning the ranges are not used, and settings given by hand may lie outside them.
        if self.tune.is_on:
            yield from search_problems(self.config)
        yield from self._tuning_problems()

    def _tuning_problems(self) -> Iterator[str]:
        """Yield the problems of tuning settings without effect on the head."""
        if not self.tune.is_on:
            return
        tuned = tuned_parts(self.config)
        if not tuned:
            yield (f"{self.tune.setting}: head={self.head.kind} cannot be tuned, since its search space is empty; give "
                   f"a range, head.search.<setting>={{low: ..., high: ...}}, or leave it out")
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
    "recommend": RecommendConfig, "publish": PublishConfig, "retrain": RetrainConfig, "runs": RunsConfig,
    "init": InitConfig}
