"""Vectors of the entities of a knowledge graph, learned from its triples: TransE, RotatE and ComplEx.

A step gathers the rows that its triples and negatives name, and changes these alone, so that its cost depends on the
step and not on the graph. Training holds the triples, an order of them, the vectors and one number more of each entity.

Shapes: T triples, B of them in a step, K negatives of an end, E entities, L distinct entities of a step, D numbers of a
vector.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from llmrec_cli.errors import DivergedError
from llmrec_cli.settings.entities import EntitySettings
from llmrec_cli.training.link_prediction import MOST_SCORES, Ids, held_out, link_prediction
from llmrec_cli.training.triple_scores import triple_scores

_EPSILON = 1e-10


class EntityModel:
    """The vectors of entities (E, D) and relations, and what Adagrad remembers of each."""

    def __init__(self, num_entities: int, num_relations: int, settings: EntitySettings, seed: int,
                 device: torch.device) -> None:
        self.settings, self.scores, self.device = settings, triple_scores(settings), device
        entities, relations = self.scores.start(num_entities, num_relations, torch.Generator().manual_seed(seed))
        self.entities, self.relations = entities.to(device), relations.to(device)
        self.entity_squares = torch.zeros(num_entities, device=device)
        self.relation_squares = torch.zeros(num_relations, device=device)

    def answers(self, source: np.ndarray, relation: np.ndarray, backward: bool) -> torch.Tensor:
        """Return the scores of all entities as tails, or `backward` as heads, of each source and relation."""
        source_QD = self.entities[torch.from_numpy(source).to(self.device)]
        relation_QD = self.relations[torch.from_numpy(relation).to(self.device)]
        return self.scores.compared(self.scores.led_to(source_QD, relation_QD, backward), self.entities)

    def step(self, triples: Ids, negatives: np.ndarray) -> float:
        """Take a step on triples (B,) and return their mean loss; `negatives` (2, K) stand in for tails and heads."""
        scores, num = self.scores, len(triples.head)
        rows, place = np.unique(np.concatenate([triples.head, triples.tail, negatives.ravel()]), return_inverse=True)
        rows_L, place_A = torch.from_numpy(rows).to(self.device), torch.from_numpy(place).to(self.device)
        relation_B = torch.from_numpy(triples.relation).to(self.device)
        vectors_LD = self.entities.index_select(0, rows_L).requires_grad_()
        relations = self.relations.detach().requires_grad_()
        parts = vectors_LD.index_select(0, place_A).split([num, num, negatives.shape[1], negatives.shape[1]])
        head_BD, tail_BD, no_tail_KD, no_head_KD = parts
        relation_BD = relations.index_select(0, relation_B)
        loss = vectors_LD.new_zeros(())
        for backward, source, end, others, own, drawn in (
                (False, head_BD, tail_BD, no_tail_KD, triples.tail, negatives[0]),
                (True, tail_BD, head_BD, no_head_KD, triples.head, negatives[1])):
            led_BD = scores.led_to(source, relation_BD, backward)
            is_own_BK = torch.from_numpy(own[:, None] == drawn).to(self.device)
            loss = loss + self_adversarial_loss(scores.paired(led_BD, end), scores.compared(led_BD, others), is_own_BK,
                                                scores.margin, self.settings.adversarial_temperature)
        if (penalty := scores.penalty(head_BD, tail_BD, relation_BD)) is not None:
            loss = loss + penalty
        gradients = torch.autograd.grad(loss, [vectors_LD, relations])
        with torch.no_grad():
            self._adagrad(self.entities, self.entity_squares, rows_L, gradients[0])
            self._adagrad(self.relations, self.relation_squares, relation_B.unique(), gradients[1])
        return loss.item() / num

    def _adagrad(self, table: torch.Tensor, squares: torch.Tensor, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        """Move rows by Adagrad with one number a row (Lerer et al. 2019, section 4.1), not one a number."""
        gradient = gradient if len(gradient) == len(rows) else gradient[rows]
        squares[rows] += gradient.square().mean(dim=1)
        table[rows] -= self.settings.learning_rate * gradient / (squares[rows].sqrt() + _EPSILON)[:, None]


def self_adversarial_loss(score_B: torch.Tensor, negative_BK: torch.Tensor, is_own_BK: torch.Tensor,
                          margin: float, temperature: float) -> torch.Tensor:
    """Return the loss of triples and their negatives, summed over the triples (Sun et al. 2019, eq. 5 and 6).

    With scores of minus a distance, -log s(margin + score) - sum_k p_k log s(-negative_k - margin), p the softmax of
    the negatives times the temperature, taken as given. Without a margin it is the logistic loss of Trouillon et al.
    2016. A negative that is the triple's own end weighs nothing.
    """
    weights = temperature * negative_BK.detach()
    weight_BK = weights.masked_fill(is_own_BK, -torch.inf).softmax(dim=1).nan_to_num(0.0)
    wrong_B = (weight_BK * functional.softplus(negative_BK + margin)).sum(dim=1)
    return (functional.softplus(-score_B - margin) + wrong_B).sum()


def batches(triples: Ids, num_entities: int, settings: EntitySettings,
            generator: np.random.Generator) -> Iterator[tuple[Ids, np.ndarray]]:
    """Yield the triples of an epoch in a random order, with entities (2, K) to stand in for their tails and heads.

    Half of them are ends of the same batch: only there are enough of the kind that is asked for (languages, say, among
    thousands of people), and those named often are told apart more often. Differs from all three papers, which draw
    every entity evenly for every triple.
    """
    order, size = generator.permutation(len(triples.head)), settings.batch_size
    for first in range(0, len(order), size):
        batch = triples.rows(order[first:first + size])
        negatives = generator.integers(num_entities, size=(2, settings.num_negatives))
        near = generator.integers(len(batch.head), size=(2, settings.num_negatives // 2))
        negatives[:, :near.shape[1]] = batch.tail[near[0]], batch.head[near[1]]
        yield batch, negatives


def learn_entity_vectors(triples: Ids, num_entities: int, num_relations: int, settings: EntitySettings, seed: int,
                         device: torch.device, log: Callable[..., Any]) -> np.ndarray:
    """Return vectors float32 (E, D) learned from all triples, zeros for an entity that no triple names.

    Where some are held out, a first training without them says after how many epochs they are told best, and the
    vectors are those of a second one on all triples for as many. `log` is called with the event `entity_vectors` and
    the filtered mean reciprocal rank and hits@10 of triples held out, before and after the first. Raises DivergedError
    where the loss is no number.
    """
    is_held_T = held_out(triples, num_entities, settings.held_out, np.random.default_rng(seed))
    started = time.monotonic()
    epochs, num_trained = settings.epochs, 0
    measured: dict[str, Any] = {"before": {}, "after": {}}
    if is_held_T.any():
        epochs, measured = _best_epoch(triples, is_held_T, num_entities, num_relations, settings, seed, device)
        num_trained = settings.epochs * int((~is_held_T).sum())
    model, generator = EntityModel(num_entities, num_relations, settings, seed, device), np.random.default_rng(seed)
    losses = [_train_epoch(model, triples, epoch, generator) for epoch in range(epochs)]
    seconds = time.monotonic() - started
    num_trained += epochs * len(triples.head)
    log("entity_vectors", model=settings.kind, triples=len(triples.head), entities=num_entities,
        seconds=round(seconds, 2), triples_per_second=round(num_trained / max(seconds, 1e-9)), losses=losses,
        epochs=epochs, held_out=int(is_held_T.sum()), **measured)
    named_E = np.zeros(num_entities, bool)
    named_E[triples.head] = named_E[triples.tail] = True
    vectors_ED: np.ndarray = model.entities.cpu().numpy()
    vectors_ED[~named_E] = 0
    return vectors_ED


def _best_epoch(triples: Ids, is_held_T: np.ndarray, num_entities: int, num_relations: int, settings: EntitySettings,
                seed: int, device: torch.device) -> tuple[int, dict[str, Any]]:
    """Return after how many of at most `settings.epochs` epochs the triples held out are told best, and how well.

    Each epoch is measured on as many of them, drawn at random, as keep the scores of all epochs within MOST_SCORES: a
    file is often sorted by relation, so that its first ones are of one kind.
    """
    seen, asked = triples.rows(~is_held_T), triples.rows(is_held_T)
    most = max(1, MOST_SCORES // (2 * num_entities * settings.epochs))
    some = asked.rows(np.sort(np.random.default_rng(seed).permutation(len(asked.head))[:most]))
    model = EntityModel(num_entities, num_relations, settings, seed, device)
    generator = np.random.default_rng(seed)
    before = link_prediction(some, triples, num_entities, model.answers)
    measured = []
    for epoch in range(settings.epochs):
        _train_epoch(model, seen, epoch, generator)
        measured.append(link_prediction(some, triples, num_entities, model.answers))
    best = int(np.argmax([each["mrr"] for each in measured]))
    return best + 1, {"before": before, "after": measured[best]}


def _train_epoch(model: EntityModel, triples: Ids, epoch: int, generator: np.random.Generator) -> float:
    """Go through the triples once and return their mean loss."""
    settings = model.settings
    total = sum(model.step(batch, negatives) * len(batch.head)
                for batch, negatives in batches(triples, len(model.entities), settings, generator))
    loss = total / len(triples.head)
    if not np.isfinite(loss):
        raise DivergedError(f"entities={settings.kind}: the loss is {loss} in epoch {epoch + 1}; lower "
                            f"entities.learning_rate={settings.learning_rate}")
    return loss
