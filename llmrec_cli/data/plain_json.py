"""JSON that other people wrote, within bounds: nothing of it may exhaust memory or the stack, here or later."""

import json
from pathlib import Path
from typing import Any

from llmrec_cli.errors import ArtifactError

MOST_BYTES = 2**28
"""Tokenizers of large vocabularies have some tens of megabytes."""
MOST_DEPTH = 64


def parse_json(content: bytes, place: Path, remedy: str) -> Any:
    """Return the content of a JSON file; raises ArtifactError for what is not JSON, too large or nested too deep."""
    if len(content) > MOST_BYTES:
        raise ArtifactError(f"{place}: is larger than {MOST_BYTES >> 20} MiB; {remedy}")
    try:
        parsed = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{place}: not readable as JSON ({str(error)[:200]}); {remedy}") from error
    if _depth(parsed) > MOST_DEPTH:
        raise ArtifactError(f"{place}: is nested more than {MOST_DEPTH} deep; {remedy}")
    return parsed


def _depth(parsed: Any) -> int:
    """Return how many lists and mappings are within one another, at most one more than `MOST_DEPTH`."""
    level, depth = [parsed] if isinstance(parsed, (dict, list)) else [], 0
    while level and depth <= MOST_DEPTH:
        level = [part for value in level for part in (value.values() if isinstance(value, dict) else value)
                 if isinstance(part, (dict, list))]
        depth += 1
    return depth
