"""Suggestions for words of a command line that are no setting: misplaced keys, blanks around '=', missing quotes."""

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_type_hints

from llmrec_cli.keys import config_groups_of, hints_at, is_settings, kinds_of, names_of, parse_key
from llmrec_cli.option_files import EXPERIMENT, choices, default_options
from llmrec_cli.settings.base import Settings, nearest
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.stages import COMMANDS

_NEAR = 0.75
"""Similarity of a nested key that is suggested; there are many of them."""
_NUM_OPTIONS = 3


def unknown_setting(command: str, key: str, options: Mapping[str, type[Settings]]) -> str:
    """Return the message for a key that is no setting of the command, with the key that was probably meant.

    `options` are the options in use, by config group.
    """
    message = f"{key}: `llmrec {command}` has no such setting"
    names = names_of(command)
    root = key.partition(".")[0]
    if root == "dataset" and "prepared" in names:
        return (f"{message}; it reads prepared data: run `llmrec prepare {key}=...` first, then set "
                f"prepared=data/prepared/<name>")
    inside = dict(_nested(command, options))
    exact = sorted((place for place in inside if place.endswith(f".{key}")), key=lambda place: place.count("."))
    if not exact and root != key:  # A name of one's own, columns.item_id
        exact = [place for place in inside if place.partition(".")[2] == root]
        inside = {f"{place}{key.removeprefix(root)}": needs for place, needs in inside.items()}
        exact = [f"{place}{key.removeprefix(root)}" for place in exact]
    others = [name for name in COMMANDS if root in names_of(name)]
    if exact and (exact[0].count(".") - key.count(".") == 1 or not others):
        return f"{message} (did you mean '{exact[0]}'{inside[exact[0]]}?)"
    if others:
        return f"{message}; it is a setting of {' and '.join(f'`llmrec {name}`' for name in others)}"
    if near := nearest(root, [*names, EXPERIMENT, *["plugins"] * root.startswith("plug")]):
        return message + near
    last = {place.rpartition(".")[2]: place for place in reversed(list(inside))}
    initials = {"".join(word[0] for word in name.split("_") if word): name for name in reversed(list(last))}
    found = re.search(r"'(.*)'", nearest(key.rpartition(".")[2], last, cutoff=_NEAR))
    name = found[1] if found else initials.get(key, "") if len(key) > 1 else ""  # lr is learning_rate
    return f"{message} (did you mean '{last[name]}'{inside[last[name]]}?)" if name else message


def _nested(command: str, options: Mapping[str, type[Settings]]) -> Iterator[tuple[str, str]]:
    """Yield every nested key of a command, and the option that it needs if this is not in use."""
    cls = COMMANDS[command]
    groups = config_groups_of(command)
    default = {group: CONFIG_GROUPS[group][name] for group, name in default_options(command).items()}
    for group in groups:
        owners: dict[str, list[str]] = {}
        for kind, option in CONFIG_GROUPS[group].items():
            for key in _keys(option, f"{group}."):
                owners.setdefault(key, []).append(kind)
        in_use = set(_keys(options.get(group, default[group]), f"{group}."))
        for key, kinds in owners.items():
            needs = f", with {group}={'|'.join(kinds[:_NUM_OPTIONS])}{'|...' * (len(kinds) > _NUM_OPTIONS)}"
            yield key, "" if key in in_use else needs
    for name, hint in get_type_hints(cls).items():
        if is_settings(hint) and name not in groups:
            yield from ((key, "") for key in _keys(hint, f"{name}."))


def _keys(cls: type[Settings], prefix: str) -> Iterator[str]:
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name in ("kind", "search") or not cls.has_setting(field.name):
            continue
        yield prefix + field.name
        if is_settings(hints[field.name]):
            yield from _keys(hints[field.name], f"{prefix}{field.name}.")


def bare_words(command: str, typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the overrides of a command line, and a problem for each word without an equals sign."""
    rest, problems, n = [], [], 0
    while n < len(typed):
        word = typed[n]
        bare = next((m for m in range(n + 1, len(typed)) if _is_override(typed[m])), len(typed))
        after = list(typed[n + 1:bare])
        if _is_override(word):
            if after and (meant := _with_value(command, word, after)):
                problems.append(meant)
                n = bare
                continue
            rest.append(word)
        elif (word == "=" or word.startswith("=")) and rest:
            problems.append(f"{word}: no key before it; write key=value without blanks")
        elif _is_key(command, word) and after:
            value = " ".join(after).removeprefix("=").strip()
            problems.append(f"{word} {' '.join(after)}: write {shlex.join([f'{word}={value}'])}, without blanks around "
                            f"the equals sign")
            n = bare
            continue
        else:
            problems.append(_alone(command, word))
        n += 1
    return rest, problems


def _is_override(word: str) -> bool:
    return word[:1] in ("~", "+") or (parse_key(word).value is not None and not word.startswith("="))


def _is_key(command: str, word: str) -> bool:
    return parse_key(word).path[0] in (*names_of(command), EXPERIMENT, "settings")


def _with_value(command: str, word: str, after: Sequence[str]) -> str:
    """Return the problem of an override with words after it: `head= ease`, `query.text=slow science fiction`."""
    key = parse_key(word.lstrip("+"))
    if word[:1] == "~" or not _is_key(command, key.text):
        return ""
    if not key.value:
        return f"{word} {' '.join(after)}: write {shlex.join([word + ' '.join(after)])}, without blanks around the " \
               f"equals sign"
    kinds = {kind for hint in hints_at(COMMANDS[command], key.path) for kind in kinds_of(hint)}
    opened = key.value.startswith(("{", "[")) and not key.value.endswith(("}", "]"))
    if str not in kinds and "list of text" not in kinds and not opened:
        return ""
    return (f"{' '.join(after)}: stands alone after {word}; quote a value with blanks: "
            f"{key.text}={shlex.quote(' '.join([key.value, *after]))}")


def _alone(command: str, word: str) -> str:
    """Return the problem of a word without an equals sign."""
    message = f"{word}: expected a setting, key=value"
    key, colon, value = word.partition(":")
    if colon and _is_key(command, key):
        return f"{message}; write {key}={value}"
    if _is_key(command, word):
        return f"{message}; write {word}=<value>"
    for group in config_groups_of(command):
        if word in choices(group):
            return f"{message}; write {group}={word}"
    if word.endswith((".yaml", ".yml")):
        return f"{message}; write settings={word}"
    key, _, example = COMMANDS[command].main_input.partition("=")
    if key and word and (word == example or "/" in word or Path(word).suffix or Path(word).exists()):
        return f"{message}; write {key}={word}"
    return message + nearest(word, names_of(command))
