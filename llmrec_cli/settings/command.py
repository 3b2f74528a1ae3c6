"""Settings that several commands have."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmrec_cli.settings.base import Settings

LONGEST_LIST = 100_000
"""Longest list that is made or measured: each takes memory for every query."""
LATEST, FIT = "latest", "fit"
"""Histories of known users: all interactions there are, or those that the model was fitted on."""


@dataclass
class StageSettings(Settings):
    """Settings of every command."""

    run_dir: str = ""
    """Where the run is written; empty for runs/<command>/<time>."""
    debug: bool = False
    """Show a traceback with every error."""

    @property
    def only_prints(self) -> bool:
        """True if the run has no result but what it prints, so that its run directory can be done without."""
        return False


@dataclass
class DeviceSettings(StageSettings):
    """Settings of every command that computes."""

    device: str = "auto"
    """auto | cpu | cuda | cuda:N; auto takes a GPU where there is one."""

    def problems(self) -> Iterator[str]:
        if not re.fullmatch("auto|cpu|cuda(:[0-9]{1,3})?", self.device):
            yield f"device={self.device}: choose one of auto, cpu, cuda, cuda:N"


@dataclass
class CacheSettings(DeviceSettings):
    """Settings of every command that encodes texts for a recommender."""

    cache: str = "data/cache"
    """Folder where vectors of texts are kept across runs, so that only new texts are encoded; empty for none."""

    @property
    def cache_folder(self) -> Path | None:
        """The folder, if there is to be one."""
        return Path(self.cache) if self.cache else None
