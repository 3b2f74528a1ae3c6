"""Scheduled runs: scripts/retrain.sh publishes completely or not at all, one run at a time.

Most tests replace `llmrec` by a small script that writes the files of each command; two tests run the real command.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llmrec_cli import retrain as retrain_command
from llmrec_cli.data.manifest import sha256
from tests.some_slow import some_slow
from tests.tiny import NUM_USERS, write_tiny

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts/retrain.sh"
# The strictest POSIX shell available, without the extensions of bash.
SHELL = [next(filter(None, map(shutil.which, ("dash", "busybox", "mksh", "ksh", "sh"))), "sh")]
SHELL += ["sh"] * (Path(SHELL[0]).name == "busybox")
SHELLS = [SHELL, *([shutil.which(name)] for name in ("bash",) if shutil.which(name))]
# Writes the files of a command; `pause` and `fail` in the folder contain the name of the command that hangs or fails.
STUB = """#!/bin/bash
set -eu
printf '%s\\n' "$*" >> calls
[ "$(cat fail 2>/dev/null)" != "$1" ] || exit 3
if [ -s locked ] && [ "$(cat locked)" -gt 0 ]; then echo $(($(cat locked) - 1)) > locked; exit 75; fi
[ "$(cat pause 2>/dev/null)" != "$1" ] || { echo $$ > paused; exec sleep 60; }
for word in "$@"; do case $word in run_dir=*) run=${word#*=} ;; output=*) output=${word#*=} ;; esac; done
mkdir -p "$run"
version=$(cat version 2>/dev/null || echo 1)
case $1 in
    prepare) mkdir -p data/prepared/t; ln -sfn t data/prepared/latest
             echo '  "fingerprint": "abc",' | tee data/prepared/t/manifest.json > "$run/manifest.json" ;;
    finetune) mkdir "$run/model"; echo "$version" > "$run/model/weights"
              [ ! -e meddle ] || echo '  "fingerprint": "def",' > data/prepared/t/manifest.json ;;
    evaluate) echo "$version" > "$run/metrics.json"; echo "$version" > "$run/report.html" ;;
    recommend) echo "$version" > "$output"; echo "$version" > "$output.manifest.json" ;;
esac
"""
ORPHAN = """
import sys
from pathlib import Path
from llmrec_cli.atomic_files import lock
with lock(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    sys.stdin.read()
"""
FILES = ["metrics.json", "model/weights", "recommendations.parquet", "recommendations.parquet.manifest.json",
         "report.html"]

pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to a folder with spaces in its name that contains the stub."""
    folder = tmp_path / "a shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write("llmrec stub", STUB)
    os.chmod("llmrec stub", 0o755)


def write(name: str, content: str) -> None:
    Path(name).write_text(content)


def environment(**variables: str) -> dict[str, str]:
    """Return the environment variables of cron and the shop's files."""
    return {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "LLMREC": str(Path("llmrec stub").resolve()),
            "PREPARE": "dataset=files dataset.interactions=clicks.csv", "WAIT": "0", **variables}


def retrain(*arguments: str, folder: str = "pub lished", **variables: str) -> subprocess.CompletedProcess[str]:
    return ran([*SHELL, str(SCRIPT), folder, *arguments], environment(**variables))


def ran(command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=variables, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          check=False)


def published() -> dict[str, str]:
    """Return the content of the files in `current`."""
    folder = Path("pub lished/current").resolve()
    return {str(f.relative_to(folder)): f.read_text() for f in sorted(folder.rglob("*")) if f.is_file()}


def versions() -> list[str]:
    return sorted(f.name for f in Path("pub lished").iterdir() if f.is_dir() and not f.is_symlink())


@pytest.fixture
def paused() -> Iterator[subprocess.Popen[bytes]]:
    """Yield a run that hangs in finetune, and kill its processes afterwards."""
    write("pause", "finetune")
    # A shell cannot trap a signal that was ignored at its start, as under nohup.
    run = subprocess.Popen([*SHELL, str(SCRIPT), "pub lished"], env=environment(), stderr=subprocess.DEVNULL,
                           preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    wait_for(Path("paused"))
    Path("pause").unlink()
    yield run
    for process in (run.pid, int(Path("paused").read_text())):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    run.wait()


def wait_for(file: Path, text: str = "") -> None:
    for _ in range(1200):
        if file.exists() and (content := file.read_text()) and text in content:
            return
        time.sleep(0.05)
    raise AssertionError(f"{file} did not appear with {text!r} in it")


def test_a_run_evaluates_a_model_without_the_test_data_and_publishes_one_with_it() -> None:
    run = retrain("experiment=shop", PREPARE="dataset=files 'dataset.interactions=in put/c.csv'", FINETUNE="head=ease")
    assert run.returncode == 0, run.stderr
    assert list(published()) == FILES
    calls = [line.split(" run_dir=")[0] for line in Path("calls").read_text().splitlines()]
    stamp = versions()[0]
    first, second = (f"runs/finetune/retrain-{name}-{stamp}" for name in ("finetune", "refit"))
    assert calls == [
        "prepare experiment=shop dataset=files dataset.interactions=in put/c.csv",
        "finetune experiment=shop head=ease prepared=data/prepared/t refit=train_valid",
        f"evaluate experiment=shop model={first} prepared=data/prepared/t",
        "finetune experiment=shop head=ease prepared=data/prepared/t refit=all",
        f"recommend experiment=shop queries=all k=100 model={second} "
        f"output=pub lished/.building.{stamp}/recommendations.parquet"]
    assert run.stdout == ""


def test_refit_none_publishes_the_model_that_was_evaluated_and_pretrain_runs_when_it_is_set() -> None:
    assert retrain(REFIT="none", PRETRAIN="objective=mlm").returncode == 0
    calls = Path("calls").read_text().splitlines()
    assert [line.split()[0] for line in calls] == ["prepare", "pretrain", "finetune", "evaluate", "recommend"]
    stamp = versions()[0]
    assert f"encoder=pretrained encoder.path=runs/pretrain/retrain-pretrain-{stamp} " in calls[2]
    assert f"model=runs/finetune/retrain-finetune-{stamp} " in calls[4]


@pytest.mark.parametrize("command", some_slow(["evaluate", "prepare", "finetune", "recommend"]))
def test_when_a_command_fails_nothing_is_published_and_its_exit_code_is_ours(command: str) -> None:
    retrain()
    before, pointer = published(), os.readlink("pub lished/current")
    write("version", "2")
    write("fail", command)
    run = retrain()
    assert run.returncode == 3
    assert f"{command} failed with exit code 3; nothing was published" in run.stderr
    assert published() == before
    assert os.readlink("pub lished/current") == pointer
    assert sorted(os.listdir("pub lished")) == sorted([".lock", "current", pointer])
    Path("fail").unlink()
    assert retrain().returncode == 0
    assert set(published().values()) == {"2\n"}


def test_a_second_run_exits_75_without_waiting_for_the_first(paused: subprocess.Popen[bytes]) -> None:
    run = retrain()
    assert run.returncode == 75
    assert paused.poll() is None
    assert f"another run holds the lock; wait for it to end, or end process {paused.pid} on " in run.stderr
    assert retrain(folder="elsewhere").returncode == 0


def test_the_lock_of_a_killed_run_is_free_at_once(paused: subprocess.Popen[bytes]) -> None:
    paused.kill()
    paused.wait()
    run = retrain()
    assert run.returncode == 0, run.stderr
    assert list(published()) == FILES
    assert not [name for name in os.listdir("pub lished") if name.startswith(".building")]


def test_sigterm_ends_the_command_too_and_publishes_nothing(paused: subprocess.Popen[bytes]) -> None:
    paused.terminate()
    assert paused.wait(50) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("paused").read_text()), 0)
    assert os.listdir("pub lished") == [".lock"]


def test_a_polling_reader_always_sees_one_complete_version() -> None:
    retrain()
    stop, seen, torn = threading.Event(), set(), []

    def poll() -> None:
        while not stop.is_set():
            files = published()
            seen.update(files.values())
            if list(files) != FILES or len(set(files.values())) != 1:
                torn.append(files)

    reader = threading.Thread(target=poll)
    reader.start()
    for version in ("2", "3"):
        write("version", version)
        assert retrain().returncode == 0
    stop.set()
    reader.join()
    assert torn == []
    assert "1\n" in seen


def test_the_newest_versions_and_the_current_one_are_kept_whatever_the_clock_says() -> None:
    for n in range(1, 4):
        os.makedirs(f"pub lished/2001-01-0{n}_00-00-00")
        os.makedirs(f"runs/finetune/retrain-refit-2001-01-0{n}_00-00-00")
    os.makedirs("runs/finetune/by hand")
    assert retrain(KEEP="2").returncode == 0
    assert versions()[0] == "2001-01-03_00-00-00"
    assert len(versions()) == len(list(Path("runs/finetune").glob("retrain-refit-*"))) == 2
    assert Path("runs/finetune/by hand").is_dir()
    for n in range(2):
        os.makedirs(f"pub lished/2999-01-0{n}_00-00-00")
    assert retrain(KEEP="1").returncode == 0
    assert list(published()) == FILES


def test_data_prepared_again_under_a_run_stops_it() -> None:
    write("meddle", "")
    run = retrain()
    assert run.returncode == 4
    assert "was prepared again by another run" in run.stderr
    assert not Path("pub lished/current").exists()


def test_wrong_usage_is_refused_before_anything_runs() -> None:
    for arguments, variables, message in (
            (["head=ease"], {}, "put settings of a command into PREPARE"), ([], {"KEEP": "0"}, "KEEP=0"),
            ([], {"REFIT": "some"}, "choose one of all, none"),
            ([], {"LLMREC": "no-such"}, "no-such: no such command")):
        run = retrain(*arguments, **variables)
        assert (run.returncode, message in run.stderr) == (2, True), run.stderr
    assert "usage" in retrain(folder="").stderr
    assert retrain(PREPARE="dataset='files").returncode == 2
    os.makedirs("real/current")
    assert "real/current: is a file or folder, but must be a link" in retrain(folder="real").stderr
    assert not Path("calls").exists()


@pytest.mark.parametrize(("flock", "message"), [
    ("exit 71", "does not support locks (flock exits 71)"), ("exit 0", "do not exclude other processes")])
def test_a_file_system_without_working_locks_is_refused(flock: str, message: str) -> None:
    os.mkdir("bin")
    write("bin/flock", f"#!/bin/sh\n{flock}\n")
    os.chmod("bin/flock", 0o755)
    run = retrain(PATH=f"{Path('bin').resolve()}:/usr/bin:/bin")
    assert run.returncode == 5
    assert message in run.stderr
    assert not Path("calls").exists()


def test_without_flock_it_refuses() -> None:
    os.mkdir("bin")
    for name in ("dirname", "mkdir"):
        os.symlink(shutil.which(name) or "", f"bin/{name}")
    run = retrain(PATH=str(Path("bin").resolve()))
    assert run.returncode == 5
    assert "flock is not installed" in run.stderr


def test_without_the_shops_files_it_refuses_and_says_what_to_set() -> None:
    for prepare in ("", "  "):
        run = retrain(PREPARE=prepare)
        assert run.returncode == 2
        assert 'PREPARE: not set, so the data is unknown; set PREPARE="dataset=files ' in run.stderr
        assert "or give experiment=<name>" in run.stderr
    assert not Path("calls").exists()
    assert not Path("pub lished").exists()
    assert retrain("experiment=shop", PREPARE="").returncode == 0


def test_help_prints_the_comment_at_the_top() -> None:
    run = retrain(folder="--help")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("Train again on the newest data")
    assert "KEEP=7" in run.stdout
    assert "set -eu" not in run.stdout


def test_the_command_becomes_the_script_and_uses_the_llmrec_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []
    handlers: dict[int, signal.Handlers] = {}
    monkeypatch.setattr(os, "execv", lambda *call: calls.append(call))
    # Recorded and not set: handlers of this process are those of all tests after this one.
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setenv("LLMREC", "")
    os.mkdir("bin")
    shutil.copy("llmrec stub", "bin/llmrec")
    monkeypatch.setattr(sys, "argv", ["bin/llmrec-retrain", "pub lished", "experiment=x y"])
    retrain_command.main()
    assert handlers == {signal.SIGPIPE: signal.SIG_DFL, signal.SIGXFSZ: signal.SIG_DFL}
    assert calls == [("/bin/sh", ["sh", str(SCRIPT), "pub lished", "experiment=x y"])]
    assert os.environ["LLMREC"] == str(Path("bin/llmrec").absolute())
    monkeypatch.setenv("LLMREC", "mine")
    retrain_command.main()
    assert os.environ["LLMREC"] == "mine"


def test_without_a_command_beside_it_the_script_searches() -> None:
    assert retrain_command.command_beside(Path("nowhere/llmrec-retrain")) is None


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
@pytest.mark.parametrize("bare", [{}, {"PATH": "/usr/bin:/bin"}], ids=["env -i", "env -i PATH=/usr/bin:/bin"])
def test_it_runs_in_any_posix_shell_from_a_bare_environment(shell: list[str], bare: dict[str, str]) -> None:
    variables = {name: environment()[name] for name in ("LLMREC", "PREPARE")}
    run = ran([*shell, str(SCRIPT), "pub lished"], bare | variables)
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    assert list(published()) == FILES


@pytest.mark.parametrize("umask", [0o077, 0o022], ids=oct)
def test_96_published_files_follow_the_umask(umask: int) -> None:
    subprocess.run([*SHELL, str(SCRIPT), "pub lished"], env=environment(), umask=umask, check=True)
    for path in Path("pub lished").rglob("*"):
        assert path.is_symlink() or oct(path.stat().st_mode & 0o777 & umask) == "0o0", path


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_script_that_is_killed_takes_its_command_with_it(paused: subprocess.Popen[bytes]) -> None:
    command = int(Path("paused").read_text())
    assert is_running(command)
    paused.kill()
    for _ in range(1000):
        if not is_running(command):
            return
        time.sleep(0.05)
    raise AssertionError("the command outlived its script")


def is_running(process: int) -> bool:
    """Return False for a process that has ended, including zombies."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_closed_terminal_ends_the_command_too(paused: subprocess.Popen[bytes]) -> None:
    paused.send_signal(signal.SIGHUP)
    assert paused.wait(50) == 129
    assert not is_running(int(Path("paused").read_text()))


@pytest.mark.slow
def test_it_waits_for_an_orphan_that_writes_the_same_data_and_not_for_ever() -> None:
    write("locked", "2")
    run = retrain(WAIT="60")
    assert run.returncode == 0, run.stderr
    assert [line.split()[0] for line in Path("calls").read_text().splitlines()][:4] == ["prepare"] * 3 + ["finetune"]
    assert run.stderr.count("prepare: trying again in") == 2
    write("locked", "99")
    run = retrain(WAIT="2")
    assert run.returncode == 75
    assert run.stderr.endswith("prepare failed with exit code 75; nothing was published\n")


@pytest.fixture
def checkout() -> Path:
    """Return a copy of the files of this checkout that a scheduled run uses, with an installed llmrec."""
    folder = Path("check out")
    (folder / ".venv/bin").mkdir(parents=True)
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copyfile(ROOT / name, folder / name)
    write("check out/.venv/.installed", "")
    python = f"PYTHONPATH='{ROOT}' exec '{sys.executable}'"
    write("check out/.venv/bin/llmrec", f'#!/bin/sh\n{python} -m llmrec_cli "$@"\n')
    os.chmod("check out/.venv/bin/llmrec", 0o755)
    # In `make` and on the PATH, `sh` is the strictest shell, whatever /bin/sh is.
    write("check out/sh", f"#!{SHELL[0]}\nexec {' '.join(SHELL)} \"$@\"\n")
    os.chmod("check out/sh", 0o755)
    return folder


def test_the_shell_of_these_tests_refuses_what_only_bash_knows(checkout: Path) -> None:
    run = ran([str(checkout / "sh"), "-c", "list=(a b)"], {"PATH": "/usr/bin:/bin"})
    if run.returncode == 0:
        pytest.skip(f"{SHELL[0]} accepts bash's arrays; install dash or busybox to test scripts/retrain.sh in a strict "
                    f"shell")
    assert "yntax" in run.stderr


def make_retrain(folder: Path, *variables: str, umask: int = 0o022) -> tuple[int, str]:
    """Run `make retrain` in a bare environment and return its exit code and output (with stderr)."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    with open("stderr", "w", encoding="utf-8") as stderr:
        done = subprocess.run([make, "-s", "retrain", "SHELL=./sh", *variables], cwd=folder, check=False, umask=umask,
                              env={"PATH": f"{folder.resolve()}:/usr/bin:/bin"}, stderr=stderr, stdout=stderr,
                              stdin=subprocess.DEVNULL)
    return done.returncode, Path("stderr").read_text("utf-8")


def test_make_retrain_without_the_shops_files_ends_with_2_and_runs_nothing(checkout: Path) -> None:
    code, printed = make_retrain(checkout)
    assert code == 2
    assert "PREPARE: not set, so the data is unknown" in printed
    assert not (checkout / "runs").exists()


@pytest.mark.slow
def test_make_retrain_publishes_a_shops_own_files_once_an_orphan_has_ended(checkout: Path) -> None:
    write_tiny(checkout / "in put")
    orphan = subprocess.Popen([sys.executable, "-c", ORPHAN, str(checkout / "data/prepared/.tiny.lock")],
                              env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              umask=0o077)
    assert orphan.stdout is not None
    assert orphan.stdout.readline() == b"held\n"
    release = threading.Thread(target=lambda: (wait_for(Path("stderr"), "trying again"), orphan.communicate(b"")))
    release.start()
    code, printed = make_retrain(
        checkout, "REFIT=none", "FINETUNE=head=popularity", "EVALUATE=num_bootstrap=100 baselines=[]", "RECOMMEND=k=5",
        "PUBLISH=pub lished",
        "PREPARE=dataset=files dataset.name=tiny dataset.interactions='in put/interactions.csv' "
        "dataset.items='in put/items.csv' dataset.item_text='{title} ({year}). {genres}'", umask=0o077)
    release.join()
    assert code == 0, printed
    assert f"or end process {orphan.pid} on " in printed
    current = checkout / "pub lished/current"
    assert pq.read_table(current / "recommendations.parquet").num_rows == 5 * NUM_USERS
    about = json.loads((current / "recommendations.parquet.manifest.json").read_text())
    assert about["model_sha256"] == sha256(current / "model/manifest.json")
    assert about["files"] == {"recommendations.parquet": sha256(current / "recommendations.parquet")}
    assert "ndcg@10" in json.loads((current / "metrics.json").read_text())["metrics"]
    assert "\x1b" not in printed
    for folder in ("pub lished", "runs", "data"):
        for path in (checkout / folder).rglob("*"):
            assert path.is_symlink() or oct(path.stat().st_mode & 0o077) == "0o0", path
