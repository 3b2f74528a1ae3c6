"""Dataclasses that define the configuration: its keys, types, defaults and checks.

A config group is a table `{option name: dataclass}`. A field that holds an option of a group is declared with
`option("encoder")`. Its mapping has the option's name in the key `kind`, also in a saved config. `Builder` collects all
problems instead of stopping at the first.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field
from importlib import import_module
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from llmrec_cli.errors import ConfigError

Table = Mapping[str, type["Settings"]]
LARGEST = 2**31 - 1
"""Largest whole number that a setting accepts; a larger count is a typing mistake."""
LARGEST_SEED = 2**63 - 1
MAX_PRINTED = 200
"""Most characters of a value in a message."""


def largest(key: str) -> int:
    """Return the largest whole number for the setting `key` if it has no range of its own."""
    return LARGEST_SEED if key.endswith("seed") else LARGEST


@dataclass
class Settings:
    """Base of every settings dataclass."""

    shorthand: ClassVar[str] = ""
    """Field that is set when a value is given in place of the mapping, `output=x` for `output.path=x`; empty for
    none."""

    opaque: ClassVar[bool] = False
    """True if every value is an id or a text, so that `null` on the command line is the id "null" and not an empty
    value."""

    @classmethod
    def has_setting(cls, name: str) -> bool:
        """Return True if a field is a setting of this class; False if every value but its default is refused."""
        return True

    def problems(self) -> Iterator[str]:
        """Yield one sentence per value out of range or combination that cannot work.

        A sentence starts with the key, relative to this dataclass: `learning_rate=-1: must be above 0`.
        """
        return iter(())

    def check(self, *keys: str, above: float | None = None, least: float | None = None,
              most: float | None = None, among: typing.Collection[Any] | None = None) -> Iterator[str]:
        """Yield a problem for each of the fields `keys` outside the given range; None is skipped."""
        for key in keys:
            value = getattr(self, key)
            if value is None:
                continue
            if above is not None and not value > above:
                yield f"{key}={value}: must be above {above}"
            if least is not None and not value >= least:
                yield f"{key}={value}: must be at least {least}"
            if most is not None and not value <= most:
                yield f"{key}={value}: must be at most {most}"
            if most is None and isinstance(value, int) and value > largest(key):
                yield f"{key}={value}: must be from {least} to {largest(key)}"
            if among is not None and value not in among:
                yield f"{key}={value}: choose one of {', '.join(map(str, among))}{nearest(str(value), among)}"

    def without_effect(self, *keys: str, why: str) -> Iterator[str]:
        """Yield a problem for each of the fields `keys` that differs from its default: it has no effect, for the reason
        `why`."""
        defaults = {field.name: field.default if field.default_factory is MISSING
                    else field.default_factory() for field in dataclasses.fields(self)}
        for key in keys:
            if (value := getattr(self, key)) != defaults[key]:
                yield f"{key}={str(value).lower() if isinstance(value, bool) else value}: has no effect {why}"


@dataclass
class OptionSettings(Settings):
    """Base of the options of a config group. The group's table is where an option is registered."""

    implementation: ClassVar[str] = ""
    """Dotted path of the class or function that implements the option. It is imported when needed. Configs never name
    it: they are data."""

    plugin: ClassVar[str] = ""
    """Package of plugins=[...] that registered the option; empty for options of llmrec."""

    folder_setting: ClassVar[str] = ""
    """Setting that names a folder, if the option can be chosen by that folder: encoder=<folder>."""

    @classmethod
    def fits_command(cls, command: str) -> bool:
        """Return True if the command can use the option, so that its help offers it."""
        return True

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        """Return configurations that `llmrec_cli.testing` tests the option with: name -> overrides as on the command
        line.

        `{"": [], "bm25": ["head.weighting=bm25"]}` tests the defaults and another weighting. `{encoder}` stands for the
        folder of a small text encoder.
        """
        return {"": []}


def implementation_of(settings: OptionSettings | type[OptionSettings]) -> Any:
    """Import and return the implementation of an option, given its settings or their class."""
    module, _, name = settings.implementation.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        if not settings.plugin:
            raise
        raise ConfigError(f"plugins={settings.plugin}: {settings.implementation}, the implementation of "
                          f"{type(settings).__name__}, cannot be imported ({error}); fix the package") from error


def option(group: str, default: str | None = None, optional: bool = False, implied: bool = False) -> Any:
    """Declare a field that holds one option of a config group.

    With `implied`, settings in a settings file without the option's name belong to the default option.
    """
    metadata = {"group": group, "default": default, "optional": optional, "implied": implied}
    return field(default=None, metadata=metadata) if optional else field(metadata=metadata, kw_only=True)


def nearest(name: str, names: typing.Iterable[Any], context: str = "did you mean", cutoff: float = 0.5) -> str:
    """Return ` (did you mean 'x'?)` for the name closest to `name`, whatever its case, or an empty string."""
    close = closest(name, names, cutoff)
    return f" ({context} '{close}'?)" if close is not None else ""


def closest(name: str, names: typing.Iterable[Any], cutoff: float = 0.5) -> str | None:
    """Return the name closest to `name`, whatever its case; None if none is as similar as `cutoff`."""
    by_lower = {str(n).lower(): str(n) for n in reversed(list(names))}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else None


def defaults(cls: type[Settings]) -> dict[str, Any]:
    """Return the defaults of a settings dataclass as plain data, without its option fields."""
    plain = {}
    for item in dataclasses.fields(cls):
        if "group" in item.metadata:
            continue
        if item.default is not MISSING:
            plain[item.name] = to_plain(item.default)
        elif item.default_factory is not MISSING:
            plain[item.name] = to_plain(item.default_factory())
    return plain


def to_plain(value: Any) -> Any:
    """Return settings as nested dicts, lists and scalars, ready for YAML or JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return value


_LISTS = {int: "expected whole numbers, 10 or [5,10]", float: "expected numbers, 0.5 or [0.5,1]"}


class Builder:
    """Turns plain data into settings dataclasses and collects the problems."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self.tables = tables
        self.problems: list[str] = []

    def settings(self, cls: type[Settings], data: Any, path: str = "") -> Any:
        """Return an instance of `cls` filled from `data`, or None after noting problems."""
        if cls.shorthand and isinstance(data, (str, bool)):
            data = {cls.shorthand: data}
        if not isinstance(data, Mapping):
            inside = ", ".join(f.name for f in dataclasses.fields(cls))
            return self._note(path, data, f"expected a mapping of settings; write {path}.<setting>=<value> with one of "
                                          f"{inside}")
        names = {f.name: f for f in dataclasses.fields(cls)}
        hints = get_type_hints(cls)
        values: dict[str, Any] = {}
        for key, value in data.items():
            where = f"{path}.{key}" if path else str(key)
            if key not in names:
                hint = self._options_with(cls, str(key)) or nearest(str(key), names)
                self.problems.append(f"{where}: unknown key{hint}")
                continue
            before = len(self.problems)
            grouped = "group" in names[key].metadata
            built = self._option(names[key], value, where) if grouped else self._value(hints[key], value, where)
            if not cls.opaque and any("\0" in text for text in _texts(built)):
                self.problems.append(f"{where}={value}: holds a NUL character, which no path and no text may have")
            elif built is not None or len(self.problems) == before:
                values[key] = built
        for item in names.values():
            required = item.default is MISSING and item.default_factory is MISSING
            if required and item.name not in values:
                where = f"{path}.{item.name}" if path else item.name
                return None if item.name in data else self.problems.append(f"{where}: missing; set {where}=<value>")
        # Unreadable values keep their defaults here, so that the other values are still checked.
        settings = cls(**values)
        prefix = f"{path}." if path else ""
        problems = list(settings.problems())
        self.problems += [prefix + problem for problem in problems]
        for name in names:
            # The general limit, for numbers without an upper limit of their own.
            if too_large := _too_large(name, getattr(settings, name)):
                reported = any(problem.startswith(f"{name}=") and "must be" in problem for problem in problems)
                self.problems += [] if reported else [prefix + too_large]
        return settings

    def _option(self, item: dataclasses.Field[Any], value: Any, where: str) -> Any:
        group = item.metadata["group"]
        if value is None and item.metadata["optional"]:
            return None
        if not isinstance(value, Mapping) or "kind" not in value:
            return self._note(where, value, f"expected one option of the group '{group}' with its kind")
        table = self.tables[group]
        name = value["kind"]
        if not isinstance(name, str) or name not in table:
            return self._note(f"{where}.kind", name, f"no such {group}{nearest(str(name), table)}; "
                                                     f"choose one of {', '.join(table)}")
        cls = table[name]
        if issubclass(cls, OptionSettings) and not cls.implementation:
            others = [other for other in table if other != name]
            return self._note(f"{where}.kind", name, f"has settings but no implementation; name one in {cls.__name__}."
                                                     f"implementation, or choose one of {', '.join(others)}"
                                                     f"{nearest(name, others)}")
        return self.settings(cls, value, where)

    def _options_with(self, cls: type[Settings], key: str) -> str:
        """Return a hint at the other options of the group of `cls` that have a setting `key`, "" if none has."""
        for group, table in self.tables.items():
            if cls in table.values():
                having = [name for name, other in table.items() if key in {f.name for f in dataclasses.fields(other)}]
                return f"; it is a setting of {', '.join(f'{group}={name}' for name in having[:3])}" if having else ""
        return ""

    def _value(self, hint: Any, value: Any, where: str) -> Any:
        origin, args = get_origin(hint), get_args(hint)
        if hint is Any:
            return value
        if origin in (typing.Union, types.UnionType):
            if value is None and type(None) in args:
                return None
            fitting = [a for a in args if a is not type(None) and _looks_like(a, value)]
            member = fitting[0] if fitting else next(a for a in args if a is not type(None))
            return self._value(member, value, where)
        if origin is list:
            if not isinstance(value, (list, tuple)):
                return self._note(where, value, _LISTS.get(args[0], "expected a list, [a,b,c]"))
            entries = [self._value(args[0], v, f"{where}[{n}]") for n, v in enumerate(value)]
            return None if None in entries else entries
        if origin is dict:
            if not isinstance(value, Mapping):
                return self._note(where, value, f"expected a mapping; write '{where}={{<name>: <value>, <name>: "
                                                f"<value>}}', in quotes, since the shell would divide it")
            if args[1] is str:
                value = dict(_flat(value))
            values = {str(k): self._value(args[1], v, f"{where}.{k}") for k, v in value.items()}
            if isinstance(args[1], type) and issubclass(args[1], Settings):
                # Unreadable entries are reported already; the others are still checked together.
                return {k: v for k, v in values.items() if v is not None}
            return None if None in values.values() else values
        if isinstance(hint, type) and issubclass(hint, Settings):
            return self.settings(hint, value, where)
        return self._scalar(hint, value, where)

    def _scalar(self, hint: type, value: Any, where: str) -> Any:
        if hint is bool and isinstance(value, bool):
            return value
        if hint is int and isinstance(value, int) and not isinstance(value, bool):
            if abs(value) < 10**30:
                return value
            # Larger integers would overflow when settings compare them with floats.
            return self._note(where, value, f"must be from {-largest(where)} to {largest(where)}")
        if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            return number if math.isfinite(number) else self._note(where, value, "must be a finite number")
        if hint is str and isinstance(value, str):
            return value
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text (in YAML, quote it)"}
        quoted = hint in (int, float) and isinstance(value, str) and value.strip().replace(".", "", 1).isdecimal()
        return self._note(where, value, f"expected {words[hint]}{', without quotes' * quoted}")

    def _note(self, where: str, value: Any, message: str) -> None:
        printed = "null" if value is None else str(value)
        printed = printed if len(printed) <= MAX_PRINTED else f"{printed[:MAX_PRINTED]}..."
        self.problems.append(f"{where}={printed}: {message}")


def _texts(value: Any) -> list[str]:
    """Return the texts of a value: itself, or the texts in a list."""
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


def _flat(mapping: Mapping[Any, Any], inside: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of a mapping to text, with keys that contain dots joined again.

    `engine.conf.spark.executor.memory=8g` arrives as {spark: {executor: {memory: 8g}}}, numbers as numbers.
    """
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{inside}{key}.")
        elif inside and isinstance(value, (bool, int, float)):
            yield f"{inside}{key}", str(value).lower()
        else:
            yield f"{inside}{key}", value


def _too_large(name: str, value: Any) -> str:
    """Return the problem of a whole number, alone or in a list, above the general limit; '' if there is none."""
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, int) and not isinstance(number, bool) and abs(number) > largest(name):
            return f"{name}={number}: must be from {-largest(name)} to {largest(name)}"
    return ""


def _looks_like(hint: Any, value: Any) -> bool:
    origin = get_origin(hint)
    if origin is list:
        return isinstance(value, (list, tuple))
    if origin is dict or (isinstance(hint, type) and issubclass(hint, Settings)):
        return isinstance(value, Mapping)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)

