"""Conformance checks of losses: of choices, of values, of similarities of texts, or of positions of histories.

Shapes: B rows of a step, C candidates.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.loss import CHOICES, POSITIONS, SIMILARITIES, VALUES, LossSettings
from llmrec_cli.testing.suite import Check
from llmrec_cli.training.losses.base import Loss, PointwiseLoss, UserScores, build_loss
from llmrec_cli.training.losses.shared_negatives import SharedNegativesLoss


@dataclass(frozen=True)
class LossCase:
    """An example of a loss."""

    settings: LossSettings

    @cached_property
    def loss(self) -> Any:
        """The loss."""
        return build_loss(self.settings)

    @property
    def ranks(self) -> bool:
        """True if the loss learns from choices."""
        return CHOICES in self.settings.works_with


def _rows(seed: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits (3, 5), the columns of the targets, and the mask of excluded candidates, targets included."""
    generator = torch.Generator().manual_seed(seed)
    logits, target = torch.randn(3, 5, generator=generator), torch.tensor([0, 3, 4])
    excluded = torch.rand(3, 5, generator=generator) < 0.3
    excluded[torch.arange(3), target] = True
    return logits, target, excluded


def a_loss_is_of_the_class_that_it_says_it_works_with(case: LossCase) -> None:
    """A loss of values is a PointwiseLoss, one of positions a SharedNegativesLoss, one of choices a Loss."""
    learns = case.settings.works_with
    assert set(learns) <= {CHOICES, VALUES, SIMILARITIES, POSITIONS}, f"works_with={learns}"
    assert learns, "works_with is empty"
    implementation = implementation_of(case.settings)
    assert issubclass(implementation, Loss) == (set(learns) != {SIMILARITIES}), f"works_with={learns}"
    assert issubclass(implementation, SharedNegativesLoss) == (POSITIONS in learns), f"works_with={learns}"
    assert issubclass(implementation, PointwiseLoss) == (VALUES in learns), f"works_with={learns}"


def a_higher_score_of_the_chosen_costs_less_and_of_another_item_more(case: LossCase) -> None:
    """The loss ranks the target above the other items."""
    if not case.ranks:
        return
    logits, target, own = torch.zeros(2, 3), torch.tensor([0, 1]), torch.eye(2, 3)
    usual = case.loss.of_choices(logits, target, own.bool())
    assert case.loss.of_choices(logits + 0.5 * own, target, own.bool()) < usual, "the chosen item gains nothing"
    assert case.loss.of_choices(logits + torch.tensor([0.0, 0.0, 0.5]), target, own.bool()) > usual, \
        "a negative costs nothing"


def excluded_candidates_cost_nothing_whatever_their_score(case: LossCase) -> None:
    """Items that a user has interacted with are no negatives."""
    if not case.ranks or getattr(case.settings, "label_smoothing", 0) > 0:
        return
    logits, target, excluded = _rows()
    others = excluded.clone()
    others[torch.arange(3), target] = False
    torch.testing.assert_close(case.loss.of_choices(logits + 7.0 * others, target, excluded),
                               case.loss.of_choices(logits, target, excluded))


def everything_excluded_leaves_a_finite_loss(case: LossCase) -> None:
    """A batch whose user has interacted with every candidate must not give NaN."""
    if not case.ranks:
        return
    logits = _rows()[0].requires_grad_(True)
    value = case.loss.against(logits[:, 0], logits, torch.ones(3, 5, dtype=torch.bool))
    assert torch.isfinite(value), f"{value.item()}"
    if value.requires_grad:
        assert torch.isfinite(torch.autograd.grad(value, logits)[0]).all(), "a gradient is NaN or infinite"


def a_weight_of_two_is_the_row_twice(case: LossCase) -> None:
    """Weights multiply a row's loss in the mean; negatives keep their weights."""
    if not case.ranks:
        return
    (logits, target, _), weight, twice = _rows(), torch.tensor([1.0, 2.0, 1.0]), torch.tensor([0, 1, 1, 2])
    excluded = torch.zeros_like(logits, dtype=torch.bool)
    weighted = case.loss.of_choices(logits, target, excluded, weight_B=weight)
    repeated = case.loss.of_choices(logits[twice], target[twice], excluded[twice])
    if isinstance(case.loss, PointwiseLoss):
        scores = logits[torch.arange(3), target]
        weighted, repeated = (case.loss.of_values(of, torch.ones_like(of), w) for of, w in
                              ((scores, weight), (scores[twice], None)))
    # The first is a mean over three rows, the second over four.
    torch.testing.assert_close(3 * weighted, 4 * repeated, rtol=1e-5, atol=1e-6)


def choices_and_positives_against_negatives_are_the_same(case: LossCase) -> None:
    """`of_choices` and `against` compute the same loss."""
    if not case.ranks or getattr(case.settings, "label_smoothing", 0) > 0:
        return
    logits, target, excluded = _rows()
    torch.testing.assert_close(case.loss.against(logits[torch.arange(3), target], logits, excluded),
                               case.loss.of_choices(logits, target, excluded))


def parts_of_a_step_add_up_to_it(case: LossCase) -> None:
    """Gradient accumulation does not change the loss: users of a step together, apart, and as plain rows."""
    if not case.ranks:
        return
    logits, target, excluded = _rows()
    positive, negatives = logits[torch.arange(3), target], torch.arange(5).expand(3, 5)
    free = (~excluded).sum(dim=1)

    def of(users: list[int]) -> torch.Tensor:
        share, negative_share = len(users) / 3, (free[users].sum() / free.sum()).item()
        step = UserScores(positive[users], logits[users], excluded[users], torch.arange(len(users)),
                          negatives[users] if case.loss.draws else None, 0.0, None, share, negative_share)
        value: torch.Tensor = case.loss.of_users(step)
        return value

    torch.testing.assert_close(of([0, 1]) + of([2]), of([0, 1, 2]))
    if getattr(case.settings, "label_smoothing", 0) == 0:
        torch.testing.assert_close(of([0, 1, 2]), case.loss.against(positive, logits, excluded))


def a_loss_over_the_catalogue_is_that_of_the_products(case: LossCase) -> None:
    """`of_catalogue` of a normalising loss gives the same result without holding all products."""
    if not case.ranks or not case.loss.normalises:
        return
    generator = torch.Generator().manual_seed(4)
    users, items = torch.randn(6, 3, generator=generator), torch.randn(4, 3, generator=generator)
    target, log_q = torch.tensor([0, 1, 2, 3, 0, 1]), torch.rand(4, generator=generator).log()
    expected = case.loss.of_choices(users @ items.T, target, torch.zeros(6, 4, dtype=torch.bool), log_q)
    torch.testing.assert_close(case.loss.of_catalogue(users, items, target, log_q), expected)


def the_expected_value_costs_least(case: LossCase) -> None:
    """A loss of values has its minimum at `expected`."""
    if VALUES not in case.settings.works_with:
        return
    scores = torch.tensor([-0.5, 0.25, 0.75], requires_grad=True)
    value = case.loss.of_values(scores, case.loss.expected(scores).detach())
    torch.testing.assert_close(torch.autograd.grad(value, scores)[0], torch.zeros(3))


def positions_learn_from_targets_and_shared_negatives(case: LossCase) -> None:
    """A loss of positions falls with the target's score, rises with a negative's, and a weight of 2 counts twice."""
    if POSITIONS not in case.settings.works_with:
        return
    generator = torch.Generator().manual_seed(6)
    users, targets = torch.randn(3, 4, generator=generator), torch.randn(3, 4, generator=generator)
    negatives, column = torch.randn(5, 4, generator=generator), torch.tensor([-1, 2, -1])

    def of(rows: list[int], targets_PE: torch.Tensor, weight_P: torch.Tensor | None = None) -> torch.Tensor:
        value: torch.Tensor = case.loss.of_positions(users[rows], targets_PE[rows], negatives, column[rows], 9,
                                                     weight_P=weight_P)
        return value

    usual = of([0, 1, 2], targets)
    assert torch.isfinite(usual), f"{usual.item()}"
    assert of([0, 1, 2], targets + 0.5 * users) < usual, "the target gains nothing"
    weight = torch.tensor([1.0, 2.0, 1.0])
    torch.testing.assert_close(3 * of([0, 1, 2], targets, weight), 4 * of([0, 1, 1, 2], targets))
    moved = users.clone().requires_grad_(True)
    value = case.loss.of_positions(moved, 0 * targets, negatives[:1], torch.full((3,), -1), 9)
    ascent, = torch.autograd.grad(value, moved)
    assert ((ascent @ negatives[0]) > 0).all(), "a negative costs nothing"


def a_loss_of_texts_pulls_items_of_the_same_user_together(case: LossCase) -> None:
    """A loss of similarities has `rows` to learn from, and falls along its gradient."""
    if SIMILARITIES not in case.settings.works_with:
        return
    matrix_UT = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0]], np.float32)
    loss = implementation_of(case.settings)(sp.csr_array(matrix_UT), case.settings, torch.device("cpu"))
    assert loss.rows.tolist() == [0, 1, 2], f"items to learn from: {loss.rows.tolist()} instead of 0, 1, 2"
    generator, items = torch.Generator().manual_seed(5), torch.from_numpy(loss.rows)
    vectors = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator), dim=1).requires_grad_(True)
    loss.refresh(vectors)
    value = loss(vectors, items)
    assert 0 < value < 100, f"a loss of {value.item()}: an item may be compared with itself"
    gradient = torch.autograd.grad(value, vectors)[0]
    assert torch.isfinite(gradient).all(), "a gradient is NaN or infinite"
    with torch.no_grad():
        moved = torch.nn.functional.normalize(vectors - 0.02 * gradient / gradient.norm(), dim=1)
        loss.refresh(vectors)
        assert loss(moved, items) < value, "a step along the gradient costs more"
        assert loss.logits(vectors, items).shape[0] == len(items), "logits need a row for each item"


def a_negative_costs_what_the_value_0_does(case: LossCase) -> None:
    """`of_negatives` is `of_values` of 0, row by row."""
    if VALUES not in case.settings.works_with:
        return
    scores = torch.tensor([-0.5, 0.25, 3.0])
    torch.testing.assert_close(case.loss.of_negatives(scores).mean(), case.loss.of_values(scores, torch.zeros(3)))


LOSS_CHECKS: tuple[Check[LossCase], ...] = (
    a_loss_is_of_the_class_that_it_says_it_works_with, a_higher_score_of_the_chosen_costs_less_and_of_another_item_more,
    excluded_candidates_cost_nothing_whatever_their_score, everything_excluded_leaves_a_finite_loss,
    a_weight_of_two_is_the_row_twice, choices_and_positives_against_negatives_are_the_same,
    parts_of_a_step_add_up_to_it, a_loss_over_the_catalogue_is_that_of_the_products, the_expected_value_costs_least,
    a_negative_costs_what_the_value_0_does, positions_learn_from_targets_and_shared_negatives,
    a_loss_of_texts_pulls_items_of_the_same_user_together)
