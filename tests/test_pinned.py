"""Consistent reads from folders that other processes replace."""

import hashlib
import os
import shutil
import socket
from pathlib import Path

import pytest

from llmrec_cli import pinned
from llmrec_cli.errors import ArtifactError, ConfigError, ResourceError
from llmrec_cli.pinned import MissingError, PinnedFolder, is_inside, retried


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path):
    for name, content in (("a", b"one"), ("b", b"two"), ("in/c", b"three")):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    return tmp_path / "folder"


def test_pinned_files_are_read_though_the_folder_is_gone_or_another_has_its_name(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to("folder")
    files = PinnedFolder(link, "again")
    files.pin({"a": sha(b"one"), "in/c": sha(b"three")})
    shutil.move(folder, tmp_path / "old")
    shutil.rmtree(tmp_path / "old")
    folder.mkdir()
    (folder / "a").write_bytes(b"new")
    assert files.read("a") == b"one"
    assert files.sha256("in/c") == sha(b"three")
    assert files.place == folder
    assert "in/c" in files
    assert "b" not in files
    assert PinnedFolder(link, "again").read("a") == b"new"


def test_a_second_read_gives_the_same_bytes_or_is_refused(folder):
    files = PinnedFolder(folder, "copy it again")
    assert files.read("b") == b"two"
    os.replace(folder / "a", folder / "b")
    assert files.read("b") == b"two"
    assert files.read("in/c") == b"three"
    (folder / "in/c").write_bytes(b"drei!")
    with pytest.raises(ArtifactError, match="in/c: changed while it was read; copy it again"):
        files.read("in/c")


def test_all_files_are_checked_and_the_wrong_one_is_named(folder):
    files = PinnedFolder(folder, "copy it again")
    files.pin({"a": sha(b"one"), "b": sha(b"2")})
    with pytest.raises(ArtifactError, match=r"folder/b: its SHA-256 is not the one in manifest\.json"):
        files.check_rest()


@pytest.mark.parametrize("name", ["../folder/a", "/etc/passwd", "in/../a", "", ".", "a/", "./a", "in//c", "a\0",
                                  "in\\c", 7, None])
def test_invalid_names_and_names_outside_the_folder_are_refused(folder, name):
    assert not is_inside(name)
    with pytest.raises(ArtifactError, match="is not a file of the folder"):
        PinnedFolder(folder, "again").pin({name: sha(b"one")})


def test_files_in_subfolders_are_read():
    assert is_inside("encoders/0123/1_Pooling/config.json")
    assert is_inside("..x")


def test_links_pipes_sockets_and_devices_are_refused_at_once(folder, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "near").symlink_to("a")
    (folder / "out").symlink_to(tmp_path, target_is_directory=True)
    (folder / "zeros").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(folder / "socket"))
        for name in ("pipe", "link", "near", "out/secret", "zeros", "socket", "in"):
            with pytest.raises(ArtifactError, match=f"{name}: is a link or not a regular file, and is not read"):
                PinnedFolder(folder, "again").read(name)
    # The hub's cache consists of links to files.
    linked = PinnedFolder(folder, "again", links=True)
    assert linked.read("near") == b"one"
    with pytest.raises(ArtifactError, match="zeros: is a link or not a regular file"):
        linked.read("zeros")


def test_a_missing_file_is_reported_as_missing(folder):
    files = PinnedFolder(folder, "again")
    assert "none" not in files
    with pytest.raises(MissingError, match=r"folder/none: missing; again"):
        files.read("none")
    with pytest.raises(MissingError, match=r"nowhere: missing; again"):
        PinnedFolder(folder / "nowhere", "again")


def test_names_are_listed_to_some_depth_and_links_are_not_followed(folder, tmp_path):
    (folder / "loop").symlink_to(tmp_path, target_is_directory=True)
    (folder / "in/deep").mkdir()
    (folder / "in/deep/d").touch()
    assert list(PinnedFolder(folder, "again").names()) == ["a", "b", "in/c", "in/deep/d", "loop"]
    assert list(PinnedFolder(folder, "again").names(levels=1)) == ["a", "b", "in/c", "loop"]


def test_a_folder_closes_its_files_when_nobody_needs_it_any_more(folder):
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(5):
        files = PinnedFolder(folder, "again")
        files.pin({"a": sha(b"one"), "b": sha(b"two")})
    del files
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_too_many_open_files_are_no_damage(folder, monkeypatch):
    files = PinnedFolder(folder, "again")

    def full(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(pinned.os, "open", full)
    with pytest.raises(ResourceError, match="ulimit -n"):
        files.read("a")


@pytest.mark.parametrize("error", [ArtifactError("damaged"), ConfigError("no such folder")])
def test_a_read_is_tried_twice_and_its_second_error_is_raised(monkeypatch, error):
    monkeypatch.setattr(pinned.time, "sleep", lambda _: None)
    tries: list[Exception] = []

    def read(bad: int) -> str:
        tries.append(error)
        if len(tries) <= bad:
            raise error
        return "read"

    assert retried(lambda: read(1)) == "read"
    tries.clear()
    with pytest.raises(type(error)):
        retried(lambda: read(2))
    assert len(tries) == 2
