"""Neural collaborative filtering."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.heads.pairs import PairSettings


@dataclass
class NeuralCf(PairSettings):
    """NeuMF: generalised matrix factorisation beside a perceptron (He et al. 2017)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.pairs.neural_cf.NeuralCf"
    kind: str = "neural_cf"
    candidates: int = 256
    """Items that each user of a step is scored with, at least 1: drawn evenly for the step, or all where the catalogue
    has no more. Those a user knows are no negatives. Has no effect on target=value and target=opinion."""
    layers: list[int] = field(default_factory=lambda: [32, 16])
    """Sizes of the perceptron's hidden layers, each at least 1; an empty list leaves the factorisation alone."""
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
