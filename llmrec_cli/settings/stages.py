"""One dataclass per command: what its config holds."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llmrec_cli.settings.base import Settings, nearest, option
from llmrec_cli.settings.head import Recipe

LARGEST_SEED = 2**63 - 1
RANKING_METRICS = ("recall", "precision", "f1", "hit", "ndcg", "map", "mrr")


@dataclass
class StageSettings(Settings):
    """What every command has."""

    run_dir: str = ""
    """Where the run is written; empty for runs/<command>/<time>."""
    debug: bool = False
    """Show a traceback with every error."""


@dataclass
class DeviceSettings(StageSettings):
    """What every command that computes has."""

    device: str = "auto"
    """auto | cpu | cuda | cuda:N; auto takes a GPU where there is one."""

    def problems(self) -> Iterator[str]:
        if not re.fullmatch("auto|cpu|cuda(:[0-9]+)?", self.device):
            yield f"device={self.device}: choose one of auto, cpu, cuda, cuda:N"


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
    """Prepare also when the same files were prepared with the same settings already."""

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
    seed: int = 1
    """Seed of everything random, 0 to 2^63 - 1."""
    resume: str = ""
    """A run directory to go on from; empty to start anew."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("seed", least=0, most=LARGEST_SEED)


@dataclass
class FinetuneConfig(DeviceSettings, Recipe):
    """Training of a recommender."""

    prepared: str = ""
    """Folder of prepared data; empty for the one prepared last."""
    monitor: str = "ndcg@10"
    """Validation metric that early stopping and every choice look at: <metric>@<k>."""
    refit: str = "train_valid"
    """none | train_valid | all: what the chosen settings are fitted on in the end."""
    seed: int = 1
    """Seed of everything random, 0 to 2^63 - 1."""
    resume: str = ""
    """A run directory to go on from; empty to start anew."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("seed", least=0, most=LARGEST_SEED)
        yield from self.check("refit", among=("none", "train_valid", "all"))
        name = self.monitor.partition("@")[0]
        if not re.fullmatch(f"({'|'.join(RANKING_METRICS)})@[1-9][0-9]*", self.monitor):
            yield (f"monitor={self.monitor}: write <metric>@<k> with one of {', '.join(RANKING_METRICS)}"
                   f"{nearest(name, set(RANKING_METRICS) - {name})}")

    @property
    def recipe(self) -> Recipe:
        """The head with all it is trained with, without the rest of the command's settings."""
        return Recipe(head=self.head, encoder=self.encoder, peft=self.peft, adversarial=self.adversarial,
                      loss=self.loss, optim=self.optim)


@dataclass
class EvaluateConfig(DeviceSettings):
    """Measuring a recommender."""

    model: str = ""
    """A finetune run directory or model folder; empty for runs/finetune/latest."""
    prepared: str = ""
    """Prepared data to measure on; empty for the data that the model was trained on."""
    split: str = "test"
    """test | valid: the held-out interactions that count as relevant."""
    k: list[int] = field(default_factory=lambda: [5, 10, 20, 50])
    """List lengths, each at least 1."""
    exclude_seen: bool = True
    """Leave out what the query is known to have interacted with."""
    baselines: list[str] = field(default_factory=lambda: ["popularity", "item_knn"])
    """Heads fitted on the same data to compare with."""
    num_bootstrap: int = 1000
    """Resamples of the queries behind each interval, at least 100."""
    seed: int = 1
    """Seed of the bootstrap, 0 to 2^63 - 1."""
    block_size: int = 1024
    """Queries scored at a time, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("split", among=("test", "valid"))
        yield from self.check("num_bootstrap", least=100)
        yield from self.check("block_size", least=1)
        yield from self.check("seed", least=0, most=LARGEST_SEED)
        if not self.k or min(self.k) < 1:
            yield f"k={self.k}: list lengths must be at least 1"


@dataclass
class QuerySettings(Settings):
    """One query given inline."""

    query_id: str | None = None
    """Name of the query in the output; its user_id or `query` when not given."""
    user_id: str | None = None
    """A user the model knows, or a new one."""
    history: list[str] | None = None
    """Item ids the user has interacted with."""
    text: str | None = None
    """What the user likes, in words."""


@dataclass
class RecommendConfig(DeviceSettings):
    """Lists for queries."""

    model: str = ""
    """A finetune run directory or model folder; empty for runs/finetune/latest."""
    queries: str | None = None
    """`all` for every user the model knows, or a file of queries (JSONL, CSV, TSV, Parquet)."""
    query: QuerySettings = field(default_factory=QuerySettings)
    items: str = ""
    """A file of items the model has never seen, to be recommended too."""
    users: str = ""
    """A file of users the model has never seen."""
    candidates: str = ""
    """A file of item ids; only these are recommended."""
    k: int = 10
    """Length of the lists, at least 1."""
    exclude_seen: bool = True
    """Leave out what the query is known to have interacted with."""
    output: str = ""
    """Where the lists are written (.parquet, .jsonl, .csv); empty to print them."""
    block_size: int = 1024
    """Queries scored at a time, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("k", "block_size", least=1)
        inline = [f for f in ("user_id", "history", "text", "query_id") if getattr(self.query, f) is not None]
        if self.queries is not None and inline:
            yield f"queries={self.queries}: cannot be combined with query.{inline[0]}"
        if self.queries is None and inline in ([], ["query_id"]):
            yield ("queries: nothing says whom to recommend to; set queries=all, queries=<file>, query.user_id=<id>, "
                   "query.history=[<item>,<item>] or query.text='<what the user likes>'")
        if self.output and not self.output.endswith((".parquet", ".jsonl", ".csv")):
            yield f"output={self.output}: the name must end in .parquet, .jsonl or .csv"


COMMANDS = {"prepare": PrepareConfig, "pretrain": PretrainConfig, "finetune": FinetuneConfig,
            "evaluate": EvaluateConfig, "recommend": RecommendConfig}
