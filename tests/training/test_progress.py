"""Progress of training: the estimate, the lines in between, and a bar that gives way on a narrow terminal."""

import io

from rich.console import Console

from llmrec_cli.training.progress import Bar, Display


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


def display(clock, num_epochs=4, per_epoch=100, done=0):
    return Display("tower", num_epochs, num_epochs * per_epoch, done, lambda: 3 * 2**30, clock)


def steps(shown, clock, number, seconds, epoch=0):
    for _ in range(number):
        clock.now += seconds
        shown.step(epoch, 0.5)


def test_the_estimate_comes_after_ten_measured_steps_without_the_slow_first_one(capsys):
    clock = Clock()
    shown = display(clock)
    steps(shown, clock, 1, 20.0)
    steps(shown, clock, 9, 0.2)
    assert capsys.readouterr().err == ""
    steps(shown, clock, 1, 0.2)
    # 400 - 11 steps of 0.2 s.
    assert capsys.readouterr().err == ("tower: at most 4 epochs, 400 steps, take about 1 min 18 s more, and the time "
                                       "of validation; 3.0 GiB of memory in use\n")
    steps(shown, clock, 20, 0.2)
    assert capsys.readouterr().err == ""


def test_shorter_epochs_are_estimated_after_the_first_with_its_validation(capsys):
    clock = Clock()
    shown = display(clock, num_epochs=3, per_epoch=5)
    steps(shown, clock, 5, 1.0)
    clock.now += 10.0
    shown.epoch(0, 0.5, 0.25)
    # 10 steps of 1 s and two validations of 10 s.
    assert capsys.readouterr().err.splitlines() == [
        "tower: at most 3 epochs, 15 steps, take about 30 s more; 3.0 GiB of memory in use",
        "tower: epoch 1/3, loss 0.5000, validation 0.2500, 0.3 steps/s, about 30 s left"]


def test_a_line_every_thirty_seconds_has_epoch_step_loss_and_the_time_left(capsys):
    clock = Clock()
    shown = display(clock, num_epochs=2, per_epoch=50)
    steps(shown, clock, 35, 1.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == ["tower: epoch 1/2, step 31/100, loss 0.5000, about 1 min 9 s left"]


def test_a_resumed_run_counts_the_steps_before(capsys):
    clock = Clock()
    shown = display(clock, num_epochs=2, per_epoch=50, done=60)
    steps(shown, clock, 11, 1.0, epoch=1)
    assert "100 steps, take about 29 s more" in capsys.readouterr().err


def test_training_of_a_few_seconds_prints_its_epochs_only(capsys):
    clock = Clock()
    shown = display(clock, num_epochs=1, per_epoch=20)
    steps(shown, clock, 20, 0.01)
    shown.epoch(0, 0.5, None)
    assert capsys.readouterr().err == "tower: epoch 1/1, loss 0.5000, 100.0 steps/s\n"


def test_on_a_narrow_terminal_the_figures_stay_and_the_bar_gives_way():
    drawn = {}
    for width in (40, 120):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=True, width=width, color_system=None, legacy_windows=False)
        bar = Bar("tower", 4, 400, 0, lambda: 0, console)
        bar.steps = 200
        for _ in range(2):
            bar.step(2, 0.5)
        drawn[width] = console.render_lines(bar.bar.get_renderable())
        drawn[width] = ["".join(segment.text for segment in line) for line in drawn[width]]
    assert len(drawn[40]) == len(drawn[120]) == 1
    assert drawn[40][0].startswith("tower: epoch 3/4, 0.0 s left")
    assert len(drawn[40][0]) == 40
    assert "steps/s" in drawn[120][0]
    assert "━" in drawn[120][0]
