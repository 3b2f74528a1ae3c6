"""Real commands that are killed before any change of the file system: the same command, or resume, ends as if nothing
had happened (1 to 3, 95, 96)."""

import random
import shutil
from pathlib import Path

import pytest

from llmrec_cli import cli
from tests.conftest import own_sigterm
from tests.faults.killing_commands import KILLED, forked, leftovers

FACTORS = ["head=mf", "head.embedding_size=4", "optim.epochs=2", "optim.batch_size=128", "optim.checkpoint_every=2",
           "device=cpu"]
TOWER = ["head=two_tower", "head.embedding_size=8", "encoder=hf", "encoder.max_length=12", "peft=lora",
         "peft.num_layers=1", "peft.merge=true", "optim.epochs=1", "optim.batch_size=128", "optim.checkpoint_every=2",
         "device=cpu"]
PRETRAIN = ["objective=mlm", "encoder=hf", "encoder.max_length=12", "optim.epochs=1", "optim.batch_size=16",
            "optim.checkpoint_every=1", "device=cpu"]


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def walk(command: list[str], results: list[str], points: int | None, num_first: int = 12) -> int:
    """Kill a training at each of its changes, or at so many, go on, and compare `results` with a run that was not
    killed; return the number of kills."""
    # In this process, so that what is imported on the way is there in every fork.
    with own_sigterm():
        assert cli.run([*command, "run_dir=whole"]) == 0
    code, message, num_changes = forked([*command, "run_dir=again"])
    assert code == 0, message
    whole = {name: content(Path("whole") / name) for name in results}
    assert all(whole.values())
    assert {name: content(Path("again") / name) for name in results} == whole
    places = range(1, num_changes - 1)
    # The first and the last changes are those of the run's own files.
    some = random.Random(len(command)).sample(places, points or 0)
    chosen = places if points is None else sorted({*some, *range(1, num_first), *range(num_changes - 5, num_changes)})
    between = 0
    for place in chosen:
        shutil.rmtree("run", ignore_errors=True)
        Path(f"runs/{command[0]}/latest").unlink(missing_ok=True)
        assert forked([*command, "run_dir=run"], place)[0] == KILLED
        between += Path("run/config.yaml").exists() and not Path("run/inputs.json").exists()
        go_on(command, place)
        assert {name: content(Path("run") / name) for name in results} == whole, f"killed at {place}"
        assert list(leftovers(Path("run"))) == [], f"killed at {place}"
        assert list(leftovers(Path("runs"))) == [], f"killed at {place}"
        assert not Path("run/checkpoints").exists() or not any(Path("run/checkpoints").iterdir())
        assert Path(f"runs/{command[0]}/latest").resolve() == Path("run").resolve(), f"killed at {place}"
    # Once this could neither be resumed nor started again.
    assert between
    return len(chosen)


def go_on(command: list[str], place: int) -> None:
    """Resume the run; start it again where it has not begun, and at every second place where it has read nothing."""
    begun = Path("run/config.yaml").exists()
    again = not begun or (place % 2 and not Path("run/inputs.json").exists())
    code, message, _ = forked([*command, "run_dir=run"] if again else [command[0], "resume=run"])
    # It may have ended: then nothing is left to be done.
    assert code == 0 or "this run has finished" in message, f"killed at {place}: {message}"


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("own_folder")
def test_a_finetune_that_is_killed_at_some_changes_goes_on_to_the_same_bits(tiny_prepared):
    assert walk(["finetune", f"prepared={tiny_prepared}", *FACTORS], ["model"], points=2, num_first=26) >= 26


@pytest.mark.faults
@pytest.mark.usefixtures("own_folder")
def test_a_finetune_that_is_killed_at_every_change_goes_on_to_the_same_bits(tiny_prepared):
    print(walk(["finetune", f"prepared={tiny_prepared}", *FACTORS], ["model"], points=None), "kills")


@pytest.mark.faults
@pytest.mark.usefixtures("own_folder")
def test_a_tower_with_its_adapter_and_encoder_that_is_killed_goes_on_to_the_same_bits(tiny_prepared, tiny_encoder):
    command = ["finetune", f"prepared={tiny_prepared}", f"encoder.path={tiny_encoder}", *TOWER]
    print(walk(command, ["model", "adapter", "encoder"], points=20), "kills")


@pytest.mark.faults
@pytest.mark.usefixtures("own_folder")
def test_a_pretraining_that_is_killed_goes_on_to_the_same_bits(tiny_prepared, tiny_encoder):
    command = ["pretrain", f"prepared={tiny_prepared}", f"encoder.path={tiny_encoder}", *PRETRAIN]
    print(walk(command, ["encoder"], points=40), "kills")


@pytest.mark.faults
@pytest.mark.usefixtures("own_folder")
@pytest.mark.parametrize(("command", "more", "results"), [
    ("evaluate", ["num_bootstrap=100"], ["run/metrics.json", "run/per_user.parquet", "run/recommendations.parquet"]),
    ("recommend", ["queries=all", "output=lists.csv"], ["lists.csv", "lists.csv.manifest.json"])])
def test_a_command_that_is_killed_at_any_change_can_be_started_again(tiny_prepared, command, more, results):
    started = [command, "model=fit", "run_dir=run", *more]
    with own_sigterm():
        assert cli.run(["finetune", f"prepared={tiny_prepared}", "head=popularity", "run_dir=fit"]) == 0
        assert cli.run(started) == 0
    whole = [Path(name).read_bytes() for name in results]
    shutil.rmtree("run")
    code, message, num_changes = forked(started)
    assert code == 0, message
    for place in range(1, num_changes - 1):
        for name in ("run", *results):
            shutil.rmtree(name, ignore_errors=True) if name == "run" else Path(name).unlink(missing_ok=True)
        assert forked(started, place)[0] == KILLED
        code, message, _ = forked(started)
        # After its last file there is nothing to be done again.
        assert code == 0 or Path("run/manifest.json").exists(), f"killed at {place}: {message}"
        assert [Path(name).read_bytes() for name in results] == whole, f"killed at {place}"
        assert list(leftovers(Path("."))) == [], f"killed at {place}"
    print(num_changes, "changes")
