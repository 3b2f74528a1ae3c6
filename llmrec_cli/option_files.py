"""Files of options and experiments: ours, and those in a folder that `--config-dir` names, which anybody may have made.

A shared file is data. It sets values of its own group; Hydra never reads it. Whatever would reach further is refused
with its line: Hydra's own settings, `@package`, `_target_`, resolvers, places that a run would write to, and what Spark
would run.
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
from llmrec_cli.settings.groups import GROUPS
from llmrec_cli.settings.stages import COMMANDS

EXPERIMENT, _TABLE = "experiment", "table"
_SCHEMA = re.compile(r"/schema/(\w+)/(\w+)@_here_")
_HYDRA = re.compile(r"[+~]*hydra([./@=:\[]|\Z)")
_CALLS = re.compile(r"(?:\A|[.\s{,])(_target_|_partial_|_recursive_|_convert_|_args_)\s*(?:[:=]|\Z)")
# Where a run writes. A file that people share may say so inside the folder that a command is started in.
_WRITES = ("run_dir", "output", "output.path", "cache", "tracker.database")
# What of Spark a shared file may set: how much it uses. Most others name code, hosts or programs.
_SPARK = re.compile(r"engine\.conf\.spark\.((driver|executor)\.(memory|cores|memoryOverhead)|executor\.instances"
                    r"|cores\.max|default\.parallelism|sql\.shuffle\.partitions|sql\.adaptive\.enabled)")
_SPARK_MASTER = re.compile(r"local(\[[0-9*]+\])?")


@dataclass(frozen=True)
class Override:
    """One `key=value`: typed by a person, or by an experiment in the file `origin`."""

    text: str
    origin: str = ""


def configs_dir() -> Path:
    """Return the folder of our YAML files: the checkout's, or the copy that was installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "configs"
    return checkout if (package.parent / "pyproject.toml").is_file() and checkout.is_dir() else package / "configs"


def choices(group: str, config_dir: str | None = None) -> list[str]:
    """Return the options of a config group: those of its table, of our files, and of a folder given by --config-dir."""
    folders = [configs_dir() / group] + ([Path(config_dir) / group] if config_dir else [])
    return sorted({*GROUPS.get(group, ()), *(file.stem for folder in folders for file in folder.glob("*.yaml"))})


def options_without_file(group: str) -> list[str]:
    """Return the options of a config group without a file of ours: their values are the defaults of their dataclass."""
    return [name for name in GROUPS[group] if not (configs_dir() / group / f"{name}.yaml").is_file()]


def is_ours(group: str, name: str) -> bool:
    """Return whether an option comes with llmrec, rather than from a folder given by --config-dir."""
    return name in choices(group)


def require_distinct(config_dir: str | None) -> None:
    """Raise ConfigError for files in a shared folder that share a name with ours: only one could be read."""
    if config_dir is None or Path(config_dir).resolve() == configs_dir().resolve():
        return
    folder = Path(config_dir)
    files = [(group, file) for group in (*GROUPS, EXPERIMENT) for file in sorted((folder / group).glob("*.yaml"))]
    problems = [f"{file}: llmrec has {group}={file.stem} already; give the file another name"
                for group, file in files if is_ours(group, file.stem)]
    problems += [f"{file}: an option's name is made of letters, digits, blanks, '_', '-' and '.'; rename the file"
                 for _, file in files if not re.fullmatch(r"[\w .-]+", file.stem)]
    problems += [f"{file}: the defaults of a command cannot be replaced; write an experiment, {folder}/{EXPERIMENT}/"
                 f"<name>.yaml" for command in COMMANDS if (file := folder / f"{command}.yaml").exists()]
    problems += [f"{folder / name}: a config cannot set anything of Hydra's; remove the folder"
                 for name in ("hydra", "schema") if (folder / name).exists()]
    if problems:
        raise ConfigError(problems)


def option_values(group: str, name: str, config_dir: str | None = None, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return an option's values: its file's over those of the option or the dataclass that its `defaults` name.

    An option without a file has the defaults of its dataclass.
    """
    if name in options_without_file(group):
        return defaults(GROUPS[group][name])
    file = _file(group, name, config_dir)
    content = _read(file, config_dir)
    base = content.pop("defaults", None)
    schema = next((entry for entry in base if entry != "_self_"), None) if isinstance(base, list) else None
    known = choices(group, config_dir)
    how = (f"defaults: write [<base>, _self_], where <base> is /schema/{group}/<option>@_here_ or the name of another "
           f"{group}")
    if base is not None and (not isinstance(base, list) or base not in ([schema], [schema, "_self_"])):
        raise ConfigError(f"{file}: {how}")
    if schema is None:
        if str(content.get("kind")) not in GROUPS[group]:
            raise ConfigError(f"{file}: does not say which {group} it is; {how}")
        return merged(defaults(GROUPS[group][str(content["kind"])]), content)
    if match := _SCHEMA.fullmatch(str(schema)):
        if match[1] != group or match[2] not in GROUPS[group]:
            raise ConfigError(f"{file}: defaults: {schema}: no such {group}{nearest(match[2], GROUPS[group])}; choose "
                              f"one of {', '.join(GROUPS[group])}")
        return merged(defaults(GROUPS[group][match[2]]), content)
    if schema not in known or schema in (*above, name):
        why = "goes round in a circle" if schema in (*above, name) else f"no such {group}{nearest(str(schema), known)}"
        raise ConfigError(f"{file}: defaults: {str(schema)[:100]}: {why}; {how}")
    return merged(option_values(group, schema, config_dir, (*above, name)), content)


def values_over_options(command: str) -> dict[str, Any]:
    """Return the values of a command's own file by group: they lie over those of whatever option is chosen."""
    return {group: value for group, value in _read(configs_dir() / f"{command}.yaml", None).items() if group in GROUPS}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with the values of another over it, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def experiment(name: str, command: str, config_dir: str | None = None) -> list[Override]:
    """Return what an experiment says for a command."""
    file = _file(EXPERIMENT, name, config_dir)
    content = _read(file, config_dir)
    for key, value in content.items():
        if key == _TABLE:  # What benchmarks/table.py compares; no command takes anything from it.
            continue
        if key not in COMMANDS or not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{file}: {key[:60]}: expected a command ({', '.join(COMMANDS)}) with a list of "
                              f"overrides")
    origin = "" if is_ours(EXPERIMENT, name) else str(file)
    return [Override(text, origin) for text in content.get(command, [])]


def outward(path: tuple[str, ...], value: Any) -> Iterator[str]:
    """Yield what a shared file must not set: where a run writes, and what it runs or talks to."""
    key = ".".join(path)
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from outward((*path, str(name)), part)
    elif key in _WRITES:
        place = str(value).removeprefix("sqlite:///")
        if place.startswith(("/", "~")) or ".." in Path(place).parts or "\0" in place:
            yield (f"{key}={value}: a shared file cannot choose a place outside the folder that llmrec is started in; "
                   f"give it on the command line")
    elif key == "resume" and value:
        yield f"{key}={value}: a shared file cannot go on with a run of yours; give it on the command line"
    elif key == "engine.master" and not _SPARK_MASTER.fullmatch(str(value)):
        yield f"{key}={value}: a shared file cannot send data to another machine; give it on the command line"
    elif path[:2] == ("engine", "conf") and not _SPARK.fullmatch(key):
        yield (f"{key}: a shared file cannot set this, since it could name code that Spark would run; give it on the "
               f"command line")


def _file(group: str, name: str, config_dir: str | None) -> Path:
    folder = configs_dir() if config_dir is None or is_ours(group, name) else Path(config_dir)
    return folder / group / f"{name}.yaml"


def _read(file: Path, config_dir: str | None) -> dict[str, Any]:
    """Return the content of a file of settings, or raise ConfigError for what is wrong with it."""
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
        raise ConfigError(f"{file}: expected settings, a mapping of names to values, and not "
                          f"{'a list' if isinstance(content, list) else 'a single value'}")
    return content


def _shared_problems(root: yaml.Node, content: str) -> Iterator[Problem]:
    """Yield what is not data: Hydra's settings and directives, objects to be made, resolvers."""
    for number, line in enumerate(content.splitlines(), start=1):
        if re.match(r"\s*#\s*@", line):
            yield Problem(number, f"{line.strip()[:60]}: a file sets values of its own group alone; leave the line out")
    top = [key for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
    for node in nodes(root):
        if (text := text_of(node)) is None:
            continue
        # An experiment's overrides are entries of lists; a column may be called hydra.
        if _HYDRA.match(text) and (node in top or "=" in text or text.startswith(("+", "~"))):
            yield Problem(line_of(node), f"{text[:60]}: a config cannot set anything of Hydra's; leave it out")
        if found := _CALLS.search(text):
            yield Problem(line_of(node), f"{found[1]}: a config is data and makes no objects; leave it out")
        if shown := resolver_in(text):
            yield Problem(line_of(node), f"{shown}: {not_plain(shown)}")

