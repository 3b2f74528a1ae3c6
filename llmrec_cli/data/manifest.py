"""Manifests and other JSON of prepared data and models, read with size limits and checked value by value.

Separate from `data.prepared`, so that importing it does not load numpy and pyarrow.
"""

import hashlib
import json
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llmrec_cli.data.file_rules import ROLES, are_file_rules
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.folders import restore
from llmrec_cli.pinned import PinnedFolder, is_inside, retried
from llmrec_cli.settings.dataset import DUPLICATES, VALUE_KINDS

_MOST_BYTES = 2**28
"""Tokenizers with large vocabularies have tens of megabytes."""
MOST_DEPTH = 64


def parse_json(content: bytes, place: Path, remedy: str) -> Any:
    """Parse a JSON file; raises ArtifactError if it is not JSON, too large or nested too deep."""
    if len(content) > _MOST_BYTES:
        raise ArtifactError(f"{place}: is larger than {_MOST_BYTES >> 20} MiB; {remedy}")
    try:
        parsed = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{place}: not readable as JSON ({str(error)[:200]}); {remedy}") from error
    if _depth(parsed) > MOST_DEPTH:
        raise ArtifactError(f"{place}: is nested more than {MOST_DEPTH} deep; {remedy}")
    return parsed


def _depth(parsed: Any) -> int:
    """Return the nesting depth of lists and mappings, at most `MOST_DEPTH` + 1."""
    level, depth = [parsed] if isinstance(parsed, (dict, list)) else [], 0
    while level and depth <= MOST_DEPTH:
        level = [part for value in level for part in (value.values() if isinstance(value, dict) else value)
                 if isinstance(part, (dict, list))]
        depth += 1
    return depth


Test = Callable[[Any], bool]


class Fact(NamedTuple):
    """A requirement on the value of a key, in words and as a test; a key that is not `needed` may be absent."""

    must: str
    test: Test
    needed: bool = True


def is_integer(value: Any, low: int = 0, high: int = 2**53) -> bool:
    """Return True for an integer in a range; true and false are not integers."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: Any) -> bool:
    """Return True for a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def is_text(value: Any) -> bool:
    """Return True for text without zero bytes."""
    return isinstance(value, str) and "\0" not in value


def is_mapping(value: Any) -> bool:
    """Return True for a mapping."""
    return isinstance(value, dict)


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _are(value: Any, keys: Test, values: Test) -> bool:
    return isinstance(value, dict) and all(map(keys, value)) and all(map(values, value.values()))


TEXT = Fact("text", is_text)
MAPPING = Fact("a mapping", is_mapping)
FILES = Fact("a mapping of names of files in the folder to their SHA-256", lambda v: _are(v, is_inside, _is_hash))
HASHES = Fact("a mapping of names to SHA-256", lambda v: _are(v, is_text, _is_hash))
_COUNTS = Fact("a mapping of names to integers of at least 0", lambda v: _are(v, is_text, is_integer))
_NAMES = Fact("a mapping of text to text", lambda v: _are(v, is_text, is_text))
_TRUTH = Fact("true or false", lambda v: isinstance(v, bool))
_NUMBER = Fact("a number", is_number)
_EDGES = Fact("a mapping of text to lists of numbers", lambda v: _are(v, is_text, lambda part: isinstance(
    part, list) and all(map(is_number, part))))
_TEXTS = Fact("a list of text, each once", lambda v: isinstance(v, list) and all(map(is_text, v))
              and len(set(v)) == len(v))
_MOMENTS = Fact("a mapping of text to milliseconds", lambda v: _are(v, is_text, lambda at: is_integer(at, -2**53)))
_MOMENT = Fact("milliseconds or null", lambda v: v is None or is_integer(v, -2**53))


def record(**facts: Fact) -> Fact:
    """Return the requirement that a value is a mapping with these keys, whose values meet the given requirements."""
    must = ", ".join(f"{key} ({fact.must})" for key, fact in facts.items())
    return Fact(f"a mapping with {must}", lambda v: not problems(v, facts))


def among(*values: Any) -> Fact:
    """Return the requirement that a value is one of `values`."""
    listed = ", ".join(str(value) or "nothing" for value in values)
    return Fact(f"one of {listed}", lambda v: isinstance(v, str) and v in values)


def integer(low: int, high: int = 2**53) -> Fact:
    """Return the requirement that a value is an integer in a range."""
    return Fact(f"an integer from {low} to {high}", lambda v: is_integer(v, low, high))


def optional(fact: Fact, null: bool = False) -> Fact:
    """Return the requirement for a key that may be absent, or with `null` be null."""
    return Fact(fact.must, lambda v: (null and v is None) or fact.test(v), needed=False)


def problems(manifest: Any, facts: Mapping[str, Fact]) -> list[str]:
    """Return a sentence about each required key that is missing and each value that fails; ignores other keys."""
    if not isinstance(manifest, dict):
        return ["it is not a mapping"]
    missing = sorted(key for key, fact in facts.items() if fact.needed and key not in manifest)
    wrong = [f"{key} is {str(manifest[key])[:60]!r} and must be {fact.must}" for key, fact in facts.items()
             if key in manifest and not fact.test(manifest[key])]
    return ([f"lacks {', '.join(missing)}"] if missing else []) + wrong


_RULES = record(template=TEXT, attributes=_NAMES, columns=_NAMES, list_separator=TEXT, max_length=integer(1),
                strip_html=optional(_TRUTH), edges=optional(_EDGES))
"""Rules that make titles, texts and attributes of items, or users, from columns."""
_FILE_RULES = Fact(f"a mapping of {', '.join(ROLES)} to rules for reading files", are_file_rules)
_TEXT_RULES = optional(record(item=_RULES, user=_RULES), null=True)
PREPARED: dict[str, Fact] = {
    "format": integer(1), "name": TEXT, "fingerprint": TEXT,
    "counts": Fact("a mapping of names to integers, with train, valid, test, users and items", lambda v: _COUNTS.test(v)
                   and {"train", "valid", "test", "users", "items"} <= v.keys()),
    "split": record(kind=TEXT, valid=optional(_NUMBER), test=optional(_NUMBER), leaks=optional(TEXT),
                    group=optional(TEXT), cutoff=optional(_MOMENTS)), "texts": _TEXT_RULES,
    "timestamp_unit": optional(TEXT),
    "values": optional(among("", *VALUE_KINDS)), "has_values": optional(_TRUTH, null=True),
    "duplicates": optional(among(*DUPLICATES), null=True), "data_cutoff": optional(_MOMENT),
    "groups": optional(record(synthetic=optional(TEXT, null=True)), null=True), "ties": optional(MAPPING),
    "file_rules": optional(_FILE_RULES),
    "inputs": optional(record(dataset=MAPPING, split=record(kind=TEXT))), "files": FILES}
"""Requirements on the keys of the manifest of prepared data that are read."""
_POSITIVES = record(min_value=optional(_NUMBER, null=True), event_weights=optional(Fact(
    "a mapping of text to numbers", lambda v: _are(v, is_text, is_number)), null=True),
    duplicates=optional(among("auto", *DUPLICATES), null=True), has_values=optional(_TRUTH, null=True))
MODEL: dict[str, Fact] = {
    "format": integer(1), "head": TEXT, "data_fingerprint": TEXT, "data_cutoff": _MOMENT,
    "data": record(path=TEXT, name=TEXT), "texts": _TEXT_RULES._replace(needed=True),
    "values": optional(among("", *VALUE_KINDS)), "positives": optional(_POSITIVES), "fitted_on": _TEXTS,
    "encoders": HASHES, "synthetic_groups": optional(TEXT),
    "plugins": optional(Fact("a list of names of packages", lambda v: _TEXTS.test(v) and all(
        re.fullmatch(r"[A-Za-z_][\w.]*", name, re.ASCII) for name in v))),
    "metrics": optional(record(valid=optional(MAPPING))), "seed": optional(integer(0), null=True),
    "tensors": optional(Fact("a mapping of files to lists of names", lambda v: _are(v, is_text, _TEXTS.test))),
    "listed": optional(_TRUTH), "sizes": optional(record(users=integer(0), items=integer(0),
                                                 memberships=optional(integer(0)))),
    "refit": optional(TEXT), "file_rules": optional(_FILE_RULES),
    "audience": optional(among("users", "groups")), "files": FILES}
"""Requirements on the keys of the manifest of a model that are read."""


def least_positive(manifest: Mapping[str, Any]) -> float | None:
    """Return the smallest value of a positive by a manifest of prepared data; None for data of an older llmrec."""
    dataset = (manifest.get("inputs") or {}).get("dataset")
    return None if dataset is None else least_value(dataset.get("min_value"))


def least_value(min_value: float | None) -> float:
    """Return the smallest float32 value allowed by dataset.min_value; without it the smallest above 0."""
    if min_value is None:
        return 2.0**-149
    # Without numpy, so that a rerun of `prepare` that has nothing to do stays fast.
    rounded: float = struct.unpack("f", struct.pack("f", min_value))[0]
    return rounded


def other_sizes(expected: Mapping[str, int], sizes: Mapping[str, int]) -> str:
    """Return the sizes that differ from those in a manifest, "" if none does."""
    return ", ".join(f"says {expected[name]} {name} and there are {size}" for name, size in sizes.items()
                     if expected[name] != size)


FORMAT = 2
"""2: a user's interactions of equal time are ordered by a salted hash; in 1 they were ordered by item id."""

REMEDY = "run `llmrec prepare` again"


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of prepared data after checking its format and its files' hashes."""
    def read() -> dict[str, Any]:
        files, manifest = open_prepared(path)
        files.check_rest()
        return manifest

    return retried(read)


def open_prepared(path: Path) -> tuple[PinnedFolder, dict[str, Any]]:
    """Open all files of a folder of prepared data; return the folder and its checked manifest."""
    restore(path)
    # A link is looked at twice: its old version may have been removed while it was followed.
    if not path.is_dir() and not (path.is_symlink() and path.is_dir()):
        if path.is_file():
            raise ConfigError(f"prepared={path}: is a file; prepare it first, `llmrec prepare dataset.interactions="
                              f"{path}`, and set prepared=data/prepared/<name>")
        raise ConfigError(f"prepared={path}: no such folder; run `llmrec prepare` first or name another")
    files, file = PinnedFolder(path, REMEDY), path / "manifest.json"
    manifest = parse_json(files.read("manifest.json"), file, REMEDY)
    if isinstance(manifest, dict) and is_integer(manifest.get("format"), FORMAT + 1):
        raise ArtifactError(f"{file}: format {manifest['format']} is newer than {FORMAT}, the newest this llmrec reads"
                            f"; upgrade llmrec or prepare the data again")
    if wrong := problems(manifest, PREPARED):
        raise ArtifactError(f"{file}: is not a manifest of prepared data: {'; '.join(wrong)}; {REMEDY}")
    files.pin(manifest["files"])
    return files, manifest


def outdated(manifest: Mapping[str, Any]) -> str:
    """Return a warning for data that an earlier version prepared; "" for data of this format."""
    if manifest.get("format", 0) >= FORMAT:
        return ""
    return (f"prepared data '{manifest.get('name')}' has format {manifest.get('format', 0)}, in which interactions of "
            f"equal time are ordered by item id; models can learn this order, so metrics may be too high; run `llmrec "
            f"prepare` again")


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
