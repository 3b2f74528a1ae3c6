"""Two towers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrec_cli.settings.heads.base import TRAINING_HISTORIES, HeadSettings


@dataclass
class TwoTowerSettings(HeadSettings):
    """Two towers: item = text vector and id embedding, user = history and id embedding."""

    implementation: ClassVar[str] = "llmrec_cli.heads.two_tower.head.TwoTower"
    kind: str = "two_tower"
    embedding_size: int = 128
    """Size of user and item vectors, at least 1."""
    id_dropout: float = 0.2
    """Chance that a training step hides an item's or a user's id, 0 to 1; above 0 makes it work without ids."""
    dropout: float = 0.5
    """Dropout on the history vector, 0 to 1."""
    encoded_items: int | None = 128
    """Most texts that go through the trained layers in a step, at least 1; the other items keep the vectors of when
    they were last encoded. null encodes every item of the step."""
    stop_after: int | None = None
    """Epochs to run of the optim.epochs that the learning rate is planned for; what validation chose, in a refit."""
    id_scale: float = 1.0
    """Weight of the id embeddings beside the text, at least 0; 0 leaves text alone."""
    history: str = "sum"
    """sum | attention: how a history's items become one vector; attention learns what counts more."""
    recency: bool = False
    """With history=attention: also learn a weight for each position counted from the newest item. Needs interactions
    with times. Where targets are learned from earlier interactions alone (training_history), only the newest 2,048
    items of a history are read."""
    training_history: str = "auto"
    """auto | before | others: history that a training step predicts the target from. before: the user's earlier items
    only. others: all other items of the user, later ones too. auto: before if interactions have times and the split is
    by time (leave_last_out, temporal) or none, else others."""
    profile: bool = False
    """Whether a user's own text (dataset.user_text) is read by the frozen encoder; new users can be asked by theirs."""
    entity_gate: bool = False
    """Whether an item is its text plus, through a gate, the vector of its entity in the knowledge graph, learned as
    the group `entities` says."""
    layers: list[int] = field(default_factory=list)
    """Sizes of fully connected layers with ReLU between what is known of a user and the user's vector, each at least
    1; an empty list has none."""

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
            yield from loss.unheeded({"temperature": reason, "learn_temperature": reason, "scale": reason})

    def uses(self) -> set[str]:
        return {"encoder", "peft", "adversarial", "loss", "optim"} | ({"entities"} if self.entity_gate else set())
