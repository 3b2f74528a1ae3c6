"""Many lines of JSON at once, where they all have the same keys in the same order, as those a program wrote do."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_SPACE = r"[ \t]*"
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_PLAIN = r'"[^"\\\x00-\x1f]*"'
_UNICODE = r"\\u(?:[0-9a-cA-CefEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})"  # No half of a surrogate pair.
_ESCAPED = rf'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|{_UNICODE})*"'
_WANTED = f"{_PLAIN}|{_NUMBER}|true|false|null"
_OTHER = f"{_ESCAPED}|{_NUMBER}|true|false|null"
_LIST = rf"\[{_SPACE}(?:(?:{_OTHER}){_SPACE}(?:,{_SPACE}(?:{_OTHER}){_SPACE})*)?\]"
_KEY = re.compile(r'[^"\\\x00-\x1f]*')
MOST_LAYOUT_KEYS = 64


def pattern(keys: list[str], wanted: list[str]) -> str | None:
    """Return the regular expression (RE2) of a line with these keys, whose groups are the values of those wanted.

    It matches only what json.loads takes, and of that no escapes, lists or objects as a value that is wanted. None when
    the keys are too many or odd themselves.
    """
    if not 0 < len(keys) <= MOST_LAYOUT_KEYS or not all(_KEY.fullmatch(key) for key in keys):
        return None
    fields = [f'"{re.escape(key)}"{_SPACE}:{_SPACE}' + (f"(?P<c{wanted.index(key)}>{_WANTED})" if key in wanted
                                                        else f"(?:{_OTHER}|{_LIST})") for key in keys]
    return rf"^[ \t\r]*\{{{_SPACE}" + f"{_SPACE},{_SPACE}".join(fields) + rf"{_SPACE}\}}[ \t\r]*\n?$"


def lines_of(block: bytes) -> pa.StringArray:
    """Return the lines of a block with their ends, without copying them."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 10).astype(np.int32) + 1
    if not block.endswith(b"\n"):
        ends = np.append(ends, np.int32(len(block)))
    offsets = np.concatenate([np.zeros(1, np.int32), ends])
    return pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(block))


def match(lines: pa.StringArray, expression: str, num_wanted: int) -> tuple[np.ndarray, dict[int, pa.Array]]:
    """Return which lines match (bool), and of those that do the values of each wanted key that the layout has."""
    if "(?P<" not in expression:
        return pc.match_substring_regex(lines, expression).to_numpy(zero_copy_only=False), {}
    found = pc.extract_regex(lines, expression)
    matches = found.is_valid()
    found = found.filter(matches)
    names = found.type.names
    return matches.to_numpy(zero_copy_only=False), {
        n: _value(found.field(f"c{n}")) for n in range(num_wanted) if f"c{n}" in names}


def _value(written: pa.StringArray) -> pa.StringArray:
    """Return values as text: strings without their quotes, null as null, anything else as it is written."""
    quoted = pc.starts_with(written, '"')
    if pc.any(quoted).as_py():
        inner = pc.binary_slice(written.cast(pa.binary()), 1, -1).cast(pa.string())
        if pc.all(quoted).as_py():
            return inner
    else:
        inner = written
    is_null = pc.equal(written, "null")
    return pc.if_else(is_null, pa.scalar(None, pa.string()), pc.if_else(quoted, inner, written))
