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


@dataclass
class Distillation(Settings):
    """Which items are chosen together, as soft targets for the similarities of their texts (Hinton et al. 2015).

    For heads that read text vectors (ease, ials, content, item_similarity) with features.tuned=true.
    """

    kind: str = "distillation"
    targets: str = "cooccurrence"
    """cooccurrence | ease: how often two items are in one history, or the weights of EASE where they are positive."""
    l2: float = 200.0
    """Ridge penalty of that EASE, above 0."""
    temperature: float = 0.1
    """Divides the cosines, above 0; where training starts, since it is learned."""
    popularity: float = 1.0
    """Share of the items' log popularity that is added to the logits, 0 to 1: what the vectors need not explain."""

    def problems(self) -> Iterator[str]:
        yield from self.check("targets", among=("cooccurrence", "ease"))
        yield from self.check("l2", "temperature", above=0)
        yield from self.check("popularity", least=0, most=1)
        if self.targets != "ease" and self.l2 != Distillation.l2:
            yield f"l2={self.l2}: has no effect with targets={self.targets}"


LOSSES = {"softmax": Softmax, "bpr": Bpr, "bce": Bce, "mse": Mse, "distillation": Distillation}
