"""Run directories: atomic files, locks, names, the link to the newest run."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmrec_cli import atomic_files
from llmrec_cli import run_dir as module
from llmrec_cli.atomic_files import (
    clear_leftovers,
    lock,
    point,
    read_json,
    require_link,
    require_room,
    scratch_folder,
    whole_file,
    whole_folder,
    write_bytes,
    write_json,
)
from llmrec_cli.errors import ArtifactError, ConfigError, LockedError, ResourceError
from llmrec_cli.run_dir import Job, RunDir, latest
from tests.some_slow import some_slow

HOLD = """
import sys
from pathlib import Path
from llmrec_cli.atomic_files import lock
with lock(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def hold(path):
    """Start a process that holds the lock on `path` until its stdin is closed."""
    held = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert held.stdout.readline() == b"held\n"
    return held


def test_two_runs_in_one_second_get_folders_of_their_own(monkeypatch):
    monkeypatch.setattr(module.time, "strftime", lambda _: "2030-01-01_00-00-00")
    assert [RunDir.create("finetune").path.name for _ in range(3)] == [
        "2030-01-01_00-00-00", "2030-01-01_00-00-00.1", "2030-01-01_00-00-00.2"]
    assert RunDir.create("finetune", job=Job(4, "4")).path.name == "2030-01-01_00-00-00_4"
    assert RunDir.create("finetune", job=Job(1, "seed7"), label="ease-shop").path.name == (
        "2030-01-01_00-00-00_ease-shop_seed7")


def test_a_chosen_folder_may_exist_but_not_hold_a_run():
    Path("mine").mkdir()
    run = RunDir.create("finetune", "mine")
    assert run.path == Path("mine")
    assert RunDir.create("finetune", "mine", job=Job(3, "3")).path == Path("mine/3")
    write_bytes(run.file("config.yaml"), b"")
    write_json(run.file("inputs.json"), {})
    with pytest.raises(ConfigError, match=r"run_dir=mine: already contains a run.*resume=mine"):
        RunDir.create("finetune", "mine")
    write_json(run.file("manifest.json"), {})
    with pytest.raises(ConfigError, match=r"run_dir=mine: already contains a run.*choose another folder$"):
        RunDir.create("finetune", "mine")


def test_a_run_folder_without_progress_is_reused_by_the_same_command_only():
    for done in ([], ["config.yaml"], ["environment.json"]):
        for name in done:
            write_bytes(Path("mine") / name, b"{}")
        RunDir.create("finetune", "mine").refuse_other("finetune")
    RunDir(Path("mine")).log("started", command="evaluate")
    RunDir.create("evaluate", "mine")
    with pytest.raises(ConfigError, match="already contains a run"):
        RunDir.create("finetune", "mine")


def test_leftovers_of_a_killed_run_and_a_truncated_log_line_are_removed():
    run = RunDir.create("finetune", "mine")
    run.log("started", command="finetune")
    with run.file("log.jsonl").open("a") as stream:
        stream.write('{"event": "st')
    for leftover in (".model.abcdefgh.new", ".model.abcdefgi.scratch", "adapter/.tower.abcdefgh.new", ".kept",
                     ".a.b.new"):
        write_bytes(run.path / leftover / "file", b"half")
    write_bytes(run.path / ".encoder.abcdefgh.old/file", b"whole")
    run.clear()
    assert sorted(path.name for path in run.path.iterdir()) == [".a.b.new", ".kept", "adapter", "encoder", "log.jsonl"]
    assert list((run.path / "adapter").iterdir()) == []
    assert (run.path / "encoder/file").read_bytes() == b"whole"
    assert run.command == "finetune"
    run.log("finished", command="finetune")
    assert [json.loads(line)["event"] for line in run.file("log.jsonl").read_text().splitlines()] == [
        "started", "finished"]


def test_a_chosen_folder_whose_run_is_under_way_is_locked():
    write_bytes(Path("mine/config.yaml"), b"")
    with lock(Path("mine/.lock"), "the run in mine"), pytest.raises(LockedError) as error:
        RunDir.create("finetune", "mine")
    assert error.value.exit_code == 75


def test_finishing_points_latest_at_the_newest_run_wherever_it_is():
    for folder in ("", "elsewhere/run"):
        run = RunDir.create("finetune", folder)
        run.finish("finetune", {"model": "model"})
        assert (module.RUNS / "finetune" / "latest").resolve() == run.path.resolve()
        assert read_json(run.file("manifest.json")) == {"format": 1, "command": "finetune", "model": "model"}


def test_latest_inside_runs_is_relative_so_that_the_project_may_be_moved():
    run = RunDir.create("finetune")
    run.finish("finetune", {})
    assert os.readlink("runs/finetune/latest") == run.path.name


def test_a_missing_latest_names_the_remedy():
    with pytest.raises(ConfigError, match=r"model=runs/finetune/latest: no such folder; run `llmrec finetune` first or "
                                          r"set model=<run directory>"):
        latest("finetune", "", "model")


def test_the_log_is_one_json_object_a_line():
    run = RunDir.create("finetune")
    run.log("step", loss=0.5, title="太空\n")
    run.log("finished")
    lines = [json.loads(line) for line in run.file("log.jsonl").read_text("utf-8").splitlines()]
    assert [(line["event"], line.get("title")) for line in lines] == [("step", "太空\n"), ("finished", None)]


# --- atomic writes

def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else():
    write_bytes(Path("a"), b"old")

    def fail():
        with whole_file(Path("a")) as temporary:
            temporary.write_bytes(b"new, but hal")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert Path("a").read_bytes() == b"old"
    assert os.listdir() == ["a"]


def test_a_reader_of_the_old_file_reads_it_to_the_end_although_it_is_replaced():
    write_bytes(Path("a"), b"old content")
    with Path("a").open("rb", buffering=0) as stream:
        beginning = stream.read(4)
        write_bytes(Path("a"), b"new, longer content")
        assert beginning + stream.read() == b"old content"


def test_a_folder_that_fails_half_way_leaves_the_old_one_and_nothing_else():
    with whole_folder(Path("f")) as temporary:
        (temporary / "inside").mkdir()
        (temporary / "inside/a").write_text("old")

    def fail():
        with whole_folder(Path("f")) as temporary:
            (temporary / "b").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [str(p) for p in sorted(Path("f").rglob("*"))] == ["f/inside", "f/inside/a"]
    assert os.listdir() == ["f"]


def test_a_folder_takes_the_place_of_the_old_one_whole():
    for name in ("old", "new"):
        with whole_folder(Path("f")) as temporary:
            (temporary / name).write_text(name)
    assert os.listdir("f") == ["new"]
    assert os.listdir() == ["f"]


def test_a_link_is_repointed_without_leftovers():
    for name in ("one", "two"):
        Path(name).mkdir()
        point(Path("links/latest"), Path(name))
    assert Path("links/latest").resolve() == Path("two").resolve()
    assert os.listdir("links") == ["latest"]


def test_the_next_run_finishes_repointing_a_link_after_a_kill():
    Path("links").mkdir()
    Path("links/.latest.new").symlink_to("gone")
    Path("one").mkdir()
    point(Path("links/latest"), Path("one"))
    assert Path("links/latest").resolve() == Path("one").resolve()
    assert os.listdir("links") == ["latest"]


def test_concurrent_runs_repoint_a_link_and_all_succeed():
    targets = [Path(f"t{n}") for n in range(4)]
    for target in targets:
        target.mkdir()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: point(Path("links/latest"), targets[n % 4]), range(200)))
    assert Path("links/latest").resolve() in [target.resolve() for target in targets]
    assert os.listdir("links") == ["latest"]


def test_scratch_folders_are_beside_the_output_and_always_removed():
    seen = []

    def fail():
        with scratch_folder(Path("there/f")) as scratch:
            (scratch / "big").write_text("")
            seen.extend([scratch.parent, scratch.name.startswith(".f."), scratch.suffix])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert seen == [Path("there"), True, ".scratch"]
    assert os.listdir("there") == []


def test_a_folder_that_a_kill_left_between_two_renames_is_put_back_before_it_is_replaced_or_cleared():
    for begin in (lambda: clear_leftovers(Path("f")), lambda: whole_folder(Path("f")).__enter__()):
        Path(".f.abcdefgh.old").mkdir()
        Path(".f.abcdefgh.old/a").write_text("old")
        begin()
        assert Path("f/a").read_text() == "old"
        shutil.rmtree("f")
        clear_leftovers(Path("f"))
        assert os.listdir() == []


def test_what_cannot_be_written_is_a_resource_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    for write in (lambda: write_bytes(Path("file/a"), b""), lambda: RunDir.create("x", "file/run"),
                  lambda: point(Path("file/latest"), tmp_path)):
        with pytest.raises(ResourceError, match=r"file.*cannot be written \(.*\); free space or choose another place"):
            write()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("place", [whole_folder, scratch_folder])
def test_a_full_disk_is_a_resource_error_whatever_code_meets_it_and_nothing_changes(place, code):
    write_bytes(Path("there/f/a"), b"old")

    def fill():
        with place(Path("there/f")) as folder:
            (folder / "b").write_text("half")
            raise OSError(code, "Error writing bytes to file")

    with pytest.raises(ResourceError, match=rf"there: cannot be written \({os.strerror(code)}\); free space or choose "
                                            rf"another place than there/f"):
        fill()
    assert [os.listdir("there"), os.listdir("there/f")] == [["f"], ["a"]]


def test_errors_other_than_disk_space_pass_unchanged():
    def fail():
        with whole_folder(Path("f")):
            Path("nowhere").read_text()

    with pytest.raises(FileNotFoundError):
        fail()


def test_a_disk_that_fails_at_the_last_moment_leaves_the_old_folder(monkeypatch):
    write_bytes(Path("f/a"), b"old")
    synced = []

    def failing(path):
        synced.append(path)
        if len(synced) == 2:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(atomic_files, "sync", failing)
    with pytest.raises(ResourceError, match=r"cannot be written \(Input/output error\)"), \
            whole_folder(Path("f")) as folder:
        (folder / "b").write_text("new")
    assert [os.listdir(), os.listdir("f")] == [["f"], ["a"]]


def test_json_is_written_for_people_and_never_with_nan():
    write_json(Path("a.json"), {"title": "太空"})
    assert Path("a.json").read_text("utf-8") == '{\n  "title": "太空"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(Path("a.json"), float("nan"))


def test_invalid_json_is_refused_with_its_file():
    Path("a.json").write_bytes(b"\xff{")
    with pytest.raises(ArtifactError, match=r"a.json: not readable"):
        read_json(Path("a.json"))


@pytest.fixture
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o022, 0o002], indirect=True, ids=oct)
def test_96_files_and_folders_have_the_permissions_that_the_umask_leaves(umask):
    write_json(Path("a.json"), {})
    write_json(Path("a.json"), {"written": "again"})
    with whole_folder(Path("f")) as temporary:
        write_bytes(temporary / "b", b"")
        os.close(os.open(temporary / "c", os.O_CREAT | os.O_WRONLY, 0o600))  # As safetensors does.
    for path, usual in (("a.json", 0o666), ("f", 0o777), ("f/b", 0o666), ("f/c", 0o666)):
        assert oct(os.stat(path).st_mode & 0o777) == oct(usual & ~umask), path


ABANDON = """
import os, signal, sys
from pathlib import Path
from llmrec_cli.atomic_files import scratch_folder, whole_file, whole_folder
with whole_file(Path("a")), whole_folder(Path("f")) as temporary, scratch_folder(Path("s")):
    (temporary / "inside").mkdir()
    print("open", flush=True)
    sys.stdin.read()
"""


def test_96_the_next_writer_removes_leftovers_of_a_killed_run_but_nothing_in_use():
    other = subprocess.Popen([sys.executable, "-c", ABANDON], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"open\n"
    in_use = sorted(os.listdir())
    assert [name.rpartition(".")[2] for name in in_use] == ["part", "new", "scratch"]

    def write_all():
        with whole_file(Path("a")), whole_folder(Path("f")), scratch_folder(Path("s")):
            pass

    write_all()
    assert sorted(os.listdir()) == sorted([*in_use, "a", "f"])
    other.kill()
    other.communicate()
    write_all()
    assert sorted(os.listdir()) == ["a", "f"]


def test_without_file_locks_writing_works_and_no_leftovers_are_removed(monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(atomic_files.fcntl, "flock", unsupported)
    Path(".a.01234567.part").write_text("maybe in use")
    write_bytes(Path("a"), b"new")
    assert sorted(os.listdir()) == [".a.01234567.part", "a"]


@pytest.mark.parametrize(("free", "needed", "message"), [
    (0, 100, "0 bytes are free, and it takes 100 bytes"),
    (100, 200_000, "100 bytes are free, and it takes 195.3 KiB"),
    (3 * 2**20, 3 * 2**20 + 1, "3,145,728 bytes are free, and it takes 3,145,729 bytes"),
    (2**30, 2**40, "1.0 GiB are free, and it takes 1,024.0 GiB")])
def test_disk_space_is_printed_in_units_that_show_the_difference(monkeypatch, free, needed, message):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(atomic_files.shutil, "disk_usage", lambda _: usage._replace(free=free))
    with pytest.raises(ResourceError, match=message):
        require_room(Path("not/yet/there"), needed, "it")


# --- locks

def test_the_error_of_a_held_lock_names_process_time_and_purpose():
    held = hold(Path(".lock"))
    try:
        with pytest.raises(LockedError) as error, lock(Path(".lock"), "it"):
            pass
        assert re.search(rf"writing it; wait for it to end, or end process {held.pid} on \S+ since "
                         r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d: llmrec \.lock$", str(error.value))
    finally:
        held.communicate(b"")
    assert Path(".lock").read_bytes() == b""
    # A line left by a killed process is ignored.
    Path(".lock").write_text("process 1 on another machine\n" * 100)
    with lock(Path(".lock"), "it"):
        assert f"process {os.getpid()} on" in Path(".lock").read_text()


def test_a_lock_that_another_process_holds_is_refused_at_once_and_free_when_its_owner_is_killed():
    held = hold(Path("there/.lock"))
    try:
        with pytest.raises(LockedError, match=r"another run is writing the data; wait for it to end") as error, \
                lock(Path("there/.lock"), "the data"):
            pass
        assert error.value.exit_code == 75
        held.kill()
        held.wait()
        with lock(Path("there/.lock"), "the data"):
            pass
    finally:
        held.kill()
        held.communicate()


def test_a_file_system_without_locks_is_refused(monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(atomic_files.fcntl, "flock", unsupported)
    with pytest.raises(ResourceError, match=r"this file system does not support locks \(Operation not supported\); "
                                            r"choose another place for the data"), lock(Path(".lock"), "the data"):
        pass


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_latest_that_a_copy_turned_into_a_file_or_folder_is_not_overwritten(kind):
    link = Path("runs/finetune/latest")
    link.parent.mkdir(parents=True)
    content = link / "model.txt" if kind == "folder" else link
    content.parent.mkdir(exist_ok=True)
    content.write_text("somebody's")
    for use in (require_link, lambda place: point(place, RunDir.create("finetune").path)):
        with pytest.raises(ResourceError, match=f"runs/finetune/latest: is a {kind} instead of a link.*mv runs/finet"):
            use(link)
    assert content.read_text() == "somebody's"
    link.rename("runs/finetune/copied")
    point(link, RunDir.create("finetune").path)
    assert link.is_symlink()


@pytest.mark.parametrize("is_used", [True, False])
def test_leftovers_of_a_killed_link_are_removed_also_when_the_next_run_is_refused(is_used, llmrec):
    leftover = Path("runs/recommend/.latest.new")
    leftover.parent.mkdir(parents=True)
    leftover.symlink_to("gone")
    if is_used:
        Path("run").mkdir()
        Path("run/config.yaml").write_text("command: recommend")
        Path("run/manifest.json").write_text('{"format": 1, "command": "recommend"}')
    done = llmrec("recommend", "model=nowhere", "query.history=[i1]", "run_dir=run")
    assert ("already contains a run" in done.err) == is_used
    assert done.code == 2
    assert not leftover.is_symlink()


def test_a_link_to_what_is_gone_is_replaced():
    link = Path("runs/finetune/latest")
    link.parent.mkdir(parents=True)
    link.symlink_to("gone")
    require_link(link)
    point(link, RunDir.create("finetune").path)
    assert link.is_dir()


@pytest.mark.parametrize("name", some_slow(["runs/prepare/latest", "data/prepared/latest"]))
def test_a_latest_that_is_a_folder_ends_a_command_before_its_work(llmrec, prepare_tiny, name):
    Path(name).mkdir(parents=True)
    (Path(name) / "kept").write_text("")
    done = llmrec("prepare", *prepare_tiny)
    assert done.code == 5
    assert f"{name}: is a folder instead of a link to the newest run or data" in done.err
    assert not Path("data/prepared/tiny").exists()
    assert (Path(name) / "kept").is_file()
    Path(name).rename("moved")
    assert llmrec("prepare", *prepare_tiny).code == 0
