"""What the heads share that are trained on what groups did together."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.heads.features import FeatureWeights


@dataclass
class TrainedGroups(HeadSettings):
    """Vectors of items, members and groups, trained on what groups and what users did."""

    gives_logits_alone: ClassVar[bool] = True
    audience: ClassVar[str] = "groups"
    embedding_size: int = 64
    """Size of the vectors of items, members and groups, at least 1."""
    text: bool = True
    """Whether the encoder reads the items' texts; false leaves ids (and `features`) and needs no encoder."""
    group_text: bool = False
    """Whether the frozen encoder reads the groups' own texts; new groups can be asked by theirs."""
    features: FeatureWeights = field(default_factory=FeatureWeights)
    """Weights of what else is known of items: words, attributes, the knowledge graph. Their text has `text` instead."""
    user_weight: float = 0.5
    """Weight of the users' own interactions in the loss beside the groups', at least 0; 0 learns from groups alone."""
    id_dropout: float = 0.5
    """Chance that a step hides the id of a member or of a group, 0 to 1; above 0 makes occasional groups work."""
    item_id_dropout: float = 0.0
    """Chance that a step hides the id of an item, 0 to 1; above 0 makes new items work, at some cost to known ones."""
    dropout: float = 0.3
    """Dropout on the vectors of members and of groups' histories, 0 to 1."""
    encoded_items: int | None = 128
    """Most texts that go through the trained layers of the encoder in a step, at least 1; the other items keep the
    vectors of when they were last encoded. null encodes every item of the step."""
    stop_after: int | None = None
    """Epochs to run of the optim.epochs that the learning rate is planned for; what validation chose, in a refit."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.embedding_size=16", "optim.epochs=20", "optim.batch_size=64"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("embedding_size", "encoded_items", "stop_after", least=1)
        yield from self.check("user_weight", least=0)
        yield from self.check("id_dropout", "item_id_dropout", "dropout", least=0, most=0.99)
        if self.features.text > 0 or self.features.tuned:
            yield (f"features.text={self.features.text}, features.tuned={self.features.tuned}: these heads have the "
                   f"encoder in the loop; set text=true instead")
        if self.item_id_dropout > 0 and not self.text and not self.features.used:
            yield (f"item_id_dropout={self.item_id_dropout}: with text=false and no features an item without its id is "
                   f"nothing; set item_id_dropout=0")
        if not self.text and self.encoded_items != TrainedGroups.encoded_items:
            yield f"encoded_items={self.encoded_items}: has no effect with text=false"

    def problems_with(self, loss: Any) -> Iterator[str]:
        without = f"has no effect on head={self.kind}"
        of_cosines = f"{without}, whose logits are dot products; leave it out"
        of_sampling = f"{without} where all items are candidates; give loss.num_negatives too, or leave it out"
        whole = loss.takes_catalogue
        if loss.similarity == "cosine":
            yield f"loss.similarity=cosine: {of_cosines}"
        yield from loss.unheeded({
            "temperature": of_cosines, "learn_temperature": of_cosines, "scale": of_cosines,
            "hard_negatives": f"{without}; leave it out or take head=two_tower",
            **({"popularity_correction": of_sampling} if whole else {})})

    def uses(self) -> set[str]:
        if self.text:
            return {"encoder", "peft", "adversarial", "loss", "optim"}
        return {"loss", "optim"} | ({"encoder"} if self.group_text else set()) | self.features.uses()
