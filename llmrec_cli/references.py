"""References between settings: `${seed}`, `${head.l2}`, `${.name}` for a neighbour. Nothing else is read in `${...}`.

A reference leads to a value and not to another reference, so that a small config cannot grow into a large one and
cannot go round in circles. Text that a person typed is literal; `escaped` lets it pass.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

from llmrec_cli.errors import ConfigError

MAX_REFERENCES = 100
_DOLLAR = re.compile(r"(\\*)\$\{(?:(\.*[^\s${}:\\.]+(?:\.[^${}:\\.]+)*)\})?")
Place = tuple[str | int, ...]


def escaped(text: str) -> str:
    """Return text in which `resolved` finds no reference, and which it turns into `text` again."""
    return re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + "\\${", text)


def resolver_in(text: str) -> str | None:
    """Return the first `${...` of a text that is no plain reference, as `${oc.env:HOME}` is none."""
    for match in _unescaped(text):
        if match[2] is None:
            return text[match.start(0) + len(match[1]):][:60]
    return None


def not_plain(shown: str) -> str:
    """Return what to do about a `${...` that is no plain reference."""
    hint = ""
    if name := re.match(r"\$\{\s*oc\.env\s*:\s*(\w+)", shown):
        hint = f", <setting>=\"${name[1]}\""
    return (f"a config cannot read the environment or compute anything; it can refer to another setting, as in "
            f"${{seed}}, and the shell can fill in the rest{hint}")


def resolved(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a config with a value in place of every reference, or raise ConfigError with all that lead nowhere."""
    problems: list[str] = []
    found = [text for _, text in _texts(plain, ()) for match in _unescaped(text)]
    if len(found) > MAX_REFERENCES:
        raise ConfigError(f"{len(found):,} references to other settings: at most {MAX_REFERENCES} are read; write the "
                          f"values out")

    def value(node: Any, at: Place) -> Any:
        if isinstance(node, dict):
            return {key: value(part, (*at, key)) for key, part in node.items()}
        if isinstance(node, list):
            return [value(part, (*at, number)) for number, part in enumerate(node)]
        if not isinstance(node, str) or "${" not in node:
            return node
        try:
            return _value_of(plain, node, at)
        except _Unresolved as error:
            problems.append(f"{'.'.join(map(str, at))}={node[:100]}: {error}")
            return None

    result = value(plain, ())
    if problems:
        raise ConfigError(problems)
    return dict(result)


class _Unresolved(Exception):
    pass


def _value_of(plain: dict[str, Any], text: str, at: Place) -> Any:
    if (shown := resolver_in(text)) is not None:
        raise _Unresolved(not_plain(shown))
    matches = list(_unescaped(text))
    if matches and matches[0].span() == (0, len(text)):
        return _target(plain, matches[0][2], at)

    def replaced(match: re.Match[str]) -> str:
        half = "\\" * (len(match[1]) // 2)
        if len(match[1]) % 2:
            return half + match[0][len(match[1]):]
        target = _target(plain, match[2], at)
        if not isinstance(target, str | int | float):
            raise _Unresolved(f"${{{match[2]}}} is no text or number that could stand in a text")
        return half + (str(target).lower() if isinstance(target, bool) else str(target))

    return _DOLLAR.sub(replaced, text)


def _target(plain: dict[str, Any], reference: str, at: Place) -> Any:
    """Return the value that a reference at `at` leads to: from the top, or with dots first from where it stands."""
    name = reference.lstrip(".")
    dots = len(reference) - len(name)
    if dots > len(at):
        raise _Unresolved(f"${{{reference}}} has more dots than there are levels above it")
    node: Any = plain
    for part in (*(at[:-dots] if dots else ()), *name.split(".")):
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and str(part).isdecimal() and int(part) < len(node):
            node = node[int(part)]
        else:
            raise _Unresolved(f"${{{reference}}} leads nowhere, there is no such setting")
    if any(True for _, text in _texts(node, ()) for _ in _unescaped(text)):
        raise _Unresolved(f"${{{reference}}} leads to another reference; refer to where the value itself is")
    return copy.deepcopy(node) if not isinstance(node, str) else _value_of(plain, node, at)


def _unescaped(text: str) -> Iterator[re.Match[str]]:
    """Yield each `${` with what is in it, but for those with an odd number of backslashes before them."""
    return (match for match in _DOLLAR.finditer(text) if len(match[1]) % 2 == 0)


def _texts(node: Any, at: Place) -> Iterator[tuple[Place, str]]:
    """Yield every text of a config that has `${` in it, and where."""
    parts: Sequence[tuple[Any, Any]] = ()
    if isinstance(node, str):
        if "${" in node:
            yield at, node
    elif isinstance(node, dict):
        parts = list(node.items())
    elif isinstance(node, list):
        parts = list(enumerate(node))
    for key, part in parts:
        yield from _texts(part, (*at, key))
