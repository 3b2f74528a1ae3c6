"""Interest: user texts, learning from likes and values, and reranking of candidates."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.config import compose
from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import ConfigError
from llmrec_cli.heads.base import Context, build
from llmrec_cli.heads.interest.pairs import Pairs
from llmrec_cli.settings.adversarial import FgmSettings, NoAdversarySettings
from llmrec_cli.settings.encoder import HuggingFaceSettings
from llmrec_cli.settings.head import InterestSettings, ModelConfig
from llmrec_cli.settings.loss import BceSettings, MseSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import FrozenSettings
from tests.heads.by_hand import entities, queries

WORDS = ("robot moon", "love letter", "robot desert", "love Paris", "robot 1994", "love night")


def opinions(values=None):
    """Return data of 12 users who like items about robots (even numbers) and dislike items about love."""
    user, item = np.repeat(np.arange(12), 6), np.tile(np.arange(6), 12)
    value = np.where(item % 2 == 0, 5, 1).astype(np.float32) if values is None else values
    everything = Interactions(user, item, value, np.arange(len(user)), 12, 6)
    titles = np.array(WORDS, object)
    items = Catalogue(np.array([f"i{n}" for n in range(6)], object), titles, titles, sp.csr_array((6, 0)), [])
    likes = item % 2 == 0
    return TrainingData(entities(12, kind="u"), items, everything.rows(likes), everything.rows(~likes))


def fit_head(tiny_encoder, data, loss, **config):
    usual = {"encoder": HuggingFaceSettings(path=str(tiny_encoder), max_length=24), "peft": FrozenSettings(),
             "adversarial": NoAdversarySettings(), "optim": AdamWSettings(epochs=40, batch_size=24, learning_rate=0.1)}
    head = build(ModelConfig(head=InterestSettings(candidates="popularity", rerank=3, history_items=2), loss=loss,
                             **(usual | config)))
    head.fit(data, Context(torch.device("cpu"), 1))
    return head


EVERYTHING = sp.csr_array(np.ones((1, 6), np.float32))


@pytest.mark.slow
def test_likes_are_distinguished_from_dislikes_by_the_items_text(tiny_encoder):
    head = fit_head(tiny_encoder, opinions(), BceSettings())
    assert head.score_meaning == "logit"
    logits = head.score_pairs(queries(np.array([[1, 0, 0, 0, 0, 0]])), EVERYTHING)
    assert logits[::2].min() > 0 > logits[1::2].mean()
    probabilities = head.score_text(np.array(["robot"], object))
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert probabilities.shape == (1, 6)


@pytest.mark.slow
def test_values_are_predicted_in_their_own_units(tiny_encoder):
    head = fit_head(tiny_encoder, opinions(), MseSettings())
    assert head.score_meaning == "value"
    values = head.score_pairs(queries(np.array([[1, 0, 0, 0, 0, 0]])), EVERYTHING)
    assert values[::2].mean() > values[1::2].mean() + 1.5


def test_the_candidates_at_the_top_are_reordered_and_the_rest_stay_below_in_their_order(tiny_encoder):
    head = fit_head(tiny_encoder, opinions(), BceSettings(), adversarial=FgmSettings())
    query = queries(np.array([[1, 0, 0, 0, 0, 0]]))
    scores, below = head.score(query)[0], head.candidates.score(query)[0]
    probabilities = torch.from_numpy(head.score_pairs(query, EVERYTHING)).sigmoid()
    top = scores >= 0
    assert top.sum() == 3
    assert not top[0]  # History items are no candidates.
    torch.testing.assert_close(scores[top], probabilities[top])
    assert (scores[~top] < -1).all()
    assert torch.equal(scores[~top].argsort(stable=True), below[~top].argsort(stable=True))


def test_the_target_item_and_its_label_are_in_no_users_text(tiny_encoder):
    head = fit_head(tiny_encoder, opinions(), BceSettings(), optim=AdamWSettings(epochs=1, batch_size=24))
    history = sp.csr_array(opinions().interactions.matrix)
    assert head._user_text(history, 0) == "robot 1994; robot desert"
    assert head._user_text(history, 0, without=4) == "robot desert; robot moon"


def test_without_dislikes_as_many_unknown_items_are_drawn_as_negatives():
    data = opinions()
    pairs = Pairs(TrainingData(data.users, data.items, data.interactions), "choice", 10)
    matrix = data.interactions.matrix.toarray() > 0
    batches = list(pairs.batches(0, np.random.default_rng(0)))
    assert len(batches) == pairs.num_batches == 4
    for batch in batches:
        assert (matrix[batch.user, batch.item] == (batch.target > 0)).all()
    assert sum((batch.target > 0).sum() for batch in batches) == 36
    part = Pairs.parts(batches[0], 3)
    assert sum(weight for _, weight in part) == pytest.approx(1)
    assert np.array_equal(np.concatenate([one.item for one, _ in part]), batches[0].item)


@pytest.mark.parametrize(("typed", "about"), [
    (["loss=softmax"], "loss=softmax: cannot train head=interest"),
    (["loss=bce", "loss.num_negatives=3"], "loss.num_negatives=3: has no effect"),
    (["loss=bce", "head.rerank=0"], "head.rerank=0: must be at least 1"),
    (["loss=bce", "head.candidates=mf"], "head.candidates=mf: choose one of")])
def test_settings_without_effect_on_interest_are_refused(typed, about):
    with pytest.raises(ConfigError) as caught:
        compose("finetune", ["head=interest", *typed])
    assert any(problem.startswith(about) for problem in caught.value.problems)
