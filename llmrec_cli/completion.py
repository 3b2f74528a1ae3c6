"""Shell completion: the scripts of `llmrec -sc install=bash|zsh|fish`, and the words that they ask for.

    eval "$(llmrec -sc install=bash)"    # or > ~/.local/share/bash-completion/completions/llmrec
    eval "$(llmrec -sc install=zsh)"     # or > <a folder of $fpath>/_llmrec
    llmrec -sc install=fish | source     # or > ~/.config/fish/completions/llmrec.fish
"""

import dataclasses
import glob
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec_cli.errors import ConfigError
from llmrec_cli.keys import config_groups_of, fields_at, hints_at, is_settings, kinds_of, names_of, parse_key
from llmrec_cli.option_files import EXPERIMENT, choices, choices_of, default_options
from llmrec_cli.settings.base import Settings
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.stages import COMMANDS

_BASH = """_llmrec() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(
        COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" "${COMP_WORDS[0]}" -sc query=bash \
            2> /dev/null)
}
complete -o nospace -F _llmrec llmrec
"""
_ZSH = """#compdef llmrec
_llmrec() {
    local -a found
    found=("${(@f)$(COMP_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" "${words[1]}" -sc query=zsh 2> /dev/null)}")
    found=(${found:#})
    # No space after what goes on: keys, folders, lists.
    compadd -S '' -- ${(M)found:#*([=./]|\\[*)}
    compadd -- ${found:#*([=./]|\\[*)}
}
if (( ! $+functions[compdef] )); then autoload -Uz compinit && compinit; fi
compdef _llmrec llmrec
"""
_FISH = """function __llmrec_complete
    set -lx COMP_LINE (commandline -cp)
    llmrec -sc query=fish 2> /dev/null
end
complete -c llmrec -f -a '(__llmrec_complete)'
"""
_INSTALL = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_UNINSTALL = {"bash": "complete -r llmrec\nunset -f _llmrec\n", "zsh": "compdef -d llmrec\nunfunction _llmrec\n",
              "fish": "complete -e -c llmrec\nfunctions -e __llmrec_complete\n"}
_MAX_FILES = 1000
_WORD = re.compile(r"""\s*(?:[^\s\\'"]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+""", re.DOTALL)
_SPECIAL = re.compile(r"""[\s\\'"$`&|;<>()*?!#~{}\[\]]""")
"""Characters that mean something to bash, and are quoted in a word that is inserted."""


def complete(arguments: Sequence[str], flags: Sequence[str] = ()) -> int:
    """Run `llmrec -sc install=bash` (print a script) or `llmrec -sc query=bash` (called by that script).

    `flags` are the options of every command, --help and so on.
    """
    request, _, shell = arguments[0].partition("=") if len(arguments) == 1 else ("", "", "")
    if request not in ("install", "uninstall", "query") or shell not in _INSTALL:
        raise ConfigError("-sc: write install=bash, install=zsh or install=fish (or uninstall=...)")
    if request == "query":
        line = os.environ.get("COMP_LINE", "")
        words = completions(line, flags)
        # zsh and fish replace the whole word and quote it.
        for word in for_bash(line, words, os.environ.get("COMP_WORDBREAKS", "")) if shell == "bash" else words:
            print(word)
    else:
        print((_INSTALL if request == "install" else _UNINSTALL)[shell], end="")
    return 0


def completions(line: str, flags: Sequence[str] = ()) -> list[str]:
    """Return the words that can stand at the end of a command line in place of its last word, without quoting."""
    begun, last = _divide(line)
    if not begun or last is None:
        return []
    before, word = [_unquoted(part) for part in begun[1:]], _unquoted(last)
    if not before:
        return [name for name in COMMANDS if name.startswith(word)]
    command = before[0]
    if command not in COMMANDS:
        return [name for name in COMMANDS if name.startswith(word)] if command == "help" else []
    if word.startswith("-"):
        return sorted(flag for flag in flags if flag.startswith(word))
    options = _options(command, before)
    if "=" in word:
        return [f"{word[:len(word) - len(rest)]}{value}" for rest, values in _values(command, word, options)
                for value in values if value.startswith(rest)]
    parents = word.split(".")[:-1]
    prefix = "".join(f"{parent}." for parent in parents)
    return sorted(key for key in _keys(command, parents, options) if f"{prefix}{key}".startswith(word)
                  for key in [f"{prefix}{key}"])


def for_bash(line: str, words: Sequence[str], breaks: str) -> list[str]:
    """Return the words as bash inserts them in place of the last one: quoted, with a space unless they go on (keys,
    folders, lists), and only the part after the last of the characters `breaks`, at which bash divides words."""
    last = _divide(line)[1] or ""
    start = max([-1, *(last.rfind(character) for character in "=:" if character in breaks)]) + 1
    size = len(_unquoted(last))
    quoted = [last[start:] + _SPECIAL.sub(r"\\\g<0>", word[size:]) for word in words]
    return [word if word[-1] in "=./" or "[" in word else f"{word} " for word in quoted]


def _divide(line: str) -> tuple[list[str], str | None]:
    """Return the words of a command line but the last, and the last, as they are typed; None for the last if a quote is
    open in it."""
    words, place = [], 0
    while (match := _WORD.match(line, place)) and match.end() < len(line) and line[match.end()].isspace():
        words.append(match[0].strip())
        place = match.end()
    last = line[place:].lstrip()
    return words, last if _WORD.fullmatch(last) or not last else None


def _unquoted(word: str) -> str:
    return "".join(shlex.split(word))


def _options(command: str, words: Sequence[str]) -> dict[str, type[Settings]]:
    """Return the settings class of the option of each config group: of the command line, else the default."""
    named = default_options(command) | dict(word.split("=", 1) for word in words if "=" in word)
    return {group: CONFIG_GROUPS[group][named[group]] for group in config_groups_of(command)
            if named.get(group) in CONFIG_GROUPS[group]}


def _keys(command: str, parents: Sequence[str], options: Mapping[str, type[Settings]]) -> Iterator[str]:
    """Yield the keys below `parents`: with '=' for a value, with '.' for more keys, with both for a config group."""
    cls, groups = COMMANDS[command], config_groups_of(command)
    try:
        names = fields_at(cls, parents, options) + ([] if parents else [EXPERIMENT])
    except StopIteration:  # no such setting
        return
    for name in names:
        if name == "kind" and parents[-1:] and parents[-1] in groups:
            continue  # head=<name> sets it.
        path = [*parents, name]
        is_group = not parents and name in groups
        kinds = _kinds(command, path, options)
        nested = is_group or any(is_settings(kind) for kind in kinds)
        if not nested or is_group or any(is_settings(kind) and kind.shorthand for kind in kinds):
            yield f"{name}="
        if nested and (not is_group or any(f.name != "kind" for f in dataclasses.fields(options.get(name, Settings)))):
            yield f"{name}."


def _values(command: str, word: str, options: Mapping[str, type[Settings]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the begun value of an override, after the last comma, and the values that it can have."""
    key = parse_key(word)
    begun = (key.value or "").rpartition(",")[2]
    if key.text in config_groups_of(command):
        yield begun, choices_of(command, key.text)
    elif key.text == EXPERIMENT:
        yield begun, choices(EXPERIMENT)
    elif key.path[0] in names_of(command):
        kinds = _kinds(command, key.path, options)
        kinds += [kind for short in kinds if is_settings(short) and short.shorthand
                  for kind in _kinds(command, (*key.path, short.shorthand), options)]
        if bool in kinds:
            yield begun, ["true", "false"]
        elif str in kinds or key.text == "settings":
            begun = begun.lstrip("[")
            found = sorted(file for file in glob.iglob(f"{glob.escape(begun)}*") if file.isprintable())[:_MAX_FILES]
            yield begun, [f"{file}/" if Path(file).is_dir() else file for file in found]


def _kinds(command: str, path: Sequence[str], options: Mapping[str, type[Settings]]) -> list[Any]:
    return [kind for hint in hints_at(COMMANDS[command], path, options) for kind in kinds_of(hint)]
