"""The tuning journal: Optuna's file of trials, repaired after a kill."""

from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from llmrec_cli.atomic_files import writing
from llmrec_cli.errors import ArtifactError


class _RunLock(JournalFileOpenLock):
    """A lock that does nothing, since the writer holds the lock of the run.

    Optuna's own lock would remain after a kill, and the next run would wait for it.
    """

    def acquire(self) -> bool:
        """Return True: the run's lock is held."""
        return True

    def release(self) -> None:
        """Keep the run's lock."""


class _Backend(JournalFileBackend):
    """Optuna's journal backend, with a full disk reported as ResourceError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            super().__init__(str(path), _RunLock(str(path)))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write and flush lines."""
        with writing(self.path):
            super().append_logs(logs)


def open_journal(path: Path) -> JournalStorage:
    """Return the storage in `path`, which is created or continued; a line that a kill left incomplete is removed."""
    if path.exists():
        content = path.read_bytes()
        whole = content[:content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with writing(path), path.open("r+b") as stream:
                stream.truncate(len(whole))
    try:
        return JournalStorage(_Backend(path))
    except (ValueError, KeyError) as error:
        raise ArtifactError(f"{path}: is damaged ({error}); start a new run without resume=") from error
