"""Atomic replacement of folders, also if killed at any step, with and without the kernel's exchange of names."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmrec_cli import folders
from llmrec_cli.atomic_files import clear_leftovers, whole_folder
from llmrec_cli.folders import exchange, list_temporaries, make_temporary, replace_folder, restore

ROOT = Path(__file__).parents[1]
# Replaces the folder `f` repeatedly and is killed just before its n-th system call on a name or a file, for every n.
# Prints what a reader then finds, and the state after the next run has started.
KILLED = """
import json, os, signal, sys
from pathlib import Path
from llmrec_cli import folders
from llmrec_cli.atomic_files import clear_leftovers, whole_folder

CALLS = ("open", "os.rename", "os.rmdir", "os.remove", "os.mkdir", "os.scandir", "ctypes.dlsym")
if sys.argv[1] == "two renames":
    folders.exchange = lambda first, second: False
path, rows = Path("f"), []

def write(content):
    with whole_folder(path) as temporary:
        (temporary / "inside").mkdir()
        for name in ("a", "b", "inside/c"):
            (temporary / name).write_text(content)

def state():
    return "".join(sorted({f.read_text() for f in path.rglob("*") if f.is_file()})) if path.exists() else "missing"

def killed_before(call):
    left = [call]
    def hook(event, arguments):
        if event in CALLS:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

for call in range(1, 1000):
    write("old")
    if not (child := os.fork()):
        killed_before(call)
        write("new")
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    seen = state()
    clear_leftovers(path)
    rows.append([seen, state(), len(list(path.rglob("*"))), os.listdir()])
    if not ended:
        break
print(json.dumps(rows))
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def without_exchange(first: Path, second: Path) -> bool:
    """Simulate a file system that cannot exchange two names."""
    return False


def folder(path: str | Path, content: str) -> Path:
    """Create a folder with a file in it."""
    Path(path).mkdir(exist_ok=True)
    (Path(path) / "file").write_text(content)
    return Path(path)


def content(path: str | Path) -> str:
    return (Path(path) / "file").read_text()


def killed_at_every_step(how: str) -> list[tuple[str, str, int, list[str]]]:
    done = subprocess.run([sys.executable, "-c", KILLED, how], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    return [tuple(row) for row in json.loads(done.stdout)]  # type: ignore[misc]


def test_a_kill_leaves_the_old_or_the_new_folder_and_the_next_run_removes_leftovers() -> None:
    if not exchange(folder("one", ""), folder("two", "")):
        pytest.skip("this file system cannot exchange two names")
    for path in ("one", "two"):
        os.unlink(f"{path}/file")
        os.rmdir(path)
    rows = killed_at_every_step("exchange")
    assert len(rows) > 20
    assert {seen for seen, *_ in rows} == {"old", "new"}
    assert all(row == (row[0], row[0], 4, ["f"]) for row in rows)


def test_where_it_takes_two_renames_a_kill_between_them_is_put_right_by_the_next_run() -> None:
    rows = killed_at_every_step("two renames")
    assert len(rows) > 20
    assert {seen for seen, *_ in rows} == {"old", "missing", "new"}
    assert sum(seen == "missing" for seen, *_ in rows) == 1
    assert all(row[1:] == ("old" if row[0] == "missing" else row[0], 4, ["f"]) for row in rows)


@pytest.mark.parametrize("how", ["exchange", "two renames"])
def test_the_replaced_folder_has_the_temporary_name_afterwards(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "two renames":
        monkeypatch.setattr(folders, "exchange", without_exchange)
    new = folder(make_temporary(folder("f", "old"), "new"), "new")
    replace_folder(Path("f"), new)
    assert (content("f"), content(new)) == ("new", "old")
    assert sorted(os.listdir()) == sorted(["f", new.name])


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM])
def test_an_unsupported_exchange_is_distinguished_from_a_failed_one(
        code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    class Library:
        def renameat2(self, *_: object) -> int:
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Library())
    monkeypatch.setattr(folders.sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "get_errno", lambda: code)
    assert not exchange(Path("a"), Path("b"))
    monkeypatch.setattr(ctypes, "get_errno", lambda: errno.EIO)
    with pytest.raises(OSError, match="Input/output error: 'b'"):
        exchange(Path("a"), Path("b"))


def test_a_c_library_without_the_call_takes_two_renames(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert not exchange(Path("a"), Path("b"))


def test_a_reader_that_puts_the_old_folder_back_between_the_two_renames_does_not_stop_the_new(
        monkeypatch: pytest.MonkeyPatch) -> None:
    rename, renamed = os.rename, []

    def interrupted(source: Path, target: Path) -> None:
        rename(source, target)
        renamed.append(target)
        if len(renamed) == 1:
            restore(Path("f"))
            assert content("f") == "old"

    monkeypatch.setattr(folders, "exchange", without_exchange)
    monkeypatch.setattr(folders.os, "rename", interrupted)
    folder("f", "old")
    with whole_folder(Path("f")) as temporary:
        folder(temporary, "new")
    assert content("f") == "new"
    assert os.listdir() == ["f"]


@pytest.mark.parametrize("problem", [SystemExit(143), OSError(errno.EIO, "Input/output error")])
def test_a_signal_or_an_error_between_the_two_renames_leaves_the_old_folder(
        problem: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if Path(source).suffix == ".new":
            raise problem
        rename(source, target)

    folder("f", "old")
    new = folder(make_temporary(Path("f"), "new"), "new")
    monkeypatch.setattr(folders, "exchange", without_exchange)
    monkeypatch.setattr(folders.os, "rename", failing)
    with pytest.raises(type(problem)):
        replace_folder(Path("f"), new)
    assert (content("f"), list_temporaries(Path("f"), "old")) == ("old", [])


def test_only_own_leftovers_beside_the_folder_are_removed() -> None:
    folder("f", "mine")
    others = ["f.x", ".f.old", ".f.abcdefgh", ".f.abcdefg.new", ".f.ABCDEFGH.new", ".f.abcdefgh.new.x",
              ".g.abcdefgh.new", ".f.x.abcdefgh.new", ".f.abcdefgh.scratch.abcdefgh.new"]
    for name in others:
        folder(name, "theirs")
    Path(".f.linklink.new").symlink_to("f.x")
    Path(".f.filefile.new").write_text("theirs")
    for what in ("new", "old", "scratch"):
        folder(f".f.abcdefgh.{what}", "ours")
        Path(f".f.abcdefgh.{what}/link").symlink_to(Path("f.x").resolve())
    clear_leftovers(Path("f"))
    assert sorted(os.listdir()) == sorted(["f", *others, ".f.linklink.new", ".f.filefile.new"])
    assert content("f.x") == "theirs"


def test_a_folder_name_with_glob_characters_is_taken_literally() -> None:
    for path in (Path("a[1]*"), Path("a1x")):
        temporary = make_temporary(folder(path, ""), "scratch")
        assert list_temporaries(path, "scratch") == [temporary]


def test_a_reader_without_write_permission_leaves_leftovers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    folder(".f.abcdefgh.old", "old")
    monkeypatch.setattr(folders.os, "rename", refused)
    restore(Path("f"))
    assert os.listdir() == [".f.abcdefgh.old"]
    restore(Path("nowhere/f"))
