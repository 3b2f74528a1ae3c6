"""Cross-encoder: a user's text and an item's text, read together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from llmrec_cli.settings.heads.base import TRAINING_HISTORIES, HeadSettings
from llmrec_cli.settings.loss import VALUES

_CANDIDATES = ("popularity", "item_knn", "user_knn", "ease")


@dataclass
class InterestSettings(HeadSettings):
    """Cross-encoder from a pair of texts (user and item) to the probability of a like, or to a value with loss=mse.

    It is trained on likes and dislikes if the data has them (dataset.feedback=explicit), else on interactions and
    randomly drawn items; with loss=mse on the values, if they differ.
    """

    implementation: ClassVar[str] = "llmrec_cli.heads.interest.head.Interest"
    learns_from: ClassVar[str] = VALUES
    learns_in_a_second: ClassVar[bool] = False
    kind: str = "interest"
    candidates: str = "item_knn"
    """popularity | item_knn | user_knn | ease: head whose lists are reranked; scoring all pairs would take too long.
    Text queries rank all items."""
    rerank: int = 50
    """Number of top items that are reranked, at least 1; the other items stay below them."""
    history_items: int = 8
    """Number of newest items in a history whose titles form the user's text, at least 1."""
    training_history: str = "auto"
    """auto | before | others: history in a training pair. before: the user's earlier items only. others: all other
    items of the user, also later ones. auto: before if interactions have times and the split is by time
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
        yield from loss.check_ignored({"num_negatives": f"{without}; one item is drawn for each interaction",
                                  "scale": without})
