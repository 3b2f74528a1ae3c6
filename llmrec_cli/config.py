"""Composing: what a person typed -> typed settings, or all that is wrong with it at once.

Hydra composes; what makes it safe and kind is here: values of text and path settings are taken literally, unknown
keys are refused also behind `+`, an experiment is a named list of overrides, and a member of a fusion is completed
from its head's defaults and the top level.
"""

import csv
import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.base import Builder, Settings, defaults, nearest
from llmrec_cli.settings.groups import GROUPS
from llmrec_cli.settings.head import HeadSettings, Recipe
from llmrec_cli.settings.stages import COMMANDS

# Hydra is to compose, not to make folders, move about or set up logging; run_dir.py does that.
QUIET = ["hydra.output_subdir=null", "hydra.run.dir=.", "hydra.sweep.dir=runs/multirun", "hydra.sweep.subdir=.",
         "hydra/job_logging=none", "hydra/hydra_logging=none"]
PLAIN = "is"
RECIPE_GROUPS = [f.name for f in dataclasses.fields(Recipe) if f.name != "head"]


def configs_dir() -> Path:
    """Return the folder of our YAML files: the checkout's, or the copy that was installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "configs"
    return checkout if (package.parent / "pyproject.toml").is_file() and checkout.is_dir() else package / "configs"


def groups_of(command: str) -> dict[str, dataclasses.Field[Any]]:
    """Return the config groups of a command and the fields they fill."""
    return {f.metadata["group"]: f for f in dataclasses.fields(COMMANDS[command]) if "group" in f.metadata}


def choices(group: str, config_dir: str | None = None) -> list[str]:
    """Return the options of a config group: ours, and those in a folder given by --config-dir."""
    folders = [configs_dir() / group] + ([Path(config_dir) / group] if config_dir else [])
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})


def compose(command: str, typed: Sequence[str], config_dir: str | None = None) -> Any:
    """Return the settings of `command` for what a person typed, or raise ConfigError with all problems."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if "resume" in _names(command) and any(re.match("resume=.", text) for text in typed):
        return resumed(command, typed)
    overrides, problems = to_hydra(command, typed, config_dir)
    register_schemas()
    search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    try:
        with initialize_config_dir(str(configs_dir()), version_base="1.3", job_name=f"llmrec {command}"):
            composed = hydra_compose(command, overrides=[*overrides, *search])
        settings = to_settings(command, composed, chosen_groups(command, typed, config_dir))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([*problems, " ".join(str(error).replace("'++", "'").split())]) from error
    except ConfigError as error:
        # What could be read is checked even when something could not, so that one attempt shows everything; but not
        # the settings of the option that stands in for one that there is not.
        unread = tuple(f"{problem.partition('=')[0]}." for problem in problems)
        raise ConfigError([*problems, *(p for p in error.problems if not p.startswith(unread))]) from error
    if problems:
        raise ConfigError(problems)
    return settings


def resumed(command: str, typed: Sequence[str]) -> Any:
    """Return the settings of the run that `resume=<run directory>` names: its own, so that its result is too."""
    import yaml

    given = dict(text.split("=", 1) for text in typed if "=" in text)
    own = [text for text in typed if text.partition("=")[0] not in ("resume", "device", "debug")]
    if own:
        raise ConfigError(f"{' '.join(own)}: a resumed run takes its settings from the run; leave these out, or start "
                          f"a new run without resume=")
    file = Path(given["resume"]) / "config.yaml"
    try:
        plain = yaml.safe_load(file.read_text("utf-8"))
        if not isinstance(plain, dict):
            raise ValueError("it holds no settings")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"resume={given['resume']}: {file} is not readable ({type(error).__name__}); name the "
                          f"directory of a run that was interrupted") from error
    builder = Builder(GROUPS)
    plain |= {"resume": given["resume"], "run_dir": given["resume"], "debug": given.get("debug") == "true"}
    plain |= {"device": given["device"]} if "device" in given else {}
    settings = builder.settings(COMMANDS[command], plain)
    if builder.found:
        raise ConfigError([f"{file}: {problem}" for problem in builder.found])
    return settings


def to_settings(command: str, composed: Any, chosen: Mapping[str, str]) -> Any:
    """Return the dataclass of a composed config. `chosen` are the groups that a person chose an option of."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    OmegaConf.register_new_resolver("oc.env", _refuse_environment, replace=True)
    try:
        plain: Any = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    plain = {key: value[PLAIN] if isinstance(value, dict) and set(value) == {PLAIN} else value
             for key, value in plain.items()}
    builder = Builder(GROUPS)
    head = plain.get("head")
    if isinstance(head, dict) and isinstance(head.get("members"), dict):
        members = {name: _member(builder, name, member, plain)
                   for name, member in head["members"].items() if member is not None}
        head["members"] = {name: member for name, member in members.items() if member is not None}
    settings = builder.settings(COMMANDS[command], plain)
    problems = _as_typed(builder.found)
    if settings is not None:
        problems += _without_effect(settings, chosen)
    if problems:
        raise ConfigError(problems)
    return settings


def _as_typed(found: Sequence[str]) -> list[str]:
    """Return the problems under the keys that a person would type, without those that members take from the top."""
    # An unknown option is noted where it is looked up; the builder then finds the same.
    found = [p for p in found if not re.match(r"head\.members\.[^=]+\.kind=", p)]
    inherited = re.compile(rf"head\.members\.[^.=]+\.((?:{'|'.join(RECIPE_GROUPS)})\b.*)", re.DOTALL)
    own = [p for p in found if not ((m := inherited.match(p)) and m[1] in found)]
    return [re.sub(r"(head\.members\.[^.=]+)\.head\.", r"\1.", problem) for problem in own]


def chosen_groups(command: str, typed: Sequence[str], config_dir: str | None = None) -> dict[str, str]:
    """Return the groups that an option was typed for, by hand or by an experiment."""
    pairs = [text.partition("=") for text in expand_experiment(command, typed, config_dir)]
    return {key: value for key, _, value in pairs if key in groups_of(command)}


def register_schemas() -> None:
    """Store the defaults of every dataclass as `schema/<group>/<option>` and `schema/<command>` for the YAML files."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for group, table in GROUPS.items():
        for name, cls in table.items():
            store.store(name=name, node=defaults(cls), group=f"schema/{group}")
    for command, stage in COMMANDS.items():
        store.store(name=command, node=defaults(stage), group="schema/command")


def to_hydra(command: str, typed: Sequence[str], config_dir: str | None = None,
             sweep: bool = False) -> tuple[list[str], list[str]]:
    """Return Hydra overrides for what was typed, and all that is wrong with the rest of it.

    With `sweep` commas separate the values of a multirun, so nothing is quoted for Hydra.
    """
    problems: list[str] = []
    overrides = []
    for text in expand_experiment(command, typed, config_dir):
        try:
            overrides.append(_one_to_hydra(command, text, config_dir, sweep))
        except ConfigError as error:
            problems += error.problems
    return QUIET + overrides, problems


def expand_experiment(command: str, typed: Sequence[str], config_dir: str | None = None) -> list[str]:
    """Return the overrides with `experiment=<name>` replaced by what it says for this command."""
    named = [text.partition("=")[2] for text in typed if text.partition("=")[0] == "experiment"]
    rest = [text for text in typed if text.partition("=")[0] != "experiment"]
    if not named:
        return rest
    if named[-1] not in choices("experiment", config_dir):
        raise ConfigError(_unknown("experiment", named[-1], choices("experiment", config_dir)))
    import yaml

    folders = ([Path(config_dir)] if config_dir else []) + [configs_dir()]
    file = next(f for folder in folders if (f := folder / "experiment" / f"{named[-1]}.yaml").is_file())
    content = yaml.safe_load(file.read_text("utf-8")) or {}
    for key, value in content.items():
        if key not in COMMANDS or not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{file}: {key}: expected a command ({', '.join(COMMANDS)}) with a list of overrides")
    return [*content.get(command, []), *rest]


def _one_to_hydra(command: str, text: str, config_dir: str | None, sweep: bool) -> str:
    key, equals, value = text.partition("=")
    key = key.lstrip("+")
    if key.startswith("~"):
        return text
    names = _names(command)
    if not equals:
        raise ConfigError(f"{text}: expected a setting, key=value{nearest(text, names)}")
    if key.startswith(("hydra.", "hydra/")):
        return text
    root = key.split(".")[0]
    if root not in names:
        known = [*names, "experiment"]
        raise ConfigError(f"{key}: `llmrec {command}` has no such setting{nearest(root, known)}")
    groups = groups_of(command)
    if key in groups:
        for choice in value.split(",") if sweep else [value]:
            if choice not in choices(key, config_dir):
                raise ConfigError(_unknown(key, choice, choices(key, config_dir)))
        return f"{key}={value}"
    *parents, last = key.split(".")
    if root in groups and last == "kind":
        # A member of a fusion, head.members.<name>, says with `head` which head it is.
        chosen_by = [*parents, "head"] if parents[1:2] == ["members"] and len(parents) == 3 else parents
        raise ConfigError(f"{text}: choose an option with {'.'.join(chosen_by)}=<name>")
    if parents[:2] == ["head", "members"] and len(parents) == 3 and last in RECIPE_GROUPS and value[:1] != "{":
        # As a mapping, so that a setting of the member's option can be typed beside its name.
        key, last = f"{key}.kind", "kind"
    hints = [str] if last == "kind" else list(_hints_at(COMMANDS[command], key.split(".")))
    literal = value if sweep else _literal(hints, value)
    if key in GROUPS:
        # A plain setting here and a group elsewhere (split): Hydra takes it for the group unless it is a mapping.
        literal = ",".join(f"{{{PLAIN}: {value}}}" for value in (literal.split(",") if sweep else [literal]))
    _check_grammar(text, f"++{key}={literal}")
    return f"++{key}={literal}"


def _names(command: str) -> list[str]:
    """Return the settings of a command at the top level."""
    return [f.name for f in dataclasses.fields(COMMANDS[command])]


def _check_grammar(text: str, override: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise ConfigError(f"{text}: cannot be read as a value ({' '.join(str(error).split())}); put it in quotes") \
            from error


def _unknown(group: str, choice: str, known: Sequence[str]) -> str:
    return f"{group}={choice}: no such {group}{nearest(choice, known)}; choose one of {', '.join(known)}"


def _literal(hints: Sequence[Any], value: str) -> str:
    """Return `value` for Hydra's grammar: untouched, unless the setting takes text."""
    kinds = {kind for hint in hints for kind in _kinds(hint)}
    if value == "null" and type(None) in kinds:
        return value
    if any(get_origin(kind) is dict for kind in kinds) and value.startswith("{") and value.endswith("}"):
        return value
    if "list of text" in kinds and (value.startswith("[") and value.endswith("]")):
        parts = next(csv.reader([value[1:-1]], skipinitialspace=True), [])
        return "[" + ",".join(_quoted(part.strip()) for part in parts) + "]"
    if str in kinds:
        # `float | str` settings and the like: a number stays a number.
        return _quoted(value)
    return f"[{_quoted(value)}]" if "list of text" in kinds else value


def _quoted(value: str) -> str:
    # OmegaConf resolves "${" and undoes backslashes before it; Hydra undoes them only before a quote or the end.
    literal = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + "\\${", value)
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), literal)
    return f"'{escaped}'"


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
        if value is Recipe and len(rest) >= 2:
            # A member of a fusion: its own keys are a head's, or one of the other groups.
            if rest[1] in (*RECIPE_GROUPS, "head"):
                yield from _hints_at(Recipe, rest[1:]) if len(rest) > 2 else iter([str])
            else:
                yield from _hints_at(Recipe, ["head", *rest[1:]])
        else:
            yield from _hints_inside(value, rest[1:])
    elif isinstance(hint, type) and issubclass(hint, Settings):
        yield from _hints_at(hint, rest)


def _member(builder: Builder, name: str, member: Any, top: Mapping[str, Any]) -> Any:
    """Return a fusion's member as a whole recipe: its own settings over its head's defaults, the rest from the top."""
    where = f"head.members.{name}"
    if not isinstance(member, Mapping) or not isinstance(member.get("head"), str):
        builder.found.append(f"{where}.head: missing; set {where}.head=<{'|'.join(choices('head'))}>")
        return None
    if member["head"] == "fusion":
        builder.found.append(f"{where}.head=fusion: a fusion cannot be a member of a fusion")
        return None
    own = {key: value for key, value in member.items() if key not in (*RECIPE_GROUPS, "head")}
    recipe: dict[str, Any] = {"head": _merged(_option(builder, "head", member["head"], where), own)}
    for group in RECIPE_GROUPS:
        given = member.get(group)
        if isinstance(given, str):
            recipe[group] = _option(builder, group, given, where)
        elif not isinstance(given, Mapping):
            recipe[group] = top.get(group) if given is None else given
        elif "kind" in given:
            recipe[group] = _merged(_option(builder, group, str(given["kind"]), where), given)
        else:
            recipe[group] = _merged(top.get(group) or {}, given)
    return recipe


def _option(builder: Builder, group: str, name: str, where: str) -> dict[str, Any]:
    """Return an option's settings: the dataclass's defaults and its YAML over them."""
    from omegaconf import OmegaConf

    if name not in GROUPS[group]:
        builder.found.append(f"{where}.{_unknown(group, name, choices(group))}")
        return {"kind": name}
    own: Any = OmegaConf.to_container(OmegaConf.load(configs_dir() / group / f"{name}.yaml"))
    own.pop("defaults", None)
    return _merged(defaults(GROUPS[group][name]), own)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result


def _without_effect(settings: Any, chosen: Mapping[str, str]) -> list[str]:
    """Return a problem for each group that was chosen on purpose but that the head does not look at."""
    head = getattr(settings, "head", None)
    if not isinstance(head, HeadSettings):
        return []
    unused = [group for group in RECIPE_GROUPS if group in chosen and chosen[group] != "none"]
    return [f"{group}={chosen[group]}: has no effect, since head={head.kind} does not use it; leave it out or choose "
            f"another head" for group in unused if group not in head.uses()]


def _refuse_environment(name: str, *_: str) -> str:
    """Stand in for OmegaConf's resolver of environment variables."""
    raise ValueError(f"a config cannot read the environment, since what it reads would be saved with the run; let the "
                     f"shell fill it in, <setting>=\"${name}\"")


def compose_defaults(command: str) -> dict[str, Any]:
    """Return the configuration of a command as it is when nothing is typed, unchecked."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    register_schemas()
    with initialize_config_dir(str(configs_dir()), version_base="1.3", job_name=f"llmrec {command}"):
        plain: Any = OmegaConf.to_container(hydra_compose(command, overrides=QUIET), resolve=True)
    return dict(plain)
