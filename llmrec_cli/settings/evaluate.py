"""Settings of `evaluate`: metrics of recommenders."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

from llmrec_cli.run_subject import RunSubject
from llmrec_cli.settings.base import LARGEST, LARGEST_SEED, defaults
from llmrec_cli.settings.command import FIT, LATEST, LONGEST_LIST, CacheSettings, PageSettings
from llmrec_cli.settings.evaluation import ColdUsersSettings, KnowledgeReportSettings, RobustnessSettings
from llmrec_cli.settings.protocols import PROTOCOLS

AUDIENCES = ("auto", "users", "groups")
_MOST_QUANTILES = 1000
_MOST_RESAMPLES = 1_000_000


def number_after(mark: str, text: str) -> float:
    """Return the number that ends a text; infinity where it has more digits than any setting takes."""
    digits = text.rpartition(mark)[2]
    return float(digits) if len(digits) <= 20 else math.inf


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
    protocol: str = ""
    """sequential | rows | ncf | groups: a published protocol. It sets candidates, exclude_seen, ties, split, audience
    and k (docs/evaluate.md), is compared with the split of the data, and is named in the report. Empty: the settings
    below."""
    split: str = "test"
    """test | valid: the held-out interactions that count as relevant."""
    queries: str = ""
    """File of queries to evaluate instead of the held-out interactions: rows of query_id, user_id, history, text,
    group_id or members, as for `recommend`, with `relevant`, the list of items that should be recommended. Each row is
    ranked as given and counts once; without the column history, users have their interactions before the split."""
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
    """Leave out items in the history of the user or group. null: true, but false with a file of candidates or queries,
    which is ranked as given."""
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
        yield from self.check("audience", among=AUDIENCES)
        yield from self.check("propensity", least=0)
        if self.model and self.models:
            yield f"model={self.model}: cannot be combined with models; put it first among them"
        if self.about and len(self.models) < 2:
            yield f"about={self.about}: has an effect only with several models; leave it out, or set models=[<a>,<b>]"
        for entry in self.slices:
            if not re.fullmatch("(item|user|group):[^:].*", entry) or re.search(":[01]?$", entry):
                yield (f"slices={entry}: write item:<attribute>, user:<attribute> or group:<attribute>, with :<n>, at "
                       f"least 2, for n quantiles of a number")
            elif re.fullmatch(".*:[0-9]+", entry) and number_after(":", entry) > _MOST_QUANTILES:
                yield f"slices={entry}: the number of quantiles must be from 2 to {_MOST_QUANTILES}"
        if self.candidates.startswith("sampled:"):
            if not re.fullmatch("sampled:[1-9][0-9]*", self.candidates):
                yield f"candidates={self.candidates}: write sampled:<n>, n at least 1"
            elif number_after(":", self.candidates) > LARGEST:
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
        if self.queries:
            yield from self._problems_of_queries()
        if self.protocol:
            yield from self._problems_of_protocol()
        yield from self.check("num_bootstrap", least=100, most=_MOST_RESAMPLES)
        yield from self.check("block_size", least=1)
        yield from self.check("seed", least=0, most=LARGEST_SEED)
        if not self.k or min(self.k) < 1:
            yield f"k={self.k}: list lengths must be at least 1"
        elif max(self.k) > LONGEST_LIST:
            yield f"k={self.k}: list lengths must be from 1 to {LONGEST_LIST}"


    def _problems_of_protocol(self) -> Iterator[str]:
        """Yield the problems of a protocol: an unknown name, other values than its own, a missing file."""
        yield from self.check("protocol", among=PROTOCOLS)
        if (protocol := PROTOCOLS.get(self.protocol)) is None:
            return
        usual = defaults(EvaluateConfig)
        for key, value in protocol.values.items():
            if getattr(self, key) not in (usual[key], value):
                yield (f"{key}={str(getattr(self, key)).lower()}: protocol={self.protocol} has "
                       f"{key}={str(value).lower()}; leave out one of the two")
        key, columns = protocol.needs
        if key and getattr(self, key) == usual[key]:
            yield f"protocol={self.protocol}: needs {key}=<file>, with the columns {columns}"
        if self.queries and key != "queries":
            yield f"queries={self.queries}: cannot be combined with protocol={self.protocol}; protocol=rows ranks rows"

    def with_protocol(self) -> "EvaluateConfig":
        """Return the settings with the values of the protocol where they are the defaults."""
        if not self.protocol:
            return self
        usual, protocol = defaults(EvaluateConfig), PROTOCOLS[self.protocol]
        values = {**protocol.values, **protocol.chosen}
        return replace(self, **{key: value for key, value in values.items() if getattr(self, key) == usual[key]})

    def _problems_of_queries(self) -> Iterator[str]:
        """Yield the problems of settings that a file of queries makes meaningless."""
        whose = f"with queries={self.queries}, whose rows say what is relevant"
        if self.cold_users.on:
            yield f"cold_users=true: cannot be combined {whose}; write the first interactions as the history of rows"
        if self.knowledge.on:
            yield f"knowledge=true: cannot be combined {whose}; it measures on the validation split"
        yield from self.without_effect("graded", why=f"{whose} or not; leave it out")
        if self.split == "valid":
            yield f"split=valid: has no effect {whose}; leave it out"
