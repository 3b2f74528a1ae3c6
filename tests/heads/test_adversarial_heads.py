"""Effects of adversaries on the heads trained with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec_cli.heads.base import Context
from llmrec_cli.settings.adversarial import (
    AprSettings,
    FreeLbSettings,
    NoAdversarySettings,
    PgdSettings,
    VirtualSettings,
)
from llmrec_cli.settings.head import FactorizationMachineSettings, MfSettings, NeuralCfSettings, TwoTowerSettings
from llmrec_cli.settings.loss import BceSettings, BprSettings, MseSettings, SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import FrozenSettings, LoraSettings
from tests.heads.by_hand import CONTEXT
from tests.heads.pairs.test_pairs import every_head, fit_head, rated, small
from tests.some_slow import some_slow

RATINGS = np.array([[5, 1, 0, 4], [0, 2, 5, 5], [1, 5, 4, 0], [4, 0, 1, 5]])


def pair_head(settings, adversarial, loss, data=None, context=CONTEXT):
    from llmrec_cli.heads.base import build
    from llmrec_cli.settings.head import ModelConfig

    head = build(ModelConfig(head=settings, loss=loss, adversarial=adversarial,
                             optim=AdamWSettings(epochs=3, batch_size=7, learning_rate=0.02, checkpoint_every=1)))
    head.fit(data or small(), context)
    return head


def same(one, other):
    return all(np.array_equal(value, other.state()[name]) for name, value in one.state().items())


@every_head
@pytest.mark.parametrize("loss", some_slow([BprSettings(), SoftmaxSettings(), BceSettings(), MseSettings()]),
                         ids=lambda loss: loss.kind)
def test_apr_changes_the_model_and_is_deterministic(settings, loss):
    settings = replace(settings, target="choice")
    attacked = pair_head(settings, AprSettings(epsilon=0.5), loss)
    assert same(attacked, pair_head(settings, AprSettings(epsilon=0.5), loss))
    assert not same(attacked, pair_head(settings, NoAdversarySettings(), loss))


@pytest.mark.parametrize("settings", [MfSettings(embedding_size=4, target="value", candidates=3),
                                      NeuralCfSettings(embedding_size=4, target="value"),
                                      FactorizationMachineSettings(embedding_size=4, target="value")],
                         ids=lambda h: h.kind)
def test_apr_attacks_predicted_values_too(settings):
    data = rated(RATINGS)
    assert not same(pair_head(settings, AprSettings(), MseSettings(), data),
                    pair_head(settings, NoAdversarySettings(), MseSettings(), data))


def test_without_an_adversary_a_head_learns_the_same_as_before_adversaries_existed():
    assert same(pair_head(MfSettings(embedding_size=4), NoAdversarySettings(), BprSettings()),
                fit_head(MfSettings(embedding_size=4), loss=BprSettings()))


def test_apr_raises_the_loss_of_few_candidates_and_of_all_of_them():
    """The adversarial value would be twice the clean one if the attack had no effect; it must be larger."""
    for candidates in (3, 100):
        first = {}
        for name, adversarial in {"plain": NoAdversarySettings(), "apr": AprSettings(epsilon=0.5)}.items():
            events = []
            context = Context(torch.device("cpu"), 1, log=lambda event, seen=events, **values: seen.append(
                values.get("loss") if event == "step" else None))
            pair_head(MfSettings(embedding_size=4, candidates=candidates, l2=0.0), adversarial, BprSettings(),
                      context=context)
            first[name] = next(value for value in events if value is not None)
        assert first["apr"] > 2 * first["plain"]


@pytest.mark.parametrize("peft", [FrozenSettings(), LoraSettings(rank=2, num_layers=1)], ids=lambda peft: peft.kind)
@pytest.mark.parametrize("adversarial", some_slow([PgdSettings(), FreeLbSettings(), VirtualSettings()]),
                         ids=lambda a: a.kind)
def test_two_towers_learn_against_every_adversary(shop, peft, adversarial):
    config = shop.config(TwoTowerSettings(embedding_size=16, dropout=0.1, encoded_items=16), peft=peft,
                         adversarial=adversarial)
    head = shop.fit(config)
    popularity = np.diff(shop.data.part("train").matrix.tocsc().indptr).astype(np.float32)
    validation = shop.context().validation
    usual = validation(lambda queries: torch.from_numpy(popularity).expand(len(queries), -1).clone())
    assert validation(head.score) > 1.2 * usual
