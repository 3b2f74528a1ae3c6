"""Masking for masked language models: word boundaries, masked tokens and their replacements.

A word is a unit of the tokenizer's pre-tokenization, mostly text between spaces and punctuation. Scripts without
spaces, such as Chinese, are not divided into words: each piece of the tokenizer, mostly one character, counts as a
word, even if the pre-tokenizer takes a whole phrase for a word. Pieces (bytes) of the same character belong together.

Shapes: R texts of a batch, T tokens of the longest of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from llmrec_cli.encoders.batching import CHARACTERS_PER_TOKEN, TOKENIZED_AT_ONCE
from llmrec_cli.encoders.text_encoder import TextEncoder

SPACELESS = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
             (0xF900, 0xFAFF), (0x20000, 0x323AF))
"""Thai and Lao, Burmese, Khmer, kana, Chinese characters: first and last code point of each range."""


def has_word_ids(encoder: TextEncoder) -> bool:
    """Return True if the tokenizer can map its tokens to words."""
    return bool(encoder.tokenizer.is_fast)


def tokenize_words(encoder: TextEncoder, texts: Sequence[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the token ids of each text, without a prompt, and the position of the first token of each token's word.

    Both are int64 (num_tokens,) for each text; a special token is a word.
    """
    limit = encoder.settings.max_length
    ids, firsts = list[np.ndarray](), list[np.ndarray]()
    for start in range(0, len(texts), TOKENIZED_AT_ONCE):
        cut = [str(text)[:CHARACTERS_PER_TOKEN * limit] for text in texts[start:start + TOKENIZED_AT_ONCE]]
        encoding = encoder.tokenizer(cut, truncation=True, max_length=limit, add_special_tokens=True,
                                     return_attention_mask=False, return_token_type_ids=False,
                                     return_offsets_mapping=True)
        for n, text in enumerate(cut):
            ids.append(np.array(encoding["input_ids"][n] or [encoder.padding_id], np.int64))
            first = first_of_word(text, encoding.word_ids(n), encoding["offset_mapping"][n])
            firsts.append(first if len(first) else np.zeros(1, np.int64))
    return ids, firsts


def first_of_word(text: str, words: Sequence[int | None], spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the position of the first token of each token's word, int64 (num_tokens,).

    `words` has the word number of each token, None for special tokens; `spans` its characters in `text`.
    """
    spaceless = [word is not None and any(map(_is_spaceless, text[begin:end]))
                 for word, (begin, end) in zip(words, spans, strict=True)]
    begins = [True, *(here is None or here != before or (span[0] != last[0] and (alone or was_alone))
                      for (before, here), (last, span), (was_alone, alone)
                      in zip(pairwise(words), pairwise(spans), pairwise(spaceless), strict=True))][:len(words)]
    return np.maximum.accumulate(np.where(begins, np.arange(len(words)), 0)) if words else np.zeros(0, np.int64)


def _is_spaceless(character: str) -> bool:
    return any(low <= ord(character) <= high for low, high in SPACELESS)


@dataclass(frozen=True)
class Vocabulary:
    """Vocabulary of a tokenizer for masking: its mask, its special tokens and its other tokens."""

    mask: int
    special: torch.Tensor
    ordinary: torch.Tensor

    @classmethod
    def of(cls, tokenizer: object, size: int, device: torch.device) -> "Vocabulary":
        """Return the vocabulary of a transformers tokenizer with ids below `size`."""
        special = sorted(set(tokenizer.all_special_ids))  # type: ignore[attr-defined]
        ordinary = np.setdiff1d(np.arange(size), special)
        return cls(int(tokenizer.mask_token_id),  # type: ignore[attr-defined]
                   torch.tensor(special, device=device), torch.from_numpy(ordinary).to(device))


def mask_tokens(ids_RT: torch.Tensor, mask_RT: torch.Tensor, share: float, vocabulary: Vocabulary, seed: int,
                first_RT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the model's input ids (R, T) and a mask of the tokens to predict, bool (R, T).

    Devlin et al. 2019, section 3.1: each token is selected with probability `share`; of these 80% become the mask
    token, 10% a random other token, and 10% stay. With `first_RT` (int64, the position of the first token of each
    token's word) whole words are selected, so that no piece can be guessed from its neighbours; random replacements are
    still drawn per token. Padding and special tokens are never selected or drawn. Differs: a text without a selected
    token gets one, so that short titles all count. The same `seed` gives the same masks on any device.
    """
    generator = torch.Generator().manual_seed(seed)
    chance_RT, what_RT = torch.rand(2, *ids_RT.shape, generator=generator).to(ids_RT.device)
    other_RT = torch.randint(len(vocabulary.ordinary), tuple(ids_RT.shape), generator=generator).to(ids_RT.device)
    if first_RT is not None:
        chance_RT, what_RT = chance_RT.gather(1, first_RT), what_RT.gather(1, first_RT)
    allowed_RT = mask_RT & ~torch.isin(ids_RT, vocabulary.special)
    chance_RT = chance_RT.masked_fill(~allowed_RT, 2.0)
    target_RT = (chance_RT < share) | (chance_RT == chance_RT.amin(1, keepdim=True))
    target_RT &= allowed_RT
    input_RT = torch.where(target_RT & (what_RT < 0.8), vocabulary.mask, ids_RT)
    return torch.where(target_RT & (what_RT >= 0.9), vocabulary.ordinary[other_RT], input_RT), target_RT
