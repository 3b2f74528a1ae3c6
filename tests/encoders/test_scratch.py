"""A tokenizer trained on the corpus, and a small BERT for it."""

import hashlib
import subprocess
import sys

import pytest
import torch

from llmrec_cli.encoders.scratch import new_masked_language_model, train_tokenizer
from llmrec_cli.settings.encoder import ScratchSettings

TEXTS = ["The Robot and the Moon", "the robots of the moon", "太空 机器人的爱情", "爱情太空", "a café at night 🚀",
         "Ａ ｆｕｌｌ ｗｉｄｔｈ robot"] * 3


def words(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def test_frequent_words_become_tokens_and_case_and_width_do_not_matter():
    tokenizer = train_tokenizer(TEXTS, 150, 64)
    assert words(tokenizer, "ROBOT ｒｏｂｏｔ moon") == ["[CLS]", "robot", "robot", "moon", "[SEP]"]


def test_each_chinese_character_is_a_token_and_none_is_unknown():
    tokenizer = train_tokenizer(TEXTS, 150, 64)
    assert words(tokenizer, "机器人爱太空") == ["[CLS]", *"机器人爱太空", "[SEP]"]


def test_the_vocabulary_keeps_its_limit_and_room_for_words_beside_characters():
    texts = ["".join(chr(0x4E00 + (n * 7 + m) % 900) for m in range(20)) + " recommendation" for n in range(300)]
    tokenizer = train_tokenizer(texts, 200, 64)
    assert len(tokenizer) <= 200
    assert "recommendation" in words(tokenizer, "recommendation")


def test_special_tokens_are_the_first_and_text_that_looks_like_one_is_text():
    tokenizer = train_tokenizer(TEXTS, 150, 64)
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.mask_token_id not in tokenizer("[MASK] the ##a robot")["input_ids"]


@pytest.mark.slow
def test_the_same_texts_give_the_same_tokenizer_in_every_process():
    code = ("import hashlib; from tests.encoders.test_scratch import TEXTS, train_tokenizer; "
            "print(hashlib.sha256(train_tokenizer(TEXTS, 150, 64).backend_tokenizer.to_str().encode()).hexdigest())")
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    here = train_tokenizer(TEXTS, 150, 64).backend_tokenizer.to_str()
    assert printed == hashlib.sha256(here.encode()).hexdigest()


def test_the_weights_depend_on_the_seed_alone():
    settings = ScratchSettings(vocabulary_size=150, hidden_size=8, num_layers=1, num_attention_heads=2)
    first, same, other = (new_masked_language_model(settings, TEXTS, seed)[0].bert.embeddings.word_embeddings.weight
                          for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
