"""Printed lists of texts: a shell and the command line read a pasted list unchanged."""

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmrec_cli.config import compose
from llmrec_cli.settings.typed_lists import list_setting

ODD = ["a b", " a ", "it's", '"x"', 'say "x", y', "a,b", "[x]", "[a", "]", "{x: 1}", "null", "true", "None", "1e3", "~",
       "$HOME", "`ls`", "$(ls)", "${oc.env:HOME}", "a\\", "\\'", "a=b", "*", "!x", "#x", "-1", "café", "名前", "a\nb",
       "a\tb", "\u200bx", "\x1b[31m", "(nan)", "<unk>", "a;b", "a&b", "a|b", "x:y", "%s", "\U000e0041"]


def pasted(typed: str) -> list[str]:
    """Return the words of a pasted text as split by a shell."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {typed}"], capture_output=True, check=True,
                          env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"})
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1))
@example(ODD)
def test_a_printed_list_is_the_same_list_after_a_shell_and_the_command_line(entries: list[str]) -> None:
    words = pasted(list_setting("dataset.drop_users", entries))
    assert len(words) == 1
    assert compose("prepare", ["dataset.interactions=x.csv", *words]).dataset.drop_users == entries


@pytest.mark.parametrize("entry", ODD)
def test_each_odd_entry_survives_alone(entry: str) -> None:
    words = pasted(list_setting("dataset.drop_users", [entry]))
    assert compose("prepare", ["dataset.interactions=x.csv", *words]).dataset.drop_users == [entry]


def test_plain_entries_need_no_quotes_and_nothing_printed_is_invisible() -> None:
    assert list_setting("dataset.drop_users", ["guest", "-1", "a@b.example"]) == \
        "dataset.drop_users=[guest,-1,a@b.example]"
    assert list_setting("dataset.drop_users", ["a b"]) == "dataset.drop_users='[a b]'"
    assert list_setting("dataset.drop_users", ["a\u200b,b"]) == "dataset.drop_users=$'[\"a\\u200b,b\"]'"
