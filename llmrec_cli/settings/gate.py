"""The gate: what must hold before a version is published."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import ClassVar

from llmrec_cli.settings.base import Settings

REFUSE, WARN, IGNORE = "refuse", "warn", "ignore"
LEVELS = (REFUSE, WARN, IGNORE)


@dataclass
class CheckSettings(Settings):
    """A check of the gate."""

    shorthand: ClassVar[str] = "level"
    """gate.rows=warn means gate.rows.level=warn."""
    level: str = REFUSE
    """refuse | warn | ignore: what a check that fails does."""
    limit: float | None = None
    """Limit of the check; null for its default, or for checks with a trend the limit learned from at least seven
    published versions."""

    def problems(self) -> Iterator[str]:
        yield from self.check("level", among=LEVELS)


def check() -> CheckSettings:
    """Declare a check with its default limit."""
    return field(default_factory=CheckSettings)


@dataclass
class GateSettings(Settings):
    """Checks of a version before it is published, each with a level and a limit, `gate.<check>.limit=<number>`."""

    rows: CheckSettings = check()
    """Interactions, as a share of those of the current version; at least .7."""
    users_in_data: CheckSettings = check()
    """Users with interactions, as a share of those of the current version; at least .7."""
    items_in_data: CheckSettings = check()
    """Items of the catalogue, as a share of those of the current version; at least .7."""
    newest_time: CheckSettings = check()
    """Days by which the newest interaction is older than that of the current version; at most 0."""
    future_time: CheckSettings = check()
    """Days by which the newest interaction is later than the clock; at most 1."""
    cold_items: CheckSettings = check()
    """Share of the held-out interactions with items of no training, above that of the current version; at most .2."""
    rejected: CheckSettings = check()
    """Share of the rows that `prepare` rejected, above that of the current version; at most .05."""
    repeated: CheckSettings = check()
    """Share of the rows that repeat a pair of user and item, above that of the current version; at most .3."""
    regression: CheckSettings = check()
    """Loss of the metric against the current version's evaluated model, both asked tonight's held-out queries, as a
    share; refused if the whole 95% interval is beyond .01."""
    popularity: CheckSettings = check()
    """Gain over recommending what is popular, in units of the metric; above 0."""
    floor: CheckSettings = check()
    """The metric itself; at least 0."""
    slices: CheckSettings = check()
    """Largest loss in one of gate.slice_names against the current version, as a share; refused if the whole 95%
    interval is beyond .1."""
    empty_lists: CheckSettings = check()
    """Share of the lists without an item; at most .001."""
    short_lists: CheckSettings = check()
    """Share of the lists with fewer items than asked for, above that of the current version; at most .05."""
    same_lists: CheckSettings = check()
    """Share of the lists whose ten first items are those of the commonest list; at most .5."""
    coverage: CheckSettings = check()
    """Different items on lists, as a share of those of the current version; at least .5."""
    kept_items: CheckSettings = check()
    """Share of the current version's first ten items that are still on the user's list, mean over users; at least
    .02."""
    unknown_items: CheckSettings = check()
    """Items on lists that are not in the catalogue; at most 0."""
    concentration: CheckSettings = check()
    """Gini coefficient of how often items are recommended, above that of the current version; at most .1."""
    loads: CheckSettings = check()
    """A new process loads the model and gives the lists of a sample; 1 if it does."""
    same_scores: CheckSettings = check()
    """Share of the sample's lists that the new process gives with other items or scores; at most 0."""
    latency: CheckSettings = check()
    """Seconds of the new process per list, without loading; at most 1."""
    size: CheckSettings = check()
    """Size of the version in GiB; at most 20."""
    metric: str = ""
    """Metric of the quality checks, for example ndcg@10; empty for the one that finetune chose by."""
    slice_names: list[str] = field(default_factory=lambda: ["user:few", "item:tail"])
    """Slices of `evaluate` that must not get worse."""
    review: bool = False
    """true: a version that passes becomes the candidate, beside the current one, until `llmrec publish
    promote=true`."""

    def problems(self) -> Iterator[str]:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, CheckSettings):
                yield from (f"{item.name}.{problem}" for problem in value.problems())
