"""Biased matrix factorisation."""

from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.heads.pairs import PairSettings
from llmrec_cli.settings.loss import ScoreLossSettings


@dataclass
class Mf(PairSettings):
    """Biased matrix factorisation (Koren et al. 2009; Rendle et al. 2009 with loss=bpr)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.pairs.mf.Mf"
    kind: str = "mf"

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        small = ["head.embedding_size=16", "optim.epochs=30"]
        return {"": small, "bpr": [*small, "head.candidates=10", "head.l2=0.01", "loss=bpr"],
                "cosine": [*small, "head.l2=0.01", "loss.similarity=cosine"],
                "mse": [*small, "head.target=choice", "head.l2=0.01", "loss=mse"]}

    def compares_by_cosine(self, loss: ScoreLossSettings) -> bool:
        return loss.similarity == "cosine"
