"""Settings shared by several commands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from llmrec_cli.language.phrases import ENGLISH, LANGUAGES
from llmrec_cli.run_subject import RunSubject
from llmrec_cli.settings.base import Settings

LONGEST_LIST = 100_000
"""Longest recommendation list; every place of it takes memory for every query."""
LATEST, FIT = "latest", "fit"
"""Histories of known users: all interactions in the data, or those that the model was fitted on."""


@dataclass
class StageSettings(Settings):
    """Settings of every command."""

    main_input: ClassVar[str] = ""
    """Setting and example of the command's input, which a word without an equals sign probably is."""
    has_run_dir: ClassVar[bool] = True
    """False for a command that has no run directory."""
    reads_latest: ClassVar[bool] = False
    """True if an empty setting `prepared` is data/prepared/latest, or the data that a settings file names."""
    words: ClassVar[str] = ""
    """Setting whose values may be given without a key, as the files of `llmrec init a.csv b.csv`; empty for none."""
    run_dir: str = ""
    """Folder of the run; empty for runs/<command>/<time>_<head>-<data>."""
    debug: bool = False
    """Show a traceback with every error."""
    settings: dict[str, str] = field(default_factory=dict)
    """settings=<file>.yaml, or settings=[<file>,<file>]: values below the command line and above the defaults, in YAML,
    under the keys of the command line; each command takes its own. Of several files the later wins. Saved with the
    SHA-256 of each file."""

    @property
    def only_prints(self) -> bool:
        """True if the run only prints its result, so that it can run without a run directory."""
        return False

    @property
    def subject(self) -> RunSubject:
        """Head or encoder and data of the run, which name its folder."""
        return RunSubject()


@dataclass
class PageSettings(StageSettings):
    """Settings of every command that writes an HTML page."""

    language: str = ENGLISH
    """en | zh: language of the HTML page, English or Chinese; messages on the terminal are always in English."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("language", among=LANGUAGES)


@dataclass
class DeviceSettings(StageSettings):
    """Settings of every command that runs models."""

    device: str = "auto"
    """auto | cpu | cuda | cuda:N, for example cuda:1; auto uses a GPU if there is one."""

    def problems(self) -> Iterator[str]:
        if not re.fullmatch("auto|cpu|cuda(:[0-9]{1,3})?", self.device):
            yield f"device={self.device}: choose one of auto, cpu, cuda, cuda:N"


@dataclass
class CacheSettings(DeviceSettings):
    """Settings of every command that encodes texts for a recommender."""

    cache: str = "data/cache"
    """Folder of text vectors shared by all runs, so that only new texts are encoded; empty for no cache."""

    @property
    def cache_folder(self) -> Path | None:
        """The cache folder, or None."""
        return Path(self.cache) if self.cache else None
