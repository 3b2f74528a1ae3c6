"""Masked language modelling: batches, loss and evaluation."""

import numpy as np
import pytest
import torch

from llmrec_cli.encoders.language_models import load_masked_model
from llmrec_cli.errors import DataError
from llmrec_cli.settings.encoder import ScratchSettings
from llmrec_cli.training.mlm import MaskedTexts
from tests.tiny_models import SENTENCES

CPU = torch.device("cpu")
TEXTS = [f"{one} {other}" for one in SENTENCES for other in SENTENCES]


def masked_texts(texts=TEXTS, **changed):
    settings = ScratchSettings(vocabulary_size=150, hidden_size=8, num_layers=1, num_attention_heads=2, max_length=32,
                               **changed)
    return MaskedTexts(load_masked_model(settings, TEXTS, 1, CPU), list(texts), 0.15, CPU)


def test_an_epoch_has_each_text_once_in_batches_of_similar_length_in_another_order_each_time():
    texts = masked_texts()
    first, second = (list(texts.batches(8, np.random.default_rng(seed))) for seed in (1, 2))
    assert len(first) == texts.num_batches(8) == 5
    for batches in (first, second):
        assert sorted(np.concatenate([rows for rows, _ in batches]).tolist()) == list(range(36))
    assert [seed for _, seed in first] != [seed for _, seed in second]
    spread = [np.ptp(texts.tokens.ragged.host_lengths[rows]) for rows, _ in first]
    assert max(spread) < np.ptp(texts.tokens.ragged.host_lengths)


def test_the_measure_masks_the_same_tokens_however_many_are_run_at_a_time():
    one, other = masked_texts(batch_tokens=32).measure(3), masked_texts(batch_tokens=4096).measure(3)
    assert one.loss == pytest.approx(other.loss, abs=1e-5)
    assert (one.accuracy, one.num_scored) == (other.accuracy, other.num_scored)


def test_an_untrained_head_is_as_good_as_guessing():
    texts = masked_texts()
    size = len(texts.model.encoder.tokenizer)
    assert texts.measure(1).loss == pytest.approx(np.log(size), rel=0.1)


def test_texts_of_unknown_tokens_alone_are_left_out_and_nothing_else_is_an_error():
    assert len(masked_texts([TEXTS[0], "☃", "\u200b"])) == 1
    with pytest.raises(DataError, match="none of 1 texts has a token of the encoder's vocabulary"):
        masked_texts(["☃"])


ODD = ["", " ", "🚀🚀🚀", "👩‍🚀 in space", "שלום עולם", "مرحبا بالعالم", "太空机器人", "爱情love", "\u202eevil", "é é",
       "x" * 1_000_000, "[MASK] [PAD]", "\x00\x1b[31m", "ภาษาไทย"]


@pytest.mark.parametrize("whole_words", [True, False])
def test_only_known_tokens_are_masked_in_texts_of_any_script(whole_words):
    settings = ScratchSettings(vocabulary_size=300, hidden_size=8, num_layers=1, num_attention_heads=2, max_length=32)
    texts = MaskedTexts(load_masked_model(settings, [*TEXTS, *ODD], 1, CPU), ODD, 0.15, CPU, whole_words)
    assert set(texts.texts) <= set(ODD) - {"", " "}
    assert {"太空机器人", "שלום עולם", "مرحبا بالعالم", "爱情love"} <= set(texts.texts)
    for rows, seed in texts.batches(4, np.random.default_rng(1)):
        ids, mask, _, target = texts._mask(torch.from_numpy(rows), seed)
        assert target.any(1).all()
        assert not target[~mask].any()
        assert not torch.isin(ids[target], texts.vocabulary.special).any()
        assert torch.isfinite(texts.loss((rows, seed)))
