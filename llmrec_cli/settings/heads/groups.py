"""Heads trained on the interactions of groups: attention, fusion, hypergraph."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings


@dataclass
class TrainedGroupsSettings(HeadSettings):
    """Vectors of items, members and groups, trained on the interactions of groups and of users."""

    gives_logits_alone: ClassVar[bool] = True
    audience: ClassVar[str] = "groups"
    embedding_size: int = 64
    """Size of the vectors of items, members and groups, at least 1."""
    text: bool = True
    """Use the items' texts, read by the encoder. false: ids and `features` only, without an encoder."""
    group_text: bool = False
    """Use the groups' own texts, read by the frozen encoder; new groups can then be queried by text."""
    features: FeatureWeightsSettings = field(default_factory=FeatureWeightsSettings)
    """Weights of other item features: words, attributes, knowledge graph. The text vectors have the setting `text`
    instead."""
    user_weight: float = 0.5
    """Weight of the users' own interactions in the loss relative to the groups', at least 0; 0 learns from groups
    only."""
    id_dropout: float = 0.5
    """Probability that a training step hides the id of a member or of a group, 0 to 1; above 0 supports ad-hoc
    groups."""
    item_id_dropout: float = 0.0
    """Probability that a training step hides the id of an item, 0 to 1; above 0 supports new items, at some cost to
    known ones."""
    dropout: float = 0.3
    """Dropout on the vectors of members and of groups' histories, 0 to 1."""
    encoded_items: int | None = 128
    """Maximum number of item texts that the trained layers encode in a step, at least 1; other items keep their last
    computed vectors. null encodes every item of the step."""
    stop_after: int | None = None
    """Epochs to run, at least 1; the learning rate is still scheduled for optim.epochs. Set by validation for a refit.
    null runs up to optim.epochs."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.embedding_size=16", "optim.epochs=20", "optim.batch_size=64"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("embedding_size", "encoded_items", "stop_after", least=1)
        yield from self.check("user_weight", least=0)
        yield from self.check("id_dropout", "item_id_dropout", "dropout", least=0, most=0.99)
        if self.features.text > 0 or self.features.tuned:
            yield (f"features.text={self.features.text}, features.tuned={self.features.tuned}: have no effect on "
                   f"head={self.kind}, which trains the encoder itself; set text=true instead")
        if self.item_id_dropout > 0 and not self.text and not self.features.used:
            yield (f"item_id_dropout={self.item_id_dropout}: with text=false and no features, items have only their "
                   f"id; set item_id_dropout=0")
        if not self.text and self.encoded_items != TrainedGroupsSettings.encoded_items:
            yield f"encoded_items={self.encoded_items}: has no effect with text=false"

    def problems_with(self, loss: Any) -> Iterator[str]:
        without = f"has no effect on head={self.kind}"
        of_cosines = f"{without}, whose logits are dot products; leave it out"
        of_sampling = f"{without} where all items are candidates; give loss.num_negatives too, or leave it out"
        whole = loss.takes_catalogue
        if loss.similarity == "cosine":
            yield f"loss.similarity=cosine: {of_cosines}"
        yield from loss.check_ignored({
            "temperature": of_cosines, "learn_temperature": of_cosines, "scale": of_cosines,
            "hard_negatives": f"{without}; leave it out or take head=two_tower",
            **({"popularity_correction": of_sampling} if whole else {})})

    def uses(self) -> set[str]:
        if self.text:
            return {"encoder", "peft", "adversarial", "loss", "optim"}
        return {"loss", "optim"} | ({"encoder"} if self.group_text else set()) | self.features.uses()


@dataclass
class GroupAttentionSettings(TrainedGroupsSettings):
    """Attention over members: the members' scores of an item, with attention weights that depend on the item."""

    implementation: ClassVar[str] = "llmrec_cli.heads.groups.attention.GroupAttention"
    kind: str = "group_attention"
    attention_size: int = 16
    """Size of the keys and queries of the attention, at least 1."""
    sharpness: float = 4.0
    """Limit of a member's log weight in both directions, above 0. With 4 no member weighs more than e^8 times
    another."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("attention_size", least=1)
        yield from self.check("sharpness", above=0, most=20)


@dataclass
class GroupFusionSettings(TrainedGroupsSettings):
    """Fusion r = W_g g + W_i i of group and item vectors, ranked by the cosine of r and the behaviour vector of the
    group or user."""

    implementation: ClassVar[str] = "llmrec_cli.heads.groups.fusion.GroupFusion"
    kind: str = "group_fusion"
    popularity: bool = True
    """Add a bias per item to the cosine; a cosine alone cannot express popularity."""
    certainty: bool = True
    """Multiply the cosine by the norm of the behaviour vector, which grows with the history, so that the cosine
    outweighs the bias for long histories. Needs popularity=true; without it the ranking would not change."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.certainty and not self.popularity:
            yield "certainty=true: has no effect with popularity=false; set certainty=false"

    def problems_with(self, loss: Any) -> Iterator[str]:
        without = f"has no effect on head={self.kind}"
        whole = loss.kind == "softmax" and loss.num_negatives is None
        if loss.similarity == "dot":
            yield f"loss.similarity=dot: {without}, which ranks by a cosine; leave it at auto"
        of_sampling = f"{without} where all items are candidates; give loss.num_negatives too, or leave it out"
        yield from loss.check_ignored({"hard_negatives": f"{without}; leave it out or take head=two_tower",
                                  **({"popularity_correction": of_sampling} if whole else {})})


@dataclass
class GroupHypergraphSettings(TrainedGroupsSettings):
    """A consensus of three views of a group: its members, its items, and overlapping groups."""

    implementation: ClassVar[str] = "llmrec_cli.heads.groups.hypergraph.GroupHypergraph"
    kind: str = "group_hypergraph"
    layers: int = 1
    """Propagation steps between overlapping groups, 1 to 4."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("layers", least=1, most=4)
