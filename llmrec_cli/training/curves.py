"""The curves of a training for TensorBoard, written as they come and not by a thread that would fail on its own."""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from llmrec_cli.run_dir import writing


class Curves:
    """Writes events for TensorBoard to a file in `folder`; nothing where that is None."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.stream: Any = None
        self.writer: Any = None

    def __enter__(self) -> "Curves":
        if self.folder is not None:
            from tensorboard.summary.writer.record_writer import RecordWriter

            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                # Unbuffered: what has been added is there after a kill.
                name = f"events.out.tfevents.{time.time():.0f}.{os.getpid()}"
                self.stream = open(self.folder / name, "ab", buffering=0)
            self.writer = RecordWriter(self.stream)
            self._write(file_version="brain.Event:2")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self.folder is not None:
            self.stream.close()

    def add(self, event: str, values: dict[str, float], step: int) -> None:
        """Add the values of an event at a step."""
        if self.folder is not None:
            from tensorboard.compat.proto.summary_pb2 import Summary

            named = [Summary.Value(tag=f"{event}/{name}", simple_value=value) for name, value in values.items()]
            self._write(step=step, summary=Summary(value=named))

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        assert self.folder is not None
        with writing(self.folder):
            self.writer.write(Event(wall_time=time.time(), **content).SerializeToString())
