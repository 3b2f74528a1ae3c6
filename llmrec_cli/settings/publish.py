"""Settings of `publish`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.run_subject import RunSubject
from llmrec_cli.settings.command import LONGEST_LIST, CacheSettings, PageSettings
from llmrec_cli.settings.gate import GateSettings

_INSTEAD = ("rollback", "promote", "history", "pin", "unpin")
"""Settings that ask for something else than a new version."""


@dataclass
class PublishConfig(PageSettings, CacheSettings):
    """A new version of lists and model in a folder that others read, if it passes the gate; or a step back."""

    main_input: ClassVar[str] = "to=published"
    to: str = "published"
    """Folder of the published versions; <to>/current is a link to the one in use."""
    model: str = ""
    """A finetune run or model folder to publish; empty for runs/finetune/latest."""
    evaluated: str = ""
    """The run whose model is compared on held-out interactions, if `model` was fitted on them too (refit=all): the run
    before the refit. Empty: `model` itself."""
    prepared: str = ""
    """Prepared data; empty for that of the model."""
    k: int = 100
    """Length of the lists, at least 1."""
    gate: GateSettings = field(default_factory=GateSettings)
    """Checks of the version; it is published only if none of them refuses."""
    keep: int = 7
    """Number of newest versions to keep, at least 1. Also kept: the current one, the candidate, pinned ones, and those
    that a reader holds (flock -s <version>)."""
    keep_days: float | None = None
    """Days that a superseded version is kept at least; null for no limit."""
    rollback: str = ""
    """true, or the name of a version: make the version before, or this one, current again."""
    promote: bool = False
    """true: make the candidate (gate.review=true) current."""
    history: bool = False
    """true: print the versions, their metrics, and what became of them."""
    pin: str = ""
    """Name of a version that is never removed."""
    unpin: str = ""
    """Name of a pinned version that may be removed again."""
    seed: int = 1
    """Seed of the bootstrap, at least 0."""

    @property
    def subject(self) -> RunSubject:
        """The model."""
        return RunSubject(models=[self.model])

    @property
    def asks_for(self) -> str:
        """The setting that asks for something else than a new version; "" for a new version."""
        return next((name for name in _INSTEAD if getattr(self, name)), "")

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if not self.to:
            yield "to=: must name a folder"
        yield from self.check("k", least=1, most=LONGEST_LIST)
        yield from self.check("keep", least=1)
        yield from self.check("keep_days", "seed", least=0)
        asked = [name for name in _INSTEAD if getattr(self, name)]
        if len(asked) > 1:
            yield f"{asked[0]}: cannot be combined with {asked[1]}; run the command twice"
        if asked:
            yield from self.without_effect("model", "evaluated", "prepared", "k", "gate",
                                           why=f"with {asked[0]}; leave it out")
        yield from (f"gate.{problem}" for problem in self.gate.problems())
