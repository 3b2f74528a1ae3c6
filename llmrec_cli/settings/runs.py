"""Settings of `runs`: the list of runs, and the removal of old ones."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.command import StageSettings

_SUFFIXES = (".json", ".csv")


@dataclass
class RunsConfig(StageSettings):
    """Runs so far, newest first; or, with prune=true, the removal of the oldest."""

    has_run_dir: ClassVar[bool] = False
    of: ClassVar[tuple[str, ...]] = ("prepare", "pretrain", "finetune", "evaluate", "recommend")
    """Commands whose runs are listed."""

    command: str = ""
    """Only runs of this command, for example finetune; empty for all."""
    data: str = ""
    """Only runs on the data of this name, for example shop; empty for all."""
    best: bool = False
    """true: sort by the result, best first, within the same data and metric. Also written --best."""
    output: str = ""
    """File (.json, .csv) for the list, with full numbers; empty prints a table."""
    prune: bool = False
    """true: remove the oldest runs. Also written `llmrec runs prune`."""
    keep: int = 20
    """prune: number of newest runs of each command to keep, at least 0. Also kept: runs that the kept ones name (the
    model of an evaluation, an encoder), latest, running ones, what a published folder names, and folders named by
    run_dir=."""
    dry_run: bool = True
    """prune: true only prints what would be removed; false removes it."""
    published: list[str] = field(default_factory=list)
    """prune: published folders outside of the current folder, whose runs are kept too. Published folders in the current
    folder, and one level below, are found without this setting."""

    def problems(self) -> Iterator[str]:
        if self.run_dir:
            yield f"run_dir={self.run_dir}: has no effect, since listing runs is no run; leave it out"
        if self.command and self.command not in self.of:
            yield f"command={self.command}: choose one of {', '.join(self.of)}{nearest(self.command, self.of)}"
        if self.output and not self.output.endswith(_SUFFIXES):
            yield f"output={self.output}: the name must end in .json or .csv"
        yield from self.check("keep", least=0)
        if self.prune:
            yield from self.without_effect("best", why="with prune=true; leave it out")
        else:
            yield from self.without_effect("keep", "dry_run", "published", why="without prune=true; leave it out, or "
                                                                               "write llmrec runs prune")
