"""JSON, one object a line; numbers keep the digits they were written with."""

import json
import re
from collections.abc import Iterator
from typing import Any

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.lines import lines
from llmrec_cli.ingest.sources import Source

Fields = dict[str, str | None]
MOST_KEYS = 1000
_SURROGATE = re.compile("[\ud800-\udfff]")


class _NotJson(ValueError):
    """NaN and Infinity, which JSON does not have."""


def _constant(name: str) -> None:
    raise _NotJson(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _NotJson("a key is there twice")
    return found


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_constant, object_pairs_hook=_unique)


def jsonl_records(source: Source) -> Iterator[tuple[int, Fields | str]]:
    """Yield (line number from 1, the object with every value as text, or why it cannot be read).

    Raises DataError when the last line ends in the middle of an object, since the file then lacks its end.
    """
    for number, line in enumerate(lines(source), start=1):
        if not line.strip():
            continue
        try:
            found = _DECODER.decode(line.strip(" \t\r\n"))
        except (ValueError, RecursionError) as error:
            if not line.endswith("\n") and isinstance(error, json.JSONDecodeError):
                raise DataError(f"{source.path}: line {number}: the file ends in the middle of a JSON object; it looks "
                                f"truncated, export or copy it again") from error
            yield number, f"not JSON ({error})"
            continue
        if not isinstance(found, dict):
            yield number, "not a JSON object"
        elif "\\u" in line and _SURROGATE.search(json.dumps(found, ensure_ascii=False)):
            yield number, "half of a surrogate pair, which is no character"
        else:
            yield number, {key: as_text(value) for key, value in found.items()}


def jsonl_keys(source: Source) -> list[str]:
    """Return the keys of all objects in the order in which they first appear."""
    keys: dict[str, None] = {}
    for _, fields in jsonl_records(source):
        if isinstance(fields, dict):
            keys.update(dict.fromkeys(fields))
        if len(keys) > MOST_KEYS:
            raise DataError(f"{source.path}: has more than {MOST_KEYS} different keys; are ids used as keys? Write one "
                            f"object a line with the same keys in each")
    if not keys:
        raise DataError(f"{source.path}: has no rows; each line must be a JSON object")
    return list(keys)


def as_text(value: Any) -> str | None:
    """Return a value as text: strings as they are, lists and objects as JSON, null as None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)
