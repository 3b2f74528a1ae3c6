"""The fast JSON lines parser gives exactly the rows of `json`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers import jsonl
from llmrec_cli.ingest.readers.csv_blocks import Block
from llmrec_cli.ingest.readers.jsonl import jsonl_keys, jsonl_records, jsonl_rows
from llmrec_cli.ingest.readers.sources import Record, Source
from llmrec_cli.ingest.readers.staging import stage
from tests.ingest.preparing import source
from tests.ingest.readers.test_delimited import one_by_one
from tests.some_slow import num_examples

VALUES = ['"u1"', "007", "7", "-0", "1.50", "1e3", "1E+2", "9007199254740993", "null", '"null"', "true", '""', '"é 五"',
          '"a\\"b"', '"\\u00e9"', '"\\uD7ff"', '"\\u00g0"', '"\\ud800"',
          '"\\x"', '"tab\t"', "NaN", "-", "1.", ".5", "01",
          "[]", '["a", 1]', "[1,]",
          "{}", '{"a": 1}', '"open', "tru", "Infinity", '"\u2028"']
KEYS = ["a", "b", "c.d", "é", "a b", "(", "a\\u0062"]
PAIRS = st.lists(st.tuples(st.sampled_from(KEYS[:2] * 4 + KEYS), st.sampled_from(VALUES[:8] * 6 + VALUES)), max_size=4)
STYLES = st.sampled_from(["{%s}\n"] * 8 + ["{ %s }\n", "\t{%s} \r\n", "{%s,}\n", "{%s\n", "\n{%s}\n", "[{%s}]\n"])


@settings(max_examples=num_examples(300), deadline=None)
@given(st.lists(st.tuples(PAIRS, STYLES), max_size=12), st.sampled_from([", ", ",", " , "]), st.integers(1, 6))
def test_layouts_give_the_rows_of_the_exact_reader(tmp_path_factory: pytest.TempPathFactory,
                                                   rows: list[tuple[list[tuple[str, str]], str]], comma: str,
                                                   repeated: int) -> None:
    objects = [style % comma.join(f'"{key}": {value}' for key, value in pairs) for pairs, style in rows] * repeated
    file = source(tmp_path_factory.getbasetemp(), "{}\n" + "".join(objects) + "{}\n", "layouts.jsonl")
    names = ["a", "b", "ab", "c.d", "é", "a b", "("]
    for places in ([0, 1], [1, 2, 3, 4, 5, 6], [0]):
        wanted = [names[place] for place in places]
        exact = [(line, f if isinstance(f, str) else [f.get(name) for name in wanted])
                 for line, f in jsonl_records(file)]
        assert one_by_one(at_places(jsonl_rows(file, names, places), places)) == exact


def at_places(rows: Iterator[Block | Record], places: list[int]) -> Iterator[Block | Record]:
    """Yield blocks unchanged, and of records the fields at `places`, like staging."""
    for row in rows:
        if isinstance(row, Block) or isinstance(row[1], str):
            yield row
        else:
            yield row[0], [row[1][place] for place in places]


def test_machine_written_lines_are_read_in_blocks(tmp_path: Path) -> None:
    text = "".join(json.dumps({"a": n, "b": f"x{n}", "more": [n, "é"]}) + "\n" for n in range(1000))
    apart = [r for r in jsonl_rows(source(tmp_path, text, "x.jsonl"), ["a", "b"], [0, 1]) if not isinstance(r, Block)]
    assert apart == [(1, ["0", "x0"])]


def staged_names(file: Source, folder: Path) -> list[str]:
    return stage([file], folder / "staged", ("user_id", "item_id"), ("value", "timestamp")).names


def test_a_key_that_comes_late_is_found(tmp_path: Path) -> None:
    first = '{"user_id": "u", "item_id": 1}\n' * 500
    file = source(tmp_path, first + '{"user_id": "u", "item_id": 1, "timestamp": 3}\n', "x.jsonl")
    assert staged_names(file, tmp_path) == ["user_id", "item_id", "timestamp"]
    assert staged_names(source(tmp_path, first, "x.jsonl"), tmp_path) == ["user_id", "item_id"]


def test_a_key_that_comes_late_in_one_of_two_files_is_found(tmp_path: Path) -> None:
    row, full = '{"user_id": "u", "item_id": 1}\n', '{"user_id": "u", "item_id": 1, "value": 3}\n'
    files = [source(tmp_path, full, "a.jsonl"), source(tmp_path, row * 500 + full, "b.jsonl")]
    staged = stage(files, tmp_path / "staged", ("user_id", "item_id"), ("value",))
    assert (staged.names, staged.num_read) == (["user_id", "item_id", "value"], [1, 501])


def test_a_file_whose_keys_are_known_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(jsonl, "blocks", lambda s, blocks=jsonl.blocks: read.append(1) or blocks(s))
    assert len(staged_names(source(tmp_path, '{"user_id": "u", "item_id": 1}\n' * 500, "x.jsonl"), tmp_path)) == 2
    assert len(read) == 2, "once, and the beginning for the keys"


def test_a_key_of_a_line_with_an_unusual_layout_is_found(tmp_path: Path) -> None:
    lines = ['{"a": 1}', '{"a": 2, "b": {"x": 1}}', '{"b": [[]], "a": 1}'] * 9 + ['{"a": "\\n", "z": 1}']
    assert jsonl_keys(source(tmp_path, "\n".join(lines), "x.jsonl")) == ["a", "b", "z"]


def test_a_damaged_end_is_refused_after_blocks_too(tmp_path: Path) -> None:
    file = source(tmp_path, '{"a": 1}\n' * 1000 + '{"a": ', "x.jsonl")
    with pytest.raises(DataError, match="line 1001: the file ends in the middle of a JSON object"):
        list(jsonl_rows(file, ["a"], [0]))
