"""Word boundaries of tokens."""

import pytest
import tokenizers
import torch
import transformers

from llmrec_cli.encoders.language_models import load_masked_model
from llmrec_cli.encoders.text_encoder import TextEncoder
from llmrec_cli.settings.encoder import ScratchSettings
from llmrec_cli.settings.peft import NoPeftSettings
from llmrec_cli.training.masking import first_of_word, has_word_ids, tokenize_words

TEXTS = ["the robots of the moon", "太空机器人的爱情", "", "👩‍🚀 🚀🚀",
         "שלום עולם", "مرحبا بالعالم", "爱love情", "ภาษาไทย", "\u200b"]


@pytest.fixture(scope="module")
def encoder():
    settings = ScratchSettings(vocabulary_size=150, hidden_size=8, num_layers=1, num_attention_heads=2, max_length=16)
    return load_masked_model(settings, TEXTS * 3, 1, torch.device("cpu")).encoder


def test_the_pieces_of_a_word_share_the_position_of_the_first():
    text, words = "Robots run", [None, 0, 0, 1, None]
    spans = [(0, 0), (0, 5), (5, 6), (7, 10), (0, 0)]
    assert first_of_word(text, words, spans).tolist() == [0, 1, 1, 3, 4]


def test_a_chinese_phrase_that_is_one_tokenizer_word_is_split_into_pieces():
    # 爱 is one piece and 情书 another; 'ok' follows without a space.
    assert first_of_word("爱情书ok", [0, 0, 0], [(0, 1), (1, 3), (3, 5)]).tolist() == [0, 1, 2]


def test_bytes_of_one_character_belong_together():
    assert first_of_word("爱情", [0, 0, 0, 0], [(0, 1), (0, 1), (0, 1), (1, 2)]).tolist() == [0, 0, 0, 3]


def test_whole_words_are_spaced_words_and_single_chinese_characters(encoder):
    ids, firsts = tokenize_words(encoder, TEXTS)
    tokens = [encoder.tokenizer.convert_ids_to_tokens(i.tolist()) for i in ids]
    for row, first in zip(tokens, firsts, strict=True):
        assert len(row) == len(first)
        assert [n for n, token in enumerate(row) if not token.startswith("##")] == sorted(set(first.tolist()))
    assert tokens[1] == ["[CLS]", *"太空机器人的爱情", "[SEP]"]
    assert firsts[1].tolist() == list(range(10))


def test_tokens_equal_the_encoders_tokens_in_any_script(encoder):
    ids, firsts = tokenize_words(encoder, TEXTS)
    assert [i.tolist() for i in ids] == [i.tolist() for i in encoder.tokenize(TEXTS)]
    assert all((f <= range(len(f))).all() for f in firsts)
    assert has_word_ids(encoder)


def test_byte_pairs_divide_chinese_into_characters_too():
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.train_from_iterator(["the robot"] * 9, tokenizers.trainers.BpeTrainer(
        vocab_size=300, show_progress=False, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=learner, model_max_length=32)
    config = transformers.GPT2Config(vocab_size=300, n_embd=8, n_layer=1, n_head=2, n_positions=32)
    encoder = TextEncoder(transformers.GPT2Model(config), tokenizer, ScratchSettings(max_length=32), NoPeftSettings())
    (ids,), (first,) = tokenize_words(encoder, ["the 爱情"])
    assert len(ids) == 8  # "the", the space, and three bytes for each character
    assert first.tolist()[-6:] == [2, 2, 2, 5, 5, 5]
