"""Filtered ranks against a loop over single queries, and the held-out split."""

import numpy as np
import pytest
import torch

from llmrec_cli.training.link_prediction import Ids, filtered_ranks, held_out, link_prediction


def ids(*triples) -> Ids:
    return Ids(*np.array(triples, np.int64).T)


def test_other_true_answers_do_not_lower_the_filtered_rank():
    scores = torch.tensor([[0.9, 0.8, 0.5, 0.1]])
    nothing = np.zeros(0, np.int64)
    assert filtered_ranks(scores, np.array([2]), (nothing, nothing)).tolist() == [3]
    assert filtered_ranks(scores, np.array([2]), (np.array([0, 0]), np.array([0, 2]))).tolist() == [2]


def test_equal_scores_get_the_mean_rank():
    nothing = np.zeros(0, np.int64)
    assert filtered_ranks(torch.zeros(1, 5), np.array([1]), (nothing, nothing)).tolist() == [3]


def test_ranks_equal_those_of_a_loop_over_queries():
    rng = np.random.default_rng(5)
    num_entities, num_relations = 12, 3
    triples = ids(*{tuple(int(x) for x in row) for row in
                    zip(rng.integers(12, size=60), rng.integers(3, size=60), rng.integers(12, size=60), strict=True)})
    held = triples.rows(np.arange(0, len(triples.head), 4))
    table = {back: rng.integers(6, size=(num_entities, num_relations, num_entities)) / 2 for back in (False, True)}

    metrics = link_prediction(held, triples, num_entities,
                            lambda source, relation, back: torch.from_numpy(table[back][source, relation]))

    every = set(zip(*(column.tolist() for column in triples), strict=True))
    ranks = []
    for h, r, t in zip(*(column.tolist() for column in held), strict=True):
        for back, source, own in ((False, h, t), (True, t, h)):
            scores = table[back][source, r]
            others = [e for e in range(num_entities) if e != own and
                      ((e, r, t) if back else (h, r, e)) not in every]
            ranks.append(1 + sum(scores[e] > scores[own] for e in others)
                         + sum(scores[e] == scores[own] for e in others) / 2)
    assert metrics["mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert metrics["hits@10"] == pytest.approx(np.mean([rank <= 10 for rank in ranks]))


def test_all_triples_of_a_pair_are_held_out_together():
    twins = [(a, 0, b) for a in range(20) for b in range(20, 30)]
    triples = ids(*twins, *((b, 1, a) for a, _, b in twins))
    is_held = held_out(triples, 30, 0.1, np.random.default_rng(1))
    first, second = is_held[:len(twins)], is_held[len(twins):]
    assert first.sum() == 20
    assert (first == second).all()


def test_the_only_triple_of_an_entity_is_never_held_out():
    # A star: each leaf is in one triple. A ring of three: each entity is in two.
    triples = ids(*((0, 0, leaf) for leaf in range(1, 40)), (40, 0, 41), (41, 0, 42), (42, 0, 40))
    for seed in range(20):
        is_held = held_out(triples, 43, 0.5, np.random.default_rng(seed))
        train = triples.rows(~is_held)
        assert set(range(43)) == {*train.head.tolist(), *train.tail.tolist()}
