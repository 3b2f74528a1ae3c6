"""Arrays as text in a field: JSON, Python and NumPy give the same entries; unclear arrays are refused."""

import pytest

from llmrec_cli.ingest.readers.array_texts import UnclearArray, parse_nested


@pytest.mark.parametrize(("text", "entries"), [
    ('["s0", "s1", "s2"]', ["s0", "s1", "s2"]),
    ("['s0', 's1', 's2']", ["s0", "s1", "s2"]),
    ("['s0' 's1' 's2']", ["s0", "s1", "s2"]),
    ("['s0'\n 's1'  \"it's\"]", ["s0", "s1", "it's"]),
    ("[101 102 007]", ["101", "102", "007"]),
    ("[4.5 3.  nan]", [4.5, 3.0, None]),
    ("('s0', 's1')", ["s0", "s1"]),
    ("{'s2', 's0', 's1'}", ["s2", "s0", "s1"]),
    ("['' '']", ["", ""]),
    ("['', '']", ["", ""])])
def test_array_entries_are_read_in_every_notation(text: str, entries: list[object]) -> None:
    assert parse_nested(text) == entries


@pytest.mark.parametrize("text", ["['s0' 's1', 's2']", "['s0''s1']", "['s0' ... 's9']", "['s0', ...]", "[0 1 ... 9]"])
def test_ambiguous_or_missing_array_entries_are_refused(text: str) -> None:
    with pytest.raises(UnclearArray, match="write it as JSON"):
        parse_nested(text)


@pytest.mark.parametrize("text", ["[part 1 of 2]", "(500) Days of Summer", "(1)", "[REC]", "{x}", "s0", "(a, b)"])
def test_a_name_in_brackets_is_no_array(text: str) -> None:
    assert parse_nested(text) is None
