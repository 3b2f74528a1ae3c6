"""Adversaries against hand-worked numbers and autograd: directions, balls, gradients, and resumed training."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from llmrec_cli.settings.adversarial import (
    ADVERSARIES,
    AprSettings,
    FgmSettings,
    FreeLbSettings,
    NoAdversarySettings,
    PgdSettings,
    VirtualSettings,
)
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.testing.adversaries import ADVERSARY_CHECKS, AdversaryCase
from llmrec_cli.testing.suite import examples_of, option_settings, promise
from llmrec_cli.training.adversary import (
    adversarial_loss,
    adversarial_loss_of_all,
    attack_of,
    divergence,
    fgm,
    project,
)
from llmrec_cli.training.loop import Length, TrainContext, train

GENERATOR = np.random.default_rng(0)
HIDDEN = torch.from_numpy(GENERATOR.normal(size=(3, 5, 4)).astype(np.float32))
TARGET = torch.tensor([0, 1, 0])
EXAMPLES = examples_of("adversarial")


def small_model():
    """Return a perceptron with gradients, from (R, T, 4) to logits (R, 2)."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    return model, lambda hidden: model(hidden).sum(dim=1)


def loss_of(outputs):
    return lambda hidden: nn.functional.cross_entropy(outputs(hidden), TARGET)


def gradients_of(value, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])


@pytest.mark.parametrize("check", ADVERSARY_CHECKS, ids=promise)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_adversary_keeps_every_promise(name, check):
    check(AdversaryCase(option_settings(*EXAMPLES[name])))


def test_fgm_moves_each_vector_by_its_share_of_its_own_norm_along_the_gradient():
    hidden = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 1.0]])
    gradient = torch.tensor([[0.0, 2.0], [-3.0, -4.0], [0.0, 0.0]])
    expected = torch.tensor([[0.0, 0.5], [-0.12, -0.16], [0.0, 0.0]])
    assert torch.allclose(fgm(hidden, gradient, 0.1), expected)


def test_the_adversarial_loss_of_a_line_is_the_clean_one_plus_the_loss_one_step_uphill():
    # loss(h) = w.h with w = (3, 4), h = (1, 0): clean 3; perturbation .1 * 1 * (.6, .8), so 3 + .1 * 5 uphill.
    hidden, weight = torch.tensor([[1.0, 0.0]]), torch.tensor([3.0, 4.0], requires_grad=True)
    loss = adversarial_loss(lambda h: (h @ weight).sum(), hidden, FgmSettings(epsilon=0.1, weight=2.0))
    assert loss.item() == pytest.approx(3 + 2 * 3.5)
    loss.backward()
    assert weight.grad.tolist() == pytest.approx([1 + 2 * 1.06, 2 * 0.08])


def test_no_gradient_flows_through_the_perturbation():
    below = torch.tensor([[1.0, 0.0]], requires_grad=True)
    weight = torch.tensor([3.0, 4.0])
    adversarial_loss(lambda h: (h @ weight).sum(), below * 1, FgmSettings(epsilon=0.1)).backward()
    assert below.grad.tolist() == [[6.0, 8.0]]


def test_without_an_adversary_the_loss_is_unchanged():
    hidden = torch.ones(1, 2)
    assert adversarial_loss(lambda h: h.sum(), hidden, NoAdversarySettings()).item() == 2
    assert not hidden.requires_grad


def test_linf_moves_every_number_by_its_share_of_the_root_mean_square():
    # The root of (9 + 16) / 2 is 5 / sqrt(2); a number whose gradient is 0 stays.
    delta = fgm(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.2, 0.0]]), 0.1, "linf")
    assert delta.tolist() == [[pytest.approx(0.5 / math.sqrt(2)), 0.0]]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_both_norms_move_a_vector_equally_far_where_no_gradient_is_zero(norm):
    delta = fgm(HIDDEN, torch.ones_like(HIDDEN) * HIDDEN, 0.1, norm)
    torch.testing.assert_close(delta.norm(dim=-1), 0.1 * HIDDEN.norm(dim=-1))


def test_what_is_outside_of_the_ball_is_put_on_it_and_what_is_inside_stays():
    hidden = torch.tensor([[3.0, 4.0], [3.0, 4.0]])  # The ball of .1 has a radius of .5.
    delta = torch.tensor([[3.0, 0.0], [0.1, 0.2]])
    torch.testing.assert_close(project(delta, hidden, 0.1), torch.tensor([[0.5, 0.0], [0.1, 0.2]]))
    side = 0.5 / math.sqrt(2)
    torch.testing.assert_close(project(delta, hidden, 0.1, "linf"), torch.tensor([[side, 0.0], [0.1, 0.2]]))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_one_step_of_pgd_as_large_as_the_ball_is_fgm(norm):
    model, outputs = small_model()
    one = adversarial_loss(loss_of(outputs), HIDDEN, PgdSettings(epsilon=0.2, steps=1, step_size=0.2, norm=norm))
    other = adversarial_loss(loss_of(outputs), HIDDEN, FgmSettings(epsilon=0.2, norm=norm))
    torch.testing.assert_close(gradients_of(one, model), gradients_of(other, model))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_pgd_stays_in_its_ball_and_finds_a_higher_loss_than_fgm(norm):
    _, outputs = small_model()
    settings = PgdSettings(epsilon=1.0, steps=5, step_size=0.4, norm=norm)
    leaf = HIDDEN.clone().requires_grad_(True)
    gradient = torch.autograd.grad(loss_of(outputs)(leaf), leaf)

    def loss(tensors):
        return loss_of(outputs)(tensors[0])

    delta, = attack_of(settings).perturbations(loss, [HIDDEN], gradient)
    assert (delta.norm(dim=-1) <= HIDDEN.norm(dim=-1) * (1 + 1e-5)).all()
    at_once = HIDDEN + fgm(HIDDEN, gradient[0], 1.0, norm)
    assert loss([HIDDEN + delta]) > loss([at_once]) > loss([HIDDEN])


@pytest.mark.parametrize("settings", [FgmSettings(weight=0.5), PgdSettings(weight=0.5), FreeLbSettings()],
                         ids=lambda s: s.kind)
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_gradients_are_taken_at_the_perturbed_points(settings, scale):
    """Against autograd at the recorded points; scaled as with gradient accumulation."""
    model, outputs = small_model()
    below = nn.Parameter(HIDDEN.clone())
    loss = loss_of(outputs)
    points = []

    def watched(hidden):
        points.append(hidden.detach().clone())
        return loss(hidden)

    value = adversarial_loss(watched, below * 1, settings)
    (scale * value).backward()
    weights = [1 / 3] * 3 if isinstance(settings, FreeLbSettings) else [1.0, *[0.0] * (len(points) - 2), 0.5]
    assert len(points) == {"fgm": 2, "pgd": 4, "freelb": 3}[settings.kind]
    torch.testing.assert_close(points[0], HIDDEN)
    expected_model, expected_outputs = small_model()
    leaf = nn.Parameter(HIDDEN.clone())
    expected = sum(w * loss_of(expected_outputs)(leaf + (point - HIDDEN))
                   for w, point in zip(weights, points, strict=True))
    (scale * expected).backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(below.grad, leaf.grad)
    for parameter, other in zip(model.parameters(), expected_model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad)


def test_the_steps_of_freelb_climb():
    _, outputs = small_model()
    values = []

    def watched(hidden):
        values.append(loss_of(outputs)(hidden).item())
        return loss_of(outputs)(hidden)

    adversarial_loss(watched, HIDDEN, FreeLbSettings(epsilon=0.3, steps=4, step_size=0.1))
    assert values == sorted(values)
    assert values[-1] > values[0]


def test_an_adversary_works_with_gradient_checkpointing():
    model, outputs = small_model()
    plain = adversarial_loss(loss_of(outputs), HIDDEN, PgdSettings())
    again = adversarial_loss(loss_of(lambda h: checkpoint(outputs, h, use_reentrant=False)), HIDDEN, PgdSettings())
    torch.testing.assert_close(gradients_of(again, model), gradients_of(plain, model), rtol=0, atol=0)


def test_a_parameter_that_a_loss_does_not_touch_gets_no_gradient():
    model, outputs = small_model()
    unused = nn.Parameter(torch.ones(2))
    adversarial_loss(loss_of(outputs), HIDDEN, FgmSettings()).backward()
    assert unused.grad is None
    assert all(p.grad is not None for p in model.parameters())


def test_divergence_equals_a_hand_worked_example_of_two_coins():
    # Coins of 3/4 and 1/2: .75 log(.75 / .5) + .25 log(.25 / .5).
    clean, even = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    assert divergence(clean, even).item() == pytest.approx(0.75 * math.log(1.5) - 0.25 * math.log(2))
    assert divergence(clean, clean + 7).item() == pytest.approx(0, abs=1e-6)


def test_virtual_finds_the_one_direction_that_matters():
    # Logits depend on the first number alone, which a random direction hardly has in 20 dimensions.
    hidden = torch.ones(1, 20)

    def outputs(h):
        return torch.stack([5 * h[:, 0], torch.zeros(len(h))], dim=1)

    torch.manual_seed(0)
    reached = attack_of(VirtualSettings(epsilon=0.1, probe=0.01)).change(outputs, hidden)
    size = 0.1 * math.sqrt(20)
    most = divergence(outputs(hidden), outputs(torch.tensor([[1 + size]])))
    least = divergence(outputs(hidden), outputs(torch.tensor([[1 - size]])))
    assert reached.item() == pytest.approx(most.item(), rel=0.01) or reached.item() == pytest.approx(least.item(),
                                                                                                     rel=0.01)


def test_virtual_is_zero_with_a_gradient_of_zero_where_the_output_does_not_change():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    value = attack_of(VirtualSettings()).change(lambda h: (h * 0).sum() + weight[None], torch.ones(1, 3))
    assert value.item() == 0
    assert torch.autograd.grad(value, weight)[0].abs().max() < 1e-7


def test_virtual_uses_no_labels_and_the_same_dropout_mask():
    _, outputs = small_model()
    drop = nn.Dropout(0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny = attack_of(VirtualSettings(epsilon=1e-6, probe=1e-6)).change(lambda h: outputs(drop(h)), HIDDEN)
    assert tiny.item() == pytest.approx(0, abs=1e-6)  # With other units dropped it is near .1.


def test_virtual_adds_its_weight_times_the_divergence_to_the_loss():
    _, outputs = small_model()
    torch.manual_seed(5)
    both = adversarial_loss(loss_of(outputs), HIDDEN, VirtualSettings(weight=3.0, epsilon=0.3), outputs)
    torch.manual_seed(5)
    expected = loss_of(outputs)(HIDDEN) + 3 * attack_of(VirtualSettings(epsilon=0.3)).change(outputs, HIDDEN)
    torch.testing.assert_close(both, expected)


def test_apr_perturbs_all_rows_of_a_pair_jointly():
    # score = u . i, loss = -score: uphill is -i for the user and -u for the item, each by a tenth of its own norm.
    user, item = torch.tensor([[3.0, 4.0]], requires_grad=True), torch.tensor([[0.0, 2.0]], requires_grad=True)
    value = adversarial_loss_of_all(lambda rows: -(rows[0] * rows[1]).sum(), [user, item], AprSettings(epsilon=0.1))
    moved_user, moved_item = torch.tensor([3.0, 3.5]), torch.tensor([-0.12, 1.84])
    assert value.item() == pytest.approx(-8 - (moved_user @ moved_item).item())
    value.backward()
    torch.testing.assert_close(user.grad[0], -(item.detach()[0] + moved_item))
    torch.testing.assert_close(item.grad[0], -(user.detach()[0] + moved_user))


class Stopped(Exception):
    """Raised in the middle of training."""


@pytest.mark.parametrize("settings", [cls() for name, cls in ADVERSARIES.items() if name not in ("none", "apr")],
                         ids=lambda s: s.kind)
def test_adversarial_training_resumes_to_the_same_bits(settings, tmp_path):
    def trained(folder, resumed=False, stop_at=None):
        model, outputs = small_model()
        dropped, steps = nn.Dropout(0.3), []

        def loss(rows):
            steps.append(1)
            if len(steps) == stop_at:
                raise Stopped
            hidden = HIDDEN[torch.from_numpy(rows)]
            return adversarial_loss(lambda h: nn.functional.cross_entropy(outputs(dropped(h)), TARGET[rows]), hidden,
                                    settings, lambda h: outputs(dropped(h)))

        train_context = TrainContext(torch.device("cpu"), 1, checkpoints=folder,
                                     resume_from=folder if resumed else None)
        train(model, lambda epoch, generator: (generator.permutation(3)[:2] for _ in range(4)), loss, [(model, 0.05)],
              AdamWSettings(epochs=2, checkpoint_every=1), Length(2, 4, 2), train_context)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    whole = trained(tmp_path / "whole")
    assert torch.equal(whole, trained(tmp_path / "again"))
    with pytest.raises(Stopped):
        trained(tmp_path / "stopped", stop_at=6)
    assert torch.equal(whole, trained(tmp_path / "stopped", resumed=True))


@pytest.mark.parametrize(("settings", "about"), [
    (FgmSettings(epsilon=0), "epsilon=0: must be above 0"), (FgmSettings(norm="l1"), "norm=l1: choose one of l2, linf"),
    (PgdSettings(steps=2, step_size=0.01), "epsilon=0.05: has no effect"),
    (FreeLbSettings(steps=1), "steps=1: must be at least 2"),
    (FreeLbSettings(steps=2), "epsilon=0.05: has no effect"),
    (VirtualSettings(probe=0.1), "probe=0.1: must be at most 0.05"),
    (AprSettings(weight=0), "weight=0: must be above 0"),
    (replace(PgdSettings(), steps=0), "steps=0: must be at least 1")])
def test_a_setting_out_of_range_or_without_effect_is_reported(settings, about):
    assert any(problem.startswith(about) for problem in settings.problems())


def test_default_adversaries_have_no_problems():
    assert [problem for cls in ADVERSARIES.values() for problem in cls().problems()] == []
    assert list(NoAdversarySettings().problems()) == []
