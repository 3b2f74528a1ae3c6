"""Time of long work: estimates, lines every 30 s on what is under way, and silence about short work."""

import re
import time

import pytest

from llmrec_cli import pace
from llmrec_cli.pace import Work, line_on, silently, still_working, timed_parts, under_way


@pytest.fixture(autouse=True)
def many_lines(monkeypatch):
    monkeypatch.setattr(pace, "LINE_SECONDS", 0.02)


def run(seconds, **how):
    """Do parts of work that take these seconds each, on a clock of their own."""
    now = [100.0]
    for n in timed_parts("encoding", "texts", range(len(seconds)), clock=lambda: now[0], **how):
        now[0] += seconds[n]


def lines_of(capsys):
    return capsys.readouterr().err.splitlines()


def test_long_work_is_estimated_when_its_pace_is_known_and_its_time_is_printed_at_the_end(capsys):
    sizes = {"amounts": [0.5, 0.7] + [10.0] * 9, "counts": [5, 5] + [10] * 9}
    run([0.5, 0.7] + [10.0] * 9, **sizes)
    assert lines_of(capsys) == ["encoding: 100 texts take about 1 min 31 s", "encoding: 100 texts took 1 min 31 s"]
    run([0.5, 0.7] + [10.0] * 9, **sizes, quiet=True)
    assert lines_of(capsys) == []


def test_short_work_is_silent(capsys):
    run([0.5] * 9)
    run([])
    assert lines_of(capsys) == []


def test_a_line_names_all_nested_work_and_the_time_left_of_the_innermost():
    now = [0.0]
    works = [Work(*each, clock=lambda: now[0]) for each in [("evaluate",), ("ranked", "models", 3), ("head=ease",)]]
    works[1].num_done, works[1].share = 1, 1 / 3
    now[0] = 60.0
    works.append(Work("ranked", "queries", 6040, clock=lambda: now[0]))
    assert line_on(works) == ("evaluate, 1 min 0 s so far: ranked 1 of 3 models, head=ease, ranked 0 of 6,040 queries")
    now[0] = 90.0
    works[3].num_done, works[3].share = 1510, 0.25
    assert line_on(works).endswith("head=ease, ranked 1,510 of 6,040 queries, about 1 min 30 s left")
    assert line_on(works[:1]) == "evaluate, 1 min 30 s so far"


def test_the_outermost_work_has_a_line_printed_now_and_then_until_it_ends(capsys):
    with still_working("evaluate"):
        for _ in timed_parts("ranked", "models", ["a", "b"], quiet=True):
            with still_working("fitting ease"):
                time.sleep(0.1)
        time.sleep(0.05)
    lines = lines_of(capsys)
    assert 3 <= len(lines) <= 13  # From one thread for all of them.
    assert re.fullmatch(r"evaluate, 0\.\d s so far: ranked 0 of 2 models, fitting ease", lines[0])
    assert any(re.fullmatch(r"evaluate, 0\.\d s so far: ranked 1 of 2 models, fitting ease", line) for line in lines)
    assert re.fullmatch(r"evaluate, 0\.\d s so far", lines[-1])
    time.sleep(0.05)
    assert lines_of(capsys) == []


def test_no_line_is_printed_about_work_that_prints_its_own(capsys):
    with still_working("finetune"), silently(), still_working("encoding"):
        time.sleep(0.1)
    assert lines_of(capsys) == []


def test_work_left_in_the_middle_is_not_named_later(capsys):
    parts = timed_parts("encoding", "texts", range(9))
    with still_working("first"):
        next(parts)
    assert pace._under_way.works == []
    parts.close()

    @still_working("second")
    def fail():
        with under_way(Work("inner")):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert pace._under_way.works == []
