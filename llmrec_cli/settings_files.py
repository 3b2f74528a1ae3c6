"""Settings files, `settings=shop.yaml`: values under the keys of the command line, as plain data.

    dataset: {interactions: clicks.csv, columns: {item_id: sku}}    # dataset=files, if no kind is given
    split: {kind: temporal, test_days: 7}                           # or only the name: split: leave_last_out
    recommend: {k: 20, output: lists.csv}                           # for one command only

One file serves all commands: each takes the settings that it has. Keys of no command are refused with file, line and
the nearest name. A text is literal, as on the command line: nothing is interpolated, imported or run, and Hydra never
reads the file.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from llmrec_cli.errors import ConfigError
from llmrec_cli.keys import (
    Change,
    config_groups_of,
    fields_at,
    hints_at,
    is_mapping,
    is_settings,
    kinds_of,
    names_of,
    parse_key,
    with_option_key,
    with_whole_names,
)
from llmrec_cli.option_files import outward
from llmrec_cli.plain_yaml import YamlError, line_of, parse_yaml, read_bytes, value_of
from llmrec_cli.references import escape
from llmrec_cli.run_dir import PREPARED
from llmrec_cli.settings.base import Settings, nearest
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.stages import COMMANDS
from llmrec_cli.settings.typed_lists import entries_of
from llmrec_cli.typed_values import listed

SETTINGS = "settings"
_COMMAND_LINE_ONLY = ("plugins", "experiment", "settings", "resume")
_NOT_DATA = re.compile(r"hydra([./@].*)?|defaults|_(target|partial|recursive|convert|args)_")
_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class _Leaf:
    """A value in a settings file: the command whose section it is in or "", its path, and its place in the file."""

    section: str
    path: tuple[str, ...]
    node: yaml.Node
    line: int


def files_of(typed: Sequence[str]) -> list[str]:
    """Return the files of each `settings=<file>` and `settings=[<file>,<file>]` on a command line."""
    values = [text.partition("=")[2] for text in typed if text.partition("=")[0] == SETTINGS]
    return [file for value in values
            for file in (entries_of(value[1:-1]) if value[:1] == "[" and value[-1:] == "]" else [value])]


def settings_changes(command: str, files: Sequence[str]) -> tuple[list[Change], list[str]]:
    """Return the changes that settings files make to the defaults of a command, and the problems of their keys."""
    changes: list[Change] = []
    problems: list[str] = []
    for file in files:
        leaves, digest = _read(file)
        changes.append(Change((SETTINGS, file), digest, f"{SETTINGS}={file}"))
        earlier = {change.path[0]: change.value for change in changes if change.action == "choose"}
        # Values for the command alone come after those for all commands.
        for leaf in sorted(leaves, key=lambda leaf: bool(leaf.section)):
            where = f"{file}, line {leaf.line}"
            try:
                owners = _owners(leaf)
                options = _options(leaves, owners[0], leaf.section, earlier)
                path = _checked(owners[0], leaf, options)
                if command in owners:
                    changes.append(_change(command, path, leaf, options, where))
            except ConfigError as error:
                problems += [f"{where}: {problem}" for problem in error.problems]
        changes += [*_implied(changes), *_prepared_of(command, file, leaves)]
    return changes, problems


def _implied(changes: Sequence[Change]) -> list[Change]:
    """Return the choice of each option that the values of a file imply without naming it."""
    named = {change.path[0] for change in changes if change.action == "choose"}
    implied = {change.path[0]: change for change in changes if change.option and change.path[0] not in named}
    return [Change((group,), change.option, f"{group}={change.option}", "choose", change.origin)
            for group, change in implied.items()]


def _prepared_of(command: str, file: str, leaves: Sequence[_Leaf]) -> Iterator[Change]:
    """Yield the change of `prepared` to the data that `prepare` makes of this file, unless the file names another."""
    if not COMMANDS[command].reads_latest or any(leaf.path == ("prepared",) for leaf in leaves):
        return
    for path, folder in ((("output",), Path()), (("dataset", "name"), PREPARED)):
        for leaf in leaves:
            if leaf.path == path and leaf.section in ("", "prepare") and isinstance(leaf.node, yaml.ScalarNode):
                value = str(folder / leaf.node.value)
                yield Change(("prepared",), escape(value), f"prepared={value}", "set", f"{file}, line {leaf.line}")
                return


def _read(file: str) -> tuple[list[_Leaf], str]:
    """Return the values of a settings file and its SHA-256, or raise ConfigError."""
    root: list[yaml.Node] = []

    def keep(node: yaml.Node, _: str) -> Iterator[Any]:
        root.append(node)
        return iter(())

    if not file:
        raise ConfigError(f"{SETTINGS}=: names no file; write {SETTINGS}=<file>.yaml")
    try:
        content = read_bytes(Path(file))
        parse_yaml(content, file, keep)
    except YamlError as error:
        raise ConfigError(str(error).split("\n")) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        hint = f"; several files are a list, {SETTINGS}=[{file}]" if "," in file else ""
        raise ConfigError(f"{SETTINGS}={file}: cannot be read ({reason}); name a YAML file of settings"
                          f"{hint}") from error
    if not isinstance(root[0], yaml.MappingNode):
        raise ConfigError(f"{file}, line {line_of(root[0])}: expected settings, <key>: <value>")
    return list(_leaves(root[0])), hashlib.sha256(content).hexdigest()


def _leaves(node: yaml.MappingNode, section: str = "", path: tuple[str, ...] = ()) -> Iterator[_Leaf]:
    """Yield every value below a mapping; keys with dots are divided unless they are names of columns and the like."""
    names = {name for command in COMMANDS for name in names_of(command)}
    for key, value in node.value:
        is_name = path and any(is_mapping(cls, path) for cls in COMMANDS.values())
        inside = (*path, *((key.value,) if is_name else parse_key(key.value).path))
        command = section
        is_section = inside[0] not in names or len(inside) > 1 or isinstance(value, yaml.MappingNode)
        if not section and inside[0] in COMMANDS and is_section:
            command, inside = inside[0], inside[1:]
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _leaves(value, command, inside)
        else:
            yield _Leaf(command, inside, value, line_of(key))


def _owners(leaf: _Leaf) -> list[str]:
    """Return the commands that a value is for, or raise ConfigError."""
    if not leaf.path:
        raise ConfigError(f"{leaf.section}: expected settings of `llmrec {leaf.section}`, {leaf.section}: {{<key>: "
                          f"<value>}}")
    root = leaf.path[0]
    if root in _COMMAND_LINE_ONLY:
        raise ConfigError(f"{root}: can only be given on the command line; leave it out of the file")
    if _NOT_DATA.fullmatch(root):
        raise ConfigError(f"{root}: a settings file is data and holds only values of settings; leave it out")
    owners = [leaf.section] if leaf.section else [name for name in COMMANDS if root in names_of(name)]
    if not owners or root not in names_of(owners[0]):
        names = [name for each in ([leaf.section] if leaf.section else COMMANDS) for name in names_of(each)]
        whose = f"`llmrec {leaf.section}` has no such" if leaf.section else "no command has such a"
        raise ConfigError(f"{root}: {whose} setting{nearest(root, names)}")
    as_group = [name for name in owners if root in config_groups_of(name)]
    if as_group:
        return as_group
    meanings = {frozenset(set(kinds_of(hint)) - {type(None)}) for name in owners
                for hint in hints_at(COMMANDS[name], [root])}
    if len(meanings) > 1:
        raise ConfigError(f"{root}: differs between {' and '.join(f'`llmrec {name}`' for name in owners)}; write it "
                          f"below the command, {owners[-1]}: {{{root}: ...}}")
    return owners


def _options(leaves: Sequence[_Leaf], command: str, section: str, earlier: Mapping[str, str]) -> dict[str, str]:
    """Return the options that a file names or implies for a command, by config group; `earlier` are those of the files
    before it."""
    options = {}
    for group, item in config_groups_of(command).items():
        own = [leaf for leaf in leaves if leaf.path[:1] == (group,) and leaf.section in ("", section)]
        names = [leaf.node.value for leaf in sorted(own, key=lambda leaf: bool(leaf.section))
                 if leaf.path in ((group,), (group, "kind")) and isinstance(leaf.node, yaml.ScalarNode)]
        if names:
            options[group] = names[-1]
        elif own and item.metadata["implied"]:
            options[group] = earlier.get(group, item.metadata["default"])
    return options


def _checked(command: str, leaf: _Leaf, options: Mapping[str, str]) -> tuple[str, ...]:
    """Return the path of a value, or raise ConfigError for the first key on the way that is no setting."""
    cls, known = COMMANDS[command], _classes(options)
    path = with_whole_names(cls, leaf.path)
    if _is_option(command, path) and (not isinstance(leaf.node, yaml.ScalarNode) or leaf.node.tag == _NULL):
        raise ConfigError(f"{path[0]}: expected the name of an option, {path[0]}: <name>, or its settings, {path[0]}: "
                          f"{{kind: <name>, <key>: <value>}}")
    for n in range(2, len(path) + 1):
        above = [kind for hint in hints_at(cls, path[:n - 1], known) for kind in kinds_of(hint)]
        if any(get_origin(kind) is dict and is_settings(get_args(kind)[1]) for kind in above):
            break  # Names of one's own; the rest is checked with the values.
        if not any(True for _ in hints_at(cls, path[:n], known)):
            names = fields_at(cls, path[:n - 1], known)
            raise ConfigError(f"{'.'.join(path[:n])}: unknown key{nearest(path[n - 1], names)}")
    return path


def _is_option(command: str, path: tuple[str, ...]) -> bool:
    """Return True if the value at `path` is the name of an option: head: ease, or head: {kind: ease}."""
    return path[0] in config_groups_of(command) and path in ((path[0],), (path[0], "kind"))


def _classes(options: Mapping[str, str]) -> dict[str, type[Settings]]:
    return {group: CONFIG_GROUPS[group][name] for group, name in options.items() if name in CONFIG_GROUPS[group]}


def _change(command: str, path: tuple[str, ...], leaf: _Leaf, options: Mapping[str, str], origin: str) -> Change:
    """Return the change of a value, or raise ConfigError for a value that only the command line can set."""
    cls = COMMANDS[command]
    if _is_option(command, path):
        return Change(path[:1], leaf.node.value, f"{path[0]}={leaf.node.value}", "choose", origin)
    is_list = isinstance(leaf.node, yaml.SequenceNode)
    path = path if is_list else with_option_key(path)
    hints = list(hints_at(cls, path, _classes(options)))
    for short in [hint.shorthand for hint in hints if is_settings(hint) and hint.shorthand][:1]:
        if not isinstance(leaf.node, yaml.MappingNode):
            path = (*path, short)
            hints = list(hints_at(cls, path, _classes(options)))
    value = _value(leaf.node, {kind for hint in hints for kind in kinds_of(hint)})
    # Spark settings can name code and other machines.
    for problem in outward(path, value) if path[0] == "engine" else ():
        raise ConfigError(problem)
    printed = leaf.node.value if isinstance(leaf.node, yaml.ScalarNode) else value
    return Change(path, value, f"{'.'.join(path)}={printed}", "set", origin, options.get(path[0], ""))


def _value(node: yaml.Node, kinds: set[Any]) -> Any:
    """Return the value of a node as the setting takes it: of a text, the characters in the file."""
    if isinstance(node, yaml.ScalarNode) and node.tag != _NULL:
        if str in kinds:
            return escape(node.value)
        if "list of text" in kinds:
            return [escape(node.value)]
    if isinstance(node, yaml.SequenceNode) and "list of text" in kinds:
        return [_value(part, {str}) for part in node.value]
    return listed(kinds, _literal(value_of(node)))


def _literal(value: Any) -> Any:
    """Return a value with the texts in it escaped, so that they are not read as references to other settings."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, list):
        return [_literal(part) for part in value]
    return {key: _literal(part) for key, part in value.items()} if isinstance(value, dict) else value
