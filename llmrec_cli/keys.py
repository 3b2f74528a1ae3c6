"""Keys of settings: parsed from an override, and the types of their values by the settings dataclasses."""

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from llmrec_cli.settings.base import Settings
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.stages import COMMANDS

MODEL_CONFIG_GROUPS = [f.name for f in dataclasses.fields(ModelConfig) if f.name != "head"]
# A part of a key. Quotes count only if they enclose the whole part: it's, 5"-screen and "a" or "b" are names.
_PART = re.compile(r"""'((?:[^']|'')+)'(?=[.=]|\Z)|"((?:[^"]|"")+)"(?=[.=]|\Z)|([^.=]*)""", re.DOTALL)
_SCALARS = (str, int, float, bool)


@dataclass(frozen=True)
class Change:
    """One change of the composed defaults.

    Attributes
    ----------
    path : key of the setting
    value : the value; for an option of llmrec its name
    text : the override as typed, with a single value in a multirun
    action : `choose` an option of llmrec, `replace` by an option of --config-dir, `set` a value, or `delete`; `unused`
        for a value of an experiment whose option is chosen elsewhere
    origin : file and line of a value in a settings file, or experiment=<name>; empty for the command line
    option : in a settings file, the option that the value belongs to; it has no effect on another option
    """

    path: tuple[str, ...]
    value: Any
    text: str
    action: str = "set"
    origin: str = ""
    option: str = ""

    @property
    def choice(self) -> str:
        """The name of the option, for `choose` and `replace`."""
        return self.text.partition("=")[2]

    @property
    def source(self) -> str:
        """The settings file or the experiment of the value; empty for the command line."""
        return self.origin.rpartition(", line ")[0] or self.origin


@dataclass(frozen=True)
class TypedKey:
    """The key of an override, as typed and in parts, and the value after it; None without an equals sign."""

    text: str
    path: tuple[str, ...]
    value: str | None


def parse_key(text: str) -> TypedKey:
    """Return key and value of an override, `dataset.attributes.'Product Name'=text`.

    Dots divide a key into parts. A part in quotes may contain dots and equals signs; a quote inside is doubled. Double
    quotes around a single word are part of the name: files read without quoting have such columns.
    """
    parts, place = [], 0
    while True:
        match = _PART.match(text, place)
        assert match is not None
        single, double, plain = match.groups()
        if single:
            parts.append(single.replace("''", "'"))
        elif double and re.search(r"[.=\s]", double):
            parts.append(double.replace('""', '"'))
        else:
            parts.append(match[0] if double else plain)
        place = match.end()
        if place == len(text) or text[place] == "=":
            break
        place += 1  # after the dot
    value = text[place + 1:] if place < len(text) else None
    return TypedKey(text[:place], tuple(parts), value)


def config_groups_of(command: str) -> dict[str, dataclasses.Field[Any]]:
    """Return the config groups of a command and the fields they fill."""
    return {f.metadata["group"]: f for f in dataclasses.fields(COMMANDS[command]) if "group" in f.metadata}


def names_of(command: str) -> list[str]:
    """Return the names of a command's top-level settings."""
    return [f.name for f in dataclasses.fields(COMMANDS[command])]


def with_whole_names(cls: type, path: Sequence[str]) -> tuple[str, ...]:
    """Return a path with the dots of a name put back: in a mapping of names to values, all that follows is one name.

    `dataset.attributes.user.id` is the column `user.id`.
    """
    for n in range(1, len(path) - 1):
        if is_mapping(cls, path[:n]):
            return (*path[:n], ".".join(path[n:]))
    return tuple(path)


def is_mapping(cls: type, path: Sequence[str]) -> bool:
    """Return True if the setting at `path` is a mapping of names to texts or numbers."""
    return any(get_origin(kind) is dict and get_args(kind)[1] in _SCALARS
               for hint in hints_at(cls, path) for kind in kinds_of(hint))


def with_option_key(path: Sequence[str]) -> tuple[str, ...]:
    """Return the key of an option's name within a fusion's member, head.members.tower.peft.kind, for the key of the
    option, head.members.tower.peft; any other path as it is. Settings of the option can then be given beside it."""
    is_option = len(path) == 4 and tuple(path[:2]) == ("head", "members") and path[3] in MODEL_CONFIG_GROUPS
    return (*path, "kind") if is_option else tuple(path)


def is_opaque(cls: type, path: Sequence[str]) -> bool:
    """Return True if the setting at `path` belongs to a dataclass with ids and texts only."""
    for part in path[:-1]:
        hint = get_type_hints(cls).get(part)
        if not is_settings(hint):
            return False
        cls = hint
    return issubclass(cls, Settings) and cls.opaque


def is_settings(hint: Any) -> typing.TypeGuard[type[Settings]]:
    """Return True if a type is a settings dataclass."""
    return isinstance(hint, type) and issubclass(hint, Settings)


def kinds_of(hint: Any) -> Iterator[Any]:
    """Yield the members of a union, or the type itself; "list of text" for list[str]."""
    if get_origin(hint) in (typing.Union, types.UnionType):
        for part in get_args(hint):
            yield from kinds_of(part)
    elif hint == list[str]:
        yield "list of text"
    else:
        yield hint


def hints_at(cls: type, path: Sequence[str], options: Mapping[str, type[Settings]] | None = None) -> Iterator[Any]:
    """Yield the possible types of the setting at `path`, over all options of the config groups on the way.

    `options` are the options in use, by config group.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if not path or path[0] not in fields:
        return
    item, rest = fields[path[0]], path[1:]
    if "group" in item.metadata:
        group = item.metadata["group"]
        for option in [options[group]] if options and group in options else CONFIG_GROUPS[group].values():
            yield from hints_at(option, rest)
        return
    yield from _hints_inside(get_type_hints(cls)[path[0]], rest)


def fields_at(cls: type, path: Sequence[str], options: Mapping[str, type[Settings]]) -> list[str]:
    """Return the names of the settings directly below `path`; `options` are the options in use, by config group."""
    if not path:
        return [f.name for f in dataclasses.fields(cls)]
    item = next(f for f in dataclasses.fields(cls) if f.name == path[0])
    if len(path) == 1 and "group" in item.metadata:
        group = item.metadata["group"]
        classes = [options[group]] if group in options else list(CONFIG_GROUPS[group].values())
    else:
        classes = [kind for hint in hints_at(cls, path, options) for kind in kinds_of(hint) if is_settings(kind)]
    return list(dict.fromkeys(f.name for each in classes for f in dataclasses.fields(each)))


def _hints_inside(hint: Any, rest: Sequence[str]) -> Iterator[Any]:
    if not rest:
        yield hint
    elif get_origin(hint) in (typing.Union, types.UnionType):
        for part in get_args(hint):
            yield from _hints_inside(part, rest)
    elif get_origin(hint) is dict:
        value = get_args(hint)[1]
        if value is str:
            yield str  # The rest of the path is a key with dots.
        elif value is ModelConfig and len(rest) >= 2:
            # Keys of a fusion's member: settings of its head, or other config groups.
            if rest[1] in (*MODEL_CONFIG_GROUPS, "head"):
                yield from hints_at(ModelConfig, rest[1:]) if len(rest) > 2 else iter([str])
            else:
                yield from hints_at(ModelConfig, ["head", *rest[1:]])
        else:
            yield from _hints_inside(value, rest[1:])
    elif is_settings(hint):
        yield from hints_at(hint, rest)
