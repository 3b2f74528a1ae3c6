"""Parsing of arrays and objects written as text in one field: as JSON, or as Python or NumPy print them."""

import ast
import io
import json
import re
import tokenize
from typing import Any

from llmrec_cli.data import reject_reasons as reasons

_LONGEST = 1 << 20
_EDGES = ("[]", "{}", "()")
_STRING = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_NUMPY = re.compile(rf"\[\s*(?:{_STRING}|[^\s'\"\[\]{{}}(),:]+)(?:\s+(?:{_STRING}|[^\s'\"\[\]{{}}(),:]+))+\s*\]",
                    re.DOTALL)
"""Matches a one-dimensional array as NumPy prints it: entries separated by blanks without commas."""
_ENTRY = re.compile(rf"{_STRING}|[^\s\[\]]+", re.DOTALL)
_NOTHING = ("None", "nan", "NaN", "NaT")
_ADJACENT = re.compile(r"['\"]\s*[rRbBuUfF]*['\"]")


class UnclearArray(ValueError):
    """Raised for an array whose entries cannot be separated, or are incomplete."""


def parse_nested(text: str) -> Any:
    """Parse an array or object as JSON, Python or NumPy write it; return None for any other text.

    Tuples and sets are arrays. Raises UnclearArray for adjacent strings without a comma, which Python would join, and
    for an array that NumPy shortened with '...'.
    """
    text = text.strip()
    if text[:1] + text[-1:] not in _EDGES or len(text) > _LONGEST:
        return None
    try:
        return json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        pass
    if _NUMPY.fullmatch(text):
        entries = _numpy_entries(text)
        if entries is not None:
            return entries
    return _of_python(text)


def nested_value(text: str) -> Any:
    """Parse an array or object; return None for any other text, and an array of one entry for an unclear array."""
    try:
        return parse_nested(text)
    except UnclearArray:
        return [text[1:-1]]


def _numpy_entries(text: str) -> list[Any] | None:
    """Return the entries of a NumPy array; None if unquoted words are not numbers, as in '[part 1 of 2]'."""
    words = _ENTRY.findall(text[1:-1])
    values: list[Any] = []
    for word in words:
        if word in _NOTHING:
            values.append(None)
        elif word in ("True", "False") or re.fullmatch(_STRING, word, re.DOTALL):
            values.append(ast.literal_eval(word))
        elif re.fullmatch(r"[+-]?[0-9]+", word):
            values.append(word)
        elif re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", word):
            values.append(float(word))
        elif word != "...":
            return None
    if "..." in words:
        raise UnclearArray(reasons.NUMPY_SHORTENED.format(dots="..."))
    return values


def _of_python(text: str) -> Any:
    try:
        tree = ast.parse(text, mode="eval").body
        value = [ast.literal_eval(entry) for entry in tree.elts] if isinstance(tree, (ast.Set, ast.Tuple)) \
            else ast.literal_eval(tree)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(value, (list, dict)):
        return None
    if isinstance(value, list) and ... in value:
        raise UnclearArray(reasons.ARRAY_SHORTENED.format(dots="..."))
    if _ADJACENT.search(text) and _has_adjacent_strings(text):
        raise UnclearArray(reasons.ADJACENT_STRINGS)
    return value


def _has_adjacent_strings(text: str) -> bool:
    before = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT):
            continue
        if token.type == before == tokenize.STRING:
            return True
        before = token.type
    return False
