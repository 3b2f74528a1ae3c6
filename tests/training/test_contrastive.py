"""Contrastive pretraining: the loss, the views, and excluded negatives."""

import json

import numpy as np
import pytest
import torch

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.settings.encoder import HuggingFaceSettings, ScratchSettings
from llmrec_cli.settings.objective import ContrastiveSettings
from llmrec_cli.training.contrastive import TwoViews, Views, contrastive
from llmrec_cli.training.next_item_pairs import ObservedPairs
from tests.tiny_models import save_tiny
from tests.training.corpora import TEXTS, data, knowledge

CPU = torch.device("cpu")
SETTINGS = ScratchSettings(vocabulary_size=300, hidden_size=16, num_layers=1, num_attention_heads=2, max_length=32)
HISTORIES = [list(range(n, n + 12)) for n in range(0, 180, 6)]
SHOP = data(TEXTS, HISTORIES, knowledge([[f"made by>Studio {n % 50}", "kind>Film"] for n in range(200)]))


def task(views, **changed):
    settings = ContrastiveSettings(holdout_share=0.2, views=views, **changed)
    return contrastive(settings, SETTINGS, SHOP, 1, CPU)


class FixedEncoder:
    """An encoder with predefined vectors."""

    def __init__(self, first, second):
        self.vectors, self.training = iter([torch.tensor(first), torch.tensor(second)] * 2), False
        self.padding_id = 0

    def tokenize(self, texts, entity="item"):
        return [np.array([sum(map(ord, text))]) for text in texts]

    def __call__(self, ids, mask):
        return next(self.vectors)


def test_the_loss_is_the_cross_entropy_of_cosines_over_the_temperature_both_ways():
    first, second = [[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [3.0, 4.0]]
    pairs = Views(["a", "b"], ["c", "d"])
    views = TwoViews(FixedEncoder(first, second), pairs, ObservedPairs(SHOP), ContrastiveSettings(temperature=0.5), CPU)
    # Cosines: [[1, .6], [0, .8]]; over .5: [[2, 1.2], [0, 1.6]].
    rows = [np.log(1 + np.exp(1.2 - 2)), np.log(1 + np.exp(0 - 1.6))]
    columns = [np.log(1 + np.exp(0 - 2)), np.log(1 + np.exp(1.2 - 1.6))]
    assert float(views.loss(np.arange(2))) == pytest.approx((np.mean(rows) + np.mean(columns)) / 2, abs=1e-6)


def test_equal_texts_and_the_users_items_are_not_negatives():
    views = Views(["h0", "h1", "h2"], ["Film 5", "Film 5", "Film 9"], np.array([0, 1, 0]), np.array([5, 5, 9]))
    observed_pairs = ObservedPairs(data(TEXTS, [[5, 9], [5]]))
    encoder = FixedEncoder([[1.0]], [[1.0]])
    excluded = TwoViews(encoder, views, observed_pairs, ContrastiveSettings(), CPU).excluded(np.arange(3))
    # 0 and 1 have the same text; user 0 chose 5 and 9; user 1 did not choose 9.
    assert excluded.tolist() == [[False, True, True], [True, False, False], [True, True, False]]


def test_an_excluded_view_does_not_count():
    first, second = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]
    same = TwoViews(FixedEncoder(first, second), Views(["a", "b"], ["c", "c"]), ObservedPairs(SHOP),
                    ContrastiveSettings(), CPU)
    assert float(same.loss(np.arange(2))) == 0


@pytest.mark.parametrize("views", ["dropout", "history", "knowledge"])
def test_each_kind_of_view_trains_and_measures_other_items(views):
    result = task(views)
    trained, held_out = (set(part.views.first if views == "knowledge" else part.views.second)
                         for part in (result.train, result.held_out))
    assert trained | held_out <= set(TEXTS)
    assert not trained & held_out
    batches = list(result.train.batches(16, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(result.train)))
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
    result.train.loss(batches[0]).backward()
    before = result.held_out.measure(3)
    assert before == result.held_out.measure(3)
    assert 0 < before.chance < 1
    assert not result.encoder.training


def test_the_two_views_of_a_text_differ_by_dropout_alone():
    result = task("dropout")
    assert result.train.views.first == result.train.views.second
    result.model.train()
    logits, _ = result.train._compare(np.arange(4))
    assert (logits.diagonal() < 0.999 / 0.05).all()
    result.model.eval()
    logits, _ = result.train._compare(np.arange(4))
    assert logits.diagonal().detach().numpy() == pytest.approx(20, abs=1e-3)


def test_a_measure_with_dropout_leaves_torchs_stream_alone():
    result, before = task("dropout"), torch.get_rng_state()
    result.held_out.measure(1)
    assert torch.equal(before, torch.get_rng_state())


def test_knowledge_texts_do_not_contain_the_items_title():
    result = task("knowledge")
    assert not any("Film 1" in text for text in result.train.views.second)


def test_no_dropout_no_graph_and_no_items_are_refused(tmp_path):
    folder = save_tiny(tmp_path / "bert", "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.0,
                                                             "attention_probs_dropout_prob": 0.0}))
    with pytest.raises(ConfigError, match="this encoder has no dropout"):
        contrastive(ContrastiveSettings(views="dropout"), HuggingFaceSettings(path=str(folder), max_length=24), SHOP, 1,
                    CPU)
    with pytest.raises(DataError, match="no knowledge graph"):
        contrastive(ContrastiveSettings(views="knowledge"), SETTINGS, data(TEXTS, HISTORIES), 1, CPU)
    with pytest.raises(DataError, match="two of each are needed"):
        contrastive(ContrastiveSettings(views="dropout"), SETTINGS, data(["", "Film 1. x"], []), 1, CPU)


def test_settings_of_histories_without_histories_are_refused():
    assert list(ContrastiveSettings(views="dropout", history_length=3).problems()) == [
        "history_length=3: has no effect with views=dropout; leave it out"]
    assert not list(ContrastiveSettings(views="history", history_length=3).problems())
    assert "temperature=0: must be above 0" in list(ContrastiveSettings(temperature=0).problems())
