"""Schedules, layer-wise learning rates, the moving average of the weights, accumulated gradients, bfloat16."""

import numpy as np
import pytest
import torch
from torch import nn

from llmrec_cli.settings.encoder import HuggingFaceSettings
from llmrec_cli.settings.head import MfSettings, ModelConfig, TwoTowerSettings
from llmrec_cli.settings.loss import SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import EmbeddingAdapterSettings, FrozenSettings, LoraSettings, NoPeftSettings
from llmrec_cli.training.ema import Ema
from llmrec_cli.training.loop import Length, TrainContext, train
from llmrec_cli.training.optim import build_optimizer, layer_rates, learning_rate_share

CPU = torch.device("cpu")
INPUTS = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS @ torch.tensor([1.0, -2.0, 0.5])


def linear():
    model = nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.fill_(0.1)
        model.bias.zero_()
    return model


def fit(model, size, log=lambda event, **values: None, validate=None, **changed):
    """Train on rows in order, `size` at a time."""
    settings = AdamWSettings(**{"learning_rate": 0.05, "epochs": 3, "batch_size": size} | changed)

    def loss(rows):
        return (model(INPUTS[rows]).squeeze(-1) - TARGETS[rows]).square().mean()

    return train(model, lambda epoch, generator: np.arange(32).reshape(-1, size), loss,
                 [(model, settings.learning_rate)], settings, Length(3, 32 // size, 3), TrainContext(CPU, 1, log),
                 validate)


def test_the_cosine_schedule_is_one_half_at_half_time_and_constant_stays():
    cosine = [learning_rate_share(step, 12, 2 / 12, "cosine") for step in range(13)]
    assert cosine[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert cosine[7] == pytest.approx(0.5)
    assert cosine[12] == 0
    assert cosine[2] - cosine[3] < cosine[6] - cosine[7] > cosine[11] - cosine[12]
    assert [learning_rate_share(step, 4, 0.25, "constant") for step in range(5)] == [0.5, 1, 1, 1, 1]


def test_each_layer_learns_at_a_share_of_the_rate_of_the_one_above():
    encoder = nn.ModuleDict({"words": nn.Embedding(5, 2), "layers": nn.ModuleList([nn.Linear(2, 2) for _ in range(3)]),
                             "norm": nn.LayerNorm(2)})
    rates = layer_rates(encoder, list(encoder["layers"]), 0.8, 0.5)
    peaks = {id(p): group["peak"] for group in build_optimizer(rates,
                                                               AdamWSettings()).param_groups for p in group["params"]}
    rates_by_name = {name: peaks[id(p)] for name, p in encoder.named_parameters()}
    assert {name: value for name, value in rates_by_name.items() if name.endswith("weight")} == {
        "layers.2.weight": 0.8, "layers.1.weight": 0.4, "layers.0.weight": 0.2, "words.weight": 0.1,
        "norm.weight": 0.1}


def test_the_average_follows_the_weights_soon_at_first_and_slowly_later():
    parameter = nn.Parameter(torch.tensor([0.0]))
    ema = Ema({"p": parameter}, 0.9)
    seen = []
    for step in range(1, 101):
        with torch.no_grad():
            parameter.fill_(float(step))
        ema.update(step)
        seen.append(ema.average["p"].item())
    assert seen[0] == pytest.approx((1 - 2 / 11) * 1)
    assert seen[1] == pytest.approx(3 / 12 * seen[0] + 9 / 12 * 2)
    assert seen[99] == pytest.approx(0.9 * seen[98] + 0.1 * 100)


def test_the_weights_come_back_where_a_block_with_their_average_fails():
    parameter = nn.Parameter(torch.tensor([1.0]))
    ema = Ema({"p": parameter}, 0.5)
    with torch.no_grad():
        parameter.fill_(5.0)
    seen = []

    def fail():
        with ema.in_place():
            seen.append(parameter.item())
            raise ValueError("in between")

    with pytest.raises(ValueError, match="in between"):
        fail()
    assert [*seen, parameter.item()] == [1, 5]


def test_validation_and_the_result_see_the_average_of_the_weights():
    model, validated, stepped = linear(), [], []

    def validate():
        validated.append(model.weight.detach().clone())
        return float(len(validated))

    fit(model, 8, lambda event, **values: event == "step" and stepped.append(model.weight.detach().clone()), validate,
        ema=0.8)
    assert torch.equal(model.weight, validated[-1])
    average = torch.full((1, 3), 0.1)
    for step, weight in enumerate(stepped, 1):
        decay = min(0.8, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
        if step % 4 == 0:
            torch.testing.assert_close(validated[step // 4 - 1], average)
    assert not torch.allclose(average, stepped[-1], atol=1e-3)


def test_gradients_of_several_batches_make_the_steps_of_one_large_batch():
    whole, parts, steps = linear(), linear(), []
    expected = fit(whole, 16)
    result = fit(parts, 4, lambda event, **values: steps.append(event), accumulate=4)
    assert result.losses == pytest.approx(expected.losses, rel=1e-6)
    torch.testing.assert_close(parts.weight, whole.weight, rtol=1e-5, atol=1e-7)
    assert steps.count("step") == 6


def test_the_last_step_of_an_epoch_averages_the_batches_that_are_left():
    rates, model = [], linear()
    fit(model, 4, lambda event, **values: event == "step" and rates.append(values["learning_rate"]), accumulate=3,
        schedule="linear", warmup_share=0)
    assert rates == pytest.approx([0.05 * n / 9 for n in range(9, 0, -1)])


def test_bfloat16_applies_to_matrix_products_and_changes_little():
    exact, rough, dtypes = linear(), linear(), set()
    rough.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    expected, result = fit(exact, 8), fit(rough, 8, precision="bfloat16")
    assert dtypes == {torch.bfloat16}
    assert rough.weight.dtype == torch.float32
    assert result.losses == pytest.approx(expected.losses, rel=0.02)
    assert result.losses != expected.losses


@pytest.mark.parametrize(("changed", "problem"), [
    ({"ema": 1.0}, "ema=1.0: must be below 1"), ({"ema": -0.1}, "ema=-0.1: must be at least 0"),
    ({"schedule": "cosin"}, "schedule=cosin: choose one of linear, cosine, constant (did you mean 'cosine'?)"),
    ({"accumulate": 0}, "accumulate=0: must be at least 1"), ({"layer_decay": 1.1}, "layer_decay=1.1: must be at most"),
    ({"precision": "float16"}, "precision=float16: choose one of float32, bfloat16")])
def test_a_setting_out_of_range_is_named(changed, problem):
    assert [message[:len(problem)] for message in AdamWSettings(**changed).problems()] == [problem]


@pytest.mark.parametrize(("head", "peft", "is_problem"), [
    (TwoTowerSettings(), NoPeftSettings(), False), (TwoTowerSettings(), LoraSettings(num_layers=2), False),
    (TwoTowerSettings(), LoraSettings(num_layers=1), True),
    (TwoTowerSettings(), FrozenSettings(), True), (TwoTowerSettings(), EmbeddingAdapterSettings(), True),
    (MfSettings(), NoPeftSettings(), True)])
def test_rates_by_layer_are_refused_where_fewer_than_two_layers_are_trained(head, peft, is_problem):
    config = ModelConfig(head=head, encoder=HuggingFaceSettings(path="x"), peft=peft, loss=SoftmaxSettings(),
                         optim=AdamWSettings(layer_decay=0.5))
    assert any("optim.layer_decay=0.5: has no effect" in problem for problem in config.problems()) == is_problem
