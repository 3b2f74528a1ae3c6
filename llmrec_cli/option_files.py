"""Files of options and experiments: those of llmrec, and shared files in the folder of `--config-dir`.

A shared file is data from an untrusted author. It sets values of its own config group; Hydra never reads it. Everything
else is refused with its line: Hydra's own settings, `@package`, `_target_`, resolvers, output paths, and Spark settings
that could run code.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llmrec_cli.errors import ConfigError
from llmrec_cli.plain_yaml import Problem, YamlError, line_of, nodes, read_yaml, text_of
from llmrec_cli.references import not_plain, resolver_in
from llmrec_cli.settings.base import defaults, nearest
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.stages import COMMANDS

EXPERIMENT, _TABLE = "experiment", "table"
_SCHEMA = re.compile(r"/schema/(\w+)/(\w+)@_here_")
_HYDRA = re.compile(r"[+~]*hydra([./@=:\[]|\Z)")
_CALLS = re.compile(r"(?:\A|[.\s{,])(_target_|_partial_|_recursive_|_convert_|_args_)\s*(?:[:=]|\Z)")
# Output paths. A shared file may only set them inside the current folder.
_WRITES = ("run_dir", "output", "output.path", "cache", "tracker.database")
# Spark settings that a shared file may set: resources. Most others name code, hosts or programs.
_SPARK = re.compile(r"engine\.conf\.spark\.((driver|executor)\.(memory|cores|memoryOverhead)|executor\.instances"
                    r"|cores\.max|default\.parallelism|sql\.shuffle\.partitions|sql\.adaptive\.enabled)")
_SPARK_MASTER = re.compile(r"local(\[[0-9*]+\])?")


@dataclass(frozen=True)
class Override:
    """An override `key=value` from the command line, or of `experiment`, experiment=<name>; `origin` is the file of a
    shared one."""

    text: str
    origin: str = ""
    experiment: str = ""


def configs_dir() -> Path:
    """Return the folder of llmrec's YAML files: in the checkout, or in the installed package."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "configs"
    return checkout if (package.parent / "pyproject.toml").is_file() and checkout.is_dir() else package / "configs"


def choices(group: str, config_dir: str | None = None) -> list[str]:
    """Return the options of a config group: those of its table, of llmrec's files, and of the folder of
    --config-dir."""
    folders = [configs_dir() / group] + ([Path(config_dir) / group] if config_dir else [])
    return sorted({*CONFIG_GROUPS.get(group, ()), *(file.stem for folder in folders for file in folder.glob("*.yaml"))})


def choices_of(command: str, group: str, config_dir: str | None = None) -> list[str]:
    """Return the options of a config group that a command can use."""
    table = CONFIG_GROUPS[group]
    return [name for name in choices(group, config_dir) if name not in table or table[name].fits_command(command)]


def options_without_file(group: str) -> list[str]:
    """Return the options of a config group without a file in llmrec; their values are the defaults of their
    dataclass."""
    return [name for name in CONFIG_GROUPS[group] if not (configs_dir() / group / f"{name}.yaml").is_file()]


def is_ours(group: str, name: str) -> bool:
    """Return True if an option comes with llmrec, and not from the folder of --config-dir."""
    return name in choices(group)


def require_distinct(config_dir: str | None) -> None:
    """Raise ConfigError for files in a shared folder with the name of a file of llmrec: only one of them could be
    read."""
    if config_dir is None or Path(config_dir).resolve() == configs_dir().resolve():
        return
    folder = Path(config_dir)
    files = [(group, file) for group in (*CONFIG_GROUPS, EXPERIMENT)
             for file in sorted((folder / group).glob("*.yaml"))]
    problems = [f"{file}: llmrec has {group}={file.stem} already; give the file another name"
                for group, file in files if is_ours(group, file.stem)]
    problems += [f"{file}: use letters, digits, blanks, '_', '-' and '.' in the name of an option; rename the file"
                 for _, file in files if not re.fullmatch(r"[\w .-]+", file.stem)]
    problems += [f"{file}: the defaults of a command cannot be replaced; write an experiment, {folder}/{EXPERIMENT}/"
                 f"<name>.yaml" for command in COMMANDS if (file := folder / f"{command}.yaml").exists()]
    problems += [f"{folder / name}: a config cannot change Hydra's own settings; remove the folder"
                 for name in ("hydra", "schema") if (folder / name).exists()]
    if problems:
        raise ConfigError(problems)


def option_values(group: str, name: str, config_dir: str | None = None, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return an option's values: those of its file, over those of the option or dataclass in its `defaults`.

    An option without a file has the defaults of its dataclass.
    """
    if name in options_without_file(group):
        return defaults(CONFIG_GROUPS[group][name])
    file = _file(group, name, config_dir)
    content = _read(file, config_dir)
    base = content.pop("defaults", None)
    schema = next((entry for entry in base if entry != "_self_"), None) if isinstance(base, list) else None
    options = choices(group, config_dir)
    how = (f"defaults: write [<base>, _self_], where <base> is /schema/{group}/<option>@_here_ or the name of another "
           f"{group}")
    if base is not None and (not isinstance(base, list) or base not in ([schema], [schema, "_self_"])):
        raise ConfigError(f"{file}: {how}")
    if schema is None:
        if str(content.get("kind")) not in CONFIG_GROUPS[group]:
            raise ConfigError(f"{file}: names no base {group}; {how}")
        return merge(defaults(CONFIG_GROUPS[group][str(content["kind"])]), content)
    if match := _SCHEMA.fullmatch(str(schema)):
        if match[1] != group or match[2] not in CONFIG_GROUPS[group]:
            table = CONFIG_GROUPS[group]
            raise ConfigError(f"{file}: defaults: {schema}: no such {group}{nearest(match[2], table)}; choose one of "
                              f"{', '.join(table)}")
        return merge(defaults(CONFIG_GROUPS[group][match[2]]), content)
    if schema not in options or schema in (*above, name):
        why = "is a circle" if schema in (*above, name) else f"no such {group}{nearest(str(schema), options)}"
        raise ConfigError(f"{file}: defaults: {str(schema)[:100]}: {why}; {how}")
    return merge(option_values(group, schema, config_dir, (*above, name)), content)


def default_options(command: str) -> dict[str, str]:
    """Return the default option of each config group of a command, as its own file names it."""
    entries = _read(configs_dir() / f"{command}.yaml", None).get("defaults", [])
    return {group: str(name) for entry in entries if isinstance(entry, dict) for group, name in entry.items()}


def values_over_options(command: str) -> dict[str, Any]:
    """Return the values that a command's own file sets in each config group, whichever option is chosen."""
    content = _read(configs_dir() / f"{command}.yaml", None)
    return {group: value for group, value in content.items() if group in CONFIG_GROUPS}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping `base` updated recursively by `over`."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if both else value
    return result


def experiment(name: str, command: str, config_dir: str | None = None) -> list[Override]:
    """Return the overrides of an experiment for a command."""
    file = _file(EXPERIMENT, name, config_dir)
    content = _read(file, config_dir)
    for key, value in content.items():
        if key == _TABLE:  # Read by benchmarks/table.py only.
            continue
        if key not in COMMANDS or not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{file}: {key[:60]}: expected a command ({', '.join(COMMANDS)}) with a list of "
                              f"overrides")
    origin = "" if is_ours(EXPERIMENT, name) else str(file)
    return [Override(text, origin, f"{EXPERIMENT}={name}") for text in content.get(command, [])]


def outward(path: tuple[str, ...], value: Any) -> Iterator[str]:
    """Yield the problems of values that a shared file must not set: output paths, code and other machines."""
    key = ".".join(path)
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from outward((*path, str(name)), part)
    elif key in _WRITES:
        place = str(value).removeprefix("sqlite:///")
        if place.startswith(("/", "~")) or ".." in Path(place).parts or "\0" in place:
            yield (f"{key}={value}: a shared file cannot set a path outside the current folder; give it on the command "
                   f"line")
    elif key == "resume" and value:
        yield f"{key}={value}: a shared file cannot resume a run; give it on the command line"
    elif key == "engine.master" and not _SPARK_MASTER.fullmatch(str(value)):
        yield f"{key}={value}: a shared file cannot send data to another machine; give it on the command line"
    elif path[:2] == ("engine", "conf") and not _SPARK.fullmatch(key):
        yield (f"{key}: a shared file cannot set this, since it could name code that Spark would run; give it on the "
               f"command line")


def _file(group: str, name: str, config_dir: str | None) -> Path:
    folder = configs_dir() if config_dir is None or is_ours(group, name) else Path(config_dir)
    return folder / group / f"{name}.yaml"


def _read(file: Path, config_dir: str | None) -> dict[str, Any]:
    """Return the content of a file of settings, or raise ConfigError with its problems."""
    folder = configs_dir() if config_dir is None else Path(config_dir)
    try:
        if not any(file.resolve().is_relative_to(place.resolve()) for place in (folder, configs_dir())):
            raise YamlError(f"{file}: is a link to {file.resolve()}, outside the folder {folder}; copy the file")
        content = read_yaml(file, _shared_problems)
    except YamlError as error:
        raise ConfigError(str(error).split("\n")) from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected a mapping of settings to values, not "
                          f"{'a list' if isinstance(content, list) else 'a single value'}")
    return content


def _shared_problems(root: yaml.Node, content: str) -> Iterator[Problem]:
    """Yield the problems of content that is not data: Hydra's settings and directives, objects to create, resolvers."""
    for number, line in enumerate(content.splitlines(), start=1):
        if re.match(r"\s*#\s*@", line):
            yield Problem(number, f"{line.strip()[:60]}: a file can only set values of its own config group; leave the "
                                  f"line out")
    top = [key for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
    for node in nodes(root):
        if (text := text_of(node)) is None:
            continue
        # An experiment's overrides are entries of lists; a column may be called hydra.
        if _HYDRA.match(text) and (node in top or "=" in text or text.startswith(("+", "~"))):
            yield Problem(line_of(node), f"{text[:60]}: a config cannot change Hydra's own settings; leave it out")
        if match := _CALLS.search(text):
            yield Problem(line_of(node), f"{match[1]}: a config is data and cannot create objects; leave it out")
        if expression := resolver_in(text):
            yield Problem(line_of(node), f"{expression}: {not_plain(expression)}")

