"""Causal transformer over histories."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from llmrec_cli.settings.durations import duration_problem, seconds_of
from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.loss import LOSSES, POSITIONS


@dataclass
class SequentialSettings(HeadSettings):
    """Next-item prediction by a causal transformer over the history (SASRec); an item is its text vector plus an id
    embedding."""

    implementation: ClassVar[str] = "llmrec_cli.heads.sequential.head.Sequential"
    kind: str = "sequential"
    embedding_size: int = 64
    """Size of item vectors and of the transformer, at least 1, a multiple of num_attention_heads."""
    num_layers: int = 2
    """Transformer layers, at least 1."""
    num_attention_heads: int = 2
    """Attention heads per layer, at least 1."""
    max_length: int = 50
    """Number of newest items of a history that are read, at least 1. Time and memory grow with it."""
    windows: str = "newest"
    """newest | all: interactions of a history longer than max_length that are targets in training. newest: the newest
    max_length. all: every one once per epoch, in windows of at most max_length; an epoch takes longer."""
    block: str = "sasrec"
    """sasrec | ligr | hstu: layers of the transformer. sasrec: attention and feed-forward with layer norm before each
    (Kang and McAuley 2018). ligr: gated, with a wider feed-forward part (eSASRec, Tikhonovich et al. 2025). hstu:
    pointwise attention, with memory that grows with the square of max_length (Zhai et al. 2024)."""
    time_gaps: bool = False
    """Add a learned vector of the time since the previous interaction to each item of a history, in buckets on a
    logarithmic scale. Needs times; the gap is unknown for interactions given in a query."""
    dropout: float = 0.2
    """Dropout on the input and after each sublayer, 0 to 1."""
    id_dropout: float = 0.1
    """Probability that a training step hides an item's id, 0 to 1; above 0 supports new items, which have no id
    embedding."""
    text_scale: float = 1.0
    """Weight of the text vectors, at least 0; 0 uses id embeddings only and needs no encoder."""
    id_scale: float = 1.0
    """Weight of the id embeddings, at least 0; 0 uses text only."""
    entity_gate: bool = False
    """Add the vector of the item's knowledge-graph entity to its text vector through a learned gate; the model chosen
    by `entities` learns these vectors. Needs text_scale above 0."""
    encoded_items: int | None = 128
    """Maximum number of item texts that the trained layers encode in a step, at least 1; other items keep their last
    computed vectors. null encodes every item of the step."""
    budget: str = ""
    """CPU time of training (on a GPU, time), for example 90s, 20m or 1.5h: fewer epochs if optim.epochs take longer,
    and at least one. Validation and a refit are not counted. Empty for no limit. The number of epochs, and so the
    model, depends on the speed of the machine."""
    stop_after: int | None = None
    """Epochs to run, at least 1; the learning rate is still scheduled for optim.epochs. Set by validation for a refit.
    null runs up to optim.epochs."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        small = ["head.embedding_size=16", "head.num_layers=1", "optim.epochs=30"]
        return {"": [*small, "head.max_length=12", "head.dropout=0.1"],
                "ids": [*small, "head.text_scale=0", "head.id_dropout=0", "loss.num_negatives=20"],
                "sampled": [*small, "head.text_scale=0", "head.id_dropout=0", "head.block=ligr", "head.max_length=4",
                            "head.windows=all", "loss=sampled_softmax", "loss.num_negatives=30", "optim.patience=30"],
                "gbce": [*small, "head.block=hstu", "head.text_scale=0", "head.id_dropout=0", "loss=gbce",
                         "loss.num_negatives=30", "optim.patience=30"],
                "lora": [*small, "head.dropout=0.1", "head.encoded_items=16", "loss.similarity=cosine",
                         "loss.temperature=0.2", "adversarial=fgm", "peft=lora", "peft.rank=2", "peft.num_layers=1",
                         "optim.patience=30"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("embedding_size", "num_layers", "num_attention_heads", "max_length", "encoded_items",
                              "stop_after", least=1)
        yield from self.check("windows", among=("newest", "all"))
        yield from self.check("block", among=("sasrec", "ligr", "hstu"))
        yield from self.check("dropout", "id_dropout", least=0, most=0.99)
        yield from self.check("text_scale", "id_scale", least=0)
        if self.budget and seconds_of(self.budget) is None:
            yield duration_problem("budget", self.budget)
        if self.num_attention_heads > 0 and self.embedding_size % self.num_attention_heads:
            yield (f"embedding_size={self.embedding_size}: must be a multiple of num_attention_heads="
                   f"{self.num_attention_heads}")
        if self.text_scale == 0 and self.id_scale == 0:
            yield "text_scale=0, id_scale=0: one of them must be above 0, or all items are the same"
        if self.text_scale == 0 and self.entity_gate:
            yield "entity_gate=true: has no effect with text_scale=0, since it adds to the text; leave it out"
        if self.text_scale == 0 and self.id_dropout != 0:
            yield f"id_dropout={self.id_dropout}: with text_scale=0, items have only their id; set id_dropout=0"

    def problems_with(self, loss: Any) -> Iterator[str]:
        without = "has no effect on head=sequential"
        of_cosines = f"{without} without loss.similarity=cosine; leave it out"
        of_sampling = f"{without} where all items are candidates; give loss.num_negatives too, or leave it out"
        whole = loss.takes_catalogue
        cosine = loss.similarity == "cosine"
        yield from loss.check_ignored({
            **({} if cosine else {"temperature": of_cosines, "learn_temperature": of_cosines, "scale": of_cosines}),
            **({"popularity_correction": of_sampling, "hard_negatives": of_sampling} if whole else {})})

    @classmethod
    def losses(cls) -> list[str]:
        return [*super().losses(), *(name for name, loss in LOSSES.items() if POSITIONS in loss.works_with)]

    def without_texts(self) -> "SequentialSettings":
        return replace(self, text_scale=0.0, id_dropout=0.0, entity_gate=False) if self.id_scale else self

    def needs_order(self) -> bool:
        return True

    def needs_moments(self) -> bool:
        return super().needs_moments() or self.time_gaps

    def uses_times(self) -> bool:
        return super().uses_times() or self.time_gaps

    def uses(self) -> set[str]:
        of_text = {"encoder", "peft", "adversarial"} | ({"entities"} if self.entity_gate else set())
        return {"loss", "optim"} | (of_text if self.text_scale else set())
