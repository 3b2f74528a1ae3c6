"""Paths inside arrays and objects that no row of any file has: most likely a mistyped key, so they are refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.array_texts import parse_nested
from llmrec_cli.ingest.readers.sources import EACH, Source, path_text, steps_of
from llmrec_cli.settings.base import closest

_MOST_KEYS = 100
_SHOWN = 12
_TEXT_KEYS = {f"dataset.{kind}_columns": f"dataset.{kind}_text or dataset.{prefix}attributes" for kind, prefix in
              (("item", ""), ("user", "user_"), ("group", "group_"))}
"""Setting that maps the columns of a file -> the settings that name other paths in this file."""


@dataclass
class Absence:
    """The deepest values on a path that lack its next step; empty values are no evidence of a mistake.

    Attributes
    ----------
    depth : number of steps to these values
    keys : the keys of these values that are objects
    """

    depth: int = 0
    keys: dict[str, None] = field(default_factory=dict)

    def add(self, depth: int, value: Any) -> None:
        """Add a value, at `depth` steps, that lacks the next step."""
        if depth > self.depth:
            self.depth, self.keys = depth, {}
        if depth == self.depth and isinstance(value, Mapping) and len(self.keys) < _MOST_KEYS:
            self.keys.update(dict.fromkeys(value))


def has_path(node: Any, steps: Sequence[str], absence: Absence, depth: int = 0) -> bool:
    """Return True if a row has all keys of a path, with any value; else add where the path ends to `absence`."""
    if depth == len(steps):
        return True
    value = parse_nested(node) if isinstance(node, str) else node
    if value is None and (node is None or not node.strip()):
        return False
    if steps[depth] == EACH and isinstance(value, list):
        return any(has_path(entry, steps, absence, depth + 1) for entry in value)
    if steps[depth] != EACH and isinstance(value, Mapping) and steps[depth] in value:
        return has_path(value[steps[depth]], steps, absence, depth + 1)
    absence.add(depth, value)
    return False


def refuse_absent_paths(files: Sequence[tuple[Source, Sequence[str], Mapping[str, Absence]]]) -> None:
    """Raise DataError for the paths that no row of any file has.

    `files` have their source, all names of their columns and paths, and the paths that none of their rows has. Files
    whose columns no setting maps, such as new items, need not have the paths of the prepared files.
    """
    present = {name for _, names, absent in files for name in names if name not in absent}
    problems: dict[str, str] = {}
    for source, _, absent in files:
        for text, absence in absent.items():
            if text not in present and absence.depth and source.columns_key:
                problems.setdefault(text, _sentence(source, text, absence))
    if problems:
        raise DataError("\n".join(problems.values()))


def _sentence(source: Source, text: str, absence: Absence) -> str:
    ours = next((ours for ours, theirs in source.columns.items() if theirs == text), None)
    key = f"{source.columns_key}.{ours}={text}" if ours else f"'{text}' in {_TEXT_KEYS[source.columns_key]}"
    steps = steps_of(text)
    before = path_text(steps[:absence.depth])
    if steps[absence.depth] == EACH:
        return f"{source.path}: no row has the path of {key}: '{before}' is not an array; leave out the '[]' after it"
    if not absence.keys:
        return f"{source.path}: no row has the path of {key}: '{before}' is not an object with keys; name another path"
    keys = list(absence.keys)
    listed = ", ".join(f"'{name}'" for name in keys[:_SHOWN]) + (", ..." if keys[_SHOWN:] else "")
    close = closest(steps[absence.depth], keys)
    # As a whole path, ready to be copied.
    meant = "" if close is None else \
        f" (did you mean '{path_text((*steps[:absence.depth], close, *steps[absence.depth + 1:]))}'?)"
    return (f"{source.path}: no row has the path of {key}: '{before}' has no key '{steps[absence.depth]}'; there are "
            f"{listed}; name an existing key, or remove the setting{meant}")
