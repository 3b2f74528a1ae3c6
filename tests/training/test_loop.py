"""The training loop: schedule, early stopping, divergence, and exact resume."""

import os

import pytest
import torch
from torch import nn

from llmrec_cli.errors import ArtifactError, ConfigError, DivergedError
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.training.checkpoint import checkpoints
from llmrec_cli.training.loop import Length, TrainContext, train
from llmrec_cli.training.optim import build_optimizer, learning_rate_share

CPU = torch.device("cpu")
INPUTS = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS @ torch.tensor([1.0, -2.0, 0.5])


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.body = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
            self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, rows):
        return (self.body(INPUTS[rows]).squeeze(-1) - TARGETS[rows]).square().mean()


def batches(epoch, generator):
    yield from torch.from_numpy(generator.permutation(40)).split(8)


def settings(**changed):
    return AdamWSettings(learning_rate=0.01, epochs=4, batch_size=8, checkpoint_every=3, **changed)


def run(model, train_context, loss=None, validate=None, optim=None, epochs=4, schedule=4):
    optim = optim or settings()
    return train(model, batches, loss or model, [(model, optim.learning_rate)], optim, Length(epochs, 5, schedule),
                 train_context, validate)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero():
    shares = [learning_rate_share(step, 10, 0.2) for step in range(11)]
    assert shares[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert shares[2:] == pytest.approx([n / 8 for n in range(8, -1, -1)])
    assert learning_rate_share(0, 4, 0.0) == 1


def test_biases_do_not_decay_and_a_shared_parameter_goes_with_its_first_module():
    model = Model()
    optimizer = build_optimizer([(model.body[0], 0.5), (model, 0.1)], settings(weight_decay=0.3))
    groups = [(g["peak"], g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in optimizer.param_groups]
    assert groups == [(0.5, 0.3, [(16, 3)]), (0.5, 0.0, [(16,)]), (0.1, 0.3, [(1, 16)]), (0.1, 0.0, [(1,)])]


def test_training_lowers_the_loss_and_logs_every_step():
    events = []
    result = run(Model(), TrainContext(CPU, 1, lambda event, **values: events.append((event, values))))
    assert result.losses[-1] < result.losses[0]
    assert result.best_epoch == 4
    assert result.best_value is None
    assert [v["step"] for e, v in events if e == "step"] == list(range(1, 21))


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_stream_alone():
    one, other, third = Model(), Model(), Model()
    run(one, TrainContext(CPU, 1))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    run(other, TrainContext(CPU, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert same(weights(one), weights(other))
    run(third, TrainContext(CPU, 2))
    assert not same(weights(one), weights(third))


def test_validation_stops_after_patience_epochs_and_the_best_weights_come_back():
    model, values, history = Model(), iter([0.1, 0.5, 0.4, 0.3, 0.9]), []

    def validate():
        history.append(weights(model))
        assert not model.training
        return next(values)

    result = run(model, TrainContext(CPU, 1), validate=validate, optim=settings(patience=2), epochs=5, schedule=5)
    assert (result.best_epoch, result.best_value, result.values) == (2, 0.5, [0.1, 0.5, 0.4, 0.3])
    assert same(weights(model), history[1])


def test_a_refit_of_the_best_epochs_repeats_the_first_fit_up_to_there():
    first, refit = Model(), Model()
    values = iter([0.1, 0.5, 0.4, 0.3])
    best = run(first, TrainContext(CPU, 1), validate=lambda: next(values))
    run(refit, TrainContext(CPU, 1), epochs=best.best_epoch)
    assert same(weights(first), weights(refit))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_it_reaches_a_weight(bad):
    model, steps, history = Model(), [], []

    def loss(rows):
        steps.append(1)
        history.append(weights(model))
        return model(rows) * (bad if len(steps) == 7 else 1)

    with pytest.raises(DivergedError, match=r"step 7; lower optim.learning_rate=0.01"):
        run(model, TrainContext(CPU, 1), loss)
    assert same(weights(model), history[-1])


def test_a_gradient_that_is_not_finite_stops_too():
    model = Model()
    with pytest.raises(DivergedError, match="gradient's norm is"):
        run(model, TrainContext(CPU, 1), lambda rows: model(rows) + (model.body[0].bias.sum() * 0).sqrt())


def quality(model):
    """Return a validation value that depends on the model's weights only."""
    with torch.no_grad():
        return -float(model(torch.arange(40)))


def killed_at(step, folder, resume_from=None):
    """Train in a forked process that exits abruptly at this step."""
    if (child := os.fork()) == 0:
        def log(event, **values):
            if event == "step" and values["step"] == step:
                os._exit(9)
        model, train_context = Model(), TrainContext(CPU, 1, log, checkpoints=folder, resume_from=resume_from)
        try:
            run(model, train_context, validate=lambda: quality(model))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("steps", [(2,), (7,), (6, 11), (8, 13, 17), (20,)])
def test_a_killed_run_goes_on_to_the_very_same_weights_also_in_the_middle_of_an_epoch(tmp_path, steps):
    whole, resumed = Model(), Model()
    expected = run(whole, TrainContext(CPU, 1), validate=lambda: quality(whole))
    folders = [tmp_path / str(n) for n in range(len(steps))]
    for n, step in enumerate(steps):
        killed_at(step, folders[n], folders[n - 1] if n else None)
    result = run(resumed, TrainContext(CPU, 1, resume_from=folders[-1]), validate=lambda: quality(resumed))
    assert result == expected
    assert same(weights(whole), weights(resumed))


def test_a_resumed_run_ends_with_the_best_weights_even_when_they_are_from_before_the_kill(tmp_path):
    def log(event, **values):
        if event == "step" and values["step"] == 14:
            raise InterruptedError

    whole, killed, resumed = Model(), Model(), Model()
    values, values_until, values_after = iter([0.1, 0.5, 0.4, 0.3]), iter([0.1, 0.5]), iter([0.4, 0.3])
    expected = run(whole, TrainContext(CPU, 1), validate=lambda: next(values))
    with pytest.raises(InterruptedError):
        run(killed, TrainContext(CPU, 1, log, checkpoints=tmp_path), validate=lambda: next(values_until))
    result = run(resumed, TrainContext(CPU, 1, resume_from=tmp_path), validate=lambda: next(values_after))
    assert result == expected
    assert result.best_epoch == 2
    assert same(weights(whole), weights(resumed))


def interrupted(folder):
    killed_at(8, folder)
    return folder


def test_only_the_two_newest_checkpoints_stay_counted_by_step(tmp_path):
    run(Model(), TrainContext(CPU, 1, checkpoints=tmp_path), optim=settings(), epochs=4)
    os.utime(tmp_path / "step-000015", (2e9, 2e9))
    assert [p.name for p in checkpoints(tmp_path)] == ["step-000015", "step-000018"]
    assert sorted(p.name for p in (tmp_path / "step-000018").iterdir()) == [
        "manifest.json", "progress.json", "state.safetensors"]


def test_leftovers_of_a_kill_are_removed(tmp_path):
    interrupted(tmp_path)
    for name in ("step-000001", "step-000003/more", ".step-000009.abcdefgh.new", "step-000012"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-000001" / "manifest.json").write_text("{}")  # Was to be removed next.
    (tmp_path / "step-000012" / "progress.json").write_text("{}")  # Was being removed.
    run(Model(), TrainContext(CPU, 1, checkpoints=tmp_path, resume_from=tmp_path), epochs=4)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-000015", "step-000018"]


def test_frozen_parameters_are_not_in_a_checkpoint_and_nothing_of_it_is_a_pickle(tmp_path):
    from safetensors.numpy import load_file
    run(Model(), TrainContext(CPU, 1, checkpoints=tmp_path))
    names = load_file(tmp_path / "step-000018" / "state.safetensors").keys()
    assert "model/body.0.weight" in names
    assert "random/cpu" in names
    assert not any("frozen" in name for name in names)


@pytest.mark.parametrize("name", ["state.safetensors", "progress.json", "manifest.json"])
def test_a_damaged_checkpoint_is_refused(tmp_path, name):
    file = interrupted(tmp_path) / "step-000006" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match="step-000006"):
        run(Model(), TrainContext(CPU, 1, resume_from=tmp_path))


def test_a_checkpoint_without_a_manifest_is_ignored(tmp_path):
    interrupted(tmp_path)
    (tmp_path / "step-000006" / "manifest.json").unlink()
    assert [p.name for p in checkpoints(tmp_path)] == ["step-000003"]


def test_going_on_with_other_settings_is_refused_and_says_which(tmp_path):
    interrupted(tmp_path)
    with pytest.raises(ConfigError, match=r"optim.weight_decay=0.5: the interrupted run had 0.01"):
        run(Model(), TrainContext(CPU, 1, resume_from=tmp_path), optim=settings(weight_decay=0.5))
    with pytest.raises(ConfigError, match="seed=2"):
        run(Model(), TrainContext(CPU, 2, resume_from=tmp_path))


def test_going_on_with_another_model_is_refused_and_says_what_differs(tmp_path):
    interrupted(tmp_path)
    model = Model()
    model.more = nn.Linear(2, 2)
    with pytest.raises(ArtifactError, match=r"missing: \['more.bias', 'more.weight'\]"):
        run(model, TrainContext(CPU, 1, resume_from=tmp_path))


def test_without_a_terminal_each_epoch_is_one_line_on_stderr(capsys):
    run(Model(), TrainContext(CPU, 1, title="towers"), validate=iter([0.1, 0.2, 0.3, 0.4]).__next__)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[3].startswith("towers: epoch 4/4, loss ")
    assert "validation 0.4000" in err.splitlines()[3]


def test_a_terminal_gets_a_bar_with_rate_and_time_left(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    run(Model(), TrainContext(CPU, 1, title="towers"))
    assert "20/20" in capsys.readouterr().err


def test_tensorboard_gets_the_curves(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    run(Model(), TrainContext(CPU, 1, tensorboard=tmp_path), validate=iter([0.1, 0.2, 0.3, 0.4]).__next__)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [e.step for e in events.Scalars("validation/value")] == [5, 10, 15, 20]
    assert len(events.Scalars("step/loss")) == 20


def test_every_epoch_has_its_own_batches_and_a_resumed_one_starts_behind_those_it_had(tmp_path):
    def rows_seen(**where):
        seen, model = [], Model()
        run(model, TrainContext(CPU, 1, **where), loss=lambda rows: (seen.append(rows.tolist()), model(rows))[1])
        return seen

    seen = rows_seen(checkpoints=tmp_path)
    epochs = [[row for rows in seen[n:n + 5] for row in rows] for n in range(0, 20, 5)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert rows_seen(resume_from=tmp_path) == seen[18:]


def test_an_after_step_callback_sees_gradients_and_its_state_survives_a_kill(tmp_path):
    def counted(**where):
        model = Model()
        model.register_buffer("total", torch.zeros(3))

        def after_step(step):
            model.total += model.body[0].weight.grad.abs().sum(0) / step
            with torch.no_grad():
                model.body[0].weight[step % 16] *= 0.9  # As AdaLoRA takes rank away.

        log = where.pop("log", lambda event, **values: None)
        train(model, batches, model, [(model, 0.01)], settings(), Length(4, 5, 4), TrainContext(CPU, 1, log, **where),
              after_step=after_step)
        return model

    def killed(event, **values):
        if values["step"] == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        counted(log=killed, checkpoints=tmp_path)
    whole, resumed = counted(), counted(resume_from=tmp_path)
    assert (whole.total > 0).all()
    assert torch.equal(whole.total, resumed.total)
    assert same(weights(whole), weights(resumed))
