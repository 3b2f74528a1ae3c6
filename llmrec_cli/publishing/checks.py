"""The checks of the gate: a number of a version, a limit, and a sentence.

Facts are plain numbers, so that they can be kept in gate.json and compared with those of the version before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.gate import IGNORE, REFUSE, WARN, CheckSettings, GateSettings

Facts = Mapping[str, float | None]
"""Numbers of a version by name; None for one that could not be measured."""
ENOUGH_VERSIONS = 7
"""Published versions from which a limit is learned."""
_DEVIATIONS = 5.0
"""Robust standard deviations that a number may be from the median of the versions before."""
_LEAST_WIDTH = 0.02
"""Least distance of a learned limit from the median, so that a month of equal nights does not refuse the next."""
_NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution by its median absolute deviation."""


@dataclass(frozen=True)
class Check:
    """A check of the gate.

    Attributes
    ----------
    name : the setting, gate.<name>
    group : data | quality | lists | system
    measure : the number from the facts of this version and of the current one; None if it cannot be measured
    limit : default limit
    at_least : True if the number must be at least the limit, False if at most
    has_trend : True if the limit is learned from enough published versions
    sentence : what the number is, as a template with {value}
    """

    name: str
    group: str
    measure: Callable[[Facts, Facts], float | None]
    limit: float
    at_least: bool
    sentence: str
    has_trend: bool = False


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes
    ----------
    check, group, level : its name, group and setting
    passed : None if nothing could be measured, as without a current version
    value, limit : the number and what it was compared with
    learned_from : number of versions that the limit was learned from; 0 for a limit of the settings
    """

    check: str
    group: str
    level: str
    passed: bool | None
    value: float | None
    limit: float
    at_least: bool
    learned_from: int = 0

    @property
    def refuses(self) -> bool:
        """True if the version must not be published because of this check."""
        return self.passed is False and self.level == REFUSE

    @property
    def warns(self) -> bool:
        """True if the check failed, and only warns."""
        return self.passed is False and self.level == WARN

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of gate.json."""
        return asdict(self)

    def sentence(self) -> Phrase:
        """Return what was found, with the setting that changes it."""
        known = {check.name: check for check in CHECKS}[self.check]
        if self.value is None:
            return Phrase("{check}: not measured", check=self.check)
        template = known.sentence
        text = Phrase(template, value=self.value)
        bound = Phrase("at least {limit:g}", limit=self.limit) if self.at_least else \
            Phrase("at most {limit:g}", limit=self.limit)
        if self.learned_from:
            bound = Phrase("{bound}, learned from {num} versions", bound=bound, num=self.learned_from)
        return Phrase("{text} ({bound}; gate.{check})", text=text, bound=bound, check=self.check)


def share(name: str) -> Callable[[Facts, Facts], float | None]:
    """Return a measure: a fact as a share of that of the current version."""
    def measure(now: Facts, before: Facts) -> float | None:
        value, reference = now.get(name), before.get(name)
        return None if value is None or not reference else value / reference
    return measure


def rise(name: str) -> Callable[[Facts, Facts], float | None]:
    """Return a measure: a fact above that of the current version."""
    def measure(now: Facts, before: Facts) -> float | None:
        value, reference = now.get(name), before.get(name)
        return None if value is None or reference is None else value - reference
    return measure


def fact(name: str) -> Callable[[Facts, Facts], float | None]:
    """Return a measure: a fact of this version alone."""
    return lambda now, _before: now.get(name)


def _age(now: Facts, before: Facts) -> float | None:
    later = rise("newest_day")(now, before)
    return None if later is None else -later


CHECKS = (
    Check("rows", "data", share("rows"), 0.7, True,
          "interactions: {value:.1%} of those of the current version", has_trend=True),
    Check("users_in_data", "data", share("users"), 0.7, True, "users: {value:.1%} of those of the current version",
          has_trend=True),
    Check("items_in_data", "data", share("items"), 0.7, True, "items: {value:.1%} of those of the current version",
          has_trend=True),
    Check("newest_time", "data", _age, 0.0, False,
          "the newest interaction is {value:.1f} days older than that of the current version"),
    Check("future_time", "data", fact("future_days"), 1.0, False,
          "the newest interaction is {value:.1f} days later than the clock"),
    Check("cold_items", "data", rise("cold_share"), 0.2, False,
          "held-out interactions with items of no training: a share {value:+.1%} above the current version's"),
    Check("rejected", "data", rise("rejected_share"), 0.05, False,
          "rejected rows: a share {value:+.1%} above the current version's"),
    Check("repeated", "data", rise("repeated_share"), 0.3, False,
          "rows that repeat a pair: a share {value:+.1%} above the current version's"),
    Check("regression", "quality", fact("loss"), 0.01, False,
          "on the same held-out queries the metric is at least {value:.1%} below the current version's"),
    Check("popularity", "quality", fact("gain_over_popularity"), 0.0, True,
          "the metric is {value:+.4f} from that of popularity"),
    Check("floor", "quality", fact("metric"), 0.0, True, "the metric is {value:.4f}"),
    Check("slices", "quality", fact("slice_loss"), 0.1, False,
          "in the worst slice the metric is at least {value:.1%} below the current version's"),
    Check("empty_lists", "lists", fact("empty_share"), 0.001, False, "empty lists: {value:.2%}"),
    Check("short_lists", "lists", rise("short_share"), 0.05, False,
          "short lists: a share {value:+.1%} above the current version's"),
    Check("same_lists", "lists", fact("same_share"), 0.5, False, "lists with the same ten first items: {value:.1%}"),
    Check("coverage", "lists", share("covered_items"), 0.5, True,
          "different items on lists: {value:.1%} of those of the current version", has_trend=True),
    Check("kept_items", "lists", fact("kept_share"), 0.02, True,
          "of the ten first items {value:.1%} are still on the user's list", has_trend=True),
    Check("unknown_items", "lists", fact("unknown_items"), 0.0, False,
          "items that are not in the catalogue: {value:.0f}"),
    Check("concentration", "lists", rise("gini"), 0.1, False,
          "Gini coefficient of the lists: {value:+.3f} against the current version"),
    Check("loads", "system", fact("loads"), 1.0, True, "a new process gave {value:.0%} of the lists of a sample"),
    Check("same_scores", "system", fact("other_share"), 0.0, False,
          "lists that a new process gave otherwise: {value:.1%}"),
    Check("latency", "system", fact("seconds_per_list"), 1.0, False, "a list takes {value:.3f} s"),
    Check("size", "system", fact("gib"), 20.0, False, "the version takes {value:.2f} GiB"),
)


def judge(settings: GateSettings, now: Facts, before: Facts, history: Sequence[Mapping[str, float | None]],
          groups: Sequence[str] = ("data", "quality", "lists", "system")) -> list[Finding]:
    """Return the result of each check of the groups that is not ignored.

    `before` are the facts of the current version, empty without one. `history` has the numbers of each check in the
    published versions, oldest first; limits of checks with a trend are learned from them.
    """
    findings = []
    for check in CHECKS:
        chosen: CheckSettings = getattr(settings, check.name)
        if chosen.level == IGNORE or check.group not in groups:
            continue
        value = check.measure(now, before)
        limit, learned_from = check.limit if chosen.limit is None else chosen.limit, 0
        earlier = [v for numbers in history if (v := numbers.get(check.name)) is not None]
        if chosen.limit is None and check.has_trend and len(earlier) >= ENOUGH_VERSIONS:
            limit, learned_from = learned_limit(earlier, check.at_least), len(earlier)
        passed = None if value is None else (value >= limit if check.at_least else value <= limit)
        findings.append(Finding(check.name, check.group, chosen.level, passed, value, limit, check.at_least,
                                learned_from))
    return findings


def learned_limit(earlier: Sequence[float], at_least: bool) -> float:
    """Return the limit below (or above) the median of earlier numbers by several robust standard deviations."""
    median = float(np.median(earlier))
    spread = max(_LEAST_WIDTH, _DEVIATIONS * _NORMAL_MAD * float(np.median(np.abs(np.asarray(earlier) - median))))
    return median - spread if at_least else median + spread
