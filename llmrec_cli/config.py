"""Compose typed settings from a command line and shared files, or raise all problems at once.

Hydra composes our own files only. Command lines (read by `overrides.py`) and shared files (read by `option_files.py`)
are data that is laid over them, and neither can reach Hydra's settings. This module refuses unknown keys, also behind
`+`, reports all mistakes together, and completes each member of a fusion from its head's defaults and the top level.
"""

import copy
import dataclasses
import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec_cli.errors import ConfigError
from llmrec_cli.option_files import (
    choices,
    configs_dir,
    merged,
    option_values,
    options_without_file,
    values_over_options,
)
from llmrec_cli.overrides import RECIPE_GROUPS, Change, names_of, to_changes, unknown
from llmrec_cli.plain_yaml import YamlError, dump_yaml, read_yaml
from llmrec_cli.plugins import PACKAGE, require_loaded
from llmrec_cli.references import resolved
from llmrec_cli.run_dir import ENVIRONMENT
from llmrec_cli.settings.base import Builder, defaults
from llmrec_cli.settings.groups import GROUPS
from llmrec_cli.settings.head import HEADS, HeadSettings
from llmrec_cli.settings.loss import SIMILARITIES
from llmrec_cli.settings.search import flat_search
from llmrec_cli.settings.stages import COMMANDS


@dataclass(frozen=True)
class Run:
    """One run that is composed: `shown` are the settings that tell it from the others of a multirun."""

    settings: Any
    shown: str


def compose(command: str, typed: Sequence[str], config_dir: str | None = None) -> Any:
    """Return the settings of `command` for what a person typed, or raise ConfigError with all problems."""
    if _is_resumed(command, typed):
        return resumed(command, typed)
    (changes,), problems = to_changes(command, typed, config_dir)
    return _settings(command, composed(command, changes, problems), changes, problems)


def compose_runs(command: str, typed: Sequence[str], config_dir: str | None = None) -> list[Run]:
    """Return a run for every combination of the values that commas separate, or raise ConfigError with all problems."""
    if _is_resumed(command, typed):
        raise ConfigError("resume: continues a single run; leave out --multirun")
    runs, problems = to_changes(command, typed, config_dir, several=True)
    differing = [number for number, each in enumerate(zip(*runs, strict=True)) if len({c.shown for c in each}) > 1]
    found, wrong = [], list(problems)
    for changes in runs:
        try:
            settings = _settings(command, composed(command, changes, wrong), changes, [])
            found.append(Run(settings, " ".join(changes[number].shown for number in differing)))
        except ConfigError as error:
            wrong += error.problems
    if wrong:
        raise ConfigError(list(dict.fromkeys(wrong)))
    return found


def describe(command: str, typed: Sequence[str], config_dir: str | None = None, several: bool = False) -> str:
    """Return what a command would run with as YAML, of several runs one document after the other."""
    runs, problems = to_changes(command, typed, config_dir, several)
    if problems:
        raise ConfigError(problems)
    documents = []
    for changes in runs:
        plain = composed(command, changes, problems)
        with suppress(ConfigError):  # A reference that leads nowhere is best seen as it is.
            plain = resolved(plain)
        documents.append(dump_yaml(plain))
    return "---\n".join(documents)


def composed(command: str, changes: Sequence[Change], problems: list[str]) -> dict[str, Any]:
    """Return the defaults of a command with the changes made; what cannot be made is added to `problems`."""
    # Of several options of a group the last counts.
    options = {change.path[0]: change for change in changes if change.action in ("choose", "replace")}
    plain = compose_defaults(command)
    for group, change in options.items():
        if change.action == "replace":
            plain[group] = copy.deepcopy(change.value)
        else:
            plain[group] = merged(option_values(group, change.value), values_over_options(command).get(group, {}))
    for change in changes:
        *parents, last = change.path
        if change.action == "delete":
            node = _mapping_at(plain, parents, make=False)
            if node is None or last not in node:
                problems.append(f"{change.shown}: there is no such setting to leave out")
            else:
                del node[last]
        elif change.action == "set":
            node = _mapping_at(plain, parents, make=True)
            assert node is not None
            value = copy.deepcopy(change.value)
            both = isinstance(value, dict) and isinstance(node.get(last), dict)
            node[last] = merged(node[last], value) if both else value
    return plain


def _mapping_at(plain: dict[str, Any], path: Sequence[str], make: bool) -> dict[str, Any] | None:
    """Return the mapping at a path; with `make` in place of whatever else is there, else None where there is none."""
    for part in path:
        if not isinstance(plain.get(part), dict):
            if not make:
                return None
            plain[part] = {}
        plain = plain[part]
    return plain


def compose_defaults(command: str) -> dict[str, Any]:
    """Return the configuration of a command as it is when nothing is typed, unchecked."""
    return copy.deepcopy(_composed_by_hydra(command))


@functools.cache
def _composed_by_hydra(command: str) -> dict[str, Any]:
    """Return the defaults of a command. Cached: composing them takes 0.3 s, and a multirun needs them for each run."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    register_schemas()
    with initialize_config_dir(str(configs_dir()), version_base="1.3", job_name=f"llmrec {command}"):
        composed = hydra_compose(command)
    plain: Any = OmegaConf.to_container(composed, resolve=False)
    return dict(plain)


def _is_resumed(command: str, typed: Sequence[str]) -> bool:
    return "resume" in names_of(command) and any(re.match("resume=.", text) for text in typed)


def _settings(command: str, plain: dict[str, Any], changes: Sequence[Change], problems: Sequence[str]) -> Any:
    """Return the settings that a composed config stands for, or raise ConfigError with `problems` and its own."""
    chosen = {change.path[0]: change.shown.partition("=")[2] for change in changes
              if change.action in ("choose", "replace")}
    try:
        settings = to_settings(command, resolved(plain), chosen)
    except ConfigError as error:
        # What could be read is checked even when something could not, so that one attempt shows everything; but not
        # the settings of the option that stands in for one that there is not.
        unread = tuple(f"{problem.partition('=')[0]}." for problem in problems)
        raise ConfigError([*problems, *(p for p in error.problems if not p.startswith(unread))]) from error
    if problems:
        raise ConfigError(list(problems))
    return settings


def resumed(command: str, typed: Sequence[str]) -> Any:
    """Return the settings of the run that `resume=<run directory>` names: its own, so that its result is too."""
    given = dict(text.split("=", 1) for text in typed if "=" in text)
    own = [text for text in typed if text.partition("=")[0] not in ("resume", "device", "debug")]
    if own:
        raise ConfigError(f"{' '.join(own)}: a resumed run takes its settings from the run; leave these out, or start "
                          f"a new run without resume=")
    file = Path(given["resume"]) / "config.yaml"
    try:
        plain = read_yaml(file)
        if not isinstance(plain, dict):
            raise YamlError(f"{file}: holds no settings")
    except (OSError, YamlError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error).removeprefix(str(file)).lstrip(": ,")
        raise ConfigError(f"resume={given['resume']}: {file} is not readable ({said}); name the directory of a run "
                          f"that was interrupted") from error
    builder = Builder(GROUPS)
    plain |= {"resume": given["resume"], "run_dir": given["resume"], "debug": given.get("debug") == "true"}
    plain |= {"device": given["device"]} if "device" in given else {}
    settings = builder.settings(COMMANDS[command], plain)
    if builder.found:
        require_loaded(_plugins_of_run(file.parent), file, builder.found)
        raise ConfigError([f"{file}: {problem}" for problem in builder.found])
    return settings


def _plugins_of_run(folder: Path) -> list[str]:
    """Return the packages whose options a run uses, as far as it says."""
    try:
        named = json.loads((folder / ENVIRONMENT).read_bytes()).get("plugins", [])
    except (OSError, ValueError, AttributeError, RecursionError):
        return []
    return [str(name) for name in (named if isinstance(named, list) else []) if PACKAGE.fullmatch(str(name))]


def to_settings(command: str, plain: dict[str, Any], chosen: Mapping[str, str]) -> Any:
    """Return the dataclass of a composed config. `chosen` are the groups that a person chose an option of."""
    builder = Builder(GROUPS)
    head = plain.get("head")
    if isinstance(head, dict) and isinstance(head.get("members"), dict):
        members = {name: _member(builder, name, member, plain)
                   for name, member in head["members"].items() if member is not None}
        head["members"] = {name: member for name, member in members.items() if member is not None}
    elif isinstance(head, dict) and "loss" not in chosen:
        plain["loss"] = _fitting_loss(builder, str(head.get("kind")), plain.get("loss"), untouched_only=True)
    for config in (plain, *_model_configs(head)):
        _complete_parts(config.get("encoder"))
    for each in _heads(head):
        if isinstance(each.get("search"), dict):
            each["search"] = flat_search(each["search"])
    settings = builder.settings(COMMANDS[command], plain)
    problems = _as_typed(builder.found)
    if settings is not None:
        problems += _without_effect(settings, chosen)
    if problems:
        raise ConfigError(problems)
    return settings


def _model_configs(head: Any) -> Iterator[dict[str, Any]]:
    """Yield the model configs of a composed fusion's members."""
    members = head.get("members") if isinstance(head, dict) else None
    yield from members.values() if isinstance(members, dict) else ()


def _complete_parts(encoder: Any) -> None:
    """Let a part of encoder=concat be named by its option alone: encoder.parts.words.encoder=tfidf."""
    parts = encoder.get("parts") if isinstance(encoder, dict) else None
    for part in parts.values() if isinstance(parts, dict) else ():
        if isinstance(part, dict) and isinstance(part.get("encoder"), str):
            part["encoder"] = {"kind": part["encoder"]}


def _heads(head: Any) -> Iterator[dict[str, Any]]:
    """Yield a composed head and, of a fusion, its members' heads."""
    if isinstance(head, dict):
        yield head
        members = head.get("members")
        for member in members.values() if isinstance(members, dict) else ():
            yield from _heads(member.get("head"))


def _as_typed(found: Sequence[str]) -> list[str]:
    """Return the problems under the keys that a person would type, without those that members take from the top."""
    # An unknown option is noted where it is looked up; the builder then finds the same.
    found = [p for p in found if not re.match(r"head\.members\.[^=]+\.kind=", p)]
    inherited = re.compile(rf"head\.members\.[^.=]+\.((?:{'|'.join(RECIPE_GROUPS)})\b.*)", re.DOTALL)
    own = [p for p in found if not ((m := inherited.match(p)) and m[1] in found)]
    return [re.sub(r"(head\.members\.[^.=]+)\.head\.", r"\1.", problem) for problem in own]


def register_schemas() -> None:
    """Store the defaults of every dataclass as `schema/<group>/<option>` and `schema/<command>` for the YAML files.

    An option that has no YAML file is stored as `<group>/<option>` too, so that Hydra can choose it.
    """
    for group, table in GROUPS.items():
        for name in table:
            _register(f"schema/{group}", group, name)
        for name in options_without_file(group):
            _register(group, group, name)
    for command in COMMANDS:
        _register("schema/command", "command", command)


@functools.cache
def _register(place: str, group: str, name: str) -> None:
    """Store the defaults of a dataclass; once in a process, since all of them take as long as composing does."""
    from hydra.core.config_store import ConfigStore

    cls = COMMANDS[name] if group == "command" else GROUPS[group][name]
    ConfigStore.instance().store(name=name, node=defaults(cls), group=place)


def _member(builder: Builder, name: str, member: Any, top: Mapping[str, Any]) -> Any:
    """Return a fusion's member as a whole recipe: its own settings over its head's defaults, the rest from the top."""
    where = f"head.members.{name}"
    if not isinstance(member, Mapping) or not isinstance(member.get("head"), str):
        builder.found.append(f"{where}.head: missing; set {where}.head=<{'|'.join(choices('head'))}>")
        return None
    if HEADS.get(member["head"], HeadSettings).combines:
        builder.found.append(f"{where}.head={member['head']}: a fusion cannot be a member of a fusion")
        return None
    own = {key: value for key, value in member.items() if key not in (*RECIPE_GROUPS, "head")}
    config: dict[str, Any] = {"head": merged(_option(builder, "head", member["head"], where), own)}
    for group in RECIPE_GROUPS:
        given = member.get(group)
        if isinstance(given, str):
            config[group] = _option(builder, group, given, where)
        elif not isinstance(given, Mapping):
            config[group] = top.get(group) if given is None else given
        elif "kind" in given:
            config[group] = merged(_option(builder, group, str(given["kind"]), where), given)
        else:
            config[group] = merged(top.get(group) or {}, given)
    if member.get("loss") is None:
        config["loss"] = _fitting_loss(builder, member["head"], config["loss"])
    inherited = (top.get("adversarial") or {}).get("kind", "none")
    if member.get("adversarial") is None and member["head"] in GROUPS["head"]:
        head: Any = GROUPS["head"][member["head"]]
        # As a group that a head does not use: an adversary of texts is for those members that read texts.
        if inherited not in head.adversaries():
            config["adversarial"] = _option(builder, "adversarial", "none", where)
    return config


def _fitting_loss(builder: Builder, head: str, loss: Any, untouched_only: bool = False) -> Any:
    """Return the loss that was not chosen for this head: as it is where it fits, else the head's usual one.

    With `untouched_only` a loss with settings of its own stays, since somebody meant it.
    """
    losses = HEADS[head].losses() if head in HEADS else []
    if not isinstance(loss, Mapping) or not losses or loss.get("kind") in losses:
        return loss
    if untouched_only and dict(loss) != _option(builder, "loss", str(loss.get("kind")), "loss"):
        return loss
    return _option(builder, "loss", losses[0], "loss")


def _option(builder: Builder, group: str, name: str, where: str) -> dict[str, Any]:
    """Return an option's settings: the dataclass's defaults and its YAML over them."""
    if name not in GROUPS[group]:
        builder.found.append(f"{where}.{unknown(group, name, choices(group))}")
        return {"kind": name}
    return option_values(group, name)


def _without_effect(settings: Any, chosen: Mapping[str, str]) -> list[str]:
    """Return a problem for each group that was chosen on purpose but that the head does not look at."""
    head = getattr(settings, "head", None)
    if head is None:
        return []
    unused = [group for group in RECIPE_GROUPS if group in chosen and chosen[group] != "none"]
    # Heads that read features use what makes or trains them once that is asked for.
    of_features = head.learns_from == SIMILARITIES
    instead = dict.fromkeys(unused, "set head.features.tuned=true with head.features.text above 0, " * of_features)
    instead["encoder"] = "set head.features.text above 0, " * of_features
    instead["entities"] = "set head.features.entities above 0, " * of_features
    if "entity_gate" in {f.name for f in dataclasses.fields(head)}:
        instead["entities"] = "set head.entity_gate=true, "
    return [f"{group}={chosen[group]}: has no effect, since head={head.kind} does not use it; leave it out, "
            f"{instead[group]}or choose another head" for group in unused
            # Vectors that nothing trains are frozen, which is what was asked for.
            if not head.has_effect(group)
            and not (group == "peft" and not settings.peft.trains and "encoder" in head.uses())]
