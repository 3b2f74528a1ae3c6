"""Triple scores of TransE, RotatE and ComplEx.

In all three the score of (head, relation, tail) compares an end with a vector predicted from the relation and the other
end, so one matrix product compares a step's triples with all negatives. A complex vector of D / 2 numbers is stored as
D numbers: its real parts, then its imaginary parts.

Shapes: B triples, K entities to compare with, D numbers of a vector.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import torch

from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.entities import (
    ComplExSettings,
    DistancesSettings,
    EntitySettings,
    RotatESettings,
    TransESettings,
)

_SMALLEST = 1e-9
"""Added before a square root, whose slope at 0 is infinite."""

S = TypeVar("S", bound=EntitySettings)


class TripleScores(ABC, Generic[S]):
    """The score of a triple in two steps: apply the relation to one end, then compare with the other end."""

    margin: float = 0.0
    """Distance that separates true triples (below) from negatives (above); 0 for scores that are no distances."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def start(self, num_entities: int, num_relations: int,
              generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return random vectors of length about 1 for entities and relations."""
        size = self.settings.embedding_size
        entities = torch.randn(num_entities, size, generator=generator) / math.sqrt(size)
        return entities, torch.randn(num_relations, size, generator=generator) / math.sqrt(size)

    @abstractmethod
    def apply_relation(self, source_BD: torch.Tensor, relation_BD: torch.Tensor, backward: bool) -> torch.Tensor:
        """Return the predicted tails of heads and relations (B, D), or with `backward` the heads of tails."""

    @abstractmethod
    def score_pairs(self, predicted_BD: torch.Tensor, end_BD: torch.Tensor) -> torch.Tensor:
        """Return the scores (B,) of predicted ends with one end each; higher is more likely."""

    @abstractmethod
    def score_all(self, predicted_BD: torch.Tensor, end_KD: torch.Tensor) -> torch.Tensor:
        """Return the scores (B, K) of predicted ends with all ends."""

    def penalty(self, *vectors_BD: torch.Tensor) -> torch.Tensor | None:
        """Return the regularisation term of the vectors of triples; None for no term."""
        return None


class DistanceScores(TripleScores[DistancesSettings]):
    """Scores that are minus a distance.

    Differs for RotatE: the Euclidean norm of the complex vector. The authors' code sums the moduli of its numbers,
    which a matrix product cannot compute.
    """

    def __init__(self, settings: DistancesSettings) -> None:
        super().__init__(settings)
        self.margin = settings.margin

    def score_pairs(self, predicted_BD: torch.Tensor, end_BD: torch.Tensor) -> torch.Tensor:
        """Return minus the distances (B,)."""
        return -((predicted_BD - end_BD).square().sum(dim=1) + _SMALLEST).sqrt()

    def score_all(self, predicted_BD: torch.Tensor, end_KD: torch.Tensor) -> torch.Tensor:
        """Return minus the distances (B, K), by one matrix product."""
        product_BK = predicted_BD @ end_KD.T
        squares_BK = predicted_BD.square().sum(dim=1, keepdim=True) + end_KD.square().sum(dim=1) - 2 * product_BK
        return -(squares_BK.clamp_min(0) + _SMALLEST).sqrt()


class TransEScores(DistanceScores):
    """TransE (Bordes et al. 2013, section 2): h + r against t."""

    settings: TransESettings

    def apply_relation(self, source_BD: torch.Tensor, relation_BD: torch.Tensor, backward: bool) -> torch.Tensor:
        """Return h + r, or t - r."""
        return source_BD - relation_BD if backward else source_BD + relation_BD


class RotatEScores(DistanceScores):
    """RotatE (Sun et al. 2019, eq. 2): h r against t, with r = exp(i angle), whose inverse is its conjugate."""

    settings: RotatESettings

    def start(self, num_entities: int, num_relations: int,
              generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return random entity vectors, and an angle between -pi and pi for each complex number of a relation."""
        size = self.settings.embedding_size
        entities = torch.randn(num_entities, size, generator=generator) / math.sqrt(size)
        angles = torch.rand(num_relations, size // 2, generator=generator)
        return entities, math.pi * (2 * angles - 1)

    def apply_relation(self, source_BD: torch.Tensor, relation_BD: torch.Tensor, backward: bool) -> torch.Tensor:
        """Return h r from the heads h, or with `backward` t conj(r) from the tails t."""
        return complex_product(source_BD, torch.cat([relation_BD.cos(), relation_BD.sin()], dim=1), backward)


class ComplExScores(TripleScores[ComplExSettings]):
    """ComplEx (Trouillon et al. 2016, eq. 9): Re <h, r, conj t>, the product of h r with t, and of t conj(r) with h."""

    def apply_relation(self, source_BD: torch.Tensor, relation_BD: torch.Tensor, backward: bool) -> torch.Tensor:
        """Return h r from the heads h, or with `backward` t conj(r) from the tails t."""
        return complex_product(source_BD, relation_BD, backward)

    def score_pairs(self, predicted_BD: torch.Tensor, end_BD: torch.Tensor) -> torch.Tensor:
        """Return the products (B,)."""
        return (predicted_BD * end_BD).sum(dim=1)

    def score_all(self, predicted_BD: torch.Tensor, end_KD: torch.Tensor) -> torch.Tensor:
        """Return the products (B, K)."""
        return predicted_BD @ end_KD.T

    def penalty(self, *vectors_BD: torch.Tensor) -> torch.Tensor | None:
        """Return `l2` times the sum of squares, None with l2=0."""
        if self.settings.l2 == 0:
            return None
        return self.settings.l2 * sum((part.square().sum() for part in vectors_BD), vectors_BD[0].new_zeros(()))


def complex_product(source_BD: torch.Tensor, relation_BD: torch.Tensor, conjugate: bool) -> torch.Tensor:
    """Return the complex products (B, D); `conjugate` uses the conjugate of the relation."""
    real, imaginary = source_BD.chunk(2, dim=1)
    other_real, other_imaginary = relation_BD.chunk(2, dim=1)
    if conjugate:
        other_imaginary = -other_imaginary
    return torch.cat([real * other_real - imaginary * other_imaginary,
                      real * other_imaginary + imaginary * other_real], dim=1)


def triple_scores(settings: EntitySettings) -> TripleScores[Any]:
    """Return the scores of the entity model that `settings` name."""
    built: TripleScores[Any] = implementation_of(settings)(settings)
    return built
