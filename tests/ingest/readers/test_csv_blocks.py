"""The fast CSV parser gives exactly the rows of the standard library's reader."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec_cli.ingest.readers import csv_blocks, delimited, lines
from llmrec_cli.ingest.readers.csv_blocks import Block, Dialect, parse
from llmrec_cli.ingest.readers.delimited import open_delimited
from llmrec_cli.ingest.readers.sources import Record, Source
from tests.ingest.preparing import source
from tests.ingest.readers.test_delimited import one_by_one
from tests.some_slow import num_examples

COMMA = Dialect(",", '"')
# Whole fields, sound ones and others, so that most rows are nearly sound, and pieces that break them.
FIELDS = ["u1", "007", "", '"a,b"', '"say ""hi"""', '""', '"two\nlines"', '"two\r\nlines"', "é", "五台山", " x ", "NA",
          '5" pipe', '"open', 'shut"', '"a" b', "a\rb", "\ufeff", "\x00", "\u2028", "\x0b", "'", "a,b"]
ENDS = ["\n"] * 12 + ["\r\n"] * 3 + ["\n\n", "\r", ",\n", ",,\n", ""]
ROWS = st.lists(st.tuples(st.lists(st.sampled_from(FIELDS[:4] * 6 + FIELDS), min_size=3, max_size=3),
                          st.sampled_from(ENDS)), max_size=30)


def read(file: Source, size: int, quickly: bool) -> list[Record]:
    """Return the rows of a file, read in blocks of `size` bytes, or one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", size)
        patch.setattr(delimited, "LARGE", size)
        patch.setattr(delimited, "SMALL", max(size // 4, 1))
        if not quickly:
            patch.setattr(csv_blocks, "parse", lambda *_: None)
        opened = open_delimited(file)
        rows = list(opened.rows(list(range(len(opened.names)))))
        assert quickly or not any(isinstance(row, Block) for row in rows)
    return one_by_one(rows)


@settings(max_examples=num_examples(300), deadline=None)
@given(ROWS, st.sampled_from([7, 40, 200, 1 << 20]), st.sampled_from(['"', "", "'"]), st.booleans())
def test_blocks_give_the_rows_line_numbers_and_rejects_of_the_exact_reader(
        tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[list[str], str]], size: int, quote: str,
        extra: bool) -> None:
    text = "a,b,c\n" + "".join(",".join(fields) + "," * extra + end for fields, end in rows)
    file = source(tmp_path_factory.getbasetemp(), text, "blocks.csv", quote=quote)
    assert read(file, size, True) == read(file, size, False)


@settings(max_examples=num_examples(200), deadline=None)
@given(st.text(st.sampled_from('a,"\n\r;é'), max_size=60), st.sampled_from([3, 16, 1 << 20]), st.integers(1, 3))
def test_any_text_is_read_exactly(tmp_path_factory: pytest.TempPathFactory, text: str, size: int, width: int) -> None:
    file = source(tmp_path_factory.getbasetemp(), text + "x", "any.csv", names=("p", "q", "r")[:width])
    assert read(file, size, True) == read(file, size, False)


def test_rows_of_the_wrong_width_are_set_apart_and_the_others_stay_together() -> None:
    result = parse(b"1,2\n3\n4,5,6\n7,8\n", COMMA, 2, [0, 1])
    assert result is not None
    assert (result.lines.tolist(), [c.to_pylist() for c in result.columns]) == ([0, 3], [["1", "7"], ["2", "8"]])
    assert (result.apart, result.apart_lines) == (b"3\n4,5,6\n", [1, 2])


def test_rows_that_all_end_in_a_delimiter_stay_together() -> None:
    result = parse(b"1,2,\n3,4,\n5,6,x\n7,8\n", COMMA, 2, [1])
    assert result is not None
    assert (result.lines.tolist(), result.columns[0].to_pylist()) == ([0, 1], ["2", "4"])
    assert result.apart_lines == [2, 3]


def test_a_line_break_inside_quotes_does_not_begin_a_row() -> None:
    result = parse(b'1,"two\nlines"\n2,x\n3,"cut', COMMA, 2, [0, 1])
    assert result is not None
    assert (result.lines.tolist(), result.columns[1].to_pylist()) == ([0, 2], ["two\nlines", "x"])
    assert (result.num_bytes, result.num_lines) == (len(b'1,"two\nlines"\n2,x\n'), 3)


@pytest.mark.parametrize("odd", [b'1,a"b"\n', b'1,"a"b\n', b"1,a\rb\n", b"1,2\n\n3,4\n", b"\n1,2\n", b"1,\x00\n",
                                 b'1,"a\r\nb"\n', b"\xef\xbb\xbf1,2\n", b'1,"2\n'])
def test_irregular_blocks_are_left_to_the_exact_reader(odd: bytes) -> None:
    assert parse(odd, COMMA, 2, [0, 1]) is None


def test_a_delimiter_that_is_no_byte_is_left_to_the_exact_reader(tmp_path: Path) -> None:
    assert parse("1¦2\n".encode(), Dialect("¦", ""), 2, [0]) is None
    file = source(tmp_path, "a¦b\n1¦2\n", delimiter="¦")
    assert one_by_one(open_delimited(file).rows([0, 1])) == [(2, ["1", "2"])]


@pytest.mark.slow
def test_one_odd_row_costs_little_of_a_large_file(tmp_path: Path) -> None:
    text = "a,b\n" + "1,2\n" * 200_000 + '5" pipe,x\n' + "3,4\n" * 200_000
    rows = list(open_delimited(source(tmp_path, text)).rows([0, 1]))
    apart = [row for row in rows if not isinstance(row, Block)]
    assert (200_002, ['5" pipe', "x"]) in apart
    assert len(apart) < 20_000
    assert [line for line, _ in one_by_one(rows)] == list(range(2, 400_003))
