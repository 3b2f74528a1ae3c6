"""What TransE, RotatE and ComplEx say of a triple: where its relation leads from one end, against the other end.

For all three the score of (head, relation, tail) is a comparison of two vectors, of which one is made of the relation
and an end, so a step's triples are compared with all their negatives by one product of matrices. A complex vector of
D / 2 numbers is its real parts, then its imaginary parts: D numbers.

Shapes: B triples, K entities to compare with, D numbers of a vector.
"""

import math

import torch

from llmrec_cli.settings.entities import ComplEx, EntitySettings, RotatE

SMALLEST = 1e-9
"""Added under a root, whose slope at 0 is infinite."""


def relation_size(settings: EntitySettings) -> int:
    """Return the numbers of a relation's vector: a rotation has one angle for each complex number."""
    return settings.embedding_size // 2 if isinstance(settings, RotatE) else settings.embedding_size


def start(num_entities: int, num_relations: int, settings: EntitySettings,
          generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random vectors of length about 1 of entities, and of relations, or angles between -pi and pi."""
    size = settings.embedding_size
    entities = torch.randn(num_entities, size, generator=generator) / math.sqrt(size)
    if isinstance(settings, RotatE):
        angles = torch.rand(num_relations, relation_size(settings), generator=generator)
        return entities, math.pi * (2 * angles - 1)
    return entities, torch.randn(num_relations, size, generator=generator) / math.sqrt(size)


def led_to(source_BD: torch.Tensor, relation_BD: torch.Tensor, backward: bool,
           settings: EntitySettings) -> torch.Tensor:
    """Return where relations lead from heads (B, D), or `backward` from tails.

    TransE: h + r and t - r. RotatE: h r and t conj(r), with r = exp(i angle), whose inverse is its conjugate.
    ComplEx: Re <h, r, conj t> is the product of h r with t, and of t conj(r) with h.
    """
    if isinstance(settings, RotatE):
        relation_BD = torch.cat([relation_BD.cos(), relation_BD.sin()], dim=1)
    elif not isinstance(settings, ComplEx):
        return source_BD - relation_BD if backward else source_BD + relation_BD
    real, imaginary = source_BD.chunk(2, dim=1)
    other_real, other_imaginary = relation_BD.chunk(2, dim=1)
    if backward:
        other_imaginary = -other_imaginary
    return torch.cat([real * other_real - imaginary * other_imaginary,
                      real * other_imaginary + imaginary * other_real], dim=1)


def paired(led_BD: torch.Tensor, end_BD: torch.Tensor, settings: EntitySettings) -> torch.Tensor:
    """Return the scores (B,) of where relations lead with one end each; higher is likelier.

    ComplEx (Trouillon et al. 2016, eq. 9): the product. TransE (Bordes et al. 2013, section 2) and RotatE (Sun et al.
    2019, eq. 2): minus the distance. Differs for RotatE: the Euclidean norm of the complex vector, where the authors'
    code adds up the moduli of its numbers, which no product of matrices computes.
    """
    if isinstance(settings, ComplEx):
        return (led_BD * end_BD).sum(dim=1)
    return -((led_BD - end_BD).square().sum(dim=1) + SMALLEST).sqrt()


def compared(led_BD: torch.Tensor, end_KD: torch.Tensor, settings: EntitySettings) -> torch.Tensor:
    """Return the scores (B, K) of where relations lead with each end."""
    product_BK = led_BD @ end_KD.T
    if isinstance(settings, ComplEx):
        return product_BK
    squares_BK = led_BD.square().sum(dim=1, keepdim=True) + end_KD.square().sum(dim=1) - 2 * product_BK
    return -(squares_BK.clamp_min(0) + SMALLEST).sqrt()
