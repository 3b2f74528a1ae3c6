"""Triple scores of TransE, RotatE and ComplEx by hand; all ways to compute a score agree."""

import math

import numpy as np
import pytest
import torch

from llmrec_cli.settings.entities import ENTITIES, ComplExSettings, RotatESettings, TransESettings
from llmrec_cli.training.triple_scores import triple_scores


def rows(*vectors):
    return torch.tensor(vectors, dtype=torch.float64)


def score(head, relation, tail, settings):
    scores = triple_scores(settings)
    return scores.score_pairs(scores.apply_relation(rows(head), rows(relation), False), rows(tail)).item()


def test_transe_is_minus_the_distance_between_head_plus_relation_and_tail():
    # (1, 2) + (2, 0) = (3, 2), which is (0, 4) away from (3, 6).
    assert score([1, 2], [2, 0], [3, 6], TransESettings()) == pytest.approx(-4)


def test_rotate_turns_each_number_of_the_head_and_takes_the_distance():
    # (1 + 0i) turned by a quarter is i; (0 + 2i) by a half -2i. As real parts, then imaginary: (0, 0, 1, -2).
    head, angles = [1, 0, 0, 2], [math.pi / 2, math.pi]
    assert score(head, angles, [0, 0, 1, -2], RotatESettings()) == pytest.approx(0, abs=1e-4)
    assert score(head, angles, [3, 0, 1, 2], RotatESettings()) == pytest.approx(-5)


def test_complex_is_the_real_part_of_the_product_with_the_conjugate_of_the_tail():
    head, relation, tail = [1 + 2j, 3 - 1j], [2 - 1j, 1j], [1 + 1j, 2 - 3j]
    by_hand = sum(h * r * t.conjugate() for h, r, t in zip(head, relation, tail, strict=True)).real
    # (1+2i)(2-i)(1-i) = (4+3i)(1-i) = 7-i; (3-i)i(2+3i) = (1+3i)(2+3i) = -7+9i.
    assert by_hand == 0
    flat = [[*(z.real for z in part), *(z.imag for z in part)] for part in (head, relation, tail)]
    assert score(*flat, ComplExSettings()) == pytest.approx(0, abs=1e-9)
    assert score(flat[0], flat[1], [1, 0, 0, 0], ComplExSettings()) == pytest.approx(4)


@pytest.mark.parametrize("kind", ENTITIES)
def test_a_triple_has_the_same_score_by_head_by_tail_and_in_a_batch(kind):
    scores = triple_scores(ENTITIES[kind](embedding_size=6))
    entities, relations = (t.double() for t in scores.start(5, 2, torch.Generator().manual_seed(3)))
    assert relations.shape == (2, {"rotate": 3}.get(kind, 6))
    head, relation, tail = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]), torch.tensor([3, 4, 0])
    forward = scores.apply_relation(entities[head], relations[relation], False)
    backward = scores.apply_relation(entities[tail], relations[relation], True)
    expected = scores.score_pairs(forward, entities[tail])
    torch.testing.assert_close(scores.score_pairs(backward, entities[head]), expected, atol=1e-6, rtol=1e-6)
    for led, end in ((forward, tail), (backward, head)):
        among = scores.score_all(led, entities)
        torch.testing.assert_close(among[torch.arange(3), end], expected, atol=1e-6, rtol=1e-6)


def test_a_distance_of_zero_has_a_finite_gradient():
    same, scores = torch.ones(1, 4, requires_grad=True), triple_scores(TransESettings())
    (scores.score_pairs(same, same.detach().clone()).sum() + scores.score_all(same, same).sum()).backward()
    assert same.grad is not None
    assert np.isfinite(same.grad.numpy()).all()
