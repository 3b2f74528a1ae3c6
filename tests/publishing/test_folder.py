"""A publish folder: one rename, an honest history, and nothing removed that somebody needs."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from llmrec_cli.errors import ArtifactError, ConfigError, LockedError
from llmrec_cli.publishing.folder import PublishFolder


@pytest.fixture
def folder(tmp_path: Path) -> PublishFolder:
    return PublishFolder(tmp_path / "published")


def publish(folder: PublishFolder, lists: str, **facts: str) -> str:
    """Publish a version with these lists."""
    with folder.writing():
        content = folder.path / "versions" / "content"
        content.mkdir()
        (content / "recommendations.csv").write_text(lists)
        name = folder.add(content)
        folder.switch(name, "published", facts)
    return name


def test_the_current_version_is_a_link_and_history_says_what_it_superseded(folder: PublishFolder) -> None:
    first, second = publish(folder, "a"), publish(folder, "b")
    assert folder.current == second
    assert (folder.path / "current/recommendations.csv").read_text() == "b"
    assert [(event.kind, event.version, event.facts["supersedes"]) for event in folder.history()] == [
        ("published", first, None), ("published", second, first)]


def test_the_same_content_is_the_same_version(folder: PublishFolder) -> None:
    assert publish(folder, "a") == publish(folder, "a")
    assert len(folder.versions()) == 1


def test_a_rollback_goes_to_the_version_before_and_is_recorded(folder: PublishFolder) -> None:
    first, second, third = (publish(folder, lists) for lists in "abc")
    with folder.writing():
        folder.switch(folder.previous(), "rolled_back")
    assert folder.current == second
    # From there, to the one before that.
    with folder.writing():
        folder.switch(folder.previous(), "rolled_back")
    assert folder.current == first
    assert [event.kind for event in folder.history()][-2:] == ["rolled_back", "rolled_back"]
    assert folder.versions()[:2] == [first, second]
    assert third in folder.versions()


def test_without_an_earlier_version_a_rollback_is_refused(folder: PublishFolder) -> None:
    publish(folder, "a")
    with pytest.raises(ConfigError, match="has no earlier version to go back to"):
        folder.previous()


def test_old_versions_are_removed_but_not_the_current_pinned_or_read_ones(folder: PublishFolder) -> None:
    names = [publish(folder, lists) for lists in "abcdef"]
    with folder.writing():
        folder.record("pinned", names[0], {})
        folder.switch(names[1], "rolled_back")
        reader = os.open(folder.version(names[2]), os.O_RDONLY)
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert set(folder.prune(keep=1)) == {names[3], names[4], names[5]}
        os.close(reader)
        assert folder.prune(keep=1) == [names[2]]
    assert set(folder.versions()) == {names[0], names[1]}


def test_young_versions_stay_as_long_as_asked_for(folder: PublishFolder) -> None:
    names = [publish(folder, lists) for lists in "abc"]
    with folder.writing():
        assert folder.prune(keep=1, keep_days=1) == []
        assert set(folder.prune(keep=1, keep_days=0)) == set(names[:2])


def test_a_process_killed_after_the_switch_is_recorded_by_the_next(folder: PublishFolder, monkeypatch) -> None:
    first = publish(folder, "a")
    with monkeypatch.context() as patch:
        patch.setattr(PublishFolder, "record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            publish(folder, "b")
    second = folder.current
    assert second != first
    with folder.writing():
        last = folder.history()[-1]
    assert (last.kind, last.version, last.facts) == ("published", second, {"supersedes": first, "recorded_later": True})


def test_a_line_cut_off_by_a_kill_is_dropped_and_an_edited_one_is_refused(folder: PublishFolder) -> None:
    publish(folder, "a")
    publish(folder, "b")
    history = folder.path / "history.jsonl"
    whole = history.read_bytes()
    history.write_bytes(whole + b'{"time": "2026-')
    assert len(folder.history()) == 2
    assert history.read_bytes() == whole
    for edited in (0, 1):
        lines = [json.loads(line) for line in whole.splitlines()]
        lines[edited]["facts"]["metrics"] = {"ndcg@10": 0.9}
        history.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with pytest.raises(ArtifactError, match=rf"line {edited + 1} \(published .*\) or the one before"):
            folder.history()
    history.write_bytes(whole.splitlines(keepends=True)[1])
    with pytest.raises(ArtifactError, match=r"line 1 \(published .*\) or the one before it was edited"):
        folder.history()


def test_a_damaged_version_is_named(folder: PublishFolder) -> None:
    name = publish(folder, "a")
    folder.check(name)
    manifest = folder.version(name) / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text("[]")
    with pytest.raises(ArtifactError, match=r"manifest.json: is missing or damaged"):
        folder.check(name)
    manifest.write_text(whole)
    (folder.version(name) / "recommendations.csv").write_text("b")
    with pytest.raises(ArtifactError, match=r"recommendations.csv: is missing or damaged; go back with"):
        folder.check(name)


def test_a_second_writer_is_told_to_wait(folder: PublishFolder) -> None:
    other = PublishFolder(folder.path)
    with folder.writing(), pytest.raises(LockedError, match="another run is writing versions in"), other.writing():
        pass


@pytest.mark.parametrize(("make", "said"), [
    (lambda path: (path / "current").mkdir(parents=True), "current: is a file or folder, but must be a link"),
    (lambda path: path.write_text("x"), "is a file; name a folder"),
    (lambda path: (path / "photos").mkdir(parents=True), r"holds other files \(photos\)")])
def test_a_folder_in_other_use_is_refused(tmp_path: Path, make, said: str) -> None:
    make(tmp_path / "to")
    with pytest.raises(ConfigError, match=said):
        PublishFolder(tmp_path / "to")
