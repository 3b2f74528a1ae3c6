"""Changes of the composed defaults, read from a command line.

Values of text and path settings are taken literally, others are read by Hydra's grammar. `+` means nothing. An
experiment is a named list of overrides. Commas make several runs with --multirun. Unknown names are refused with the
nearest name.
"""

import dataclasses
import itertools
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from llmrec_cli.errors import ConfigError
from llmrec_cli.option_files import (
    EXPERIMENT,
    Override,
    choices,
    experiment,
    is_ours,
    option_values,
    outward,
    require_distinct,
)
from llmrec_cli.plain_yaml import MAX_DEPTH, YamlError, parse_yaml
from llmrec_cli.references import escaped, not_plain, resolver_in
from llmrec_cli.settings.base import Settings, nearest
from llmrec_cli.settings.groups import GROUPS
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.stages import COMMANDS
from llmrec_cli.settings.typed_lists import entries_of

_MAX_RUNS = 1000
_PLUGINS = "plugins"
_BEFORE_AN_ENTRY = ("", *"[{(,:")
RECIPE_GROUPS = [f.name for f in dataclasses.fields(ModelConfig) if f.name != "head"]


@dataclass(frozen=True)
class Change:
    """One change of the composed defaults.

    Attributes
    ----------
    path : where the value goes
    value : the value; of an option of ours its name
    shown : how it was typed, in a run of several the one value of them
    action : `choose` an option of ours, `set` a value, or `delete`
    """

    path: tuple[str, ...]
    value: Any
    shown: str
    action: str = "set"


def groups_of(command: str) -> dict[str, dataclasses.Field[Any]]:
    """Return the config groups of a command and the fields they fill."""
    return {f.metadata["group"]: f for f in dataclasses.fields(COMMANDS[command]) if "group" in f.metadata}


def to_changes(command: str, typed: Sequence[str], config_dir: str | None = None,
               several: bool = False) -> tuple[list[list[Change]], list[str]]:
    """Return the changes of each run for what was typed, and all that is wrong with the rest of it.

    There is one run but with `several`, where commas separate values and every combination is a run.
    """
    require_distinct(config_dir)
    meant = expand_experiment(command, typed, config_dir)
    problems = _without_tuning([override.text for override in meant])
    options = _chosen_options(meant)
    alternatives = []
    for override in meant:
        try:
            found = _changes(command, override.text, config_dir, several, options)
            if override.origin:
                found = [change for change in found if not _note_outward(change, override.origin, problems)]
            alternatives += [found] if found else []
        except ConfigError as error:
            where = f"{override.origin}: " if override.origin else ""
            problems += [f"{where}{problem}" for problem in error.problems]
    number = 1
    for found in alternatives:
        number *= len(found)
    if number > _MAX_RUNS:
        raise ConfigError(f"--multirun: more than {_MAX_RUNS:,} runs, the most that are possible; give fewer values")
    return [list(run) for run in itertools.product(*alternatives)], problems


def _note_outward(change: Change, origin: str, problems: list[str]) -> bool:
    found = [f"{origin}: {problem}" for problem in outward(change.path, change.value)]
    problems += found
    return bool(found)


def expand_experiment(command: str, typed: Sequence[str], config_dir: str | None = None) -> list[Override]:
    """Return the overrides with `experiment=<name>` replaced by what it says for this command."""
    named = [text.partition("=")[2] for text in typed if text.partition("=")[0] == EXPERIMENT]
    rest = [Override(text) for text in typed if text.partition("=")[0] != EXPERIMENT]
    if not named:
        return rest
    if named[-1] not in choices(EXPERIMENT, config_dir):
        raise ConfigError(unknown(EXPERIMENT, named[-1], choices(EXPERIMENT, config_dir)))
    # A group chosen by hand leaves nothing of what the experiment says about it: its settings may be another option's.
    chosen = [key for key in (override.text.partition("=")[0] for override in rest) if key in GROUPS]
    about_chosen = tuple(f"{key}{after}" for key in chosen for after in "=.")
    said = experiment(named[-1], command, config_dir)
    return [*(override for override in said if not override.text.startswith(about_chosen)), *rest]


def _without_tuning(meant: Sequence[str]) -> list[str]:
    """Return a problem for each range of a search space that is given where nothing is tuned."""
    given = dict(text.split("=", 1) for text in meant if "=" in text)
    if given.get("tune.trials", "0") != "0" or "tune" in given:
        return []
    return [f"{key}={value}: has no effect without tuning; set tune.trials=<number>" for key, value in given.items()
            if re.match(r"head\.(members\.[^.]+\.)?search(\.|$)", key)]


def _chosen_options(meant: Sequence[Override]) -> dict[str, type[Settings]]:
    """Return the settings class of each option that is chosen by the name of one of ours, by its group."""
    named = dict(override.text.split("=", 1) for override in meant if "=" in override.text)
    return {group: table[named[group]] for group, table in GROUPS.items() if named.get(group) in table}


def _changes(command: str, text: str, config_dir: str | None, several: bool,
             options: Mapping[str, type[Settings]]) -> list[Change]:
    """Return the change that an override makes; with `several` one for each of its values."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"{text.encode('utf-8', 'backslashreplace').decode()}: is not UTF-8")
    key, equals, value = text.partition("=")
    key = key.lstrip("+")
    delete = key.startswith("~")
    key = key.lstrip("~")
    names = names_of(command)
    # A command's own name before a setting of its says nothing more: `llmrec recommend recommend.delisted=keep`.
    key = key.removeprefix(f"{command}.") if key.split(".")[0] not in names else key
    if re.match(r"hydra([./@:]|\Z)", key):
        raise ConfigError(f"{text[:100]}: nothing of Hydra's own can be set; leave it out (--multirun runs once for "
                          f"each of several values, run_dir=<folder> says where a run is written)")
    if not equals and not delete:
        raise ConfigError(f"{text}: expected a setting, key=value{nearest(text, names)}")
    path = tuple(key.split("."))
    root = path[0]
    if root == _PLUGINS:
        raise ConfigError(f"{text[:100]}: a package runs code, so only the command line can name it, as "
                          f"{_PLUGINS}=[<package>] without anything before it")
    if root == EXPERIMENT:
        raise ConfigError(f"{text[:100]}: an experiment is named on the command line, experiment=<name>, and cannot "
                          f"use another; copy its lines")
    if root not in names:
        known = [*names, EXPERIMENT, *[_PLUGINS] * root.startswith("plug")]
        raise ConfigError(f"{key}: `llmrec {command}` has no such setting{nearest(root, known)}")
    if delete:
        if equals:
            raise ConfigError(f"{text}: to leave something out write ~{key} alone")
        return [Change(path, None, text, "delete")]
    groups = groups_of(command)
    if key in groups:
        return [_choice(key, name, config_dir) for name in (_divided(value) if several else [value])]
    *parents, last = path
    if root in groups and last == "kind":
        # A member of a fusion, head.members.<name>, says with `head` which head it is.
        chosen_by = [*parents, "head"] if parents[1:2] == ["members"] and len(parents) == 3 else parents
        raise ConfigError(f"{text}: choose an option with {'.'.join(chosen_by)}=<name>")
    if parents[:2] == ["head", "members"] and len(parents) == 3 and last in RECIPE_GROUPS and value[:1] != "{":
        # As a mapping, so that a setting of the member's option can be typed beside its name.
        path, last = (*path, "kind"), "kind"
    # Two heads may have a setting of one name and of two types: a text for one of them must be a number for the other.
    of_option = list(_hints_at(options[root], path[1:])) if root in options else []
    hints = [str] if last == "kind" else of_option or list(_hints_at(COMMANDS[command], path))
    short = [hint.shorthand for hint in hints if isinstance(hint, type) and issubclass(hint, Settings)
             and hint.shorthand]
    if short and value[:1] != "{":
        # dataset.knowledge=<file> beside dataset.knowledge.link_on: the one setting that is meant by the name alone.
        path = (*path, short[0])
        hints = list(_hints_at(COMMANDS[command], path))
    opaque = _is_opaque(COMMANDS[command], path)
    found = []
    for part in _divided(value) if several else [value]:
        values = _values(f"{key}={part}", hints, part, opaque, several)
        found += [Change(path, each, f"{key}={part if len(values) == 1 else each}") for each in values]
    return found


def _choice(group: str, name: str, config_dir: str | None) -> Change:
    """Return the change that chooses an option: ours by its name, a shared one by the values of its file."""
    if name not in choices(group, config_dir):
        raise ConfigError(unknown(group, name, choices(group, config_dir)))
    if is_ours(group, name):
        return Change((group,), name, f"{group}={name}", "choose")
    values = option_values(group, name, config_dir)
    if problems := list(outward((group,), values)):
        raise ConfigError([f"{config_dir}/{group}/{name}.yaml: {problem}" for problem in problems])
    return Change((group,), values, f"{group}={name}", "replace")


def names_of(command: str) -> list[str]:
    """Return the settings of a command at the top level."""
    return [f.name for f in dataclasses.fields(COMMANDS[command])]


def unknown(group: str, choice: str, known: Sequence[str]) -> str:
    several = "; to run each of several values add --multirun" if "," in choice else ""
    return f"{group}={choice}: no such {group}{nearest(choice, known)}; choose one of {', '.join(known)}{several}"


def _divided(value: str) -> list[str]:
    """Return the values of a run of several: divided by commas outside of brackets and of quotes.

    Quotes are those that begin a value, and double ones that begin an entry of a list; elsewhere a quote is a
    character as others: o'neil.
    """
    parts, depth, quote = [""], 0, ""
    for character in value:
        if quote:
            quote = "" if character == quote else quote
        elif character in ("\"" if depth else "\"'") and parts[-1].rstrip()[-1:] in _BEFORE_AN_ENTRY:
            quote = character
        else:
            depth = max(0, depth + (character in "([{") - (character in ")]}"))
        if character == "," and not quote and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _values(text: str, hints: Sequence[Any], value: str, opaque: bool, several: bool) -> list[Any]:
    """Return the value of a setting as it was meant: literally where the setting takes text.

    `opaque` takes null for a text too: where a user may be called so. With `several` a range is a value each.
    """
    kinds = {kind for hint in hints for kind in _kinds(hint)}
    if value == "null" and type(None) in kinds and not opaque:
        return [None]
    if any(get_origin(kind) is dict for kind in kinds) and value.startswith("{") and value.endswith("}"):
        return [_mapping(text, value)]
    if "list of text" in kinds and (value.startswith("[") and value.endswith("]")):
        return [[escaped(part) for part in entries_of(value[1:-1])]]
    if several and len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    if str in kinds:
        return [escaped(value)]
    return [[escaped(value)]] if "list of text" in kinds else _parsed(text, value, several)


def _mapping(text: str, value: str) -> Any:
    """Return a mapping in Hydra's grammar, {a:b}, or in YAML's, which has quotes and every script in its keys."""
    try:
        (mapping,) = _parsed(text, value, False)
    except ConfigError as error:
        try:
            mapping = _with_text_keys(text, parse_yaml(value, text[:100]))
        except YamlError:
            raise error from None
    return mapping


def _parsed(text: str, value: str, several: bool) -> list[Any]:
    """Return a value that is no text by Hydra's grammar for overrides; with `several`, all of a range of numbers."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    depth = max(itertools.accumulate((c in "([{") - (c in ")]}") for c in value), default=0)
    if depth > MAX_DEPTH:
        raise ConfigError(f"{text[:100]}: is nested more than {MAX_DEPTH} deep")
    try:
        override = OverridesParser.create().parse_override(f"value={value}")
        if not override.is_sweep_override():
            return [_with_text_keys(text, override.value())]
        if not several:
            raise ConfigError(f"{text}: several values; add --multirun to run once for each, or write a list, "
                              f"{text.partition('=')[0]}=[{value}]")
        # One more than are run, so that too many are refused before they are made.
        found = list(itertools.islice(override.sweep_iterator(), _MAX_RUNS + 1))
    except (HydraException, OmegaConfBaseException, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"{text[:200]}: cannot be read as a value ({said}); put it in quotes") from error
    return [_with_text_keys(text, override._convert_value(each)) for each in found]


def _with_text_keys(text: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_with_text_keys(text, part) for part in value]
    if not isinstance(value, dict):
        if isinstance(value, str) and (shown := resolver_in(value)):
            raise ConfigError(f"{text[:100]}: {not_plain(shown)}")
        return value
    for key in value:
        if not isinstance(key, str):
            raise ConfigError(f"{text[:100]}: the key {key} is not text; put it in quotes")
    return {key: _with_text_keys(text, part) for key, part in value.items()}


def _is_opaque(cls: type, path: Sequence[str]) -> bool:
    """Return whether the setting at `path` is of those whose values are ids and texts alone."""
    for part in path[:-1]:
        hint = get_type_hints(cls).get(part)
        if not (isinstance(hint, type) and issubclass(hint, Settings)):
            return False
        cls = hint
    return issubclass(cls, Settings) and cls.opaque


def _kinds(hint: Any) -> Iterator[Any]:
    if get_origin(hint) in (typing.Union, types.UnionType):
        for part in get_args(hint):
            yield from _kinds(part)
    elif hint == list[str]:
        yield "list of text"
    else:
        yield hint


def _hints_at(cls: type, path: Sequence[str]) -> Iterator[Any]:
    """Yield the types that the setting at `path` may have, over all options of the groups on the way."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if not path or path[0] not in fields:
        return
    item, rest = fields[path[0]], path[1:]
    if "group" in item.metadata:
        for option in GROUPS[item.metadata["group"]].values():
            yield from _hints_at(option, rest)
        return
    yield from _hints_inside(get_type_hints(cls)[path[0]], rest)


def _hints_inside(hint: Any, rest: Sequence[str]) -> Iterator[Any]:
    if not rest:
        yield hint
    elif get_origin(hint) in (typing.Union, types.UnionType):
        for part in get_args(hint):
            yield from _hints_inside(part, rest)
    elif get_origin(hint) is dict:
        value = get_args(hint)[1]
        if value is str:
            yield str  # Whatever is left is the key, a name with dots.
        elif value is ModelConfig and len(rest) >= 2:
            # A member of a fusion: its own keys are a head's, or one of the other groups.
            if rest[1] in (*RECIPE_GROUPS, "head"):
                yield from _hints_at(ModelConfig, rest[1:]) if len(rest) > 2 else iter([str])
            else:
                yield from _hints_at(ModelConfig, ["head", *rest[1:]])
        else:
            yield from _hints_inside(value, rest[1:])
    elif isinstance(hint, type) and issubclass(hint, Settings):
        yield from _hints_at(hint, rest)
