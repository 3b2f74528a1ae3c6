"""Tuning: search spaces of heads, the number of trials, and model configs with other values.

A key of `head.search` names a setting of the head (`l2`, `features.text`) or of a config group that the head uses
(`optim.learning_rate`).
"""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

from llmrec_cli.settings.base import LARGEST, Builder, Settings, defaults, nearest, to_plain
from llmrec_cli.settings.durations import duration_problem, seconds_of
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.base import RangeSettings


@dataclass
class TuneSettings(Settings):
    """Hyper-parameter search on the validation metric, before the head is fitted."""

    trials: int = 0
    """Number of trials, at least 0; the first tries the settings of the command line. 0: no tuning, except with
    tune.budget. A fusion runs this number of trials for each member. head.search has the ranges."""
    budget: str = ""
    """CPU time of tuning after which no further trial starts, for example 90s, 20m or 1.5h; empty for no limit. The
    members of a fusion share it equally; what one does not use is left to those after it. The first trial of each, of
    the given settings, always runs. Without tune.trials there are as many trials as the time allows."""
    timeout_s: float | None = None
    """Seconds of tuning after which no further trial starts, above 0; null for no limit."""
    num_startup: int = 10
    """Number of random trials before the search uses earlier results, at least 1."""
    pruning: bool = True
    """Stop a trial early if it is below the median of earlier trials after an epoch; for heads trained by epochs."""

    def problems(self) -> Iterator[str]:
        yield from self.check("trials", least=0)
        yield from self.check("timeout_s", above=0)
        if self.budget and self.budget_s is None:
            yield duration_problem("budget", self.budget)
        yield from self.check("num_startup", least=1)
        if not self.is_on:
            yield from self.without_effect("timeout_s", "num_startup", "pruning",
                                           why="without tuning; set tune.trials=<number> or tune.budget=<time>")

    @property
    def is_on(self) -> bool:
        """True if settings are tuned."""
        return self.trials > 0 or bool(self.budget)

    @property
    def budget_s(self) -> float | None:
        """The budget in seconds; None without a budget, and for a text that is no time above 0."""
        return seconds_of(self.budget)

    @property
    def most_trials(self) -> int:
        """Most trials of a head or member."""
        return self.trials or LARGEST

    @property
    def setting(self) -> str:
        """The setting that asks for tuning, for messages."""
        return f"tune.trials={self.trials}" if self.trials else f"tune.budget={self.budget}"


_PARTS = [f.name for f in dataclasses.fields(ModelConfig) if f.name != "head"]
_SCALARS = (bool, int, float, str)
_NO_EFFECT = "has no effect"
_NOT_SEARCHED = ("kind", "search")
_RANGE = [f.name for f in dataclasses.fields(RangeSettings)]
Scalar = tuple[str, tuple[str, ...], tuple[type, ...]]


@dataclass(frozen=True)
class Place:
    """A setting in a model config.

    Attributes
    ----------
    part : field of the model config: `head`, `optim`, ...
    path : nested fields inside the part
    kinds : allowed types of the value
    """

    part: str
    path: tuple[str, ...]
    kinds: tuple[type, ...]

    @property
    def is_whole(self) -> bool:
        """True if the setting takes whole numbers only."""
        return int in self.kinds and float not in self.kinds

    @property
    def is_number(self) -> bool:
        """True if the setting takes numbers."""
        return int in self.kinds or float in self.kinds

    def value(self, config: ModelConfig) -> Any:
        """Return the value of the setting in a model config."""
        value: Any = getattr(config, self.part)
        for name in self.path:
            value = getattr(value, name)
        return value

    def default(self, config: ModelConfig) -> Any:
        """Return the default of the setting."""
        value: Any = defaults(type(getattr(config, self.part)))
        for name in self.path:
            value = value[name]
        return value


def flat_search(search: Mapping[str, Any]) -> dict[str, Any]:
    """Return a search space with one key per setting: keys that contain dots are joined again.

    `head.search.features.text.high=9` arrives as {features: {text: {high: 9}}} and updates the range `features.text`. A
    range of null is removed.
    """
    flat: dict[str, Any] = {}
    for name, value in _leaves(search):
        key, _, last = name.rpartition(".")
        if value is None and last not in _RANGE:
            flat = {k: v for k, v in flat.items() if k != name and not k.startswith(f"{name}.")}
        elif not key or value == {}:
            flat.setdefault(name, value)
        else:
            flat[key] = {**flat.get(key, {}), last: value}
    return flat


def _leaves(mapping: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{inside}{key}.")
        else:
            yield f"{inside}{key}", value


def places(config: ModelConfig) -> dict[str, Place]:
    """Return every setting that the search space of the config's head may contain, by key."""
    by_key = {key: Place("head", path, kinds) for key, path, kinds in _scalars(type(config.head))}
    for part in _PARTS:
        settings = getattr(config, part)
        if settings is not None and part in config.head.uses():
            by_key |= {f"{part}.{key}": Place(part, path, kinds) for key, path, kinds in _scalars(type(settings))}
    return by_key


def search_space(config: ModelConfig) -> dict[str, RangeSettings]:
    """Return the part of the head's search space that applies to the config's options.

    For example, a range of `loss.temperature` does not apply with loss=bce, which has no such setting.
    """
    settings = places(config)
    return {key: values for key, values in config.head.search.items() if key in settings}


def with_values(config: ModelConfig, values: Mapping[str, Any]) -> tuple[ModelConfig, list[str]]:
    """Return the model config with the given values of its settings, and the problems of the result.

    The head of the result has no search space.
    """
    settings = places(config)
    changed = dict(config.__dict__) | {"head": replace(config.head, search={})}
    problems = []
    for part in dict.fromkeys(["head", *(settings[key].part for key in values)]):
        plain = to_plain(changed[part])
        for key, value in values.items():
            if settings[key].part == part:
                _put(plain, settings[key], value)
        builder = Builder(CONFIG_GROUPS)
        built = builder.settings(type(changed[part]), plain, "" if part == "head" else part)
        problems += builder.problems
        changed[part] = changed[part] if built is None else built
    whole = ModelConfig(**changed)
    return whole, [*problems, *whole.problems()]


def proposal(config: ModelConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values, with the default in place of each value that has no effect given the others.

    For example, `k1` has no effect with weighting=none.
    """
    settings = places(config)
    idle = {problem.partition("=")[0] for problem in with_values(config, values)[1] if _NO_EFFECT in problem}
    return {key: settings[key].default(config) if key in idle else value for key, value in values.items()}


def without_search(config: ModelConfig) -> ModelConfig:
    """Return the model config without search spaces, as it is fitted and saved."""
    plain = config.mapped(lambda part: replace(part, head=replace(part.head, search={})))
    return replace(plain, head=replace(plain.head, search={}))


def tuned_parts(config: ModelConfig) -> dict[str, ModelConfig]:
    """Return the configs that are tuned separately: the members of a fusion by name, or the head under its kind."""
    return {name: part for name, part in config.parts.items() if search_space(part)}


def search_problems(config: ModelConfig, where: str = "head") -> Iterator[str]:
    """Yield the problems of the ranges in the search space, members included."""
    head = config.head
    if head.combines:
        for key in head.search:
            yield (f"{where}.search.{key}: a fusion is tuned through its members; give the range to one of them, "
                   f"{where}.members.<name>.search.<setting>")
        for name, member in config.members.items():
            yield from search_problems(member, f"{where}.members.{name}")
        return
    settings = places(config)
    for key, span in head.search.items():
        if key in settings:
            yield from (f"{where}.search.{key}{problem}"
                        for problem in _range_problems(config, key, settings[key], span))
        elif not _of_another_option(config, key):
            yield f"{where}.search.{key}: head={head.kind} has no such setting{nearest(key, settings)}"


def _range_problems(config: ModelConfig, key: str, place: Place, span: RangeSettings) -> Iterator[str]:
    """Yield the problems of the values of a range, as texts that follow the key."""
    if span.choices is not None:
        values = {f".choices={value}": value for value in span.choices}
    elif not place.is_number:
        yield ": is not a number; give choices=[...] instead of low and high"
        return
    else:
        values = {f".{end}={value:g}": value for end in ("low", "high") if (value := getattr(span, end)) is not None}
    existing = set(with_values(config, {key: place.value(config)})[1])
    for label, value in values.items():
        if place.is_whole and isinstance(value, float):
            if not value.is_integer():
                yield f"{label}: expected a whole number"
                continue
            value = int(value)
        for problem in with_values(config, {key: value})[1]:
            # A value without effect in this config may have an effect with other values of the search.
            if problem not in existing and _NO_EFFECT not in problem:
                yield f"{label}: {problem.partition(': ')[2]}"


def _of_another_option(config: ModelConfig, key: str) -> bool:
    """Return True if a key names a setting of another option of a config group that the head uses."""
    part, _, rest = key.partition(".")
    options = CONFIG_GROUPS[part].values() if part in _PARTS and part in config.head.uses() else ()
    return any(rest == name for option in options for name, _, _ in _scalars(option))


def _scalars(cls: type[Settings], inside: tuple[str, ...] = ()) -> Iterator[Scalar]:
    """Yield key, path and types of every number, text and boolean in a settings dataclass."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name in _NOT_SEARCHED or "group" in field.metadata:
            continue
        hint, path = hints[field.name], (*inside, field.name)
        if isinstance(hint, type) and issubclass(hint, Settings):
            yield from _scalars(hint, path)
            continue
        united = get_origin(hint) in (typing.Union, types.UnionType)
        kinds = tuple(kind for kind in (get_args(hint) if united else (hint,)) if kind in _SCALARS)
        if kinds:
            yield ".".join(path), path, kinds


def _put(plain: dict[str, Any], place: Place, value: Any) -> None:
    for name in place.path[:-1]:
        plain = plain[name]
    plain[place.path[-1]] = value
