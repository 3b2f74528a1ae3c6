"""Which of the encoder's parameters are trained."""

from collections.abc import Iterator
from dataclasses import dataclass

from llmrec_cli.settings.base import Settings


@dataclass
class PeftSettings(Settings):
    """What every choice has."""

    kind: str = ""
    """The option's name; choose with peft=<name>."""


@dataclass
class NoPeft(PeftSettings):
    """Every parameter of the encoder is trained."""

    kind: str = "none"


@dataclass
class Frozen(PeftSettings):
    """No parameter of the encoder is trained; its vectors are computed once."""

    kind: str = "frozen"


@dataclass
class TopLayers(PeftSettings):
    """The top layers are trained; the hidden states below them are computed once and cached."""

    kind: str = "top_layers"
    num_layers: int = 2
    """Top transformer layers that are trained, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from self.check("num_layers", least=1)


@dataclass
class Lora(PeftSettings):
    """Low-rank adaptation (Hu et al. 2022) of the linear layers of the top layers."""

    kind: str = "lora"
    rank: int = 8
    """Rank of the update, at least 1."""
    alpha: float = 16.0
    """Scale: the update is multiplied by alpha / rank; above 0."""
    dropout: float = 0.0
    """Dropout on the input of the update, 0 to 1."""
    num_layers: int | None = 2
    """Top layers that get an adapter, those below are cached; null for all layers (slower on a CPU)."""

    def problems(self) -> Iterator[str]:
        yield from self.check("rank", "num_layers", least=1)
        yield from self.check("alpha", above=0)
        yield from self.check("dropout", least=0, most=0.99)


PEFTS = {"none": NoPeft, "frozen": Frozen, "top_layers": TopLayers, "lora": Lora}
