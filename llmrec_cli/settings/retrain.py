"""Settings of `retrain`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.run_subject import RunSubject
from llmrec_cli.settings.command import LONGEST_LIST, CacheSettings, PageSettings
from llmrec_cli.settings.gate import GateSettings


@dataclass
class RetrainConfig(PageSettings, CacheSettings):
    """A night: prepare, pretrain if asked for, finetune, refit on all interactions, and publish if the gate lets it."""

    main_input: ClassVar[str] = "settings=shop.yaml"
    publish: str = "published"
    """Folder of the published versions; <publish>/current is a link to the one in use."""
    with_prepare: list[str] = field(default_factory=list)
    """Settings of `prepare` above those of the settings file, for example
    [mode=append,dataset.interactions=today.csv]."""
    with_pretrain: list[str] = field(default_factory=list)
    """Settings of `pretrain`, for example [objective=mlm]; empty for no pretraining."""
    with_finetune: list[str] = field(default_factory=list)
    """Settings of `finetune`, for example [head=ease]."""
    refit: str = "all"
    """all | none: publish a model fitted again on all interactions, the held-out ones too, or the evaluated model."""
    k: int = 100
    """Length of the lists, at least 1."""
    gate: GateSettings = field(default_factory=GateSettings)
    """Checks of the version; it is published only if none of them refuses."""
    keep: int = 7
    """Number of newest versions, and of nights in runs/retrain, to keep, at least 1."""
    keep_days: float | None = None
    """Days that a superseded version is kept at least; null for no limit."""
    seed: int = 1
    """Seed of training and of the bootstrap, at least 0."""

    @property
    def subject(self) -> RunSubject:
        """Nothing yet: the data is prepared by the run."""
        return RunSubject(data="night")

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("refit", among=("all", "none"))
        yield from self.check("k", least=1, most=LONGEST_LIST)
        yield from self.check("keep", least=1)
        yield from self.check("keep_days", "seed", least=0)
        for command in ("prepare", "pretrain", "finetune"):
            for word in getattr(self, f"with_{command}"):
                if "=" not in word:
                    yield f"with_{command}: '{word}' is no setting; write <key>=<value>"
                elif word.partition("=")[0] in ("run_dir", "prepared", "resume"):
                    yield f"with_{command}: {word.partition('=')[0]} is chosen by retrain; leave it out"
        if not self.publish:
            yield "publish=: must name a folder"
        yield from (f"gate.{problem}" for problem in self.gate.problems())
