"""Values of a manifest, each checked against the kind that its readers need."""

import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llmrec_cli.pinned import is_inside
from llmrec_cli.settings.dataset import DUPLICATES, VALUE_KINDS

Test = Callable[[Any], bool]


class Fact(NamedTuple):
    """A requirement on the value of a key, in words and as a test; a key that is not `needed` may be left out."""

    must: str
    test: Test
    needed: bool = True


def is_integer(value: Any, low: int = 0, high: int = 2**53) -> bool:
    """Return True for an integer in a range; true and false are no integers."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: Any) -> bool:
    """Return True for a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def is_text(value: Any) -> bool:
    """Return True for text that a file name or a message can hold."""
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
COUNTS = Fact("a mapping of names to integers of at least 0", lambda v: _are(v, is_text, is_integer))
NAMES = Fact("a mapping of text to text", lambda v: _are(v, is_text, is_text))
TRUTH = Fact("true or false", lambda v: isinstance(v, bool))
NUMBER = Fact("a number", is_number)
EDGES = Fact("a mapping of text to lists of numbers", lambda v: _are(v, is_text, lambda part: isinstance(
    part, list) and all(map(is_number, part))))
TEXTS = Fact("a list of text, each once", lambda v: isinstance(v, list) and all(map(is_text, v))
             and len(set(v)) == len(v))
MOMENT = Fact("milliseconds or null", lambda v: v is None or is_integer(v, -2**53))


def record(**facts: Fact) -> Fact:
    """Return the fact that a value is a mapping in which these keys have these values."""
    must = ", ".join(f"{key} ({fact.must})" for key, fact in facts.items())
    return Fact(f"a mapping with {must}", lambda v: not problems(v, facts))


def among(*values: Any) -> Fact:
    """Return the fact that a value is one of these."""
    shown = ", ".join(str(value) or "nothing" for value in values)
    return Fact(f"one of {shown}", lambda v: isinstance(v, str) and v in values)


def integer(low: int, high: int = 2**53) -> Fact:
    """Return the fact that a value is an integer in a range."""
    return Fact(f"an integer from {low} to {high}", lambda v: is_integer(v, low, high))


def optional(fact: Fact, null: bool = False) -> Fact:
    """Return the fact of a key that may be left out, or with `null` be null."""
    return Fact(fact.must, lambda v: (null and v is None) or fact.test(v), needed=False)


def problems(manifest: Any, facts: Mapping[str, Fact]) -> list[str]:
    """Return a sentence about each key whose value is missing or is not what it must be; others are not looked at."""
    if not isinstance(manifest, dict):
        return ["it holds no facts by name"]
    missing = sorted(key for key, fact in facts.items() if fact.needed and key not in manifest)
    wrong = [f"{key} is {str(manifest[key])[:60]!r} and must be {fact.must}" for key, fact in facts.items()
             if key in manifest and not fact.test(manifest[key])]
    return ([f"says nothing of {', '.join(missing)}"] if missing else []) + wrong


RULES = record(template=TEXT, attributes=NAMES, columns=NAMES, list_separator=TEXT, max_length=integer(1),
               strip_html=optional(TRUTH), edges=optional(EDGES))
"""Rules by which titles, texts and attributes of items, or users, are made of columns."""
TEXT_RULES = optional(record(item=RULES, user=RULES), null=True)
PREPARED: dict[str, Fact] = {
    "format": integer(1), "name": TEXT, "fingerprint": TEXT,
    "counts": Fact("a mapping of names to integers, with train, valid, test, users and items", lambda v: COUNTS.test(v)
                   and {"train", "valid", "test", "users", "items"} <= v.keys()),
    "split": record(kind=TEXT), "texts": TEXT_RULES, "timestamp_unit": optional(TEXT),
    "values": optional(among("", *VALUE_KINDS)), "has_values": optional(TRUTH, null=True),
    "duplicates": optional(among(*DUPLICATES), null=True), "data_cutoff": optional(MOMENT),
    "groups": optional(record(synthetic=optional(TEXT, null=True)), null=True), "ties": optional(MAPPING),
    "inputs": optional(record(dataset=MAPPING, split=record(kind=TEXT))), "files": FILES}
"""Requirements on the manifest of prepared data, as far as it is read."""
POSITIVES = record(min_value=optional(NUMBER, null=True), event_weights=optional(Fact(
    "a mapping of text to numbers", lambda v: _are(v, is_text, is_number)), null=True),
    duplicates=optional(among("auto", *DUPLICATES), null=True), has_values=optional(TRUTH, null=True))
MODEL: dict[str, Fact] = {
    "format": integer(1), "head": TEXT, "data_fingerprint": TEXT, "data_cutoff": MOMENT,
    "data": record(path=TEXT, name=TEXT), "texts": TEXT_RULES._replace(needed=True),
    "values": optional(among("", *VALUE_KINDS)), "positives": optional(POSITIVES), "fitted_on": TEXTS,
    "encoders": HASHES, "synthetic_groups": optional(TEXT),
    "plugins": optional(Fact("a list of names of packages", lambda v: TEXTS.test(v) and all(
        re.fullmatch(r"[A-Za-z_][\w.]*", name, re.ASCII) for name in v))),
    "metrics": optional(record(valid=optional(MAPPING))), "seed": optional(integer(0), null=True),
    "tensors": optional(Fact("a mapping of files to lists of names", lambda v: _are(v, is_text, TEXTS.test))),
    "listed": optional(TRUTH), "sizes": optional(record(users=integer(0), items=integer(0),
                                                 memberships=optional(integer(0)))),
    "refit": optional(TEXT), "audience": optional(among("users", "groups")), "files": FILES}
"""Requirements on the manifest of a model, as far as it is read."""


def least_positive(manifest: Mapping[str, Any]) -> float | None:
    """Return the smallest value that a positive can have by a manifest of prepared data; None for an older llmrec's."""
    dataset = (manifest.get("inputs") or {}).get("dataset")
    return None if dataset is None else least_value(dataset.get("min_value"))


def least_value(min_value: float | None) -> float:
    """Return the smallest value, in float32, that dataset.min_value lets through: without one, the first above 0."""
    if min_value is None:
        return 2.0**-149
    # Not by numpy: a prepare that has nothing to do should not wait for it.
    rounded: float = struct.unpack("f", struct.pack("f", min_value))[0]
    return rounded


def other_sizes(said: Mapping[str, int], sizes: Mapping[str, int]) -> str:
    """Return which sizes are not those that a manifest says, "" where all are."""
    return ", ".join(f"says {said[name]} {name} and there are {size}" for name, size in sizes.items()
                     if said[name] != size)
