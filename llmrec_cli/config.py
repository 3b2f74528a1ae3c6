"""Composition of settings from a command line and shared files; all problems are raised together.

Hydra composes only the files of llmrec. Command lines (parsed by `overrides.py`) and shared files (parsed by
`option_files.py`) are data that overrides their values and cannot change Hydra's own settings. This module refuses
unknown keys, even after `+`, and reports all problems together. Defaults that depend on other settings are those of
`dependent_defaults.py`; `unused_values.py` says which values have no effect.
"""

import copy
import functools
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec_cli.dependent_defaults import as_typed, complete
from llmrec_cli.errors import ConfigError
from llmrec_cli.keys import config_groups_of, names_of
from llmrec_cli.option_files import (
    configs_dir,
    merge,
    option_values,
    options_without_file,
    values_over_options,
)
from llmrec_cli.overrides import Change, to_changes
from llmrec_cli.plain_yaml import YamlError, dump_yaml, read_yaml
from llmrec_cli.plugins import PACKAGE, require_loaded
from llmrec_cli.references import resolve_references
from llmrec_cli.run_dir import ENVIRONMENT
from llmrec_cli.settings.base import Builder, defaults
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.stages import COMMANDS
from llmrec_cli.unused_values import has_effect, last_choices, notes_on_unused, options_to_check, without_effect


@dataclass(frozen=True)
class Run:
    """A composed run; `label` has the settings that differ between the runs of a multirun."""

    settings: Any
    label: str


def compose(command: str, typed: Sequence[str], config_dir: str | None = None,
            python_values: Mapping[str, Any] | None = None) -> Any:
    """Return the settings of `command` for a command line, with `python_values` set over it under the same keys, or
    raise ConfigError with all problems."""
    if _is_resumed(command, typed):
        return resumed_settings(command, typed)
    (changes,), problems = to_changes(command, typed, config_dir, python_values=python_values)
    settings = _settings(command, apply_changes(command, changes, problems), changes, problems)
    _print_notes(notes_on_unused(settings, changes))
    return settings


def compose_runs(command: str, typed: Sequence[str], config_dir: str | None = None) -> list[Run]:
    """Return a run for every combination of the comma-separated values, or raise ConfigError with all problems."""
    if _is_resumed(command, typed):
        raise ConfigError("resume: continues a single run; leave out --multirun")
    runs, problems = to_changes(command, typed, config_dir, several=True)
    differing = [number for number, each in enumerate(zip(*runs, strict=True)) if len({c.text for c in each}) > 1]
    result, notes, all_problems = [], list[str](), list(problems)
    for changes in runs:
        try:
            settings = _settings(command, apply_changes(command, changes, all_problems), changes, [])
            result.append(Run(settings, " ".join(changes[number].text for number in differing)))
            notes += notes_on_unused(settings, changes)
        except ConfigError as error:
            all_problems += error.problems
    if all_problems:
        raise ConfigError(list(dict.fromkeys(all_problems)))
    _print_notes(dict.fromkeys(notes))
    return result


def describe(command: str, typed: Sequence[str], config_dir: str | None = None, several: bool = False) -> str:
    """Return the composed configuration of a command as YAML, a document for each run."""
    runs, problems = to_changes(command, typed, config_dir, several)
    if problems:
        raise ConfigError(problems)
    documents = []
    for changes in runs:
        plain = apply_changes(command, changes, problems)
        with suppress(ConfigError):  # A broken reference is printed as it is.
            plain = resolve_references(plain)
        documents.append(dump_yaml(plain))
    return "---\n".join(documents)


def apply_changes(command: str, changes: Sequence[Change], problems: list[str]) -> dict[str, Any]:
    """Return the defaults of a command with the changes applied; changes that fail are added to `problems`."""
    options = last_choices(changes)
    plain = compose_defaults(command)
    for group, change in options.items():
        if change.action == "replace":
            plain[group] = copy.deepcopy(change.value)
        else:
            plain[group] = merge(option_values(group, change.value), values_over_options(command).get(group, {}))
    for change in changes:
        *parents, last = change.path
        if change.action == "delete":
            node = _mapping_at(plain, parents, make=False)
            if node is None or last not in node:
                problems.append(f"{change.text}: there is no such setting to leave out")
            else:
                del node[last]
        elif change.action == "set" and has_effect(change, options):
            node = _mapping_at(plain, parents, make=True)
            assert node is not None
            value = copy.deepcopy(change.value)
            both = isinstance(value, dict) and isinstance(node.get(last), dict)
            node[last] = merge(node[last], value) if both else value
    return plain


def _mapping_at(plain: dict[str, Any], path: Sequence[str], make: bool) -> dict[str, Any] | None:
    """Return the mapping at a path. If there is none: create it with `make`, replacing other values, else return
    None."""
    for part in path:
        if not isinstance(plain.get(part), dict):
            if not make:
                return None
            plain[part] = {}
        plain = plain[part]
    return plain


def compose_defaults(command: str) -> dict[str, Any]:
    """Return the default configuration of a command, unchecked."""
    compose_once = _composed_by_hydra if config_groups_of(command) else _composed_without_groups
    return copy.deepcopy(compose_once(command))


@functools.cache
def _composed_without_groups(command: str) -> dict[str, Any]:
    """Return the defaults of a command without config groups, as Hydra would, which takes longer than a short run."""
    content = read_yaml(configs_dir() / f"{command}.yaml")
    return merge(defaults(COMMANDS[command]), {key: value for key, value in content.items() if key != "defaults"})


@functools.cache
def _composed_by_hydra(command: str) -> dict[str, Any]:
    """Return the defaults of a command. Cached: they take 0.3 s, and a multirun needs them for each run."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    register_schemas()
    with initialize_config_dir(str(configs_dir()), version_base="1.3", job_name=f"llmrec {command}"):
        composition = hydra_compose(command)
    plain: Any = OmegaConf.to_container(composition, resolve=False)
    return dict(plain)


def _is_resumed(command: str, typed: Sequence[str]) -> bool:
    return "resume" in names_of(command) and any(re.match("resume=.", text) for text in typed)


def _settings(command: str, plain: dict[str, Any], changes: Sequence[Change], problems: Sequence[str]) -> Any:
    """Return the settings for a composed config, or raise ConfigError with `problems` and the config's own problems."""
    try:
        settings = to_settings(command, resolve_references(plain), options_to_check(changes))
    except ConfigError as error:
        # Readable settings are checked even if others are not, so that one attempt reports everything. Settings of
        # the default option in place of an unknown one are not reported.
        unread = tuple(f"{problem.partition('=')[0]}." for problem in problems)
        found = [_with_place(p, changes) for p in error.problems if not p.startswith(unread)]
        raise ConfigError([*problems, *found]) from error
    if problems:
        raise ConfigError(list(problems))
    return settings


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _with_place(problem: str, changes: Sequence[Change]) -> str:
    """Return a problem with the file and line of its value, if the value is from a settings file."""
    places = {".".join(change.path): change.origin for change in changes if change.action != "delete"}
    # The line that chooses an option says nothing about the option's settings.
    chosen = {change.path[0] for change in changes if change.action == "choose"}
    keys = [key for key in places
            if problem.startswith(tuple(f"{key}{after}" for after in ("=:" if key in chosen else "=:[.")))]
    origin = places[max(keys, key=len)] if keys else ""
    return f"{origin}: {problem}" if origin else problem


def resumed_settings(command: str, typed: Sequence[str]) -> Any:
    """Return the saved settings of the run directory in `resume=`, so that the resumed run gives the same result."""
    values = dict(text.split("=", 1) for text in typed if "=" in text)
    own = [text for text in typed if text.partition("=")[0] not in ("resume", "device", "debug")]
    if own:
        raise ConfigError(f"{' '.join(own)}: a resumed run takes its settings from the run; leave these out, or start "
                          f"a new run without resume=")
    file = Path(values["resume"]) / "config.yaml"
    try:
        plain = read_yaml(file)
        if not isinstance(plain, dict):
            raise YamlError(f"{file}: contains no settings")
    except (OSError, YamlError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).removeprefix(str(file)).lstrip(": ,")
        raise ConfigError(f"resume={values['resume']}: {file} is not readable ({reason}); give the directory of an "
                          f"interrupted run") from error
    builder = Builder(CONFIG_GROUPS)
    plain |= {"resume": values["resume"], "run_dir": values["resume"], "debug": values.get("debug") == "true"}
    plain |= {"device": values["device"]} if "device" in values else {}
    settings = builder.settings(COMMANDS[command], plain)
    if builder.problems:
        require_loaded(_plugins_of_run(file.parent), file, builder.problems)
        raise ConfigError([f"{file}: {problem}" for problem in builder.problems])
    return settings


def _plugins_of_run(folder: Path) -> list[str]:
    """Return the plugin packages of a run; [] if they are not recorded."""
    try:
        named = json.loads((folder / ENVIRONMENT).read_bytes()).get("plugins", [])
    except (OSError, ValueError, AttributeError, RecursionError):
        return []
    return [str(name) for name in (named if isinstance(named, list) else []) if PACKAGE.fullmatch(str(name))]


def to_settings(command: str, plain: dict[str, Any], options: Mapping[str, str]) -> Any:
    """Return the dataclass of a composed config. `options` are those that must have an effect, by config group."""
    builder = Builder(CONFIG_GROUPS)
    complete(builder, plain, options)
    settings = builder.settings(COMMANDS[command], plain)
    problems = as_typed(builder.problems)
    if settings is not None:
        problems += without_effect(settings, options).values()
    if problems:
        raise ConfigError(problems)
    return settings


def register_schemas() -> None:
    """Store the defaults of every dataclass in Hydra, as `schema/<group>/<option>` and `schema/<command>`.

    An option without a YAML file is also stored as `<group>/<option>`, so that Hydra can select it.
    """
    for group, table in CONFIG_GROUPS.items():
        for name in table:
            _register(f"schema/{group}", group, name)
        for name in options_without_file(group):
            _register(group, group, name)
    for command in COMMANDS:
        _register("schema/command", "command", command)


@functools.cache
def _register(place: str, group: str, name: str) -> None:
    """Store the defaults of a dataclass; cached, since storing all of them takes as long as composing."""
    from hydra.core.config_store import ConfigStore

    cls = COMMANDS[name] if group == "command" else CONFIG_GROUPS[group][name]
    ConfigStore.instance().store(name=name, node=defaults(cls), group=place)
