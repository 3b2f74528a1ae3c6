"""The curves of a training for TensorBoard."""

from pathlib import Path
from typing import Any

from llmrec_cli.run_dir import writing


class Curves:
    """Writes events for TensorBoard to `folder`; nothing where that is None."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.writer: Any = None

    def __enter__(self) -> "Curves":
        if self.folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            with writing(self.folder):
                self.writer = SummaryWriter(self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder is not None:
            with writing(self.folder):
                self.writer.close()

    def add(self, event: str, values: dict[str, float], step: int) -> None:
        """Add the values of an event at a step."""
        if self.folder is not None:
            with writing(self.folder):
                for name, value in values.items():
                    self.writer.add_scalar(f"{event}/{name}", value, step)
