"""What `pretrain` trains the encoder on."""

from collections.abc import Iterator
from dataclasses import dataclass

from llmrec_cli.settings.base import Settings


@dataclass
class ObjectiveSettings(Settings):
    """What every objective has."""

    kind: str = ""
    """The option's name; choose with objective=<name>."""
    holdout_share: float = 0.1
    """Share of the corpus held out to measure, above 0 and at most 0.5."""
    histories: bool = True
    """Also train on the users' training histories written as text."""
    history_length: int = 10
    """Most items of a history in one text, at least 1."""
    max_histories: int = 200
    """Most texts made of histories, drawn at random, at least 1; they are what takes the time."""

    def problems(self) -> Iterator[str]:
        yield from self.check("holdout_share", above=0, most=0.5)
        yield from self.check("history_length", "max_histories", least=1)


@dataclass
class MaskedLanguageModel(ObjectiveSettings):
    """Masked language model (Devlin et al. 2019): predict masked tokens from both sides."""

    kind: str = "mlm"
    mask_share: float = 0.15
    """Share of the tokens to predict, above 0 and at most 0.5."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("mask_share", above=0, most=0.5)


OBJECTIVES = {"mlm": MaskedLanguageModel}
