"""Group recommendation by r = W_g g + W_i i."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from llmrec_cli.settings.heads.trained_groups import TrainedGroups


@dataclass
class GroupFusion(TrainedGroups):
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
