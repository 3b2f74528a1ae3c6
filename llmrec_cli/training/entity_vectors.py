"""Entity vectors of a knowledge graph, learned from its triples: TransE, RotatE and ComplEx.

A step gathers and updates only the rows of its triples and negatives, so its cost depends on the batch and not on the
graph. Training holds the triples, a permutation of them, the vectors and one more number per entity.

Shapes: T triples, B triples of a step, K negatives per end, E entities, L distinct entities of a step, D numbers of a
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
    """The vectors of entities (E, D) and relations, and the Adagrad state of each."""

    def __init__(self, num_entities: int, num_relations: int, settings: EntitySettings, seed: int,
                 device: torch.device) -> None:
        self.settings, self.scores, self.device = settings, triple_scores(settings), device
        entities, relations = self.scores.start(num_entities, num_relations, torch.Generator().manual_seed(seed))
        self.entities, self.relations = entities.to(device), relations.to(device)
        self.entity_squares = torch.zeros(num_entities, device=device)
        self.relation_squares = torch.zeros(num_relations, device=device)

    def answers(self, source: np.ndarray, relation: np.ndarray, backward: bool) -> torch.Tensor:
        """Return the scores of all entities as tails (with `backward`, heads) of each source and relation."""
        source_QD = self.entities[torch.from_numpy(source).to(self.device)]
        relation_QD = self.relations[torch.from_numpy(relation).to(self.device)]
        return self.scores.score_all(self.scores.apply_relation(source_QD, relation_QD, backward), self.entities)

    def step(self, triples: Ids, negatives: np.ndarray) -> float:
        """Take a step on triples (B,) and return their mean loss; `negatives` (2, K) replace tails and heads."""
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
        for backward, source, end, others, own, negative_K in (
                (False, head_BD, tail_BD, no_tail_KD, triples.tail, negatives[0]),
                (True, tail_BD, head_BD, no_head_KD, triples.head, negatives[1])):
            predicted_BD = scores.apply_relation(source, relation_BD, backward)
            is_own_BK = torch.from_numpy(own[:, None] == negative_K).to(self.device)
            loss = loss + self_adversarial_loss(
                scores.score_pairs(predicted_BD, end), scores.score_all(predicted_BD, others), is_own_BK,
                scores.margin, self.settings.adversarial_temperature)
        if (penalty := scores.penalty(head_BD, tail_BD, relation_BD)) is not None:
            loss = loss + penalty
        gradients = torch.autograd.grad(loss, [vectors_LD, relations])
        with torch.no_grad():
            self._adagrad(self.entities, self.entity_squares, rows_L, gradients[0])
            self._adagrad(self.relations, self.relation_squares, relation_B.unique(), gradients[1])
        return loss.item() / num

    def _adagrad(self, table: torch.Tensor, squares: torch.Tensor, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        """Update rows by Adagrad with one accumulator per row (Lerer et al. 2019, section 4.1)."""
        gradient = gradient if len(gradient) == len(rows) else gradient[rows]
        squares[rows] += gradient.square().mean(dim=1)
        table[rows] -= self.settings.learning_rate * gradient / (squares[rows].sqrt() + _EPSILON)[:, None]


def self_adversarial_loss(score_B: torch.Tensor, negative_BK: torch.Tensor, is_own_BK: torch.Tensor,
                          margin: float, temperature: float) -> torch.Tensor:
    """Return the loss of triples and their negatives, summed over the triples (Sun et al. 2019, eq. 5 and 6).

    With scores that are minus a distance: -log s(margin + score) - sum_k p_k log s(-negative_k - margin), where p is
    the softmax of the negatives times the temperature, without a gradient. Without a margin it is the logistic loss of
    Trouillon et al. 2016. A negative that equals the triple's own end has weight 0.
    """
    weights = temperature * negative_BK.detach()
    weight_BK = weights.masked_fill(is_own_BK, -torch.inf).softmax(dim=1).nan_to_num(0.0)
    wrong_B = (weight_BK * functional.softplus(negative_BK + margin)).sum(dim=1)
    return (functional.softplus(-score_B - margin) + wrong_B).sum()


def batches(triples: Ids, num_entities: int, settings: EntitySettings,
            generator: np.random.Generator) -> Iterator[tuple[Ids, np.ndarray]]:
    """Yield the triples of an epoch in random order, with negatives (2, K) that replace their tails and heads.

    Half of the negatives are ends of triples in the same batch, the rest random entities. In-batch ends include enough
    entities of the right kind (such as languages among thousands of people), and frequent ones more often. Differs from
    all three papers, which draw all entities evenly for every triple.
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
    """Return vectors float32 (E, D) learned from all triples, zeros for an entity without triples.

    If triples are held out, a first training run without them finds the number of epochs that predicts them best; a
    second run of as many epochs on all triples gives the vectors. `log` is called with the event `entity_vectors` and
    the filtered mean reciprocal rank and hits@10 of held-out triples before and after the first run. Raises
    DivergedError if the loss is not finite.
    """
    is_held_T = held_out(triples, num_entities, settings.held_out, np.random.default_rng(seed))
    started = time.monotonic()
    epochs, num_trained = settings.epochs, 0
    metrics: dict[str, Any] = {"before": {}, "after": {}}
    if is_held_T.any():
        epochs, metrics = _best_epoch(triples, is_held_T, num_entities, num_relations, settings, seed, device)
        num_trained = settings.epochs * int((~is_held_T).sum())
    model, generator = EntityModel(num_entities, num_relations, settings, seed, device), np.random.default_rng(seed)
    losses = [_train_epoch(model, triples, epoch, generator) for epoch in range(epochs)]
    seconds = time.monotonic() - started
    num_trained += epochs * len(triples.head)
    log("entity_vectors", model=settings.kind, triples=len(triples.head), entities=num_entities,
        seconds=round(seconds, 2), triples_per_second=round(num_trained / max(seconds, 1e-9)), losses=losses,
        epochs=epochs, held_out=int(is_held_T.sum()), **metrics)
    named_E = np.zeros(num_entities, bool)
    named_E[triples.head] = named_E[triples.tail] = True
    vectors_ED: np.ndarray = model.entities.cpu().numpy()
    vectors_ED[~named_E] = 0
    return vectors_ED


def _best_epoch(triples: Ids, is_held_T: np.ndarray, num_entities: int, num_relations: int, settings: EntitySettings,
                seed: int, device: torch.device) -> tuple[int, dict[str, Any]]:
    """Return the number of epochs (at most `settings.epochs`) that predicts held-out triples best, and the metrics.

    Each epoch is evaluated on a random sample of held-out triples, small enough to keep the scores of all epochs within
    MOST_SCORES. The sample is random because files are often sorted by relation.
    """
    train, held = triples.rows(~is_held_T), triples.rows(is_held_T)
    most = max(1, MOST_SCORES // (2 * num_entities * settings.epochs))
    sample = held.rows(np.sort(np.random.default_rng(seed).permutation(len(held.head))[:most]))
    model = EntityModel(num_entities, num_relations, settings, seed, device)
    generator = np.random.default_rng(seed)
    before = link_prediction(sample, triples, num_entities, model.answers)
    metrics = []
    for epoch in range(settings.epochs):
        _train_epoch(model, train, epoch, generator)
        metrics.append(link_prediction(sample, triples, num_entities, model.answers))
    best = int(np.argmax([each["mrr"] for each in metrics]))
    return best + 1, {"before": before, "after": metrics[best]}


def _train_epoch(model: EntityModel, triples: Ids, epoch: int, generator: np.random.Generator) -> float:
    """Train one epoch and return the mean loss of the triples."""
    settings = model.settings
    total = sum(model.step(batch, negatives) * len(batch.head)
                for batch, negatives in batches(triples, len(model.entities), settings, generator))
    loss = total / len(triples.head)
    if not np.isfinite(loss):
        raise DivergedError(f"entities={settings.kind}: the loss is {loss} in epoch {epoch + 1}; lower "
                            f"entities.learning_rate={settings.learning_rate}")
    return loss
