"""Next-sentence prediction: does this item follow this history?"""

import numpy as np
import pytest
import torch
from torch.nn import functional

from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.encoder import HuggingFaceSettings, ScratchSettings
from llmrec_cli.settings.objective import NextSentenceSettings
from llmrec_cli.training.nsp import next_sentence_prediction
from tests.tiny_models import save_tiny
from tests.training.corpora import TEXTS, data

CPU = torch.device("cpu")
SETTINGS = ScratchSettings(vocabulary_size=300, hidden_size=16, num_layers=1, num_attention_heads=2, max_length=48)
HISTORIES = [list(range(n, n + 12)) for n in range(0, 180, 6)]
OBJECTIVE = NextSentenceSettings(holdout_share=0.2, max_histories=40, history_length=3, num_negatives=2)


@pytest.fixture
def task():
    return next_sentence_prediction(OBJECTIVE, SETTINGS, data(TEXTS, HISTORIES), 1, CPU)


def test_each_history_is_once_with_its_next_item_or_with_another(task):
    pairs = task.train
    assert pairs.follows.sum() == 40
    assert len(pairs) == 120
    followed = {text for text, follows in zip(pairs.texts, pairs.follows, strict=True) if follows}
    others = {text for text, follows in zip(pairs.texts, pairs.follows, strict=True) if not follows}
    assert not followed & others


def test_the_answer_is_not_in_the_text(task):
    """The input of positive and negative pairs alike is the tokens of a history and an item."""
    encoder = task.encoder
    for pairs in (task.train, task.held_out):
        for n, text in enumerate(pairs.texts):
            history, _, item = text.partition(" | ")
            own = pairs.tokens.batch(torch.tensor([n]))[0][0]
            assert own.tolist() == encoder.tokenizer(history, item, truncation="longest_first",
                                                     max_length=48)["input_ids"]
            films = [f"Film {n}" for n in range(200)]
            assert all(title in films for title in history.split("; "))
            assert item in TEXTS
    assert set(task.train.follows.tolist()) == {0.0, 1.0}


def test_labels_do_not_change_the_inputs(task):
    rows = torch.arange(10)
    before = task.train.tokens.batch(rows)[0].clone()
    task.train.follows = 1 - task.train.follows
    assert torch.equal(task.train.tokens.batch(rows)[0], before)


def test_an_untrained_head_predicts_one_half(task):
    assert float(task.train.loss(np.arange(8)).detach()) == pytest.approx(np.log(2))
    measure = task.held_out.measure(1)
    assert measure.loss == pytest.approx(np.log(2), abs=1e-6)
    assert measure.chance == pytest.approx(2 / 3)
    assert measure.num_scored == len(task.held_out)


def test_padding_changes_no_answer(task):
    model, pairs = task.model.eval(), task.train
    torch.nn.init.normal_(model.head.weight)
    lengths = pairs.tokens.ragged.host_lengths
    rows = torch.tensor([int(lengths.argmin()), int(lengths.argmax())])
    with torch.no_grad():
        together = model(*pairs.tokens.batch(rows))
        apart = torch.cat([model(*pairs.tokens.batch(row[None])) for row in rows])
        expected = functional.binary_cross_entropy_with_logits(apart, pairs.follows[rows])
    assert torch.allclose(together, apart, atol=1e-5)
    assert float(pairs.loss(rows.numpy()).detach()) == pytest.approx(float(expected), abs=1e-5)


def test_an_encoder_that_puts_nothing_between_two_texts_is_refused(tmp_path):
    gpt2 = HuggingFaceSettings(path=str(save_tiny(tmp_path / "gpt2", "gpt2")), max_length=24)
    with pytest.raises(ConfigError, match="has no separator between two texts"):
        next_sentence_prediction(OBJECTIVE, gpt2, data(TEXTS, HISTORIES), 1, CPU)
