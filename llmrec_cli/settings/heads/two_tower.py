"""Two-tower model."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrec_cli.settings.heads.base import TRAINING_HISTORIES, HeadSettings


@dataclass
class TwoTowerSettings(HeadSettings):
    """Two-tower model: item = text vector + id embedding, user = history + id embedding."""

    implementation: ClassVar[str] = "llmrec_cli.heads.two_tower.head.TwoTower"
    kind: str = "two_tower"
    embedding_size: int = 128
    """Size of user and item vectors, at least 1."""
    id_dropout: float = 0.2
    """Probability that a training step hides an item's or a user's id, 0 to 1; above 0 supports new items and users,
    which have no id embedding."""
    dropout: float = 0.5
    """Dropout on the history vector, 0 to 1."""
    encoded_items: int | None = 128
    """Maximum number of item texts that the trained layers encode in a step, at least 1; other items keep their last
    computed vectors. null encodes every item of the step."""
    stop_after: int | None = None
    """Epochs to run, at least 1; the learning rate is still scheduled for optim.epochs. Set by validation for a refit.
    null runs up to optim.epochs."""
    id_scale: float = 1.0
    """Weight of the id embeddings, at least 0; 0 uses text only."""
    history: str = "sum"
    """sum | attention: pooling of a history's items into a vector; attention learns their weights."""
    recency: bool = False
    """With history=attention: also learn a weight for each position counted from the newest item. Needs interactions
    with times. With training_history=before, only the newest 2,048 items of a history are read."""
    training_history: str = "auto"
    """auto | before | others: history from which a training step predicts the target. before: the user's earlier items
    only. others: all other items of the user, also later ones. auto: before if interactions have times and the split is
    by time (leave_last_out, temporal) or none, else others."""
    profile: bool = False
    """Use the user's own text (dataset.user_text), read by the frozen encoder; new users can then be queried by
    text."""
    entity_gate: bool = False
    """Add the vector of the item's knowledge-graph entity to its text vector through a learned gate; the model chosen
    by `entities` learns these vectors."""
    layers: list[int] = field(default_factory=list)
    """Sizes of the fully connected layers (with ReLU) in the user tower, each at least 1; [] for none."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        small = ["head.embedding_size=16", "head.dropout=0.1"]
        return {"frozen": [*small, "adversarial=fgm"],
                "lora": [*small, "head.encoded_items=16", "peft=lora", "peft.rank=2", "peft.num_layers=1",
                         "adversarial=fgm"],
                "adapter": [*small, "peft=embedding_adapter", "peft.rank=4"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("embedding_size", "encoded_items", "stop_after", least=1)
        yield from self.check("id_dropout", "dropout", least=0, most=0.99)
        yield from self.check("id_scale", least=0)
        yield from self.check("history", among=("sum", "attention"))
        yield from self.check("training_history", among=TRAINING_HISTORIES)
        if self.recency and self.history != "attention":
            yield f"recency=true: has no effect with history={self.history}; set history=attention"
        if any(size < 1 for size in self.layers):
            yield f"layers={self.layers}: sizes must be at least 1"

    def problems_with(self, loss: Any) -> Iterator[str]:
        if loss.similarity == "dot":
            reason = "has no effect on head=two_tower with loss.similarity=dot; leave it out"
            yield from loss.check_ignored({"temperature": reason, "learn_temperature": reason, "scale": reason})

    def uses(self) -> set[str]:
        return {"encoder", "peft", "adversarial", "loss", "optim"} | ({"entities"} if self.entity_gate else set())
