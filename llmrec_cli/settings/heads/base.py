"""Settings shared by all heads.

`uses()` names the config groups that have an effect on a head, so that a setting without one can be refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrec_cli.settings.adversarial import ADVERSARIES, TEXTS
from llmrec_cli.settings.base import OptionSettings, Settings
from llmrec_cli.settings.loss import CHOICES, LOSSES

_WEIGHTS = ("value", "log", "none")
TRAINING_HISTORIES = ("auto", "before", "others")
"""The setting `training_history` of heads that learn a target from a history."""


@dataclass
class RangeSettings(Settings):
    """Range of a setting in tuning: numbers from `low` to `high`, or one of `choices`."""

    low: float | None = None
    """Smallest number tried; a whole one for a setting that is a whole number."""
    high: float | None = None
    """Largest number tried, above `low`."""
    log: bool = False
    """Try 1 to 10 as often as 10 to 100; needs `low` above 0."""
    choices: list[Any] | None = None
    """The values to choose from, instead of `low` and `high`."""

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

    perturbed: ClassVar[str] = TEXTS
    """texts | rows: perturbed by an adversary in training."""
    learns_from: ClassVar[str] = CHOICES
    """What its loss must be able to learn: choices | values | similarities (of texts, before they are read)."""
    gives_logits_alone: ClassVar[bool] = False
    """True if a loss of scores as they are, such as loss=mse, has nothing to work with."""
    audience: ClassVar[str] = "users"
    """Whom the head is made for: users | groups."""
    combines: ClassVar[bool] = False
    """True if the head puts the scores of others together, those of its setting `members`."""
    weighs: ClassVar[bool] = True
    """True if the head itself uses `weight` and `decay`; where False they are refused. A fusion's members use them."""
    learns_in_a_second: ClassVar[bool] = True
    """False if `llmrec_cli.testing` cannot expect good lists of it after a second of training with a tiny encoder."""
    kind: str = ""
    """The option's name; choose with head=<name>."""
    search: dict[str, RangeSettings] = field(default_factory=dict)
    """What `tune.trials` may change: a setting of this head (`l2`, `features.text`) or of a group that it uses
    (`optim.learning_rate`), and its range."""

    weight: str | None = None
    """value | log | none: weight of an interaction: its value, log(1 + value / median), or 1; divided by the mean.
    null: value for dataset.event_weights, log for other strengths such as counts and durations, none for ratings
    (dataset.values)."""
    decay: float | None = None
    """Half-life of interactions in days, above 0: an interaction that is 30 days older than the newest in training
    counts half with decay=30. Weights stop falling after 20 half-lives. null: age does not matter."""

    def problems(self) -> Iterator[str]:
        yield from self.check("weight", among=_WEIGHTS)
        yield from self.check("decay", above=0)
        for key in ("weight", "decay") if not self.weighs else ():
            if getattr(self, key) is not None:
                remedy = (f", whose members weigh each for themselves; set members.<name>.{key}" if self.combines
                          else "; leave it out")
                yield f"{key}={getattr(self, key)}: has no effect on head={self.kind}{remedy}"

    @classmethod
    def losses(cls) -> list[str]:
        """Return the names of the losses that can train this head; the first is the default."""
        return [name for name, loss in LOSSES.items()
                if cls.learns_from in loss.works_with and (loss.of_logits or not cls.gives_logits_alone)]

    @classmethod
    def adversaries(cls) -> list[str]:
        """Return the names of the adversaries that this head can be trained against."""
        return [name for name, adversary in ADVERSARIES.items() if adversary.perturbs in ("", cls.perturbed)]

    def uses(self) -> set[str]:
        """Return the config groups beside `head` that change what this head does."""
        return set()

    def has_effect(self, group: str) -> bool:
        """Return whether options of a config group change what this head does."""
        return group in self.uses()

    def member_configs(self) -> dict[str, Any]:
        """Return the model configs of the heads whose scores this one puts together, by name."""
        return {}

    def with_members(self, members: dict[str, Any]) -> "HeadSettings":
        """Return the settings with other members of the same names."""
        return self

    def ranks_by_kernel(self) -> bool:
        """Return True if items without interactions are ranked by kernel ridge on their features."""
        return False

    def uses_times(self) -> bool:
        """Return True if the head reads the times of interactions, in training and in the histories of queries."""
        return self.decay is not None

    def usual_audience(self) -> str:
        """Return whom audience=auto looks at: users | groups."""
        return self.audience

    def problems_with(self, loss: Any) -> Iterator[str]:
        """Yield a problem for each setting of the loss that this head cannot heed, and of its own with this loss."""
        return iter(())


@dataclass
class PopularitySettings(HeadSettings):
    """The same list for everybody: items by number of training interactions."""

    implementation: ClassVar[str] = "llmrec_cli.heads.popularity.Popularity"
    kind: str = "popularity"
