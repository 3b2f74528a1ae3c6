"""Time of repeated work: estimates, lines every 30 s, and silence about short work."""

import re
import time

from llmrec_cli.pace import still_working, timed_parts


def run(seconds, **sizes):
    """Do parts of work that take these seconds each, on a clock of their own."""
    now = [100.0]
    for n in timed_parts("encoding", "texts", range(len(seconds)), clock=lambda: now[0], **sizes):
        now[0] += seconds[n]


def test_long_work_is_estimated_when_its_pace_is_known_and_reported_every_30_seconds(capsys):
    run([0.5, 0.7] + [10.0] * 9, amounts=[0.5, 0.7] + [10.0] * 9, counts=[5, 5] + [10] * 9)
    assert capsys.readouterr().err.splitlines() == [
        "encoding: 100 texts take about 1 min 31 s",
        "encoding: 40 of 100 texts, about 1 min 0 s left",
        "encoding: 80 of 100 texts, about 20 s left",
        "encoding: 100 texts took 1 min 31 s"]


def test_short_work_is_silent(capsys):
    run([0.5] * 9)
    run([])
    assert capsys.readouterr().err == ""


def test_work_that_counts_no_steps_has_a_line_now_and_then_until_it_ends(capsys):
    with still_working("ease: fitting", every=0.02):
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 5
    assert re.fullmatch(r"ease: fitting, 0\.\d s so far", lines[0])
    time.sleep(0.05)
    assert capsys.readouterr().err == ""
