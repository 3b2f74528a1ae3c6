"""Times in log files: the lines that a scheduled run writes to a file, and nothing elsewhere."""

import re
import sys

import pytest

from llmrec_cli import cli
from llmrec_cli.log_lines import TimedLines, time_lines

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


def test_each_line_of_a_file_begins_with_the_time(tmp_path, monkeypatch):
    with (tmp_path / "log").open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        time_lines()
        print("one\u2028", "two\n\nthree", file=sys.stderr)
        sys.stderr.writelines(["four\n", "five"])
        assert not sys.stderr.isatty()
    lines = (tmp_path / "log").read_text("utf-8").split("\n")
    assert [re.sub(TIME, "T ", line) for line in lines] == ["T one\u2028 two", "", "T three", "T four", "T five"]


def test_an_error_in_a_log_file_has_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["llmrec", "finetun"])
    with (tmp_path / "log").open("w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        with pytest.raises(SystemExit):
            cli.main()
    assert re.fullmatch(TIME + r"llmrec: configuration error: finetun: no such command.*\n",
                        (tmp_path / "log").read_text("utf-8"))


def test_a_pipe_or_a_captured_stream_has_no_times(capsys):
    before = sys.stderr
    time_lines()
    assert sys.stderr is before
    assert not isinstance(before, TimedLines)
