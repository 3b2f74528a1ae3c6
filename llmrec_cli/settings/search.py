"""Tuning: the search spaces of heads, the number of trials, and a model configuration with other values in place.

A key of `head.search` names a setting of the head (`l2`, `features.text`) or of a group that the head uses
(`optim.learning_rate`).
"""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

from llmrec_cli.settings.base import Builder, Settings, defaults, nearest, to_plain
from llmrec_cli.settings.groups import GROUPS
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.base import RangeSettings


@dataclass
class TuneSettings(Settings):
    """A search for better settings on the validation metric, before the head is fitted."""

    trials: int = 0
    """Settings tried, the given ones first, at least 0; 0 fits the given ones alone. A fusion tries as many for each
    member. The ranges are in head.search."""
    timeout_s: float | None = None
    """Seconds of tuning after which no further trial begins, above 0; null for no limit."""
    num_startup: int = 10
    """Trials drawn at random before those that learn from the ones so far, at least 1."""
    pruning: bool = True
    """Give up a trial of a head trained by epochs that is below the median of the earlier ones after an epoch."""

    def problems(self) -> Iterator[str]:
        yield from self.check("trials", least=0)
        yield from self.check("timeout_s", above=0)
        yield from self.check("num_startup", least=1)
        if self.trials == 0:
            yield from self.without_effect("timeout_s", "num_startup", "pruning",
                                           why="without tuning; set tune.trials=<number>")


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
    part : the field of the recipe: `head`, `optim`, ...
    path : the fields inside it
    kinds : the types its value may have
    """

    part: str
    path: tuple[str, ...]
    kinds: tuple[type, ...]

    @property
    def is_whole(self) -> bool:
        """True if its numbers are whole numbers."""
        return int in self.kinds and float not in self.kinds

    @property
    def is_number(self) -> bool:
        """True if it can be given as a number."""
        return int in self.kinds or float in self.kinds

    def value(self, config: ModelConfig) -> Any:
        """Return the value that it has in a model config."""
        value: Any = getattr(config, self.part)
        for name in self.path:
            value = getattr(value, name)
        return value

    def usual(self, config: ModelConfig) -> Any:
        """Return the value that it has where nobody gives one."""
        value: Any = defaults(type(getattr(config, self.part)))
        for name in self.path:
            value = value[name]
        return value


def flat_search(search: Mapping[str, Any]) -> dict[str, Any]:
    """Return a search space with a key for each setting; what dots made a mapping of is one key again.

    `head.search.features.text.high=9` comes as {features: {text: {high: 9}}}, and is laid over what is there already
    under `features.text`. A setting of null is taken out.
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
    """Return every setting that a search space of the model config's head may name, by its key."""
    found = {key: Place("head", path, kinds) for key, path, kinds in _scalars(type(config.head))}
    for part in _PARTS:
        settings = getattr(config, part)
        if settings is not None and part in config.head.uses():
            found |= {f"{part}.{key}": Place(part, path, kinds) for key, path, kinds in _scalars(type(settings))}
    return found


def searched(config: ModelConfig) -> dict[str, RangeSettings]:
    """Return the part of the head's search space that applies to the options that are chosen.

    A range of `loss.temperature` does not where loss=bce has no such setting but another loss has.
    """
    known = places(config)
    return {key: found for key, found in config.head.search.items() if key in known}


def with_values(config: ModelConfig, values: Mapping[str, Any]) -> tuple[ModelConfig, list[str]]:
    """Return the model config with other values of the settings that the keys name, and what is wrong with them.

    The head of the result has no search space: it is a choice, not something to choose from.
    """
    known = places(config)
    changed = dict(config.__dict__) | {"head": replace(config.head, search={})}
    problems = []
    for part in dict.fromkeys(["head", *(known[key].part for key in values)]):
        plain = to_plain(changed[part])
        for key, value in values.items():
            if known[key].part == part:
                _put(plain, known[key], value)
        builder = Builder(GROUPS)
        built = builder.settings(type(changed[part]), plain, "" if part == "head" else part)
        problems += builder.found
        changed[part] = changed[part] if built is None else built
    whole = ModelConfig(**changed)
    return whole, [*problems, *whole.problems()]


def proposal(config: ModelConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with those that have no effect beside the others (BM25's `k1` with weighting=none) as usual."""
    known = places(config)
    idle = {problem.partition("=")[0] for problem in with_values(config, values)[1] if _NO_EFFECT in problem}
    return {key: known[key].usual(config) if key in idle else value for key, value in values.items()}


def without_search(config: ModelConfig) -> ModelConfig:
    """Return the model config as it is fitted and saved: without ranges, which are of no use any more."""
    plain = config.mapped(lambda part: replace(part, head=replace(part.head, search={})))
    return replace(plain, head=replace(plain.head, search={}))


def tuned_parts(config: ModelConfig) -> dict[str, ModelConfig]:
    """Return what is tuned, each by itself: the members of a fusion by name, or the head under its kind."""
    return {name: part for name, part in config.parts.items() if searched(part)}


def search_problems(config: ModelConfig, where: str = "head") -> Iterator[str]:
    """Yield a sentence for each range of a search space, members' too, that cannot be tried."""
    head = config.head
    if head.combines:
        for key in head.search:
            yield (f"{where}.search.{key}: a fusion is tuned through its members; give the range to one of them, "
                   f"{where}.members.<name>.search.<setting>")
        for name, member in config.members.items():
            yield from search_problems(member, f"{where}.members.{name}")
        return
    known = places(config)
    for key, tried in head.search.items():
        if key in known:
            yield from (f"{where}.search.{key}{problem}" for problem in _range_problems(config, key, known[key], tried))
        elif not _of_another_option(config, key):
            yield f"{where}.search.{key}: head={head.kind} has no such setting{nearest(key, known)}"


def _range_problems(config: ModelConfig, key: str, place: Place, tried: RangeSettings) -> Iterator[str]:
    """Yield what is wrong with the values of a range, each as it follows the key."""
    if tried.choices is not None:
        values = {f".choices={value}": value for value in tried.choices}
    elif not place.is_number:
        yield ": is not a number; give choices=[...] instead of low and high"
        return
    else:
        values = {f".{end}={value:g}": value for end in ("low", "high") if (value := getattr(tried, end)) is not None}
    usual = set(with_values(config, {key: place.value(config)})[1])
    for shown, value in values.items():
        if place.is_whole and isinstance(value, float):
            if not value.is_integer():
                yield f"{shown}: expected a whole number"
                continue
            value = int(value)
        for problem in with_values(config, {key: value})[1]:
            # What has no effect beside the given settings may have one beside others that are tried.
            if problem not in usual and _NO_EFFECT not in problem:
                yield f"{shown}: {problem.partition(': ')[2]}"


def _of_another_option(config: ModelConfig, key: str) -> bool:
    """Return whether a key names a setting that another option of a used group has than the one that is chosen."""
    part, _, rest = key.partition(".")
    options = GROUPS[part].values() if part in _PARTS and part in config.head.uses() else ()
    return any(rest == name for option in options for name, _, _ in _scalars(option))


def _scalars(cls: type[Settings], inside: tuple[str, ...] = ()) -> Iterator[Scalar]:
    """Yield key, path and types of every number, text and switch in a settings dataclass."""
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
