"""Losses of heads trained by gradients."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings, Settings

CHOICES = "choices"
"""Target: interactions against other items."""
VALUES = "values"
"""Target: a number per user-item pair."""
SIMILARITIES = "similarities"
"""Target: similarities of items' texts."""
POSITIONS = "positions"
"""Target: the next item at each position of histories, against negatives that all positions of a step share."""


@dataclass
class HardNegativesSettings(Settings):
    """Hard negatives: unseen items that another model ranks high for the user."""

    shorthand: ClassVar[str] = "model"
    model: str | None = None
    """Folder of the recommender that ranks the items, for example runs/finetune/<run>; null: no hard negatives. It must
    be fitted without the held-out interactions (refit=none), otherwise held-out items become negatives."""
    num: int = 4
    """Hard negatives drawn per user of a training step, shared by the whole step, at least 1."""
    from_rank: int = 11
    """First rank to draw from, at least 1; the top ranks often hold items that the user would like."""
    to_rank: int = 100
    """Last rank to draw from, at least from_rank."""

    def problems(self) -> Iterator[str]:
        yield from self.check("num", "from_rank", least=1)
        yield from self.check("to_rank", least=self.from_rank)
        if self.model is None and self != HardNegativesSettings():
            yield "model=null: the other settings have no effect without it; give the folder of a recommender"


@dataclass
class LossSettings(OptionSettings):
    """Settings of every loss."""

    works_with: ClassVar[tuple[str, ...]] = (CHOICES,)
    """choices | values | similarities | positions: targets that the loss supports."""
    of_logits: ClassVar[bool] = True
    """False for a loss on plain scores, such as cosines or values."""
    pair_target: ClassVar[str] = ""
    """value | opinion: target of single pairs that the loss supports besides choices; an opinion is a like or a
    dislike. Empty for none."""
    kind: str = ""
    """The option's name; choose with loss=<name>."""


@dataclass
class ScoreLossSettings(LossSettings):
    """Settings of losses on user-item scores."""

    similarity: str = "auto"
    """auto | cosine | dot: score of a user vector and an item vector; auto: cosine for two_tower, dot for other
    heads."""
    hard_negatives: HardNegativesSettings = field(default_factory=HardNegativesSettings)
    """Negatives from the recommendations of another model, mined once per fit: loss.hard_negatives=<folder of a
    recommender>."""

    def problems(self) -> Iterator[str]:
        yield from self.check("similarity", among=("auto", "cosine", "dot"))

    @property
    def cosine_scale(self) -> float:
        """Factor that turns a cosine into a logit."""
        return 1.0

    @property
    def learns_scale(self) -> bool:
        """True if this factor is learned."""
        return False

    @property
    def takes_catalogue(self) -> bool:
        """True if all items are candidates in training, for heads that can score them all."""
        return False

    def check_ignored(self, reasons: Mapping[str, str]) -> Iterator[str]:
        """Yield a problem for each setting in `reasons` that differs from its default.

        A reason says why the setting has no effect, and the next step.
        """
        unchanged = type(self)()
        for name, reason in reasons.items():
            value = getattr(self, name, None)
            if value != getattr(unchanged, name, None):
                # `hard_negatives` is a mapping of settings: name its main key.
                key, value = (f"{name}.model", value.model) if isinstance(value, HardNegativesSettings) else (name,
                                                                                                              value)
                yield f"loss.{key}={value}: {reason}"


@dataclass
class SoftmaxSettings(ScoreLossSettings):
    """Softmax over the items of a step, with popularity correction (Yi et al. 2019, eq. 3), or over all items.

    With similarity=cosine and a learned temperature this is InfoNCE (van den Oord et al. 2018, eq. 4).
    """

    implementation: ClassVar[str] = "llmrec_cli.training.losses.softmax.Softmax"
    kind: str = "softmax"
    temperature: float = 0.1
    """Divides cosines, above 0; lower is sharper. No effect on dot products."""
    learn_temperature: bool | None = None
    """Learn the temperature, starting from `temperature`. null: true if the head supports it."""
    num_negatives: int | None = None
    """Uniformly drawn negatives per training step, in addition to the other users' items of the step, at least 1. null:
    all items for head=sequential, none for head=two_tower."""
    popularity_correction: float = 1.0
    """Share of log q(item) subtracted from the logits, 0 to 1; q is the item's probability of being in a training
    step."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all candidates, 0 to 1 (Szegedy et al. 2016, section 7)."""

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
        """Factor that turns a cosine into a logit: one over the temperature."""
        return 1 / self.temperature

    @property
    def learns_scale(self) -> bool:
        """True unless learn_temperature=false."""
        return self.learn_temperature is not False

    @property
    def takes_catalogue(self) -> bool:
        """True if the loss can score the whole catalogue, because it draws no negatives."""
        return self.num_negatives is None


@dataclass
class SampledSettings(ScoreLossSettings):
    """Settings of losses with sampled negatives."""

    num_negatives: int = 16
    """Uniformly drawn negatives per training step, in addition to the other users' items of the step, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("num_negatives", least=1)


@dataclass
class LogitSettings(SampledSettings):
    """Settings of losses on logits."""

    scale: float = 10.0
    """Factor from a cosine to a logit, above 0. No effect on dot products."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("scale", above=0)

    @property
    def cosine_scale(self) -> float:
        """Factor that turns a cosine into a logit: the setting `scale`."""
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
class ReadersSettings(LossSettings):
    """Items' texts and the users who chose the items (their readers), contrasted in both directions.

    A user is the mean vector of the rest of the history. For heads with text features (ease, ials, content,
    item_similarity) and features.tuned=true; steps of about 128 items (optim.batch_size) suit layers of an encoder.
    """

    implementation: ClassVar[str] = "llmrec_cli.training.losses.readers.Readers"
    works_with: ClassVar[tuple[str, ...]] = (SIMILARITIES,)
    of_logits: ClassVar[bool] = False
    kind: str = "readers"
    temperature: float = 0.05
    """Initial temperature that divides cosines, above 0; each direction learns its own in training."""
    refresh_steps: int = 4
    """Steps between two updates of the users' vectors, at least 1."""
    max_users: int = 50_000
    """Most users that a step compares, at least 1; of more, some readers of each item of the step and others drawn at
    random. A step takes 36 bytes for each of its users and items."""
    items_share: float = 0.5
    """Weight of the direction in which users find their items among those of the step, 0 to 1; the rest is that in
    which items find their users among all users."""

    def problems(self) -> Iterator[str]:
        yield from self.check("temperature", above=0)
        yield from self.check("refresh_steps", "max_users", least=1)
        yield from self.check("items_share", least=0, most=1)


@dataclass
class SharedNegativesSettings(ScoreLossSettings):
    """Settings of losses with negatives that all positions of a training step share."""

    works_with: ClassVar[tuple[str, ...]] = (POSITIONS,)
    scale: float = 10.0
    """Factor from a cosine to a logit, above 0. No effect on dot products."""
    num_negatives: int = 256
    """Negatives drawn per training step, at least 1; at most all items with interactions are drawn."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("scale", above=0)
        yield from self.check("num_negatives", least=1)
        if self.hard_negatives.model is not None:
            yield f"hard_negatives.model={self.hard_negatives.model}: has no effect on loss={self.kind}; leave it out"

    @property
    def cosine_scale(self) -> float:
        """Factor that turns a cosine into a logit: the setting `scale`."""
        return self.scale

    @property
    def popularity_power(self) -> float:
        """Power of an item's number of interactions that its probability of being drawn is proportional to."""
        return 0.0


@dataclass
class SampledSoftmaxSettings(SharedNegativesSettings):
    """Softmax over the target and negatives shared by the step, for head=sequential."""

    implementation: ClassVar[str] = "llmrec_cli.training.losses.sampled_softmax.SampledSoftmax"
    kind: str = "sampled_softmax"
    negative_popularity: float = 0.0
    """Negatives are drawn with probability proportional to an item's number of interactions to this power, 0 to 1, and
    the logits are corrected for it; 0: uniformly."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": [], "popular": ["loss.num_negatives=8", "loss.negative_popularity=0.5"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("negative_popularity", least=0, most=1)

    @property
    def popularity_power(self) -> float:
        """Power of an item's number of interactions: the setting `negative_popularity`."""
        return self.negative_popularity


@dataclass
class GbceSettings(SharedNegativesSettings):
    """Generalised binary cross-entropy against negatives shared by the step (gSASRec, Petrov and Macdonald 2023), for
    head=sequential."""

    implementation: ClassVar[str] = "llmrec_cli.training.losses.gbce.Gbce"
    kind: str = "gbce"
    calibration: float = 0.75
    """The paper's t, 0 to 1: 0 is plain binary cross-entropy, whose probabilities are too high if few items are drawn;
    1 corrects for this fully."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("calibration", least=0, most=1)


@dataclass
class DistillationSettings(LossSettings):
    """Co-occurring items as soft targets for the similarities of their texts (Hinton et al. 2015).

    For heads with text features (ease, ials, content, item_similarity) and features.tuned=true.
    """

    implementation: ClassVar[str] = "llmrec_cli.training.losses.distillation.Distillation"
    works_with: ClassVar[tuple[str, ...]] = (SIMILARITIES,)
    of_logits: ClassVar[bool] = False
    kind: str = "distillation"
    targets: str = "cooccurrence"
    """cooccurrence | ease: soft targets: number of histories with both items, or the positive weights of an EASE
    model."""
    l2: float = 200.0
    """With targets=ease: ridge penalty of the EASE model, above 0."""
    temperature: float = 0.1
    """Initial temperature that divides the cosines, above 0; it is learned in training."""
    popularity: float = 1.0
    """Share of the items' log popularity added to the logits, 0 to 1, so that the vectors need not explain
    popularity."""

    def problems(self) -> Iterator[str]:
        yield from self.check("targets", among=("cooccurrence", "ease"))
        yield from self.check("l2", "temperature", above=0)
        yield from self.check("popularity", least=0, most=1)
        if self.targets != "ease" and self.l2 != DistillationSettings.l2:
            yield f"l2={self.l2}: has no effect with targets={self.targets}"


LOSSES: dict[str, type[LossSettings]] = {"softmax": SoftmaxSettings, "bpr": BprSettings, "bce": BceSettings,
                                         "mse": MseSettings, "sampled_softmax": SampledSoftmaxSettings,
                                         "gbce": GbceSettings, "readers": ReadersSettings,
                                         "distillation": DistillationSettings}
