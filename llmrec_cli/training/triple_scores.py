"""Scores of triples by TransE, RotatE and ComplEx: where a relation leads from one end, against the other end.

For all three the score of (head, relation, tail) is a comparison of two vectors, of which one is made of the relation
and an end, so a step's triples are compared with all their negatives by one product of matrices. A complex vector of
D / 2 numbers is its real parts, then its imaginary parts: D numbers.

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
"""Added under a root, whose slope at 0 is infinite."""

S = TypeVar("S", bound=EntitySettings)


class TripleScores(ABC, Generic[S]):
    """The score of a triple, in the two steps that every entity model has."""

    margin: float = 0.0
    """Distance that a triple of the graph is to be below and another above; 0 for scores that are no distance."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def start(self, num_entities: int, num_relations: int,
              generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return random vectors of length about 1 of entities and of relations."""
        size = self.settings.embedding_size
        entities = torch.randn(num_entities, size, generator=generator) / math.sqrt(size)
        return entities, torch.randn(num_relations, size, generator=generator) / math.sqrt(size)

    @abstractmethod
    def led_to(self, source_BD: torch.Tensor, relation_BD: torch.Tensor, backward: bool) -> torch.Tensor:
        """Return where relations lead from heads (B, D), or `backward` from tails."""

    @abstractmethod
    def paired(self, led_BD: torch.Tensor, end_BD: torch.Tensor) -> torch.Tensor:
        """Return the scores (B,) of where relations lead with one end each; higher is likelier."""

    @abstractmethod
    def compared(self, led_BD: torch.Tensor, end_KD: torch.Tensor) -> torch.Tensor:
        """Return the scores (B, K) of where relations lead with each end."""

    def penalty(self, *vectors_BD: torch.Tensor) -> torch.Tensor | None:
        """Return what is added to the loss of triples for their vectors; None for nothing."""
        return None


class DistanceScores(TripleScores[DistancesSettings]):
    """Scores that are minus a distance.

    Differs for RotatE: the Euclidean norm of the complex vector, where the authors' code adds up the moduli of its
    numbers, which no product of matrices computes.
    """

    def __init__(self, settings: DistancesSettings) -> None:
        super().__init__(settings)
        self.margin = settings.margin

    def paired(self, led_BD: torch.Tensor, end_BD: torch.Tensor) -> torch.Tensor:
        """Return minus the distances (B,)."""
        return -((led_BD - end_BD).square().sum(dim=1) + _SMALLEST).sqrt()

    def compared(self, led_BD: torch.Tensor, end_KD: torch.Tensor) -> torch.Tensor:
        """Return minus the distances (B, K), by one product."""
        product_BK = led_BD @ end_KD.T
        squares_BK = led_BD.square().sum(dim=1, keepdim=True) + end_KD.square().sum(dim=1) - 2 * product_BK
        return -(squares_BK.clamp_min(0) + _SMALLEST).sqrt()


class TransEScores(DistanceScores):
    """TransE (Bordes et al. 2013, section 2): h + r against t."""

    settings: TransESettings

    def led_to(self, source_BD: torch.Tensor, relation_BD: torch.Tensor, backward: bool) -> torch.Tensor:
        """Return h + r, or t - r."""
        return source_BD - relation_BD if backward else source_BD + relation_BD


class RotatEScores(DistanceScores):
    """RotatE (Sun et al. 2019, eq. 2): h r against t, with r = exp(i angle), whose inverse is its conjugate."""

    settings: RotatESettings

    def start(self, num_entities: int, num_relations: int,
              generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return random vectors of entities, and an angle between -pi and pi for each complex number of a relation."""
        size = self.settings.embedding_size
        entities = torch.randn(num_entities, size, generator=generator) / math.sqrt(size)
        angles = torch.rand(num_relations, size // 2, generator=generator)
        return entities, math.pi * (2 * angles - 1)

    def led_to(self, source_BD: torch.Tensor, relation_BD: torch.Tensor, backward: bool) -> torch.Tensor:
        """Return h r, or t conj(r)."""
        return complex_product(source_BD, torch.cat([relation_BD.cos(), relation_BD.sin()], dim=1), backward)


class ComplExScores(TripleScores[ComplExSettings]):
    """ComplEx (Trouillon et al. 2016, eq. 9): Re <h, r, conj t>, the product of h r with t, and of t conj(r) with h."""

    def led_to(self, source_BD: torch.Tensor, relation_BD: torch.Tensor, backward: bool) -> torch.Tensor:
        """Return h r, or t conj(r)."""
        return complex_product(source_BD, relation_BD, backward)

    def paired(self, led_BD: torch.Tensor, end_BD: torch.Tensor) -> torch.Tensor:
        """Return the products (B,)."""
        return (led_BD * end_BD).sum(dim=1)

    def compared(self, led_BD: torch.Tensor, end_KD: torch.Tensor) -> torch.Tensor:
        """Return the products (B, K)."""
        return led_BD @ end_KD.T

    def penalty(self, *vectors_BD: torch.Tensor) -> torch.Tensor | None:
        """Return `l2` times the sum of squares, None with l2=0."""
        if self.settings.l2 == 0:
            return None
        return self.settings.l2 * sum((part.square().sum() for part in vectors_BD), vectors_BD[0].new_zeros(()))


def complex_product(source_BD: torch.Tensor, relation_BD: torch.Tensor, conjugate: bool) -> torch.Tensor:
    """Return the products (B, D) of complex numbers, with `conjugate` of the relation's conjugates."""
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
