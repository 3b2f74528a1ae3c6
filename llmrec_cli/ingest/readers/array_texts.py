"""Arrays and objects that are written as text in one field: as JSON, as Python or as NumPy prints them."""

import ast
import io
import json
import re
import tokenize
from typing import Any

_LONGEST = 1 << 20
_EDGES = ("[]", "{}", "()")
_STRING = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_NUMPY = re.compile(rf"\[\s*(?:{_STRING}|[^\s'\"\[\]{{}}(),:]+)(?:\s+(?:{_STRING}|[^\s'\"\[\]{{}}(),:]+))+\s*\]",
                    re.DOTALL)
"""An array of one dimension as NumPy prints it: its entries with blanks, and no commas, between them."""
_ENTRY = re.compile(rf"{_STRING}|[^\s\[\]]+", re.DOTALL)
_NOTHING = ("None", "nan", "NaN", "NaT")
_ADJACENT = re.compile(r"['\"]\s*[rRbBuUfF]*['\"]")


class UnclearArray(ValueError):
    """A text is an array whose entries cannot be told apart, or are not all there."""


def parsed(text: str) -> Any:
    """Return the array or object that a text is, as JSON, Python or NumPy writes it; None when it is none of them.

    Tuples and sets are arrays. Raises UnclearArray for strings with nothing between them, which Python would join, and
    for an array that NumPy printed in part, with '...'.
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
    """Return the array or object that a text is, None when it is none; what is unclear is an array of one entry."""
    try:
        return parsed(text)
    except UnclearArray:
        return [text[1:-1]]


def _numpy_entries(text: str) -> list[Any] | None:
    """Return the entries of an array of NumPy; None when words without quotes are no numbers, '[part 1 of 2]'."""
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
        raise UnclearArray("has an array that NumPy printed with '...', so entries are missing; write it as JSON")
    return values


def _of_python(text: str) -> Any:
    try:
        tree = ast.parse(text, mode="eval").body
        found = [ast.literal_eval(entry) for entry in tree.elts] if isinstance(tree, (ast.Set, ast.Tuple)) \
            else ast.literal_eval(tree)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(found, (list, dict)):
        return None
    if isinstance(found, list) and ... in found:
        raise UnclearArray("has an array with '...' in it, so entries are missing; write it as JSON")
    if _ADJACENT.search(text) and _has_adjacent_strings(text):
        raise UnclearArray("has an array with two strings and no comma between them; write it as JSON")
    return found


def _has_adjacent_strings(text: str) -> bool:
    before = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT):
            continue
        if token.type == before == tokenize.STRING:
            return True
        before = token.type
    return False
