"""Parsing of a command line into changes of the composed defaults.

Values of text settings and paths are literal; other values use Hydra's grammar. `+` is ignored. An experiment is a
named list of overrides. With --multirun commas separate the values of several runs. Unknown names are refused with the
nearest name.
"""

import dataclasses
import itertools
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from llmrec_cli.references import escape, not_plain, resolver_in
from llmrec_cli.settings.base import Settings, nearest
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.stages import COMMANDS
from llmrec_cli.settings.typed_lists import entries_of

_MAX_RUNS = 1000
_PLUGINS = "plugins"
_BEFORE_AN_ENTRY = ("", *"[{(,:")
MODEL_CONFIG_GROUPS = [f.name for f in dataclasses.fields(ModelConfig) if f.name != "head"]


@dataclass(frozen=True)
class Change:
    """One change of the composed defaults.

    Attributes
    ----------
    path : key of the setting
    value : the value; for an option of llmrec its name
    text : the override as typed, with a single value in a multirun
    action : `choose` an option of llmrec, `replace` by an option of --config-dir, `set` a value, or `delete`
    """

    path: tuple[str, ...]
    value: Any
    text: str
    action: str = "set"


def config_groups_of(command: str) -> dict[str, dataclasses.Field[Any]]:
    """Return the config groups of a command and the fields they fill."""
    return {f.metadata["group"]: f for f in dataclasses.fields(COMMANDS[command]) if "group" in f.metadata}


def to_changes(command: str, typed: Sequence[str], config_dir: str | None = None,
               several: bool = False) -> tuple[list[list[Change]], list[str]]:
    """Return the changes of each run for a command line, and the problems of overrides that are left out.

    There is one run. With `several`, commas separate values and every combination is a run.
    """
    require_distinct(config_dir)
    typed = with_words(command, typed)
    overrides = expand_experiment(command, typed, config_dir)
    problems = _without_tuning([override.text for override in overrides])
    options = _option_classes(overrides)
    alternatives = []
    for override in overrides:
        try:
            changes = _changes(command, override.text, config_dir, several, options)
            if override.origin:
                changes = [change for change in changes if not _note_outward(change, override.origin, problems)]
            alternatives += [changes] if changes else []
        except ConfigError as error:
            where = f"{override.origin}: " if override.origin else ""
            problems += [f"{where}{problem}" for problem in error.problems]
    number = 1
    for changes in alternatives:
        number *= len(changes)
    if number > _MAX_RUNS:
        raise ConfigError(f"--multirun: more than {_MAX_RUNS:,} runs; give fewer values")
    return [list(run) for run in itertools.product(*alternatives)], problems


def with_words(command: str, typed: Sequence[str]) -> list[str]:
    """Return the overrides with the values that are given without a key as one override: files=["a.csv","b.csv"]."""
    setting: str = getattr(COMMANDS[command], "words", "")
    words = [text for text in typed if setting and ("=" not in text or Path(text).is_file())]
    listed = ",".join(f'"{word}"' for word in words)
    return [*(text for text in typed if text not in words), *([f"{setting}=[{listed}]"] if words else [])]


def _note_outward(change: Change, origin: str, problems: list[str]) -> bool:
    refused = [f"{origin}: {problem}" for problem in outward(change.path, change.value)]
    problems += refused
    return bool(refused)


def expand_experiment(command: str, typed: Sequence[str], config_dir: str | None = None) -> list[Override]:
    """Return the overrides with `experiment=<name>` replaced by the experiment's overrides for this command."""
    named = [text.partition("=")[2] for text in typed if text.partition("=")[0] == EXPERIMENT]
    rest = [Override(text) for text in typed if text.partition("=")[0] != EXPERIMENT]
    if not named:
        return rest
    if named[-1] not in choices(EXPERIMENT, config_dir):
        raise ConfigError(unknown(EXPERIMENT, named[-1], choices(EXPERIMENT, config_dir)))
    # An option on the command line replaces all of the experiment's settings for its config group, which may belong to
    # another option.
    replaced = [key for key in (override.text.partition("=")[0] for override in rest) if key in CONFIG_GROUPS]
    prefixes = tuple(f"{key}{after}" for key in replaced for after in "=.")
    overrides = experiment(named[-1], command, config_dir)
    return [*(override for override in overrides if not override.text.startswith(prefixes)), *rest]


def _without_tuning(texts: Sequence[str]) -> list[str]:
    """Return a problem for each range of a search space if tuning is off."""
    values = dict(text.split("=", 1) for text in texts if "=" in text)
    if values.get("tune.trials", "0") != "0" or "tune" in values:
        return []
    return [f"{key}={value}: has no effect without tuning; set tune.trials=<number>" for key, value in values.items()
            if re.match(r"head\.(members\.[^.]+\.)?search(\.|$)", key)]


def _option_classes(overrides: Sequence[Override]) -> dict[str, type[Settings]]:
    """Return the settings class of each option of llmrec in the overrides, by config group."""
    named = dict(override.text.split("=", 1) for override in overrides if "=" in override.text)
    return {group: table[named[group]] for group, table in CONFIG_GROUPS.items() if named.get(group) in table}


def _changes(command: str, text: str, config_dir: str | None, several: bool,
             options: Mapping[str, type[Settings]]) -> list[Change]:
    """Return the change of an override; with `several` a change for each of its values."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"{text.encode('utf-8', 'backslashreplace').decode()}: is not UTF-8")
    key, equals, value = text.partition("=")
    key = key.lstrip("+")
    delete = key.startswith("~")
    key = key.lstrip("~")
    names = names_of(command)
    # The command's name before a setting is ignored: `llmrec recommend recommend.delisted=keep`.
    key = key.removeprefix(f"{command}.") if key.split(".")[0] not in names else key
    if re.match(r"hydra([./@:]|\Z)", key):
        raise ConfigError(f"{text[:100]}: Hydra's own settings cannot be changed; leave it out (use --multirun for "
                          f"several values, run_dir=<folder> for the folder of the run)")
    if not equals and not delete:
        raise ConfigError(f"{text}: expected a setting, key=value{nearest(text, names)}")
    path = tuple(key.split("."))
    root = path[0]
    if root == _PLUGINS:
        raise ConfigError(f"{text[:100]}: packages run code, so they can only be given on the command line; write "
                          f"{_PLUGINS}=[<package>] without anything before it")
    if root == EXPERIMENT:
        raise ConfigError(f"{text[:100]}: an experiment is named on the command line, experiment=<name>, and cannot "
                          f"use another; copy its lines")
    if root not in names:
        candidates = [*names, EXPERIMENT, *[_PLUGINS] * root.startswith("plug")]
        raise ConfigError(f"{key}: `llmrec {command}` has no such setting{nearest(root, candidates)}")
    if delete:
        if equals:
            raise ConfigError(f"{text}: to leave out a setting write only ~{key}")
        return [Change(path, None, text, "delete")]
    groups = config_groups_of(command)
    if key in groups:
        return [_choice(key, name, config_dir) for name in (_divided(value) if several else [value])]
    *parents, last = path
    if root in groups and last == "kind":
        # The head of a fusion's member, head.members.<name>, is set by its key `head`.
        option_key = [*parents, "head"] if parents[1:2] == ["members"] and len(parents) == 3 else parents
        raise ConfigError(f"{text}: choose an option with {'.'.join(option_key)}=<name>")
    if parents[:2] == ["head", "members"] and len(parents) == 3 and last in MODEL_CONFIG_GROUPS and value[:1] != "{":
        # As a mapping, so that settings of the member's option can be given too.
        path, last = (*path, "kind"), "kind"
    # Two options may have settings with the same name but different types, so the type is taken from the option in use.
    of_option = list(_hints_at(options[root], path[1:])) if root in options else []
    hints = [str] if last == "kind" else of_option or list(_hints_at(COMMANDS[command], path))
    short = [hint.shorthand for hint in hints if isinstance(hint, type) and issubclass(hint, Settings)
             and hint.shorthand]
    if short and value[:1] != "{":
        # Shorthand: dataset.knowledge=<file> stands for dataset.knowledge.triples=<file>.
        path = (*path, short[0])
        hints = list(_hints_at(COMMANDS[command], path))
    opaque = _is_opaque(COMMANDS[command], path)
    changes = []
    for part in _divided(value) if several else [value]:
        values = _values(f"{key}={part}", hints, part, opaque, several)
        changes += [Change(path, each, f"{key}={part if len(values) == 1 else each}") for each in values]
    return changes


def _choice(group: str, name: str, config_dir: str | None) -> Change:
    """Return the change that selects an option: by name for an option of llmrec, by the values of its file for a shared
    one."""
    if name not in choices(group, config_dir):
        raise ConfigError(unknown(group, name, choices(group, config_dir)))
    if is_ours(group, name):
        return Change((group,), name, f"{group}={name}", "choose")
    values = option_values(group, name, config_dir)
    if problems := list(outward((group,), values)):
        raise ConfigError([f"{config_dir}/{group}/{name}.yaml: {problem}" for problem in problems])
    return Change((group,), values, f"{group}={name}", "replace")


def names_of(command: str) -> list[str]:
    """Return the names of a command's top-level settings."""
    return [f.name for f in dataclasses.fields(COMMANDS[command])]


def unknown(group: str, choice: str, options: Sequence[str]) -> str:
    """Return the message for an unknown option of a config group."""
    several = "; to run several values add --multirun" if "," in choice else ""
    return f"{group}={choice}: no such {group}{nearest(choice, options)}; choose one of {', '.join(options)}{several}"


def _divided(value: str) -> list[str]:
    """Return the values of an override in a multirun: separated by commas outside of brackets and quotes.

    A quote counts only at the start of a value, and a double quote also at the start of a list entry; elsewhere it is
    an ordinary character: o'neil.
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
    """Return the value of a setting: literal if the setting takes text, else parsed.

    With `opaque`, null is a text too, since it may be an id. With `several`, a range gives several values.
    """
    kinds = {kind for hint in hints for kind in _kinds(hint)}
    if value == "null" and type(None) in kinds and not opaque:
        return [None]
    if any(get_origin(kind) is dict for kind in kinds) and value.startswith("{") and value.endswith("}"):
        return [_mapping(text, value)]
    if "list of text" in kinds and (value.startswith("[") and value.endswith("]")):
        return [[escape(part) for part in entries_of(value[1:-1])]]
    if several and len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    if str in kinds:
        return [escape(value)]
    return [[escape(value)]] if "list of text" in kinds else _parsed(text, value, several)


def _mapping(text: str, value: str) -> Any:
    """Return a mapping in Hydra's grammar, {a:b}, or else in YAML, which allows quotes and all scripts in keys."""
    try:
        (mapping,) = _parsed(text, value, False)
    except ConfigError as error:
        try:
            mapping = _with_text_keys(text, parse_yaml(value, text[:100]))
        except YamlError:
            raise error from None
    return mapping


def _parsed(text: str, value: str, several: bool) -> list[Any]:
    """Return a non-text value parsed by Hydra's grammar of overrides; with `several`, all values of a range."""
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
            raise ConfigError(f"{text}: several values; add --multirun to run each of them, or write a list, "
                              f"{text.partition('=')[0]}=[{value}]")
        # One more than the limit, so that longer ranges are refused without being generated.
        parsed = list(itertools.islice(override.sweep_iterator(), _MAX_RUNS + 1))
    except (HydraException, OmegaConfBaseException, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{text[:200]}: cannot be read as a value ({reason}); put it in quotes") from error
    return [_with_text_keys(text, override._convert_value(each)) for each in parsed]


def _with_text_keys(text: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_with_text_keys(text, part) for part in value]
    if not isinstance(value, dict):
        if isinstance(value, str) and (expression := resolver_in(value)):
            raise ConfigError(f"{text[:100]}: {not_plain(expression)}")
        return value
    for key in value:
        if not isinstance(key, str):
            raise ConfigError(f"{text[:100]}: the key {key} is not text; put it in quotes")
    return {key: _with_text_keys(text, part) for key, part in value.items()}


def _is_opaque(cls: type, path: Sequence[str]) -> bool:
    """Return True if the setting at `path` belongs to a dataclass with ids and texts only."""
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
    """Yield the possible types of the setting at `path`, over all options of the config groups on the way."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if not path or path[0] not in fields:
        return
    item, rest = fields[path[0]], path[1:]
    if "group" in item.metadata:
        for option in CONFIG_GROUPS[item.metadata["group"]].values():
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
            yield str  # The rest of the path is a key with dots.
        elif value is ModelConfig and len(rest) >= 2:
            # Keys of a fusion's member: settings of its head, or other config groups.
            if rest[1] in (*MODEL_CONFIG_GROUPS, "head"):
                yield from _hints_at(ModelConfig, rest[1:]) if len(rest) > 2 else iter([str])
            else:
                yield from _hints_at(ModelConfig, ["head", *rest[1:]])
        else:
            yield from _hints_inside(value, rest[1:])
    elif isinstance(hint, type) and issubclass(hint, Settings):
        yield from _hints_at(hint, rest)
