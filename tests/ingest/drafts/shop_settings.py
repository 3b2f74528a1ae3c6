"""A drafted settings file as settings of `prepare`."""

from pathlib import Path

from llmrec_cli.config import compose
from llmrec_cli.settings.stages import PrepareConfig


def settings_of(file: Path) -> PrepareConfig:
    """Return the settings of `prepare` with a settings file."""
    settings = compose("prepare", [f"settings={file}"])
    assert isinstance(settings, PrepareConfig)
    return settings
