"""A full, failing or too small disk: the error names the file and the last checkpoint stays intact (5 to 8)."""

import errno
import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch import nn

from llmrec_cli import atomic_files
from llmrec_cli.errors import ArtifactError, ResourceError
from llmrec_cli.run_dir import RunDir
from llmrec_cli.training.checkpoint import checkpoint_size, checkpoints
from llmrec_cli.training.loop import TrainContext
from tests.training.test_loop import CPU, Model, run, same, settings, weights


@contextmanager
def largest_file(num_bytes):
    """Limit the size of files that this process writes: larger writes fail with EFBIG, as with a quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def failing(name, code, at):
    """Return `os.<name>`, failing at its call number `at`."""
    real, calls = getattr(os, name), []

    def call(*arguments, **named):
        calls.append(1)
        if len(calls) == at:
            raise OSError(code, os.strerror(code), str(arguments[0]))
        return real(*arguments, **named)

    return call


def content(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("num_bytes", [0, 1, 100, 1000, 2500])
def test_5_a_file_that_cannot_grow_ends_training_with_the_last_checkpoint_intact(tmp_path, num_bytes):
    before = {}

    def log(event, **values):
        if event == "step" and values["step"] == 6:
            before.update(content(tmp_path))
            stack.__enter__()

    stack = largest_file(num_bytes)
    try:
        with pytest.raises(ResourceError, match="free space or choose another place"):
            run(Model(), TrainContext(CPU, 1, log, checkpoints=tmp_path))
    finally:
        stack.__exit__(None, None, None)
    assert sorted(before) == [f"step-000003/{name}" for name in ("manifest.json", "progress.json",
                                                                "state.safetensors")]
    assert content(tmp_path) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(("name", "calls"), [
    ("fsync", [1, 2, 3, 4, 5]), ("rename", [1]), ("mkdir", [2]), ("unlink", [1])])
def test_5_whatever_fails_in_a_save_a_good_checkpoint_is_left_and_the_run_goes_on(tmp_path, monkeypatch, code, name,
                                                                                  calls):
    whole = Model()
    expected = run(whole, TrainContext(CPU, 1))
    for at in calls:
        folder = tmp_path / str(at)

        def log(event, at=at, patch=monkeypatch, **values):
            # At step 9 the first of three checkpoints is removed, too.
            if event == "step" and values["step"] == 9:
                patch.setattr(os, name, failing(name, code, at))

        with pytest.raises(ResourceError, match=r"cannot be written"):
            run(Model(), TrainContext(CPU, 1, log, checkpoints=folder))
        monkeypatch.undo()
        names = [path.name for path in checkpoints(folder)]
        assert names[:2] == ["step-000003", "step-000006"]
        resumed = Model()
        assert run(resumed, TrainContext(CPU, 1, resume_from=folder, checkpoints=folder)) == expected
        assert same(weights(resumed), weights(whole))
        assert sorted(path.name for path in folder.iterdir()) == ["step-000015", "step-000018"]


def test_5_curves_that_cannot_be_written_end_training(tmp_path):
    with largest_file(200), pytest.raises(ResourceError, match="cannot be written"):
        run(Model(), TrainContext(CPU, 1, tensorboard=tmp_path / "curves"))


def test_6_without_room_for_two_checkpoints_training_does_not_begin(tmp_path, monkeypatch):
    model = Model()
    needed = 2 * checkpoint_size(model, 1)
    assert checkpoint_size(model, 1) >= 4 * 4 * (3 * 16 + 16 + 16 + 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(atomic_files.shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(ResourceError, match=rf"{needed - 1:,} bytes are free, and twice a checkpoint takes {needed:,} "
                                            rf"bytes; .*run_dir=<folder>"):
        run(model, TrainContext(CPU, 1, checkpoints=tmp_path / "a/b"), loss=lambda _: pytest.fail("trained"),
            validate=lambda: 1.0)
    monkeypatch.setattr(atomic_files.shutil, "disk_usage", lambda _: usage._replace(free=needed))
    run(Model(), TrainContext(CPU, 1, checkpoints=tmp_path / "a/b"), validate=iter([0.1, 0.2, 0.3, 0.4]).__next__)


def test_6_the_size_of_a_checkpoint_is_stated_within_a_tenth(tmp_path):
    model = Model()
    model.table = nn.Parameter(model.frozen.weight.new_zeros(100, 100))
    model.register_buffer("memory", model.frozen.weight.new_zeros(50, 100))
    loss = lambda rows: model(rows) + model.table.square().mean()  # noqa: E731
    run(model, TrainContext(CPU, 1, checkpoints=tmp_path), loss, validate=iter([0.1, 0.2, 0.3, 0.4]).__next__,
        optim=settings(ema=0.5))
    state = checkpoints(tmp_path)[-1] / "state.safetensors"
    assert checkpoint_size(model, 2) == pytest.approx(state.stat().st_size, rel=0.1)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_7_a_run_directory_that_cannot_be_written_is_told_before_training(tmp_path, monkeypatch, code):
    monkeypatch.setattr(os, "mkdir", failing("mkdir", code, 1))
    with pytest.raises(ResourceError, match=rf"new: cannot be written \({os.strerror(code)}\)"):
        RunDir.create("finetune", str(tmp_path / "new"))


def test_8_removing_a_checkpoint_begins_with_its_manifest(tmp_path, monkeypatch):
    removed, rmtree = [], shutil.rmtree

    def stop(path, *rest, **named):
        if not Path(path).name.startswith("step-"):
            return rmtree(path, *rest, **named)
        removed.append(Path(path).name)
        raise OSError(errno.EIO, "stopped here", str(path))

    def log(event, **values):
        if event == "step" and values["step"] == 9:
            monkeypatch.setattr(shutil, "rmtree", stop)

    with pytest.raises(ResourceError):
        run(Model(), TrainContext(CPU, 1, log, checkpoints=tmp_path))
    monkeypatch.undo()
    assert removed == ["step-000003"]
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000006", "step-000009"]
    assert sorted(path.name for path in (tmp_path / "step-000003").iterdir()) == ["progress.json",
                                                                                 "state.safetensors"]


def test_20_a_missing_or_an_extra_file_of_a_checkpoint_is_refused(tmp_path):
    run(Model(), TrainContext(CPU, 1, checkpoints=tmp_path))
    (tmp_path / "step-000018" / "state-2.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"unexpected files state-2.safetensors; remove .*step-000018"):
        run(Model(), TrainContext(CPU, 1, resume_from=tmp_path))
    (tmp_path / "step-000018" / "state-2.safetensors").unlink()
    (tmp_path / "step-000018" / "progress.json").unlink()
    with pytest.raises(ArtifactError, match=r"progress.json: missing; remove .*step-000018"):
        run(Model(), TrainContext(CPU, 1, resume_from=tmp_path))
