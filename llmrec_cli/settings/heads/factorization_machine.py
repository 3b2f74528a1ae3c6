"""Factorisation machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.heads.pairs import PairSettings


@dataclass
class FactorizationMachine(PairSettings):
    """Factorisation machine over ids and attributes of users and items (Rendle 2010)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.pairs.factorization_machine.FactorizationMachine"
    kind: str = "factorization_machine"
    id_dropout: float = 0.0
    """Chance that a training step hides an item's id, 0 to 1; above 0 the attributes learn to answer for new items."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.embedding_size=16", "optim.epochs=30"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("id_dropout", least=0, most=0.99)
