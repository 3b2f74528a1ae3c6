"""The fault matrix, by number, crash and I/O: those cases that have no better place among the tests of a module."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmrec_cli import atomic_files
from llmrec_cli.atomic_files import lock
from llmrec_cli.data.manifest import sha256
from llmrec_cli.heads.pairs.steps import ChoiceSteps, Part
from llmrec_cli.training import loop
from tests.some_slow import some_slow

# 1 to 11 and 20 of training itself: training/test_kills.py, training/test_interrupts.py, training/test_full_disks.py,
# training/test_several.py; 21 and 25: stages/test_finetune.py.

LLMREC = str(Path(sys.executable).parent / "llmrec")
FACTORS = ["head=mf", "head.embedding_size=4", "optim.epochs=3", "optim.batch_size=64", "optim.checkpoint_every=2",
           "device=cpu"]


def at_step(monkeypatch, number, what):
    """Call `what` when training has taken this number of steps."""
    log = loop._Loop._log

    def log_and_act(self, event, when, **values):
        log(self, event, when, **values)
        if event == "step" and when["step"] == number:
            what()

    monkeypatch.setattr(loop._Loop, "_log", log_and_act)


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(Path(folder).rglob("*"))
            if file.is_file()}


@pytest.mark.audited
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_9_10_16_17_a_signal_ends_a_run_with_a_checkpoint_and_a_moved_copy_of_it_goes_on_to_the_same_bytes(
        llmrec, tiny_prepared, monkeypatch, number, code):
    config = ["finetune", f"prepared={tiny_prepared}", *FACTORS]
    assert llmrec(*config, "run_dir=whole").code == 0
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: signal.raise_signal(number))
        done = llmrec(*config, "run_dir=cut")
    assert done.code == code
    assert done.err.endswith("finetune: interrupted at epoch 1 of 3; go on with: llmrec finetune resume=cut\n")
    assert "Traceback" not in done.err
    assert sorted(path.name for path in Path("cut/checkpoints").iterdir()) == ["step-000004", "step-000005"]
    assert not Path("cut/model").exists()
    shutil.copytree("cut", "elsewhere/moved")
    shutil.rmtree("cut")
    # A clock that was set back makes the newest checkpoint look old.
    os.utime("elsewhere/moved/checkpoints/step-000005", (0, 0))
    assert llmrec("finetune", "resume=elsewhere/moved").code == 0
    assert files("elsewhere/moved/model") == files("whole/model")


def test_6_a_run_without_room_for_checkpoints_ends_with_5_before_training(llmrec, tiny_prepared, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(atomic_files.shutil, "disk_usage", lambda _: usage._replace(free=100))
    done = llmrec("finetune", f"prepared={tiny_prepared}", *FACTORS, "run_dir=run")
    assert (done.code, "epoch" in done.err) == (5, False)
    assert re.search(r": 100 bytes are free, and twice a checkpoint takes [1-9][0-9.]* KiB; free space", done.err)
    assert not Path("run/model").exists()


@pytest.mark.audited
def test_7_a_run_directory_that_cannot_be_written_ends_with_5_before_training(llmrec, tiny_prepared):
    done = llmrec("finetune", f"prepared={tiny_prepared}", *FACTORS, "run_dir=/proc/run")
    assert done.code == 5
    assert "/proc/run: cannot be written" in done.err
    assert "epoch" not in done.err


def test_23_a_checkpoint_of_a_newer_format_is_refused_and_one_of_the_format_before_is_gone_on_with(
        llmrec, tiny_prepared, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: signal.raise_signal(signal.SIGTERM))
        assert llmrec("finetune", f"prepared={tiny_prepared}", *FACTORS, "run_dir=run").code == 143
    folder = Path("run/checkpoints/step-000005")
    progress = json.loads((folder / "progress.json").read_text())
    for key in ("accumulate", "schedule", "layer_decay", "ema", "precision"):
        del progress["plan"][f"optim.{key}"]
    del progress["progress"]["parts"], progress["progress"]["shrunk"]
    (folder / "progress.json").write_text(json.dumps(progress))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["progress.json"] = sha256(folder / "progress.json")
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    done = llmrec("finetune", "resume=run")
    assert done.code == 4
    assert "format 99 is not supported by this version of llmrec" in done.err
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    assert llmrec("finetune", "resume=run").code == 0


@pytest.mark.slow
@pytest.mark.audited
def test_18_19_a_checkpoint_that_is_cut_short_or_has_a_flipped_bit_is_refused_with_4(llmrec, tiny_prepared,
                                                                                  monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: signal.raise_signal(signal.SIGTERM))
        assert llmrec("finetune", f"prepared={tiny_prepared}", *FACTORS, "run_dir=run").code == 143
    rng, refused = random.Random(5), 0
    for file in sorted(Path("run/checkpoints/step-000005").iterdir()):
        content = file.read_bytes()
        damaged = [content[:size] for size in (0, len(content) // 2, len(content) - 2)]
        for _ in range(3):
            flipped = bytearray(content)
            # Of the manifest only the hashes: a bit of a space is nobody's loss.
            place = rng.randrange(len(content)) if file.name != "manifest.json" else len(content) - 40
            flipped[place] ^= 1 << rng.randrange(7)
            damaged.append(bytes(flipped))
        for one in damaged:
            file.write_bytes(one)
            done = llmrec("finetune", "resume=run")
            assert (done.code, "step-000005" in done.err, "Traceback" in done.err) == (4, True, False), done.err
            assert "to resume from the" in done.err
            refused += 1
        file.write_bytes(content)
    assert refused == 18
    assert llmrec("finetune", "resume=run").code == 0


def test_53_a_loss_that_is_not_a_number_ends_with_6_and_leaves_the_last_finite_checkpoint(llmrec, tiny_prepared,
                                                                                       monkeypatch):
    measure, factor = ChoiceSteps.loss, [1.0]
    with monkeypatch.context() as patch:
        patch.setattr(ChoiceSteps, "loss", lambda self, batch: measure(self, batch) * factor[-1])
        at_step(patch, 5, lambda: factor.append(float("nan")))
        done = llmrec("finetune", f"prepared={tiny_prepared}", *FACTORS, "run_dir=run")
    assert done.code == 6
    assert "the loss is nan at step 6; lower optim.learning_rate=0.01" in done.err
    assert not Path("run/model").exists()
    assert sorted(path.name for path in Path("run/checkpoints").iterdir()) == ["step-000002", "step-000004"]
    assert llmrec("finetune", "resume=run").code == 0


@pytest.mark.audited
def test_54_out_of_memory_splits_the_steps_of_a_run_and_is_logged(llmrec, tiny_prepared, monkeypatch):
    measure, limit = ChoiceSteps.loss, [30]

    def short(self, batch):
        if len(batch.places if isinstance(batch, Part) else batch[0]) > limit[0]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return measure(self, batch)

    config = ["finetune", f"prepared={tiny_prepared}", *FACTORS, "refit=none"]
    assert llmrec(*config, "run_dir=whole").code == 0
    monkeypatch.setattr(ChoiceSteps, "loss", short)
    assert llmrec(*config, "run_dir=short").code == 0
    events = {name: [json.loads(line) for line in Path(name, "log.jsonl").read_text().splitlines()]
              for name in ("whole", "short")}
    assert [e["parts"] for e in events["short"] if e["event"] == "out_of_memory"][:2] == [2, 4]
    losses = {name: [e["loss"] for e in events[name] if e["event"] == "step"] for name in events}
    assert losses["short"] == pytest.approx(losses["whole"], rel=1e-5)
    limit[0] = 0
    done = llmrec(*config, "run_dir=none")
    assert done.code == 5
    assert "mf: out of memory at step 1, and the step cannot be made smaller" in done.err


@pytest.mark.audited
def test_54_out_of_memory_anywhere_else_ends_with_5_and_no_traceback(llmrec, tiny_prepared, monkeypatch):
    def fail(*_):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("llmrec_cli.heads.ease.head.Ease.fit", fail)
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=ease", "run_dir=run")
    assert done.code == 5
    assert "finetune: out of memory (Unable to allocate 9 TiB)" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_12_a_closed_stdout_and_stderr_do_not_stop_a_run(tmp_path, tiny_prepared):
    command = f"'{LLMREC}' finetune head=popularity prepared='{tiny_prepared}' run_dir=run >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "run/model/manifest.json").is_file()


def test_12_a_reader_that_leaves_ends_the_command_without_a_traceback(tmp_path):
    process = subprocess.Popen([LLMREC, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.mark.audited
def test_12_without_a_terminal_nothing_but_plain_lines_is_written(llmrec, tiny_prepared, tiny_encoder):
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=two_tower", "head.embedding_size=8", "encoder=hf",
                  f"encoder.path={tiny_encoder}", "encoder.max_length=16", "peft=frozen", "optim.epochs=1",
                  "run_dir=run")
    assert done.code == 0
    assert all(c.isprintable() or c == "\n" for c in done.out + done.err)
    # The data, the memory it takes, an epoch, that ratings are no weights, the refit's epoch, and where the run is.
    assert len(done.err.splitlines()) == 6


@pytest.mark.audited
def test_13_a_second_run_in_the_same_folder_ends_with_75(llmrec, tiny_prepared):
    with lock(Path("run/.lock"), "the first"):
        done = llmrec("finetune", "head=popularity", f"prepared={tiny_prepared}", "run_dir=run")
    assert done.code == 75
    assert done.err.startswith("llmrec: locked: run/.lock: another run is writing the run in run; wait for it to end")


def test_13_a_second_prepare_of_the_same_data_ends_with_75_and_leaves_it_as_it_was(llmrec, prepare_tiny):
    assert llmrec("prepare", *prepare_tiny).code == 0
    before = Path("data/prepared/tiny/manifest.json").read_bytes()
    with lock(Path("data/prepared/.tiny.lock"), "the first"):
        done = llmrec("prepare", *prepare_tiny, "split.seed=7")
    assert done.code == 75
    assert "another run is writing the prepared data data/prepared/tiny" in done.err
    assert Path("data/prepared/tiny/manifest.json").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("umask", some_slow([0o077, 0o022], 1, 0), ids=oct)
def test_96_every_file_and_folder_has_the_permissions_that_the_umask_leaves(llmrec, prepare_tiny, tiny_encoder,
                                                                          tmp_path, umask):
    before = os.umask(umask)
    try:
        for arguments in (["prepare", *prepare_tiny],
                          ["pretrain", "encoder=hf", f"encoder.path={tiny_encoder}", "encoder.max_length=16",
                           "optim.epochs=1"],
                          ["finetune", "head=two_tower", "head.embedding_size=8", "encoder=pretrained", "peft=lora",
                           "encoder.max_length=16", "peft.num_layers=1", "optim.epochs=1", "optim.checkpoint_every=5"],
                          ["evaluate", "num_bootstrap=100", "baselines=[popularity]"],
                          ["recommend", "queries=all", "output=lists.parquet"]):
            done = llmrec(*arguments)
            assert done.code == 0, done.err
    finally:
        os.umask(before)
    result = [path for path in tmp_path.rglob("*") if not path.is_symlink()]
    assert len(result) > 50
    assert {str(path.relative_to(tmp_path)): oct(path.stat().st_mode & 0o777) for path in result
            if path.stat().st_mode & 0o777 != (0o777 if path.is_dir() else 0o666) & ~umask} == {}
