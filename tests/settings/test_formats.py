"""Formats of files on the command line: for all files, and over them for the files of one setting."""

import pytest

from llmrec_cli.config import compose
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.formats import FormatSettings

FILES = ["dataset=files", "dataset.interactions=a.csv", "dataset.items=b.csv"]


def test_a_format_for_one_role_lies_over_the_format_for_all_files() -> None:
    dataset = compose("prepare", [*FILES, "dataset.delimiter=;", "dataset.encoding=latin-1", "dataset.decimal=,",
                                  "dataset.formats.items.delimiter=\\t", "dataset.formats.items.quote=",
                                  "dataset.formats.items.skip_rows=2", "dataset.formats.items.null=[NULL,n/a]"]).dataset
    assert dataset.format_of("interactions") == FormatSettings(";", "latin-1", decimal=",")
    assert dataset.format_of("items") == FormatSettings("\\t", "latin-1", "", "", ",", 2, ["NULL", "n/a"])


@pytest.mark.parametrize(("typed", "problem"), [
    ("dataset.formats.item.delimiter=;", "dataset.formats.item: no such files (did you mean 'items'?)"),
    ("dataset.formats.users.delimiter=;", "dataset.formats.users: has no effect without dataset.users=<file>"),
    ("dataset.formats.items.delimitr=x", "dataset.formats.items.delimitr: unknown key (did you mean 'delimiter'?)"),
    ("dataset.formats.items.delimiter=;;", "dataset.formats.items.delimiter=;;: must be one character"),
    ("dataset.formats.items.encoding=utf8000", "dataset.formats.items.encoding=utf8000: no such encoding"),
    ("dataset.decimal=;", "dataset.decimal=;: choose '.' or ','"), ("dataset.skip_rows=-1", "must be at least 0"),
    ("dataset.quote=||", "dataset.quote=||: must be one character, or empty")])
def test_a_wrong_format_is_refused_with_its_key(typed: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("prepare", [*FILES, typed])
    assert any(problem in one for one in caught.value.problems), caught.value.problems
