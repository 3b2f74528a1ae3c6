"""Causal language modelling: predictions from earlier tokens only, and none at padding."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmrec_cli.encoders.language_models import load_causal_model
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.settings.encoder import HuggingFaceSettings, ScratchSettings
from llmrec_cli.training import clm
from llmrec_cli.training.clm import NextTokens
from tests.tiny_models import SENTENCES, save_tiny

CPU = torch.device("cpu")
TEXTS = [f"{one} {other}" for one in SENTENCES for other in SENTENCES]
SETTINGS = ScratchSettings(vocabulary_size=150, hidden_size=8, num_layers=1, num_attention_heads=2, max_length=32)
MODEL = load_causal_model(SETTINGS, TEXTS, 1, CPU).eval()


def one_by_one(text):
    """The cross-entropies of a text's tokens, alone in its batch, from transformers' own logits."""
    ids = torch.tensor(MODEL.encoder.tokenize([text])[0])[None]
    with torch.no_grad():
        logits = MODEL.model(input_ids=ids).logits[0]
    wanted = [(n, int(token)) for n, token in enumerate(ids[0, 1:]) if token != MODEL.encoder.tokenizer.unk_token_id]
    return [-float(logits[n].log_softmax(0)[token]) for n, token in wanted]


def test_each_token_is_predicted_from_those_before_it_and_the_first_from_nothing():
    texts = NextTokens(MODEL, TEXTS[:5], CPU)
    by_hand = [loss for text in TEXTS[:5] for loss in one_by_one(text)]
    measure = texts.measure(1)
    assert measure.num_scored == len(by_hand)
    assert measure.loss == pytest.approx(np.mean(by_hand), abs=1e-5)
    assert texts.loss(np.arange(5)).item() == pytest.approx(np.mean(by_hand), abs=1e-5)


@given(st.lists(st.sampled_from([*TEXTS, *SENTENCES, "robot", "太空", "☃ robot"]), min_size=1, max_size=6))
def test_padding_is_never_scored(batch):
    by_hand = [loss for text in batch for loss in one_by_one(text)]
    texts = NextTokens(MODEL, batch, CPU)
    assert float(texts.loss(np.arange(len(batch))).detach()) == pytest.approx(np.mean(by_hand), abs=1e-4)


def test_later_tokens_do_not_change_earlier_predictions():
    one, other = ("the robot and the moon", "the robot and the love")
    assert one_by_one(one)[:4] == pytest.approx(one_by_one(other)[:4], abs=1e-6)


def test_a_text_of_unknown_tokens_alone_has_nothing_to_predict(monkeypatch):
    assert len(NextTokens(MODEL, ["the robot", ""], CPU)) == 2  # its end is there to be predicted
    ids = [np.array([2, 1, 1]), np.array([2])]
    monkeypatch.setattr(clm, "tokenize", lambda tokenizer, texts, max_length: ids)
    with pytest.raises(DataError, match="none of 2 texts has two tokens of the encoder's vocabulary"):
        NextTokens(MODEL, ["☃☃", ""], CPU)


def test_a_bidirectional_encoder_is_refused_and_a_decoder_accepted(tmp_path):
    bert = save_tiny(tmp_path / "bert", "bert")
    with pytest.raises(ConfigError, match=r"objective=clm: 'bert' in .* sees both sides of a token"):
        load_causal_model(HuggingFaceSettings(path=str(bert), max_length=24), TEXTS, 1, CPU)
    gpt2 = load_causal_model(HuggingFaceSettings(path=str(save_tiny(tmp_path / "gpt2", "gpt2")), max_length=24), TEXTS,
                             1, CPU)
    # Its head is its token embeddings, which the folder has.
    assert gpt2.model.get_output_embeddings().weight is gpt2.model.get_input_embeddings().weight
    assert not gpt2.head_is_new
    loss = NextTokens(gpt2, TEXTS, CPU).loss(np.arange(4))
    loss.backward()
    assert all(p.grad is not None for p in gpt2.encoder.model.parameters() if p.requires_grad)
