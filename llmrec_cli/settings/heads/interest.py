"""Interest: a user's text and an item's text, read together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from llmrec_cli.settings.heads.base import TRAINING_HISTORIES, HeadSettings
from llmrec_cli.settings.loss import VALUES

_CANDIDATES = ("popularity", "item_knn", "user_knn", "ease")


@dataclass
class InterestSettings(HeadSettings):
    """A pair of texts through the encoder to the probability of a like, or with loss=mse to a value.

    Learned are likes against dislikes where the data has them (dataset.feedback=explicit), else interactions against
    items drawn at random; with loss=mse the values, where they differ.
    """

    implementation: ClassVar[str] = "llmrec_cli.heads.interest.head.Interest"
    learns_from: ClassVar[str] = VALUES
    learns_in_a_second: ClassVar[bool] = False
    kind: str = "interest"
    candidates: str = "item_knn"
    """popularity | item_knn | user_knn | ease: whose lists are put in a new order; reading all pairs would cost too
    much. A query in words is answered from all items."""
    rerank: int = 50
    """Items at the top of a list that are read and put in a new order, at least 1; the others stay below them."""
    history_items: int = 8
    """Newest items of a history whose titles are read as the user's text, at least 1."""
    training_history: str = "auto"
    """auto | before | others: history that a training pair is read with. before: the user's earlier items only. others:
    all other items of the user, later ones too. auto: before if interactions have times and the split is by time
    (leave_last_out, temporal) or none, else others."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.candidates=ease", "head.rerank=50", "head.history_items=3", "loss=bce", "peft=top_layers",
                     "peft.num_layers=1", "optim.epochs=1", "optim.batch_size=64"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("candidates", among=_CANDIDATES)
        yield from self.check("rerank", "history_items", least=1)
        yield from self.check("training_history", among=TRAINING_HISTORIES)

    def uses(self) -> set[str]:
        return {"encoder", "peft", "adversarial", "loss", "optim"}

    def problems_with(self, loss: Any) -> Iterator[str]:
        without = "has no effect on head=interest, which reads pairs of texts; leave it out"
        if loss.similarity != "auto":
            yield f"loss.similarity={loss.similarity}: {without}"
        yield from loss.unheeded({"num_negatives": f"{without}; one item is drawn for each interaction",
                                  "scale": without})
