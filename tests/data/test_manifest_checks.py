"""Checks of the values of untrusted manifests and JSON files."""

from pathlib import Path

import pytest

from llmrec_cli.data.manifest import FILES, MODEL, MOST_DEPTH, PREPARED, integer, optional, parse_json, problems, record
from llmrec_cli.errors import ArtifactError

HERE = Path("manifest.json")


@pytest.mark.parametrize("value", [-1, 0, True, 1.0, "1", None, [1], 2**60])
def test_a_format_is_a_number_of_at_least_1(value):
    assert problems({"format": value}, {"format": integer(1)})


def test_missing_and_wrong_keys_are_reported_together():
    facts = {"a": integer(0), "b": FILES, "c": optional(integer(0))}
    assert problems({"b": {"x": "short"}}, facts) == [
        "lacks a",
        "b is \"{'x': 'short'}\" and must be a mapping of names of files in the folder to their SHA-256"]


def test_a_record_inside_is_checked_too():
    facts = {"split": record(kind=integer(0))}
    assert not problems({"split": {"kind": 1, "more": 2}}, facts)
    assert problems({"split": {"kind": "x"}}, facts)
    assert problems({"split": 3}, facts)


@pytest.mark.parametrize("facts", [MODEL, PREPARED])
@pytest.mark.parametrize("content", [None, [], 3, "x", {}])
def test_other_values_than_a_manifest_have_problems(facts, content):
    assert problems(content, facts)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 65 + b"]" * 65, b"\xff", b"", b"{",
                                     b"1" * 5000])
def test_json_that_is_deep_or_none_is_refused(content):
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        parse_json(content, HERE, "copy it again")


def test_json_of_some_depth_is_read():
    assert parse_json(b"[" * MOST_DEPTH + b"]" * MOST_DEPTH, HERE, "copy it again")
