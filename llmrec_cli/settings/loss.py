"""Losses of the heads trained by gradients."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings, Settings

CHOICES = "choices"
"""Learn which items were chosen, against others."""
VALUES = "values"
"""Learn a number for each pair of a user and an item."""
SIMILARITIES = "similarities"
"""Learn how alike items' texts should be."""


@dataclass
class HardNegativesSettings(Settings):
    """Items that another model ranks high for a user who does not know them, drawn as negatives."""

    shorthand: ClassVar[str] = "model"
    model: str | None = None
    """Folder of the recommender that ranks them, such as runs/finetune/<run>; null mines none. It must have been fitted
    without what is held out (refit=none), or it makes negatives of the answers."""
    num: int = 4
    """Drawn for each user of a step, for the whole step, at least 1."""
    from_rank: int = 11
    """First rank that is drawn from, at least 1; the very best are often liked, only not yet."""
    to_rank: int = 100
    """Last rank that is drawn from, at least from_rank."""

    def problems(self) -> Iterator[str]:
        yield from self.check("num", "from_rank", least=1)
        yield from self.check("to_rank", least=self.from_rank)
        if self.model is None and self != HardNegativesSettings():
            yield "model=null: the other settings have no effect without it; give the folder of a recommender"


@dataclass
class LossSettings(OptionSettings):
    """Settings of every loss."""

    works_with: ClassVar[tuple[str, ...]] = (CHOICES,)
    """What it can learn: choices | values | similarities."""
    of_logits: ClassVar[bool] = True
    """False for a loss of scores as they are, such as cosines or values."""
    pair_target: ClassVar[str] = ""
    """What it can learn of a pair beside that it was chosen: the value | the opinion (a like or a dislike)."""
    kind: str = ""
    """The option's name; choose with loss=<name>."""


@dataclass
class ScoreLossSettings(LossSettings):
    """Settings of losses of scores of users with items."""

    similarity: str = "auto"
    """auto | cosine | dot: how a user vector meets an item vector; auto takes cosine for two_tower, dot elsewhere."""
    hard_negatives: HardNegativesSettings = field(default_factory=HardNegativesSettings)
    """Negatives mined once a fit from what another model recommends."""

    def problems(self) -> Iterator[str]:
        yield from self.check("similarity", among=("auto", "cosine", "dot"))

    @property
    def cosine_scale(self) -> float:
        """Factor of a cosine."""
        return 1.0

    @property
    def learns_scale(self) -> bool:
        """True if what a cosine is multiplied with is learned."""
        return False

    @property
    def takes_catalogue(self) -> bool:
        """True if all items are candidates where the head can score them all."""
        return False

    def unheeded(self, reasons: Mapping[str, str]) -> Iterator[str]:
        """Yield a problem for each of our settings that is not at its default: those that `reasons` tell about.

        A reason says why the setting has no effect and what to do instead.
        """
        usual = type(self)()
        for name, reason in reasons.items():
            value = getattr(self, name, None)
            if value != getattr(usual, name, None):
                # Of a group of settings the one that was given stands for all.
                key, value = (f"{name}.model", value.model) if isinstance(value, HardNegativesSettings) else (name,
                                                                                                              value)
                yield f"loss.{key}={value}: {reason}"


@dataclass
class SoftmaxSettings(ScoreLossSettings):
    """Softmax over the items of a step, with popularity correction (Yi et al. 2019, eq. 3), or over all items.

    With similarity=cosine and a learned temperature this is what InfoNCE names (van den Oord et al. 2018, eq. 4).
    """

    implementation: ClassVar[str] = "llmrec_cli.training.losses.softmax.Softmax"
    kind: str = "softmax"
    temperature: float = 0.1
    """Divides cosines, above 0; lower is sharper. Dot products are taken as they are."""
    learn_temperature: bool | None = None
    """Whether `temperature` is only where training starts; null learns it where the head can."""
    num_negatives: int | None = None
    """Items drawn evenly as negatives of a whole step, beside those its other users like, at least 1. null: all items
    in head=sequential, none in head=two_tower."""
    popularity_correction: float = 1.0
    """Share of log q(item) subtracted from the logits, 0 to 1; q is the item's chance of being in a step."""
    label_smoothing: float = 0.0
    """Share of the target that is spread evenly over all candidates, 0 to 1 (Szegedy et al. 2016, section 7)."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": [], "smoothed": ["loss.label_smoothing=0.1", "loss.popularity_correction=0.5"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("temperature", above=0)
        yield from self.check("num_negatives", least=1)
        yield from self.check("popularity_correction", least=0, most=1)
        yield from self.check("label_smoothing", least=0, most=0.99)

    @property
    def cosine_scale(self) -> float:
        """One over the temperature."""
        return 1 / self.temperature

    @property
    def learns_scale(self) -> bool:
        """True unless learn_temperature=false."""
        return self.learn_temperature is not False

    @property
    def takes_catalogue(self) -> bool:
        """True unless negatives are drawn."""
        return self.num_negatives is None


@dataclass
class SampledSettings(ScoreLossSettings):
    """Settings of losses that compare with drawn negatives."""

    num_negatives: int = 16
    """Items drawn evenly as negatives of a whole step, beside those its other users like, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("num_negatives", least=1)


@dataclass
class LogitSettings(SampledSettings):
    """Settings of losses that take logits."""

    scale: float = 10.0
    """Multiplies a cosine to make a logit, above 0; dot products are taken as they are."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("scale", above=0)

    @property
    def cosine_scale(self) -> float:
        """The setting `scale`."""
        return self.scale


@dataclass
class BceSettings(LogitSettings):
    """Binary cross-entropy on logits against sampled negatives."""

    implementation: ClassVar[str] = "llmrec_cli.training.losses.bce.Bce"
    works_with: ClassVar[tuple[str, ...]] = (CHOICES, VALUES)
    pair_target: ClassVar[str] = "opinion"
    kind: str = "bce"


@dataclass
class MseSettings(SampledSettings):
    """Squared error of the similarity to 1 for positives and 0 for sampled negatives."""

    implementation: ClassVar[str] = "llmrec_cli.training.losses.mse.Mse"
    works_with: ClassVar[tuple[str, ...]] = (CHOICES, VALUES)
    of_logits: ClassVar[bool] = False
    pair_target: ClassVar[str] = "value"
    kind: str = "mse"


@dataclass
class BprSettings(LogitSettings):
    """Bayesian personalised ranking: each positive against sampled negatives (Rendle et al. 2009, eq. 4)."""

    implementation: ClassVar[str] = "llmrec_cli.training.losses.bpr.Bpr"
    kind: str = "bpr"


@dataclass
class DistillationSettings(LossSettings):
    """Co-chosen items as soft targets for the similarities of their texts (Hinton et al. 2015).

    For heads that read text vectors (ease, ials, content, item_similarity) with features.tuned=true.
    """

    implementation: ClassVar[str] = "llmrec_cli.training.losses.distillation.SoftTargets"
    works_with: ClassVar[tuple[str, ...]] = (SIMILARITIES,)
    of_logits: ClassVar[bool] = False
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
        if self.targets != "ease" and self.l2 != DistillationSettings.l2:
            yield f"l2={self.l2}: has no effect with targets={self.targets}"


LOSSES: dict[str, type[LossSettings]] = {"softmax": SoftmaxSettings, "bpr": BprSettings, "bce": BceSettings,
                                         "mse": MseSettings,
                                         "distillation": DistillationSettings}
