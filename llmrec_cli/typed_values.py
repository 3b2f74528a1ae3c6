"""Values of overrides: literal texts, lists, and mappings of names to values; all else by Hydra's grammar.

Values from Python are data already and never parsed.
"""

import itertools
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args, get_origin

from llmrec_cli.errors import ConfigError
from llmrec_cli.keys import kinds_of
from llmrec_cli.plain_yaml import MAX_DEPTH, YamlError, parse_yaml
from llmrec_cli.references import escape, not_plain, resolver_in
from llmrec_cli.settings.typed_lists import entries_of

MAX_RUNS = 1000
_BEFORE_AN_ENTRY = ("", *"[{(,:")
_QUOTED = r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*\""""
# An entry of {name: value}. The name ends at a colon before a blank, else at the first colon: {a:b: 1} names a:b.
_ENTRY = re.compile(rf"""\s*(?:(?P<quoted>{_QUOTED})\s*:|(?P<name>[^{{}},\\]+?)\s*(?::\s|:(?![^,]*:\s)))
                         \s*(?P<value>{_QUOTED}|(?![\[{{])[^{{}},\\]*?)\s*(?:,|\Z)""", re.DOTALL | re.VERBOSE)
_FULL_WIDTH = "：，"


def divided(value: str) -> list[str]:
    """Return the values of an override in a multirun: separated by commas outside of brackets and quotes.

    A quote counts only at the start of a value, and a double quote also at the start of a list entry; elsewhere it is
    an ordinary character: o'neil.
    """
    parts, depth, quote = [""], 0, ""
    for character in value:
        if quote:
            quote = "" if character == quote else quote
        elif character in ("\"" if depth else "\"'") and parts[-1].rstrip()[-1:] in _BEFORE_AN_ENTRY:
            quote = character
        else:
            depth = max(0, depth + (character in "([{") - (character in ")]}"))
        if character == "," and not quote and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def typed_values(text: str, hints: Sequence[Any], value: str, opaque: bool, several: bool) -> list[Any]:
    """Return the value of a setting: literal if the setting takes text, else parsed.

    With `opaque`, null is a text too, since it may be an id. With `several`, a range gives several values.
    """
    kinds = {kind for hint in hints for kind in kinds_of(hint)}
    if value == "null" and type(None) in kinds and not opaque:
        return [None]
    mappings = [get_args(kind)[1] for kind in kinds if get_origin(kind) is dict]
    if mappings and value.startswith("{") and value.endswith("}"):
        return [_mapping(text, value, mappings)]
    if "list of text" in kinds and (value.startswith("[") and value.endswith("]")):
        return [[escape(part) for part in entries_of(value[1:-1])]]
    if several and len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    if str in kinds:
        return [escape(value)]
    if "list of text" in kinds:
        if "," in value and not several:
            key = text.partition("=")[0]
            raise ConfigError(f"{text[:100]}: several values are a list; write {key}=[{value[:100]}]")
        return [[escape(value)]]
    values = _parsed(text, value, several, any(get_origin(kind) is list for kind in kinds))
    return [listed(kinds, each) for each in values]


def listed(kinds: Collection[Any], value: Any) -> Any:
    """Return a single number as a list of one if the setting takes lists of numbers only: k=10 is k=[10]."""
    lists = {get_args(kind)[0] for kind in kinds if get_origin(kind) is list}
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return [value] if is_number and lists & {int, float} and not {int, float} & set(kinds) else value


def python_value(key: str, hints: Sequence[Any], value: Any) -> Any:
    """Return a Python value as the setting takes it, or raise ConfigError for a type that no setting takes.

    Paths are texts, tuples and arrays are lists, numbers of numpy are numbers, and whole numbers are ids where a
    setting takes texts only.
    """
    kinds = {kind for hint in hints for kind in kinds_of(hint)}
    plain = _plain(key, value)
    is_whole = isinstance(plain, int) and not isinstance(plain, bool)
    if is_whole and str in kinds and not kinds & {int, float}:
        return str(plain)
    if "list of text" in kinds and isinstance(plain, list):
        return [str(part) if isinstance(part, int) and not isinstance(part, bool) else part for part in plain]
    if "list of text" in kinds and str not in kinds and (is_whole or isinstance(plain, str)):
        return [str(plain)]
    return listed(kinds, plain)


def _plain(key: str, value: Any) -> Any:
    """Return a value as texts, numbers, lists and mappings, with the texts escaped: `${seed}` is no reference."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if hasattr(value, "tolist"):  # Arrays, Series and numbers of numpy, without importing numpy.
        value = value.tolist()
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ConfigError(f"{key}: is not UTF-8: {value[:100].encode('utf-8', 'backslashreplace').decode()}")
        return escape(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(key, part) for part in value]
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ConfigError(f"{key}: the key {name!r} is not text; write it as a text")
        return {name: _plain(key, part) for name, part in value.items()}
    raise ConfigError(f"{key}: a {type(value).__name__} is no value of a setting; give a text, a number, True, False, "
                      f"None, a list or a dict")


def _mapping(text: str, value: str, types: Sequence[Any]) -> Any:
    """Return a mapping: of any names to texts or numbers, or by Hydra's grammar, {a:b}, or in YAML."""
    scalar = types[0] if types[0] in (str, int, float, bool) else None
    if scalar is not None and (entries := _named_values(text, value)) is not None:
        return {name: escape(part) if scalar is str else _parsed(f"{text.partition('=')[0]}.{name}={part}", part,
                                                                 False)[0] for name, part in entries.items()}
    if scalar is not None and any(mark in value for mark in _FULL_WIDTH):
        raise ConfigError(f"{text[:100]}: cannot be read as a mapping; write the ASCII characters ':' and ',' "
                          f"instead of '：' and '，': {{<name>: <value>, <name>: <value>}}")
    try:
        (mapping,) = _parsed(text, value, False)
    except ConfigError as error:
        try:
            mapping = _with_text_keys(text, parse_yaml(value, text[:100]))
        except YamlError:
            raise error from None
    return mapping


def _named_values(text: str, value: str) -> dict[str, str] | None:
    """Return the names and values of a mapping without nested mappings, as texts; None for any other value."""
    inside, place = value[1:-1], 0
    entries: dict[str, str] = {}
    while inside[place:].strip():
        match = _ENTRY.match(inside, place)
        if match is None:
            return None
        name = _unquoted(match["quoted"] or match["name"].strip())
        if name in entries:
            raise ConfigError(f"{text[:100]}: names '{name[:60]}' twice; remove one of them")
        entries[name] = _unquoted(match["value"])
        place = match.end()
    return entries


def _unquoted(text: str) -> str:
    """Return a text without the quotes around it; in double quotes the escapes of YAML are decoded."""
    if not re.fullmatch(_QUOTED, text, re.DOTALL):
        return text
    return text[1:-1].replace("''", "'") if text[0] == "'" else str(parse_yaml(text, text[:100]))


def _parsed(text: str, value: str, several: bool, takes_list: bool = False) -> list[Any]:
    """Return a non-text value parsed by Hydra's grammar of overrides; with `several`, all values of a range."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    depth = max(itertools.accumulate((c in "([{") - (c in ")]}") for c in value), default=0)
    if depth > MAX_DEPTH:
        raise ConfigError(f"{text[:100]}: is nested more than {MAX_DEPTH} deep")
    try:
        override = OverridesParser.create().parse_override(f"value={value}")
        if not override.is_sweep_override():
            return [_with_text_keys(text, override.value())]
        if not several:
            raise ConfigError(f"{text}: several values; add --multirun to run each of them"
                              + f", or write a list, {text.partition('=')[0]}=[{value}]" * takes_list)
        # One more than the limit, so that longer ranges are refused without being generated.
        parsed = list(itertools.islice(override.sweep_iterator(), MAX_RUNS + 1))
    except (HydraException, OmegaConfBaseException, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{text[:200]}: cannot be read as a value ({reason}); put it in quotes") from error
    return [_with_text_keys(text, override._convert_value(each)) for each in parsed]


def _with_text_keys(text: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_with_text_keys(text, part) for part in value]
    if not isinstance(value, dict):
        if isinstance(value, str) and (expression := resolver_in(value)):
            raise ConfigError(f"{text[:100]}: {not_plain(expression)}")
        return value
    for key in value:
        if not isinstance(key, str):
            raise ConfigError(f"{text[:100]}: the key {key} is not text; put it in quotes")
    return {key: _with_text_keys(text, part) for key, part in value.items()}
