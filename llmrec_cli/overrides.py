"""What a person typed -> overrides that Hydra understands as they were meant.

Values of text and path settings are taken literally, though Hydra's grammar would trip over braces and commas; `+`
means nothing; an experiment is a named list of overrides; and what cannot be meant is refused with the nearest name.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.base import Settings, nearest
from llmrec_cli.settings.groups import GROUPS
from llmrec_cli.settings.head import Recipe
from llmrec_cli.settings.stages import COMMANDS
from llmrec_cli.settings.typed_lists import entries_of

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


def to_hydra(command: str, typed: Sequence[str], config_dir: str | None = None,
             sweep: bool = False) -> tuple[list[str], list[str]]:
    """Return Hydra overrides for what was typed, and all that is wrong with the rest of it.

    With `sweep` commas separate the values of a multirun, so nothing is quoted for Hydra.
    """
    meant = expand_experiment(command, typed, config_dir)
    problems = _without_tuning(meant)
    overrides = []
    for text in meant:
        try:
            overrides.append(_one_to_hydra(command, text, config_dir, sweep))
        except ConfigError as error:
            problems += error.problems
    return QUIET + overrides, problems


def chosen_groups(command: str, typed: Sequence[str], config_dir: str | None = None) -> dict[str, str]:
    """Return the groups that an option was typed for, by hand or by an experiment."""
    pairs = [text.partition("=") for text in expand_experiment(command, typed, config_dir)]
    return {key: value for key, _, value in pairs if key in groups_of(command)}


def expand_experiment(command: str, typed: Sequence[str], config_dir: str | None = None) -> list[str]:
    """Return the overrides with `experiment=<name>` replaced by what it says for this command."""
    named = [text.partition("=")[2] for text in typed if text.partition("=")[0] == "experiment"]
    rest = [text for text in typed if text.partition("=")[0] != "experiment"]
    if not named:
        return rest
    if named[-1] not in choices("experiment", config_dir):
        raise ConfigError(unknown("experiment", named[-1], choices("experiment", config_dir)))
    import yaml

    folders = ([Path(config_dir)] if config_dir else []) + [configs_dir()]
    file = next(f for folder in folders if (f := folder / "experiment" / f"{named[-1]}.yaml").is_file())
    content = yaml.safe_load(file.read_text("utf-8")) or {}
    for key, value in content.items():
        if key == "table":  # What benchmarks/table.py compares; no command takes anything from it.
            continue
        if key not in COMMANDS or not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{file}: {key}: expected a command ({', '.join(COMMANDS)}) with a list of overrides")
    # A group chosen by hand leaves nothing of what the experiment says about it: its settings may be another option's.
    chosen = [key for key in (text.partition("=")[0] for text in rest) if key in GROUPS]
    about_chosen = tuple(f"{key}{after}" for key in chosen for after in "=.")
    kept = [text for text in content.get(command, []) if not text.startswith(about_chosen)]
    return [*kept, *rest]


def _without_tuning(meant: Sequence[str]) -> list[str]:
    """Return a problem for each range of a search space that is given where nothing is tuned."""
    given = dict(text.split("=", 1) for text in meant if "=" in text)
    if given.get("tune.trials", "0") != "0" or "tune" in given:
        return []
    return [f"{key}={value}: has no effect without tuning; set tune.trials=<number>" for key, value in given.items()
            if re.match(r"head\.(members\.[^.]+\.)?search(\.|$)", key)]


def _one_to_hydra(command: str, text: str, config_dir: str | None, sweep: bool) -> str:
    key, equals, value = text.partition("=")
    key = key.lstrip("+")
    if key.startswith("~"):
        return text
    names = names_of(command)
    # A command's own name before a setting of its says nothing more: `llmrec recommend recommend.delisted=keep`.
    key = key.removeprefix(f"{command}.") if key.split(".")[0] not in names else key
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
                raise ConfigError(unknown(key, choice, choices(key, config_dir)))
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
    short = [hint.shorthand for hint in hints if isinstance(hint, type) and issubclass(hint, Settings)
             and hint.shorthand]
    if short and value[:1] != "{":
        # dataset.knowledge=<file> beside dataset.knowledge.link_on: the one setting that is meant by the name alone.
        key = f"{key}.{short[0]}"
        hints = list(_hints_at(COMMANDS[command], key.split(".")))
    if "[" in key and not sweep:
        return _inside_brackets(command, text, key, value)
    literal = value if sweep else _literal(hints, value, _is_opaque(COMMANDS[command], key.split(".")))
    if key in GROUPS:
        # A plain setting here and a group elsewhere (split): Hydra takes it for the group unless it is a mapping.
        literal = ",".join(f"{{{PLAIN}: {value}}}" for value in (literal.split(",") if sweep else [literal]))
    _check_grammar(text, f"++{key}={literal}")
    return f"++{key}={literal}"


def _inside_brackets(command: str, text: str, key: str, value: str) -> str:
    """Return the override of a mapping whose key is a path, dataset.attributes.shelves[].name=list, as a mapping.

    Hydra takes brackets in a key for something else.
    """
    parts = key.split(".")
    for end in range(1, len(parts)):
        if any(hint == dict[str, str] for hint in _hints_at(COMMANDS[command], parts[:end])):
            name = re.sub(r"([][(){}:=, \t\\])", r"\\\1", ".".join(parts[end:]))
            override = f"++{'.'.join(parts[:end])}={{{name}: {_quoted(value)}}}"
            _check_grammar(text, override)
            return override
    raise ConfigError(f"{text}: no setting has brackets in its name")


def names_of(command: str) -> list[str]:
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


def unknown(group: str, choice: str, known: Sequence[str]) -> str:
    several = "; to run each of several values add --multirun" if "," in choice else ""
    return f"{group}={choice}: no such {group}{nearest(choice, known)}; choose one of {', '.join(known)}{several}"


def _is_opaque(cls: type, path: Sequence[str]) -> bool:
    """Return whether the setting at `path` is of those whose values are ids and texts alone."""
    for part in path[:-1]:
        hint = get_type_hints(cls).get(part)
        if not (isinstance(hint, type) and issubclass(hint, Settings)):
            return False
        cls = hint
    return issubclass(cls, Settings) and cls.opaque


def _literal(hints: Sequence[Any], value: str, opaque: bool) -> str:
    """Return `value` for Hydra's grammar: untouched, unless the setting takes text.

    `opaque` takes null for a text too: where a user may be called so.
    """
    kinds = {kind for hint in hints for kind in _kinds(hint)}
    if value == "null" and type(None) in kinds and not opaque:
        return value
    if any(get_origin(kind) is dict for kind in kinds) and value.startswith("{") and value.endswith("}"):
        return value
    if "list of text" in kinds and (value.startswith("[") and value.endswith("]")):
        return "[" + ",".join(_quoted(part) for part in entries_of(value[1:-1])) + "]"
    if str in kinds:
        # `float | str` settings and the like: a number stays a number.
        return _quoted(value)
    return f"[{_quoted(value)}]" if "list of text" in kinds else value


def _quoted(value: str) -> str:
    # OmegaConf resolves "${" and undoes backslashes before it; Hydra undoes them only before a quote or the end.
    literal = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + "\\${", value)
    escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), literal)
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
