"""JSON lines: numbers keep their digits, broken lines are rejected."""

from pathlib import Path

import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.jsonl import jsonl_keys, jsonl_records
from tests.ingest.preparing import source


def test_numbers_keep_the_digits_they_were_written_with(tmp_path: Path) -> None:
    rows = list(jsonl_records(source(tmp_path, '{"id": 9007199254740993, "x": 1.50, "y": true, "z": null}\n')))
    assert rows == [(1, {"id": "9007199254740993", "x": "1.50", "y": "true", "z": None})]


def test_lists_become_json_text(tmp_path: Path) -> None:
    assert list(jsonl_records(source(tmp_path, '{"g": ["a", "b|c"]}'))) == [(1, {"g": '["a", "b|c"]'})]


@pytest.mark.parametrize(("line", "reason"), [
    ("{'a': 1}", "not JSON"), ("[1]", "not a JSON object"), ('{"a": NaN}', "NaN is not JSON"),
    ('{"a": 1, "a": 2}', "twice"), ('{"a": "\\ud800"}', "surrogate")])
def test_a_broken_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    result = list(jsonl_records(source(tmp_path, '{"a": 1}\n' + line + '\n{"a": 2}\n')))
    assert [number for number, _ in result] == [1, 2, 3]
    assert reason in str(result[1][1])


def test_a_file_that_ends_inside_an_object_is_truncated(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: the file ends in the middle of a JSON object"):
        list(jsonl_records(source(tmp_path, '{"a": 1}\n{"a": "b')))


def test_keys_come_in_the_order_of_their_first_appearance(tmp_path: Path) -> None:
    assert jsonl_keys(source(tmp_path, '{"b": 1}\n{"a": 1, "b": 2}\n')) == ["b", "a"]


def test_ids_as_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than 1000 different keys"):
        jsonl_keys(source(tmp_path, "".join(f'{{"k{n}": 1}}\n' for n in range(1001))))


@pytest.mark.parametrize("text", ['[\n  {\n    "a": 1\n  }\n]\n', '[{"a": 1}, {"a": 2}]', ' [ {"a": 1},\n{"a": 2}]\n'])
def test_one_array_of_objects_is_not_one_object_a_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl: line 1 begins a JSON array; write one object per line"):
        jsonl_keys(source(tmp_path, text, "x.jsonl"))
