"""Reader of JSON lines; numbers keep their digits. Lines with the same keys in the same order are parsed in blocks."""

import ast
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec_cli.data import reject_reasons as reasons
from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.csv_blocks import Block
from llmrec_cli.ingest.readers.lines import blocks
from llmrec_cli.ingest.readers.nested import Records, as_text, refuse_nested
from llmrec_cli.ingest.readers.sources import Record, Source

_SPACE = r"[ \t]*"
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_PLAIN = r'"[^"\\\x00-\x1f]*"'
_UNICODE = r"\\u(?:[0-9a-cA-CefEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})"  # No half of a surrogate pair.
_ESCAPED = rf'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|{_UNICODE})*"'
_WANTED = f"{_PLAIN}|{_NUMBER}|true|false|null"
_OTHER = f"{_ESCAPED}|{_NUMBER}|true|false|null"
_LIST = rf"\[{_SPACE}(?:(?:{_OTHER}){_SPACE}(?:,{_SPACE}(?:{_OTHER}){_SPACE})*)?\]"
_KEY = re.compile(r'[^"\\\x00-\x1f]*')
_MOST_LAYOUT_KEYS = 64


def pattern(keys: list[str], wanted: list[str]) -> str | None:
    """Return a regular expression (RE2) for a line with these keys, with a group for each wanted value.

    It matches only valid JSON whose wanted values have no escapes, lists or objects. None if there are too many keys or
    keys with special characters.
    """
    if not 0 < len(keys) <= _MOST_LAYOUT_KEYS or not all(_KEY.fullmatch(key) for key in keys):
        return None
    fields = [f'"{re.escape(key)}"{_SPACE}:{_SPACE}' + (f"(?P<c{wanted.index(key)}>{_WANTED})" if key in wanted
                                                        else f"(?:{_OTHER}|{_LIST})") for key in keys]
    return rf"^[ \t\r]*\{{{_SPACE}" + f"{_SPACE},{_SPACE}".join(fields) + rf"{_SPACE}\}}[ \t\r]*\n?$"


def lines_of(block: bytes) -> pa.StringArray:
    """Return the lines of a block, with line ends, without copying."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 10).astype(np.int32) + 1
    if not block.endswith(b"\n"):
        ends = np.append(ends, np.int32(len(block)))
    offsets = np.concatenate([np.zeros(1, np.int32), ends])
    return pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(block))


def match(lines: pa.StringArray, expression: str, num_wanted: int) -> tuple[np.ndarray, dict[int, pa.Array]]:
    """Return the mask of matching lines (bool), and for each wanted key of the layout the values of matching lines."""
    if "(?P<" not in expression:
        return pc.match_substring_regex(lines, expression).to_numpy(zero_copy_only=False), {}
    groups = pc.extract_regex(lines, expression)
    matches = groups.is_valid()
    groups = groups.filter(matches)
    names = groups.type.names
    return matches.to_numpy(zero_copy_only=False), {
        n: _value(groups.field(f"c{n}")) for n in range(num_wanted) if f"c{n}" in names}


def _value(written: pa.StringArray) -> pa.StringArray:
    """Return JSON values as text: strings without quotes, null as null, all others as written."""
    quoted = pc.starts_with(written, '"')
    if pc.any(quoted).as_py():
        inner = pc.binary_slice(written.cast(pa.binary()), 1, -1).cast(pa.string())
        if pc.all(quoted).as_py():
            return inner
    else:
        inner = written
    is_null = pc.equal(written, "null")
    return pc.if_else(is_null, pa.scalar(None, pa.string()), pc.if_else(quoted, inner, written))


Fields = dict[str, str | None]
Found = dict[str, Any] | str
_MOST_KEYS = 1000
_MOST_LAYOUTS, _MOST_TRIES = 16, 4
"""Most layouts remembered, and lines of a block tried as new layouts."""
_FIRST = 200
_ARRAY = re.compile(r"\s*\[\s*(\{|$)")
_SURROGATE = re.compile("[\ud800-\udfff]")


_PYTHON = re.compile(r"\s*\{\s*(u?'|\})")
_LONGEST_LITERAL = 1 << 20
"""Longest line, in characters, parsed as a Python literal, which takes a hundred times the memory."""


class _NotJson(ValueError):
    """Raised for NaN, Infinity and repeated keys, which `json` accepts."""


def _constant(name: str) -> None:
    raise _NotJson(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise _NotJson("a key is there twice")
    return unique


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_constant, object_pairs_hook=_unique)


def jsonl_records(source: Source) -> Iterator[tuple[int, Fields | str]]:
    """Yield (line number from 1, the object with every value as text, or the reason why it cannot be read).

    Raises DataError if the file ends in the middle of an object, which means it is truncated, and if it is one array of
    objects.
    """
    for number, record in jsonl_objects(source):
        yield number, record if isinstance(record, str) else {k: as_text(v) for k, v in record.items()}


def jsonl_objects(source: Source) -> Records:
    """Yield the records of `jsonl_records` with arrays and objects as Python values and numbers as text."""
    number = 1
    for block in blocks(source):
        for line in lines_of(block):
            record = _decoded(source, number, line.as_py())
            if record is not None:
                yield number, record
            number += 1


class LateKey(Exception):
    """Raised for a key that was assumed to be absent from the file."""


def jsonl_rows(source: Source, names: list[str], places: list[int],
               absent: frozenset[str] = frozenset(), flat: Mapping[int, str] | None = None) -> Iterator[Block | Record]:
    """Yield blocks of rows with the values of `names` at `places`, and single rows with the values of all `names`.

    Raises the errors of `jsonl_records`, LateKey if an object has an `absent` key in any case, and DataError for an
    array or object in one of the columns `flat` (place -> our name).
    """
    for piece in _pieces(source, [names[place] for place in places]):
        if isinstance(piece, Block):  # Its keys are those of an object before it.
            yield piece
            continue
        line, fields = piece
        if isinstance(fields, str):
            yield line, fields
            continue
        if absent and any(key in absent or key.rpartition(":")[0] in absent for key in map(str.lower, fields)):
            raise LateKey
        row = [fields.get(name) for name in names]
        refuse_nested(source, line, row, flat or {})
        yield line, [as_text(value) for value in row]


def first_keys(source: Source) -> list[str]:
    """Return the keys of the first objects, which usually are the keys of all objects."""
    keys: dict[str, None] = {}
    for _, fields in islice(jsonl_records(source), _FIRST):
        keys.update(dict.fromkeys(fields if isinstance(fields, dict) else ()))
    return list(keys)


def jsonl_keys(source: Source) -> list[str]:
    """Return the keys of all objects in the order of their first occurrence."""
    keys: dict[str, None] = {}
    for piece in _pieces(source, []):
        if isinstance(piece, Block) or isinstance(piece[1], str):
            continue  # A block has the keys of an object before it.
        keys.update(dict.fromkeys(piece[1]))
        if len(keys) > _MOST_KEYS:
            raise DataError(f"{source.path}: has more than {_MOST_KEYS} different keys; are ids used as keys? Write "
                            f"one object per line with the same keys in each")
    if not keys:
        raise DataError(_no_rows(source))
    return list(keys)


def is_python_dict(line: str) -> bool:
    """Return True if a line is a dictionary as Python prints it, {'user_id': 'u0', 'early': False}."""
    if len(line) > _LONGEST_LITERAL:
        return False
    try:
        return isinstance(ast.literal_eval(line.strip()), dict)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def _no_rows(source: Source) -> str:
    """Return the message for a file without JSON objects, with the remedy."""
    first = next(((number, record) for number, record in jsonl_objects(source) if isinstance(record, str)), (0, ""))
    if first[1] != reasons.PYTHON_DICT:
        because = f"; line {first[0]} is {first[1]}" if first[1] else ""
        return f"{source.path}: has no rows; each line must be a JSON object{because}"
    unpack = {"gzip": "gzip -dc", "zstd": "zstd -dc"}.get(source.compression or "", "cat")
    plain = source.path.with_suffix("") if source.compression else source.path
    code = "import ast, json, sys; [print(json.dumps(ast.literal_eval(line))) for line in sys.stdin if line.strip()]"
    return (f"{source.path}: line {first[0]} and all others are Python dictionaries, not JSON; convert the file and "
            f"name the new one:\n  {unpack} {shlex.quote(str(source.path))} | python3 -X utf8 -c '{code}' > "
            f"{shlex.quote(f'{plain.stem}.converted.jsonl')}")


def _pieces(source: Source, wanted: list[str]) -> Iterator[Block | tuple[int, Found]]:
    """Yield the objects of a file: lines with a known layout as blocks, all others one by one."""
    layouts: dict[tuple[str, ...], str] = {}
    start = 1
    for block in blocks(source):
        lines = lines_of(block)
        rest = np.arange(len(lines))
        for expression in layouts.values():
            blocks_, rest = _matched(lines, rest, expression, len(wanted), start)
            yield from blocks_
        for _ in range(_MOST_TRIES):
            if len(rest) == 0:
                break
            number, rest = int(rest[0]), rest[1:]
            one = _decoded(source, start + number, lines[number].as_py())
            if one is None:
                continue
            yield start + number, one
            keys = tuple(one) if isinstance(one, dict) else ()
            expression_or_none = pattern(list(keys), wanted)
            if expression_or_none is not None and keys not in layouts and len(layouts) < _MOST_LAYOUTS:
                layouts[keys] = expression_or_none
                blocks_, rest = _matched(lines, rest, expression_or_none, len(wanted), start)
                yield from blocks_
        for number in rest.tolist():
            one = _decoded(source, start + number, lines[number].as_py())
            if one is not None:
                yield start + number, one
        start += len(lines)


def _matched(lines: pa.StringArray, rest: np.ndarray, expression: str, num_wanted: int,
             start: int) -> tuple[list[Block], np.ndarray]:
    """Return the matching lines among those at the places `rest`, as a list of at most one block, and the other places.
    """
    if len(rest) == 0:
        return [], rest
    matches, values = match(lines if len(rest) == len(lines) else lines.take(rest), expression, num_wanted)
    numbers = pa.array(rest[matches] + start, pa.int64())
    nothing = pa.nulls(len(numbers), pa.string())
    columns = [values.get(n, nothing) for n in range(num_wanted)]
    return [Block(numbers, columns)] if len(numbers) else [], rest[~matches]


def _decoded(source: Source, number: int, line: str) -> Found | None:
    """Return the object of a line, or the reason why it cannot be read; None for a blank line."""
    if not line.strip():
        return None
    if number == 1 and _ARRAY.match(line):
        raise DataError(f"{source.path}: line 1 begins a JSON array; write one object per line, without brackets "
                        f"around them or commas between them (`jq -c '.[]'` does it)")
    try:
        value = _DECODER.decode(line.strip(" \t\r\n"))
    except (ValueError, RecursionError) as error:
        if _PYTHON.match(line) and is_python_dict(line):
            return reasons.PYTHON_DICT
        if not line.endswith("\n") and isinstance(error, json.JSONDecodeError):
            raise DataError(f"{source.path}: line {number}: the file ends in the middle of a JSON object; it looks "
                            f"truncated, export or copy it again") from error
        return reasons.NOT_JSON.format(error=error)
    if not isinstance(value, dict):
        return reasons.NOT_AN_OBJECT
    if "\\u" in line and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        return reasons.SURROGATE
    return value
