"""Parsing of a command line into changes of the composed defaults.

Values of text settings and paths are literal; other values use Hydra's grammar. `+` is ignored. An experiment is a
named list of overrides. With --multirun commas separate the values of several runs. Unknown names are refused with the
nearest name.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrec_cli.errors import ConfigError
from llmrec_cli.keys import (
    Change,
    config_groups_of,
    hints_at,
    is_mapping,
    is_opaque,
    is_settings,
    names_of,
    parse_key,
    with_option_key,
    with_whole_names,
)
from llmrec_cli.option_files import (
    EXPERIMENT,
    Override,
    choices,
    choices_of,
    experiment,
    is_ours,
    option_values,
    outward,
    require_distinct,
)
from llmrec_cli.settings.base import Settings, defaults, nearest
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.stages import COMMANDS
from llmrec_cli.settings_files import SETTINGS, files_of, settings_changes
from llmrec_cli.suggestions import bare_words, unknown_setting
from llmrec_cli.typed_values import MAX_RUNS, divided, python_value, typed_values

_PLUGINS = "plugins"


def to_changes(command: str, typed: Sequence[str], config_dir: str | None = None, several: bool = False,
               python_values: Mapping[str, Any] | None = None) -> tuple[list[list[Change]], list[str]]:
    """Return the changes of each run for a command line, and the problems of overrides that are left out.

    There is one run. With `several`, commas separate values and every combination is a run. `python_values` are set
    over the command line, under the same keys.
    """
    python_values = python_values or {}
    require_distinct(config_dir)
    typed = with_words(command, typed)
    below, problems = _of_settings_files(command, typed, config_dir)
    typed, alone = bare_words(command, [text for text in typed if text.partition("=")[0] != SETTINGS])
    problems = alone + problems
    chosen = [change.path[0] for change in below if change.action != "set"]
    chosen += [key for key in python_values if key in CONFIG_GROUPS]
    named, unused, rest = expand_experiment(command, typed, config_dir, chosen)
    texts = [*(override.text for override in named), *(change.text for change in below), *rest,
             *(f"{key}={value}" for key, value in python_values.items())]
    problems += _without_tuning(texts)
    options = _option_classes(texts)
    alternatives: list[list[Change]] = []
    overrides: list[Override | Change] = [*unused, *named, *below, *map(Override, rest)]
    for override in overrides:
        if isinstance(override, Change):
            alternatives.append([override])
            continue
        try:
            changes = _changes(command, override.text, config_dir, several, options)
            if override.origin:
                changes = [change for change in changes if not _note_outward(change, override.origin, problems)]
            alternatives += [[replace(change, origin=override.experiment) for change in changes]] if changes else []
        except ConfigError as error:
            where = f"{override.origin}: " if override.origin else ""
            problems += [f"{where}{problem}" for problem in error.problems]
    for key, value in python_values.items():
        try:
            alternatives.append([_value_change(command, key, value, options)])
        except ConfigError as error:
            problems += error.problems
    number = 1
    for changes in alternatives:
        number *= len(changes)
    if number > MAX_RUNS:
        raise ConfigError(f"--multirun: more than {MAX_RUNS:,} runs; give fewer values")
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


def _of_settings_files(command: str, typed: Sequence[str], config_dir: str | None) -> tuple[list[Change], list[str]]:
    """Return the changes of the settings files that a command line names, and their problems."""
    changes, problems = settings_changes(command, files_of(typed))
    result = []
    for change in changes:
        if change.action == "choose":
            try:
                change = replace(_choice(command, change.path[0], change.value, config_dir), origin=change.origin)
            except ConfigError as error:
                problems += [f"{change.origin}: {problem}" for problem in error.problems]
                continue
        result.append(change)
    return result, problems


def expand_experiment(command: str, typed: Sequence[str], config_dir: str | None = None,
                      chosen: Sequence[str] = ()) -> tuple[list[Override], list[Change], list[str]]:
    """Return the overrides of `experiment=<name>` for this command, its unused values, and the rest of the command
    line.

    `chosen` are the config groups whose option a settings file names.
    """
    named = [text.partition("=")[2] for text in typed if text.partition("=")[0] == EXPERIMENT]
    rest = [text for text in typed if text.partition("=")[0] != EXPERIMENT]
    if not named:
        return [], [], rest
    if named[-1] not in choices(EXPERIMENT, config_dir):
        raise ConfigError(unknown(EXPERIMENT, named[-1], choices(EXPERIMENT, config_dir)))
    # An option on the command line replaces all of the experiment's settings for its config group, which may belong to
    # another option.
    replaced = [key for key in (text.partition("=")[0] for text in rest) if key in CONFIG_GROUPS]
    options, values = (tuple(f"{key}{after}" for key in (*replaced, *chosen)) for after in "=.")
    overrides = experiment(named[-1], command, config_dir)
    unused = [Change(parse_key(override.text.lstrip("+")).path, None, override.text, "unused", override.experiment)
              for override in overrides if override.text.lstrip("+").startswith(values)]
    used = [override for override in overrides if not override.text.lstrip("~+").startswith((*options, *values))]
    return used, unused, rest


def _without_tuning(texts: Sequence[str]) -> list[str]:
    """Return a problem for each range of a search space if tuning is off."""
    values = dict(text.split("=", 1) for text in texts if "=" in text)
    if values.get("tune.trials", "0") != "0" or "tune" in values or values.get("tune.budget"):
        return []
    return [f"{key}={value}: has no effect without tuning; set tune.trials=<number>" for key, value in values.items()
            if re.match(r"head\.(members\.[^.]+\.)?search(\.|$)", key)]


def _option_classes(texts: Sequence[str]) -> dict[str, type[Settings]]:
    """Return the settings class of each option of llmrec in the overrides, by config group."""
    named = dict(text.split("=", 1) for text in texts if "=" in text)
    return {group: table[named[group]] for group, table in CONFIG_GROUPS.items() if named.get(group) in table}


def _changes(command: str, text: str, config_dir: str | None, several: bool,
             options: Mapping[str, type[Settings]]) -> list[Change]:
    """Return the change of an override; with `several` a change for each of its values."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"{text.encode('utf-8', 'backslashreplace').decode()}: is not UTF-8")
    plain = text.lstrip("+")
    delete, names = plain.startswith("~"), names_of(command)
    typed = parse_key(plain.lstrip("~"))
    key, value, path = typed.text, typed.value or "", typed.path
    if path[0] == command not in names:
        # The command's name before a setting is ignored: `llmrec recommend recommend.delisted=keep`.
        key, path = key.removeprefix(f"{command}."), path[1:] or path
    if re.match(r"hydra([./@:]|\Z)", key):
        raise ConfigError(f"{text[:100]}: Hydra's own settings cannot be changed; leave it out (use --multirun for "
                          f"several values, run_dir=<folder> for the folder of the run)")
    if typed.value is None and not delete:
        raise ConfigError(f"{text}: expected a setting, key=value{nearest(text, names)}")
    root = path[0]
    if root == _PLUGINS:
        raise ConfigError(f"{text[:100]}: packages run code, so they can only be given on the command line; write "
                          f"{_PLUGINS}=[<package>] without anything before it")
    if root == SETTINGS:
        raise ConfigError(f"{text[:100]}: names files on the command line, {SETTINGS}=<file>.yaml, without anything "
                          f"before it")
    if root == EXPERIMENT:
        raise ConfigError(f"{text[:100]}: an experiment is named on the command line, experiment=<name>, and cannot "
                          f"use another; copy its lines")
    if root not in names:
        raise ConfigError(unknown_setting(command, ".".join(path), options))
    if delete:
        if typed.value is not None:
            raise ConfigError(f"{text}: to leave out a setting write only ~{key}")
        return [Change(with_whole_names(COMMANDS[command], path), None, text, "delete")]
    groups = config_groups_of(command)
    if key in groups:
        return [_choice(command, key, name, config_dir) for name in (divided(value) if several else [value])]
    path, hints = _place(command, text, path, options, value[:1] == "{")
    opaque = is_opaque(COMMANDS[command], path)
    changes = []
    for part in divided(value) if several else [value]:
        values = typed_values(f"{key}={part}", hints, part, opaque, several)
        changes += [Change(path, each, f"{key}={part if len(values) == 1 else each}") for each in values]
    return changes


def _place(command: str, text: str, path: Sequence[str], options: Mapping[str, type[Settings]],
           is_mapping_value: bool) -> tuple[tuple[str, ...], list[Any]]:
    """Return the path at which a value is set, and its possible types."""
    root, path = path[0], with_whole_names(COMMANDS[command], path)
    *parents, last = path
    names_option = last == "kind" and not is_mapping(COMMANDS[command], parents)
    if root in config_groups_of(command) and names_option:
        # The head of a fusion's member, head.members.<name>, is set by its key `head`.
        option_key = [*parents, "head"] if parents[1:2] == ["members"] and len(parents) == 3 else parents
        raise ConfigError(f"{text}: choose an option with {'.'.join(option_key)}=<name>")
    if not is_mapping_value and with_option_key(path) != path:
        path, names_option = with_option_key(path), True
    # Two options may have settings with the same name but different types, so the type is taken from the option in use.
    of_option = list(hints_at(options[root], path[1:])) if root in options else []
    hints = [str] if names_option else of_option or list(hints_at(COMMANDS[command], path))
    short = [hint.shorthand for hint in hints if is_settings(hint) and hint.shorthand]
    if short and not is_mapping_value:
        # Shorthand: dataset.knowledge=<file> stands for dataset.knowledge.triples=<file>.
        path = (*path, short[0])
        hints = list(hints_at(COMMANDS[command], path))
    return path, hints


def _value_change(command: str, key: str, value: Any, options: Mapping[str, type[Settings]]) -> Change:
    """Return the change of a setting to a Python value; texts are literal."""
    path, text = parse_key(key).path, f"{key}={value}"
    if path[0] not in names_of(command):
        raise ConfigError(unknown_setting(command, key, options))
    if key in config_groups_of(command):
        if not isinstance(value, str):
            raise ConfigError(f"{text[:100]}: expected the name of an option; its settings have keys of their own, "
                              f"{key}.<setting>")
        return _choice(command, key, value, None)
    path, hints = _place(command, text, path, options, isinstance(value, Mapping))
    return Change(path, python_value(key, hints, value), text)


def _choice(command: str, group: str, name: str, config_dir: str | None) -> Change:
    """Return the change that selects an option: by name for an option of llmrec, by the values of its file for a shared
    one, or by a folder for an option that names one."""
    if name not in choices(group, config_dir):
        by_folder = [cls for cls in CONFIG_GROUPS[group].values() if cls.folder_setting]
        if by_folder and Path(name).is_dir():
            return Change((group,), defaults(by_folder[0]) | {by_folder[0].folder_setting: name}, f"{group}={name}",
                          "replace")
        hint = "; there is no folder of this name either" if by_folder and "/" in name else ""
        raise ConfigError(unknown(group, name, choices_of(command, group, config_dir)) + hint)
    if is_ours(group, name):
        return Change((group,), name, f"{group}={name}", "choose")
    values = option_values(group, name, config_dir)
    if problems := list(outward((group,), values)):
        raise ConfigError([f"{config_dir}/{group}/{name}.yaml: {problem}" for problem in problems])
    return Change((group,), values, f"{group}={name}", "replace")


def unknown(group: str, choice: str, options: Sequence[str]) -> str:
    """Return the message for an unknown option of a config group."""
    several = "; to run several values add --multirun" if "," in choice else ""
    if choice.endswith((".yaml", ".yml")):
        several = f"; to use a file of settings write {SETTINGS}={choice}"
    return f"{group}={choice}: no such {group}{nearest(choice, options)}; choose one of {', '.join(options)}{several}"
