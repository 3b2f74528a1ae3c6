"""Untrusted YAML: plain data within limits, or a message with file and line."""

import os
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec_cli.plain_yaml import MAX_BYTES, MAX_DEPTH, MAX_VALUES, YamlError, dump_yaml, parse_yaml, read_yaml

LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12))


@pytest.mark.parametrize(("text", "value"), [
    ("1e-4", 1e-4), ("0E0", 0.0), ("5.", 5.0), (".5", 0.5), ("1_000", 1000), ("0x1f", 31), ("2020-01-01", "2020-01-01"),
    ("12:30", "12:30"), ("007", "007"), ("010", "010"), ("0", 0), ("-12", -12), ("~", None),
    ("yes", True), ("1.0.0", "1.0.0"), ("-", None), ("'007'", "007"), ("[a, {b: c}]", ["a", {"b": "c"}]),
    ("a: &a {x: 1}\nb: {<<: *a, y: 2}", {"a": {"x": 1}, "b": {"x": 1, "y": 2}}),
    ("größe: 1\n'a b.c': 2\n\"it's\": 3\n太空: 4", {"größe": 1, "a b.c": 2, "it's": 3, "太空": 4})])
def test_plain_values_are_read_as_people_mean_them(text, value):
    if text == "-":
        value = [None]
    assert parse_yaml(text, "x") == value
    assert type(parse_yaml(text, "x")) is type(value)


@pytest.mark.parametrize(("text", "expected"), [
    ("[" * 1000 + "]" * 1000, "x, line 1: is"), ("\n".join(" " * n + "a:" for n in range(400)), "is nested more than"),
    ("{" * 5000, "x, line 1: is"), ("- " * 100_000, "x, line 1: is nested"),
    (LAUGHS, "x, line 1: its aliases expand to more"),
    (MERGES, "x, line 1: its aliases expand to more"),
    ("a: &a [*a]", "x, line 1: an alias refers to a value that contains it"),
    ("a: 1\nb: [1,\n", "x, line 3: is not YAML"), ("a: 1\n---\nb: 2", "x, line 2: is not YAML"),
    ("a: *b", "line 1: is not YAML"),
    ("a: 1\nb：2\nc: 3", "line 2 has the character '：', write the ASCII character ':' and a blank"),
    ("a: 1\nb: 2\na: 3", "x, line 3: a: occurs twice"), ("a: 1\n1: 2", "x, line 2: the key 1 is not text"),
    ("on: 1", "x, line 1: the key on is not text; put it in quotes"), ("[a]: 1", "line 1: the key that is a list"),
    ("\na: !!python/object/apply:os.system ['true']", "x, line 2: has the tag tag:yaml.org,2002:python/object/apply"),
    ("a: !!binary aaaa", "x, line 1: has the tag"), ("a: !x y", "x, line 1: has the tag !x"),
    ("a: " + "9" * 5000, "x, line 1: " + "9" * 40 + "...: a number has at most 40 digits"),
    ("a: 0x" + "f" * 9999, "a number has at most 40 digits"),
    ("", "x: is empty"), ("# nothing", "x: is empty"), ("a: \x00", "x: is not YAML"),
    ("a:\n\t- b", "x, line 2: is not"),
    ("a: " + "x" * MAX_BYTES, "x: is larger than 256 KiB"),
    ("a: [" + "1," * MAX_VALUES + "]", "holds more than 10,000"),
    (b"a: 1\nb: \xe9", "x, line 2: is not UTF-8 (byte 8)"), ("a: 1".encode("utf-16"), "x, line 1: is not UTF-8")])
def test_yaml_that_is_not_plain_or_too_large_is_refused_with_its_line(text, expected):
    with pytest.raises(YamlError) as error:
        parse_yaml(text, "x")
    assert expected in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert parse_yaml(b"\xef\xbb\xbfa: 1", "x") == {"a": 1}


def test_everything_up_to_the_bounds_is_read():
    assert parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH, "x")
    assert len(parse_yaml("[" + "1," * (MAX_VALUES - 1) + "]", "x")) == MAX_VALUES - 1


def test_only_a_regular_file_is_read_and_nothing_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(YamlError, match="is not a regular file"):
            read_yaml(file)
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "nothing")


def trees(texts):
    """Return a strategy of nested values with these texts."""
    scalars = st.none() | st.booleans() | st.integers(-10**30, 10**30) | st.floats() | texts
    return st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
                        max_leaves=20)


@given(trees(st.text(max_size=20)))
def test_what_we_write_is_read_back_the_same(tree):
    assert repr(parse_yaml(dump_yaml(tree), "x")) == repr(tree)


@pytest.mark.parametrize("text", ["1e5", "0E0", "1e-4", "-.5", "1_0.5", "0x1F", "010", ".inf", "yes", "null",
                                  "2024-01-01", "~", "1:30", "<<", "=", "", " a", "a: b"])
def test_text_that_looks_like_something_else_stays_text_for_us_and_for_other_readers(text):
    written = dump_yaml({text: [text]})

    assert parse_yaml(written, "x") == yaml.safe_load(written) == {text: [text]}


def test_a_value_used_twice_is_written_twice_without_an_anchor():
    twice = [1]

    assert dump_yaml({"a": twice, "b": twice}) == "a:\n- 1\nb:\n- 1\n"


# In YAML 1.1 1e3 is a text, which PyYAML writes without quotes; here it is a number, as in YAML 1.2.
EXPONENT = re.compile(r"[-+]?[\d_.]+[eE][-+]?\d+", re.ASCII)


@given(trees(st.text(max_size=20).filter(lambda text: not EXPONENT.fullmatch(text))))
def test_whatever_yaml_writes_is_read_back_the_same(tree):
    text = yaml.safe_dump(tree, allow_unicode=True)
    if "!!" in text:  # YAML writes these characters only as bytes.
        return
    assert repr(parse_yaml(text, "x")) == repr(yaml.safe_load(text))


def message(data):
    """Return the message that refuses the data, or `x` if it is read."""
    try:
        parse_yaml(data, "x")
    except YamlError as error:
        return str(error)
    return "x"


PIECES = ["a", "1", ": ", "- ", "\n", "  ", "[", "]", "{", "}", ",", "&a ", "*a", "<<: ", "!!int ", "!x", "'", '"',
          "|\n", ">\n", "? ", "#", "%YAML 1.1\n", "---\n", "...\n", "\\", "\t", "é", "\x00", "\ufeff", "1e999", "0x",
          ".nan", "="]


@given(st.binary(max_size=200) | st.text(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_any_bytes_end_in_a_value_or_in_one_kind_of_error(data):
    text = message(data)
    assert text.startswith("x")
    assert len(text) < 20 * 300


@pytest.mark.faults
@settings(max_examples=20_000)
@given(st.binary(max_size=400) | st.lists(st.sampled_from(PIECES), max_size=120).map("".join))
def test_any_of_20_000_inputs_ends_in_a_value_or_in_one_kind_of_error(data):
    text = message(data)
    assert text.startswith("x")
    assert len(text) < 20 * 300
