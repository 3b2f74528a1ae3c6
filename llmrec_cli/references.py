"""References between settings: `${seed}`, `${head.l2}`, `${.name}` for a setting at the same level. No other `${...}`.

A reference must lead to a value and not to another reference, so that a small config cannot expand into a large one or
form a circle. Text on the command line is literal: `escape` protects it.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

from llmrec_cli.errors import ConfigError

MAX_REFERENCES = 100
_DOLLAR = re.compile(r"(\\*)\$\{(?:(\.*[^\s${}:\\.]+(?:\.[^${}:\\.]+)*)\})?")
Place = tuple[str | int, ...]


def escape(text: str) -> str:
    """Return `text` escaped so that `resolve_references` returns it unchanged."""
    return re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + "\\${", text)


def resolver_in(text: str) -> str | None:
    """Return the first `${...` in a text that is not a plain reference, for example `${oc.env:HOME}`."""
    for match in _unescaped(text):
        if match[2] is None:
            return text[match.start(0) + len(match[1]):][:60]
    return None


def not_plain(expression: str) -> str:
    """Return the message for a `${...` that is not a plain reference."""
    hint = ""
    if name := re.match(r"\$\{\s*oc\.env\s*:\s*(\w+)", expression):
        hint = f", <setting>=\"${name[1]}\""
    return (f"a config cannot read the environment or compute values; it can refer to another setting, for example "
            f"${{seed}}, and the shell can insert other values{hint}")


def resolve_references(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a config with every reference replaced by its value, or raise ConfigError with all broken references."""
    problems: list[str] = []
    references = [text for _, text in _texts(plain, ()) for match in _unescaped(text)]
    if len(references) > MAX_REFERENCES:
        raise ConfigError(f"{len(references):,} references to other settings: at most {MAX_REFERENCES} are allowed; "
                          f"write the values out")

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
    if (expression := resolver_in(text)) is not None:
        raise _Unresolved(not_plain(expression))
    matches = list(_unescaped(text))
    if matches and matches[0].span() == (0, len(text)):
        return _target(plain, matches[0][2], at)

    def replacement(match: re.Match[str]) -> str:
        half = "\\" * (len(match[1]) // 2)
        if len(match[1]) % 2:
            return half + match[0][len(match[1]):]
        target = _target(plain, match[2], at)
        if not isinstance(target, str | int | float):
            raise _Unresolved(f"${{{match[2]}}} is not a text or number, so it cannot be part of a text")
        return half + (str(target).lower() if isinstance(target, bool) else str(target))

    return _DOLLAR.sub(replacement, text)


def _target(plain: dict[str, Any], reference: str, at: Place) -> Any:
    """Return the value of a reference at `at`: an absolute path, or relative to `at` if it starts with dots."""
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
            raise _Unresolved(f"${{{reference}}} leads nowhere: no such setting")
    if any(True for _, text in _texts(node, ()) for _ in _unescaped(text)):
        raise _Unresolved(f"${{{reference}}} leads to another reference; refer to the setting that has the value")
    return copy.deepcopy(node) if not isinstance(node, str) else _value_of(plain, node, at)


def _unescaped(text: str) -> Iterator[re.Match[str]]:
    """Yield each `${...` match, except those after an odd number of backslashes."""
    return (match for match in _DOLLAR.finditer(text) if len(match[1]) % 2 == 0)


def _texts(node: Any, at: Place) -> Iterator[tuple[Place, str]]:
    """Yield place and text of every text in a config that contains `${`."""
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
