"""New encoders: a tokenizer trained on the corpus and a small BERT or GPT-2 with random weights."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from llmrec_cli.settings.encoder import ScratchSettings

_PADDING, _UNKNOWN, _FIRST, _LAST, MASK = _SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_POSITIONS = 512
_LONGEST_WORD = 100
"""Maximum characters of a word; WordPiece treats longer words as unknown, and a word of a megabyte takes hours."""


def new_masked_language_model(settings: ScratchSettings, texts: Sequence[str], seed: int) -> tuple[Any, Any]:
    """Return a BERT with a head for masked tokens and random weights from `seed`, and a tokenizer for the texts."""
    from transformers import BertConfig, BertForMaskedLM

    positions = max(_POSITIONS, settings.max_length)
    tokenizer = train_tokenizer(texts, settings.vocabulary_size, positions)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=settings.hidden_size, num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_attention_heads, intermediate_size=4 * settings.hidden_size,
        max_position_embeddings=positions, pad_token_id=tokenizer.pad_token_id)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForMaskedLM(config), tokenizer


def new_causal_language_model(settings: ScratchSettings, texts: Sequence[str], seed: int) -> tuple[Any, Any]:
    """Return a GPT-2 with random weights from `seed` and a tokenizer trained on the texts."""
    from transformers import GPT2Config, GPT2LMHeadModel

    positions = max(_POSITIONS, settings.max_length)
    tokenizer = train_tokenizer(texts, settings.vocabulary_size, positions)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=settings.hidden_size, n_layer=settings.num_layers,
        n_head=settings.num_attention_heads, n_positions=positions, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id, eos_token_id=tokenizer.sep_token_id)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config), tokenizer


def train_tokenizer(texts: Sequence[str], vocabulary_size: int, positions: int) -> Any:
    """Return a WordPiece tokenizer (Schuster and Nakajima 2012) trained on the texts, deterministic for given texts.

    Text is normalised to NFKC and lower case; accents stay, and each Chinese character is a word. The most frequent
    characters fill at most half of the vocabulary; words with other characters are unknown.
    """
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=True)])
    splitter = pre_tokenizers.BertPreTokenizer()
    words = [[word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
              if len(word) <= _LONGEST_WORD] for text in texts]
    # As in the vocabulary, a character that begins a word differs from one that continues it ("##a").
    pieces = Counter(("##" if n else "") + c for text in words for word in text for n, c in enumerate(word))
    frequent = sorted(sorted(pieces), key=pieces.__getitem__, reverse=True)[:vocabulary_size // 2]
    alphabet = set(frequent)
    usable = [word for text in words for word in text
              if all(("##" if n else "") + c in alphabet for n, c in enumerate(word))]

    learner = Tokenizer(models.WordPiece(unk_token=_UNKNOWN))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # Listing the characters fixes their ids. Otherwise the trainer would use the order of a hash table, which decides
    # between merges of equal frequency.
    learner.train_from_iterator(usable, trainers.WordPieceTrainer(
        vocab_size=vocabulary_size, special_tokens=[*_SPECIAL, *sorted(alphabet)], show_progress=False))
    tokenizer = Tokenizer(models.WordPiece(learner.get_vocab(), unk_token=_UNKNOWN))
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_FIRST} $A {_LAST}", pair=f"{_FIRST} $A {_LAST} $B:1 {_LAST}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (_FIRST, _LAST)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=positions, pad_token=_PADDING, unk_token=_UNKNOWN,
        cls_token=_FIRST,
        sep_token=_LAST, mask_token=MASK, split_special_tokens=True)
