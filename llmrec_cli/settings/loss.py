"""Losses of the heads trained by gradients."""

from collections.abc import Iterator
from dataclasses import dataclass

from llmrec_cli.settings.base import Settings


@dataclass
class LossSettings(Settings):
    """What every loss has."""

    kind: str = ""
    """The option's name; choose with loss=<name>."""
    similarity: str = "auto"
    """auto | cosine | dot: how a user vector meets an item vector; auto takes cosine for two_tower, dot elsewhere."""

    def problems(self) -> Iterator[str]:
        yield from self.check("similarity", among=("auto", "cosine", "dot"))


@dataclass
class Softmax(LossSettings):
    """In-batch softmax with popularity correction (Yi et al. 2019, eq. 3)."""

    kind: str = "softmax"
    temperature: float = 0.1
    """Divides the similarities, above 0; lower is sharper."""
    popularity_correction: float = 1.0
    """Share of log q(item) subtracted from the logits, 0 to 1; q is the item's chance of being in a step."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("temperature", above=0)
        yield from self.check("popularity_correction", least=0, most=1)


@dataclass
class Bce(LossSettings):
    """Binary cross-entropy on logits against sampled negatives."""

    kind: str = "bce"
    num_negatives: int = 16
    """Items drawn as negatives of a whole step, beside those its other users like, at least 1."""
    scale: float = 10.0
    """Multiplies a cosine to make a logit, above 0; dot products are taken as they are."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("num_negatives", least=1)
        yield from self.check("scale", above=0)


@dataclass
class Mse(LossSettings):
    """Squared error of the similarity to 1 for positives and 0 for sampled negatives."""

    kind: str = "mse"
    num_negatives: int = 16
    """Items drawn as negatives of a whole step, beside those its other users like, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("num_negatives", least=1)


@dataclass
class Bpr(LossSettings):
    """Bayesian personalised ranking: each positive against sampled negatives (Rendle et al. 2009, eq. 4)."""

    kind: str = "bpr"
    num_negatives: int = 16
    """Items drawn as negatives of a whole step, beside those its other users like, at least 1."""
    scale: float = 10.0
    """Multiplies a cosine to make a logit, above 0; dot products are taken as they are."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("num_negatives", least=1)
        yield from self.check("scale", above=0)


LOSSES = {"softmax": Softmax, "bpr": Bpr, "bce": Bce, "mse": Mse}
