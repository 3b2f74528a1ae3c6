"""Heads trained on the interactions of groups: attention, fusion, hypergraph."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings


@dataclass
class TrainedGroupsSettings(HeadSettings):
    """Vectors of items, members and groups, trained on what groups and what users did."""

    gives_logits_alone: ClassVar[bool] = True
    audience: ClassVar[str] = "groups"
    embedding_size: int = 64
    """Size of the vectors of items, members and groups, at least 1."""
    text: bool = True
    """Whether the encoder reads the items' texts; false leaves ids (and `features`) and needs no encoder."""
    group_text: bool = False
    """Whether the frozen encoder reads the groups' own texts; new groups can be asked by theirs."""
    features: FeatureWeightsSettings = field(default_factory=FeatureWeightsSettings)
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
        if not self.text and self.encoded_items != TrainedGroupsSettings.encoded_items:
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


@dataclass
class GroupAttentionSettings(TrainedGroupsSettings):
    """Members' votes for an item, weighted by an attention that depends on the item."""

    implementation: ClassVar[str] = "llmrec_cli.heads.groups.attention.GroupAttention"
    kind: str = "group_attention"
    attention_size: int = 16
    """Size of the keys and queries of the attention, at least 1."""
    sharpness: float = 4.0
    """Most that the logarithm of a member's weight moves either way, above 0: with 4 nobody weighs more than e^8 times
    another."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("attention_size", least=1)
        yield from self.check("sharpness", above=0, most=20)


@dataclass
class GroupFusionSettings(TrainedGroupsSettings):
    """r = W_g g + W_i i, ranked by its cosine with the behaviour of the group or of the user."""

    implementation: ClassVar[str] = "llmrec_cli.heads.groups.fusion.GroupFusion"
    kind: str = "group_fusion"
    popularity: bool = True
    """Whether each item has a bias beside the cosine; a cosine alone cannot say that an item is popular."""
    certainty: bool = True
    """Whether the cosine is multiplied by the length of the behaviour vector, which grows with what is known, so that
    it outweighs the bias where much is known; needs popularity=true, since it cannot change an order without."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.certainty and not self.popularity:
            yield "certainty=true: cannot change a list with popularity=false; set certainty=false"

    def problems_with(self, loss: Any) -> Iterator[str]:
        without = f"has no effect on head={self.kind}"
        whole = loss.kind == "softmax" and loss.num_negatives is None
        if loss.similarity == "dot":
            yield f"loss.similarity=dot: {without}, which ranks by a cosine; leave it at auto"
        of_sampling = f"{without} where all items are candidates; give loss.num_negatives too, or leave it out"
        yield from loss.unheeded({"hard_negatives": f"{without}; leave it out or take head=two_tower",
                                  **({"popularity_correction": of_sampling} if whole else {})})


@dataclass
class GroupHypergraphSettings(TrainedGroupsSettings):
    """A consensus of three views of a group: its members, its items, and the groups that overlap with it."""

    implementation: ClassVar[str] = "llmrec_cli.heads.groups.hypergraph.GroupHypergraph"
    kind: str = "group_hypergraph"
    layers: int = 1
    """Steps along the groups that overlap, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("layers", least=1, most=4)
