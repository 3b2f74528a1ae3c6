"""Entity vectors: a step by hand, negatives, and the relation patterns that each model can learn."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec_cli.errors import DivergedError
from llmrec_cli.settings.entities import ENTITIES, ComplExSettings, RotatESettings, TransESettings
from llmrec_cli.training.entity_vectors import EntityModel, batches, learn_entity_vectors, self_adversarial_loss
from llmrec_cli.training.link_prediction import Ids
from tests.some_slow import some_slow

CPU = torch.device("cpu")


def ids(*triples) -> Ids:
    return Ids(*np.array(triples, np.int64).T)


def learned(triples, num_entities, num_relations, settings, seed=1):
    events = []
    vectors = learn_entity_vectors(triples, num_entities, num_relations, settings, seed, CPU,
                                   lambda event, **values: events.append((event, values)))
    return vectors, events[0][1]


def test_negatives_are_weighted_by_their_likelihood_in_the_loss():
    score, negatives = torch.tensor([-1.0]), torch.tensor([[-1.0, -1.0 - math.log(3)]])
    own = torch.zeros(1, 2, dtype=torch.bool)
    # The negatives have weights 3/4 and 1/4. With a margin of 1 the first two terms are log(1 + exp(0)).
    by_hand = math.log(2) + 0.75 * math.log(2) + 0.25 * math.log(1 + 1 / 3)
    assert self_adversarial_loss(score, negatives, own, 1.0, 1.0).item() == pytest.approx(by_hand)
    alike = math.log(2) + 0.5 * math.log(2) + 0.5 * math.log(1 + 1 / 3)
    assert self_adversarial_loss(score, negatives, own, 1.0, 0.0).item() == pytest.approx(alike)


def test_a_negative_that_is_the_triples_own_end_weighs_nothing():
    score, negatives = torch.tensor([-1.0, -1.0]), torch.tensor([[-1.0, -5.0], [-1.0, -1.0]])
    own = torch.tensor([[False, True], [True, True]])
    # The first has one negative left, the second none.
    by_hand = 2 * math.log(2) + math.log(2)
    assert self_adversarial_loss(score, negatives, own, 1.0, 1.0).item() == pytest.approx(by_hand)


def test_negatives_replace_tails_and_heads_half_from_the_batch():
    triples = ids(*((n, 0, 100 + n) for n in range(40)))
    settings = TransESettings(batch_size=16, num_negatives=10)
    epoch = list(batches(triples, 10_000, settings, np.random.default_rng(2)))
    assert [len(batch.head) for batch, _ in epoch] == [16, 16, 8]
    assert sorted(np.concatenate([batch.head for batch, _ in epoch])) == list(range(40))
    for batch, (for_tails, for_heads) in epoch:
        assert set(for_tails[:5]) <= set(batch.tail)
        assert set(for_heads[:5]) <= set(batch.head)
        assert len({*for_tails[5:], *for_heads[5:]} - {*batch.tail, *batch.head}) >= 8


def test_a_step_moves_the_rows_it_names_alone():
    model = EntityModel(10, 3, TransESettings(embedding_size=4), 1, CPU)
    before, relations = model.entities.clone(), model.relations.clone()
    model.step(ids((0, 1, 2)), np.array([[3], [4]]))
    moved = (model.entities != before).any(dim=1)
    assert moved.tolist() == [True, False, True, True, True, *[False] * 5]
    assert (model.relations != relations).any(dim=1).tolist() == [False, True, False]
    assert (model.entity_squares > 0).tolist() == moved.tolist()


def test_a_first_step_of_adagrad_is_the_learning_rate_along_the_gradient():
    """Gradient over its own root mean square, times the rate; the loss and slope of a TransE triple by hand."""
    settings = TransESettings(embedding_size=2, learning_rate=0.5, margin=1.0)
    model = EntityModel(4, 1, settings, 1, CPU)
    model.entities[:] = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 100.0], [100.0, 0.0]])
    model.relations[:] = 0
    loss = model.step(ids((0, 0, 1)), np.array([[2], [3]]))
    # The triple is 5 apart and counts twice, once from each end; the negatives are too far to count.
    assert loss == pytest.approx(2 * math.log(1 + math.exp(5 - 1)), rel=1e-4)
    # The gradient of the head points along -(3, 4) / 5, of root mean square 1 / sqrt 2: it moves towards the tail.
    step = 0.5 * math.sqrt(2)
    np.testing.assert_allclose(model.entities[0].numpy(), [step * 0.6, step * 0.8], rtol=1e-4)


def ring(size, step=1):
    return [(n, (n + step) % size) for n in range(size)]


def test_rotate_learns_inverse_and_composed_relations():
    """A ring of 24 with the relations next, previous (its inverse) and next but one; some triples are held out."""
    size, settings = 24, RotatESettings(embedding_size=32, epochs=100, batch_size=32, num_negatives=24, held_out=0)
    every = [(n, 0, t) for n, t in ring(size)] + [(t, 1, n) for n, t in ring(size)] \
        + [(n, 2, t) for n, t in ring(size, 2)]
    seen = [triple for place, triple in enumerate(every) if triple[1] == 0 or place % 3]
    model = EntityModel(size, 3, settings, 1, CPU)
    generator = np.random.default_rng(1)
    for _ in range(settings.epochs):
        for batch, negatives in batches(ids(*seen), size, settings, generator):
            model.step(batch, negatives)
    angles = model.relations.numpy()
    off_inverse = np.angle(np.exp(1j * (angles[0] + angles[1])))
    off_composed = np.angle(np.exp(1j * (2 * angles[0] - angles[2])))
    # A dimension that is 0 for all entities has a random angle, so the mean would not be informative.
    assert np.median(np.abs(off_inverse)) < 0.05
    assert np.median(np.abs(off_composed)) < 0.05
    for h, r, t in set(every) - set(seen):
        assert model.answers(np.array([h]), np.array([r]), backward=False).argmax().item() == t


def test_complex_learns_symmetric_and_asymmetric_relations():
    """Most pairs of friends have a triple in one direction only; parents never have the reverse triple."""
    pairs = [(2 * n, 2 * n + 1) for n in range(20)]
    friends = [(a, 0, b) for a, b in pairs] + [(b, 0, a) for a, b in pairs[:14]]
    parents = [(a, 1, b) for a, b in ring(40, 7)]
    settings = ComplExSettings(embedding_size=32, epochs=100, batch_size=32, num_negatives=40, held_out=0)
    model = EntityModel(40, 2, settings, 1, CPU)
    generator = np.random.default_rng(1)
    for _ in range(settings.epochs):
        for batch, negatives in batches(ids(*friends, *parents), 40, settings, generator):
            model.step(batch, negatives)
    for a, b in pairs[14:]:
        assert model.answers(np.array([b]), np.array([0]), backward=False).argmax().item() == a
    back = [model.answers(np.array([b]), np.array([1]), backward=False)[0, a].item() for a, _, b in parents]
    assert max(back) < 0


def communities():
    """Twelve makers of ten things each, every maker in one of three towns."""
    triples = [(12 + n, 0, n % 12) for n in range(120)]
    return ids(*triples, *((maker, 1, 132 + maker % 3) for maker in range(12)))


@pytest.mark.parametrize("kind", some_slow(ENTITIES))
def test_training_ranks_held_out_triples_better(kind):
    rng = np.random.default_rng(3)
    # Things of a maker are linked to each other, so that a held-out link can be predicted.
    joined = [(12 + a, 2, 12 + a + 12 * int(rng.integers(1, 4))) for a in range(84)]
    triples = Ids(*(np.concatenate(parts) for parts in zip(communities(), ids(*joined), strict=True)))
    settings = ENTITIES[kind](embedding_size=16, epochs=40, batch_size=64, held_out=0.1)
    vectors, event = learned(triples, 135, 3, settings)
    assert vectors.shape == (135, 16)
    assert vectors.dtype == np.float32
    assert event["held_out"] > 3
    assert event["after"]["mrr"] > 2 * event["before"]["mrr"]
    assert event["losses"][-1] < event["losses"][0]


@pytest.mark.parametrize("kind", ENTITIES)
def test_held_out_triples_choose_the_epochs_and_are_learned_too(kind):
    """The vectors equal, bit by bit, those of training on all triples for the same number of epochs."""
    settings = ENTITIES[kind](embedding_size=8, epochs=6, batch_size=32, learning_rate=0.5, held_out=0.1)
    vectors, event = learned(communities(), 135, 2, settings)
    assert event["held_out"] > 0
    assert (event["triples"], len(event["losses"])) == (132, event["epochs"])
    assert 1 <= event["epochs"] <= 6
    again, _ = learned(communities(), 135, 2, replace(settings, epochs=event["epochs"], held_out=0))
    assert vectors.tobytes() == again.tobytes()


def test_the_number_of_epochs_is_the_best_on_held_out_triples(monkeypatch):
    values = iter([0.1, 0.2, 0.5, 0.4, 0.5])
    monkeypatch.setattr("llmrec_cli.training.entity_vectors.link_prediction",
                        lambda *_: {"mrr": next(values), "hits@10": 0.0})
    _, event = learned(communities(), 135, 2, TransESettings(embedding_size=4, epochs=4, held_out=0.1))
    assert (event["epochs"], event["before"]["mrr"], event["after"]["mrr"]) == (2, 0.1, 0.5)


def test_the_triples_that_choose_the_epoch_are_drawn_from_the_whole_file_and_are_the_same_for_all_epochs(monkeypatch):
    """With room for 3 of 40 held-out triples, ten seeds sample from both ends of the file."""
    samples, places = [], []
    monkeypatch.setattr("llmrec_cli.training.entity_vectors.MOST_SCORES", 3 * 2 * 40 * 2)
    monkeypatch.setattr("llmrec_cli.training.entity_vectors.link_prediction",
                        lambda some, *_: samples.append(some) or {"mrr": 0.1, "hits@10": 0.0})
    triples = ids(*((head, 0, tail) for head in range(40) for tail in range(head + 1, 40, 2)))
    for seed in range(10):
        samples.clear()
        learned(triples, 40, 1, TransESettings(embedding_size=4, epochs=2, held_out=0.1), seed)
        assert {len(some.head) for some in samples} == {3}
        assert all(np.array_equal(one, other) for some in samples for one, other in zip(some, samples[0], strict=True))
        rows = np.stack(triples, axis=1)
        places += [int(np.flatnonzero((rows == row).all(axis=1))[0]) for row in np.stack(samples[0], axis=1)]
    assert min(places) < len(triples.head) / 4
    assert max(places) > 3 * len(triples.head) / 4


@pytest.mark.parametrize("kind", ENTITIES)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(kind):
    settings = ENTITIES[kind](embedding_size=8, epochs=2)
    first, second, other = (learned(communities(), 135, 2, settings, seed)[0] for seed in (1, 1, 2))
    assert first.tobytes() == second.tobytes()
    assert not np.allclose(first, other)


def test_an_entity_that_no_triple_names_has_zeros():
    vectors, event = learned(ids((0, 0, 1), (1, 0, 2)), 5, 1, TransESettings(embedding_size=4, epochs=1, held_out=0))
    assert vectors.any(axis=1).tolist() == [True, True, True, False, False]
    assert (event["before"], event["after"], event["held_out"]) == ({}, {}, 0)


def test_a_loss_that_is_no_number_is_told_with_what_to_lower():
    settings = ComplExSettings(embedding_size=4, epochs=3, learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"entities=complex: the loss is .* lower entities.learning_rate=1e\+30"):
        learned(communities(), 135, 2, settings)
