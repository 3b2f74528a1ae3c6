"""Heads that learn a score per user-item pair: mf, neural_cf, factorization_machine."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrec_cli.settings.adversarial import ROWS
from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.loss import LOSSES, ScoreLossSettings

_OF_PAIRS = ("value", "opinion")
TARGETS = ("auto", "choice", *_OF_PAIRS)


@dataclass
class PairSettings(HeadSettings):
    """Vectors of users and items, trained with any loss on scores."""

    adversary_target: ClassVar[str] = ROWS
    embedding_size: int = 128
    """Size of user and item vectors, at least 1."""
    l2: float = 0.05
    """Penalty on the squared norm of each interaction's user and item vectors, at least 0; use less for more data."""
    target: str = "auto"
    """auto | choice | value | opinion: target of training. choice: interactions against other items, for ranking.
    value: the value of an interaction (a rating), with loss=mse. opinion: likes (1) and dislikes (0), with loss=bce and
    data with dislikes (dataset.feedback=explicit). auto: value with loss=mse if values differ, opinion with loss=bce if
    there are dislikes, else choice."""
    candidates: int = 4096
    """Number of candidate items per training step, at least 1, drawn uniformly and shared by its users; all items if
    the catalogue is smaller. Items in a user's history are not negatives. No effect with target=value and
    target=opinion."""
    stop_after: int | None = None
    """Epochs to run, at least 1; the learning rate is still scheduled for optim.epochs. Set by validation for a refit.
    null runs up to optim.epochs."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("embedding_size", "candidates", "stop_after", least=1)
        yield from self.check("l2", least=0)
        yield from self.check("target", among=TARGETS)

    def uses(self) -> set[str]:
        return {"adversarial", "loss", "optim"}

    def compares_by_cosine(self, loss: ScoreLossSettings) -> bool:
        """Return True if scores are cosines of user and item vectors."""
        return False

    def problems_with(self, loss: Any) -> Iterator[str]:
        if self.target in _OF_PAIRS and self.target != loss.pair_target:
            able = " or ".join(f"loss={name}" for name, other in LOSSES.items() if other.pair_target == self.target)
            yield f"head.target={self.target}: needs {able}, not loss={loss.kind}"
        without = f"has no effect on head={self.kind}"
        cosine = self.compares_by_cosine(loss)
        if loss.similarity == "cosine" and not cosine:
            yield f"loss.similarity=cosine: {without}, which does not score by two vectors; leave it at auto"
        of_cosines = f"{without} without loss.similarity=cosine; leave it out"
        yield from loss.check_ignored({
            "popularity_correction": f"{without}, which draws all items uniformly; leave it out",
            "num_negatives": f"{without}; set head.candidates instead",
            "hard_negatives": f"{without}; leave it out or take head=two_tower",
            "label_smoothing": f"{without}; leave it out", "learn_temperature": f"{without}; leave it out",
            **({} if cosine else {"temperature": of_cosines, "scale": of_cosines})})


@dataclass
class MfSettings(PairSettings):
    """Matrix factorisation with biases (Koren et al. 2009; Rendle et al. 2009 with loss=bpr)."""

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


@dataclass
class NeuralCfSettings(PairSettings):
    """NeuMF: generalised matrix factorisation and a multi-layer perceptron (He et al. 2017)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.pairs.neural_cf.NeuralCf"
    kind: str = "neural_cf"
    candidates: int = 256
    """Number of candidate items per training step, at least 1, drawn uniformly and shared by its users; all items if
    the catalogue is smaller. Items in a user's history are not negatives. No effect with target=value and
    target=opinion."""
    layers: list[int] = field(default_factory=lambda: [32, 16])
    """Sizes of the perceptron's hidden layers, each at least 1; [] uses the factorisation only."""
    dropout: float = 0.0
    """Dropout on each hidden layer, 0 to 1."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.embedding_size=16", "head.candidates=20", "loss=bce", "optim.epochs=30"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("dropout", least=0, most=0.99)
        if any(size < 1 for size in self.layers):
            yield f"layers={self.layers}: sizes must be at least 1"


@dataclass
class FactorizationMachineSettings(PairSettings):
    """Factorisation machine over ids and attributes of users and items (Rendle 2010)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.pairs.factorization_machine.FactorizationMachine"
    kind: str = "factorization_machine"
    id_dropout: float = 0.0
    """Probability that a training step hides an item's id, 0 to 1; above 0 lets attributes score new items."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.embedding_size=16", "optim.epochs=30"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("id_dropout", least=0, most=0.99)
