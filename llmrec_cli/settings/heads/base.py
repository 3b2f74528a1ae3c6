"""Settings shared by all heads.

`uses()` names the config groups that affect a head; settings of other config groups are refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrec_cli.settings.adversarial import ADVERSARIES, TEXTS
from llmrec_cli.settings.base import OptionSettings, Settings
from llmrec_cli.settings.loss import CHOICES, LOSSES

_WEIGHTS = ("value", "log", "none")
TRAINING_HISTORIES = ("auto", "before", "others")
"""Values of the setting `training_history` of heads that predict a target from a history."""


@dataclass
class RangeSettings(Settings):
    """Range of a setting in tuning: numbers from `low` to `high`, or a list of `choices`."""

    low: float | None = None
    """Smallest number tried; a whole number if the setting is one."""
    high: float | None = None
    """Largest number tried, above `low`."""
    log: bool = False
    """Draw numbers on a logarithmic scale, 1 to 10 as often as 10 to 100; needs `low` above 0."""
    choices: list[Any] | None = None
    """List of values to try, instead of `low` and `high`."""

    def problems(self) -> Iterator[str]:
        if self.choices is not None:
            if not self.choices or self.low is not None or self.high is not None:
                yield "choices: give either choices=[...], not empty, or low and high"
        elif self.low is None or self.high is None or self.high <= self.low:
            yield f"low={self.low}, high={self.high}: give both, high above low, or choices=[...]"
        elif self.log and self.low <= 0:
            yield f"low={self.low}: must be above 0 with log=true"


@dataclass
class HeadSettings(OptionSettings):
    """Settings of every head."""

    adversary_target: ClassVar[str] = TEXTS
    """texts | rows: vectors that an adversary perturbs in training."""
    learns_from: ClassVar[str] = CHOICES
    """choices | values | similarities: target that its loss must support; similarities are those of texts, learned
    before the head is fitted."""
    gives_logits_alone: ClassVar[bool] = False
    """True if the head gives logits only, so that losses on plain scores, such as loss=mse, do not apply."""
    audience: ClassVar[str] = "users"
    """users | groups: queries that the head is designed for."""
    combines: ClassVar[bool] = False
    """True if the head combines the scores of the heads in its setting `members`."""
    needs_features: ClassVar[bool] = False
    """True if the head learns from nothing but its setting `features`."""
    is_for_cold_items: ClassVar[bool] = False
    """True if the head is made for items without interactions, and weak for others."""
    weighs: ClassVar[bool] = True
    """True if the head itself uses `weight` and `decay`; where False they are refused. A fusion's members use them."""
    ranks_seen_only: ClassVar[bool] = False
    """True if the head scores only items of the history, which lists leave out unless exclude_seen=false."""
    learns_in_a_second: ClassVar[bool] = True
    """False if `llmrec_cli.testing` cannot expect good lists after a second of training with a tiny encoder."""
    kind: str = ""
    """The option's name; choose with head=<name>."""
    search: dict[str, RangeSettings] = field(default_factory=dict)
    """Search space of `tune.trials`: setting -> range, for example head.search.l2={low: 10, high: 1000, log: true}. The
    settings are those of this head (l2, features.text) and of config groups that it uses (optim.learning_rate)."""

    weight: str | None = None
    """value | log | none: weight of an interaction in training: its value, log(1 + value / median), or 1, divided by
    the mean weight. null: value with dataset.event_weights, log for other strengths such as counts and durations, none
    for ratings (dataset.values)."""
    decay: float | None = None
    """Half-life of interactions in days, above 0: an interaction that is 30 days older than the newest in training
    counts half with decay=30. Weights stop falling after 20 half-lives. null: age does not matter."""

    def problems(self) -> Iterator[str]:
        yield from self.check("weight", among=_WEIGHTS)
        yield from self.check("decay", above=0)
        for key in [key for key in ("weight", "decay") if not self.has_setting(key)]:
            if getattr(self, key) is not None:
                remedy = (f", since each member has its own; set members.<name>.{key}" if self.combines
                          else "; leave it out")
                yield f"{key}={getattr(self, key)}: has no effect on head={self.kind}{remedy}"

    @classmethod
    def has_setting(cls, name: str) -> bool:
        return cls.weighs or name not in ("weight", "decay")

    @classmethod
    def losses(cls) -> list[str]:
        """Return the names of the losses that can train this head; the first is the default."""
        return [name for name, loss in LOSSES.items()
                if cls.learns_from in loss.works_with and (loss.of_logits or not cls.gives_logits_alone)]

    @classmethod
    def adversaries(cls) -> list[str]:
        """Return the names of the adversaries that this head can be trained against."""
        return [name for name, adversary in ADVERSARIES.items() if adversary.perturbs in ("", cls.adversary_target)]

    def uses(self) -> set[str]:
        """Return the config groups that affect this head, apart from `head`."""
        return set()

    def has_effect(self, group: str) -> bool:
        """Return True if options of a config group affect this head."""
        return group in self.uses()

    def member_configs(self) -> dict[str, Any]:
        """Return the model configs of the heads that this head combines, by name."""
        return {}

    def with_members(self, members: dict[str, Any]) -> "HeadSettings":
        """Return the settings with the members replaced; the names stay the same."""
        return self

    def ranks_by_kernel(self) -> bool:
        """Return True if items without interactions are ranked by kernel ridge on their features."""
        return False

    def uses_times(self) -> bool:
        """Return True if the head reads the times of interactions, in training and in the histories of queries."""
        return self.decay is not None

    def without_texts(self) -> "HeadSettings":
        """Return the settings for data without texts, for a head that has text vectors beside those of `features`."""
        return self

    def needs_order(self) -> bool:
        """Return True if the head has nothing to learn from data without an order of the interactions."""
        return False

    def needs_moments(self) -> bool:
        """Return True if the head refuses data whose interactions have no times, or only an order."""
        return self.decay is not None

    def recency_of_histories(self) -> tuple[str, float]:
        """Return none | place | time and the half-life by which the head weighs a query's history when scoring."""
        return "none", 1.0

    def default_audience(self) -> str:
        """Return the audience that audience=auto selects: users | groups."""
        return self.audience

    def problems_with(self, loss: Any) -> Iterator[str]:
        """Yield the problems of combining this head with `loss`, a problem for each setting without effect."""
        return iter(())


@dataclass
class PopularitySettings(HeadSettings):
    """The same list for every query: items by number of training interactions."""

    implementation: ClassVar[str] = "llmrec_cli.heads.popularity.Popularity"
    kind: str = "popularity"
    window: float | None = None
    """Days up to the newest training interaction whose interactions are counted, above 0; older ones are not. Needs
    times. null: all are counted."""
    trend: float = 0.0
    """With window: power of (count in the window + trend_shrinkage) / (count in the window before + trend_shrinkage),
    by which the count is multiplied, at least 0; 0: the trend does not matter."""
    trend_shrinkage: float = 10.0
    """With trend above 0: interactions added to both counts, above 0; higher damps the trends of rare items."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": [], "trend": ["head.window=6", "head.trend=0.5", "head.trend_shrinkage=2"]}

    def needs_moments(self) -> bool:
        return super().needs_moments() or self.window is not None

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("window", "trend_shrinkage", above=0)
        yield from self.check("trend", least=0)
        if self.window is None:
            yield from self.without_effect("trend", why="without window; set window=30")
        if self.trend == 0:
            yield from self.without_effect("trend_shrinkage", why="with trend=0; set trend=1")
