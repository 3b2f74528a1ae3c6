"""The tokens that a masked language model predicts: where words begin, which are masked, and by what.

A word is what the tokenizer separates before it cuts words into pieces: in most, what stands between spaces and
punctuation. Scripts without spaces have no such thing, and nothing here divides Chinese into words: there each piece
that the tokenizer has, mostly one character, is a word of its own, also where the tokenizer took a whole phrase for a
word. Pieces of the same character (bytes) belong together.

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


def knows_words(encoder: TextEncoder) -> bool:
    """Return whether the tokenizer can say which of its tokens make a word."""
    return bool(encoder.tokenizer.is_fast)


def tokenize_words(encoder: TextEncoder, texts: Sequence[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the token ids of each text, without a prompt, and the place of the first token of each one's word.

    Both int64 (num_tokens,) for each text; a special token is a word.
    """
    limit = encoder.settings.max_length
    ids, firsts = list[np.ndarray](), list[np.ndarray]()
    for start in range(0, len(texts), TOKENIZED_AT_ONCE):
        cut = [str(text)[:CHARACTERS_PER_TOKEN * limit] for text in texts[start:start + TOKENIZED_AT_ONCE]]
        found = encoder.tokenizer(cut, truncation=True, max_length=limit, add_special_tokens=True,
                                  return_attention_mask=False, return_token_type_ids=False,
                                  return_offsets_mapping=True)
        for n, text in enumerate(cut):
            ids.append(np.array(found["input_ids"][n] or [encoder.padding_id], np.int64))
            first = first_of_word(text, found.word_ids(n), found["offset_mapping"][n])
            firsts.append(first if len(first) else np.zeros(1, np.int64))
    return ids, firsts


def first_of_word(text: str, words: Sequence[int | None], spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the place of the first token of each token's word, int64 (num_tokens,).

    `words` has the number of each token's word, None for special tokens; `spans` the characters of `text` it covers.
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
    """Return the ids to show (R, T) and which tokens to predict, bool (R, T) (Devlin et al. 2019, section 3.1).

    Each token is chosen with chance `share`; of the chosen 80% are shown as the mask, 10% as another token drawn
    evenly, 10% as they are. With `first_RT` (int64, the place of the first token of each token's word) that is decided
    for whole words, so that no piece is guessed from its neighbours; their replacements are still drawn one by one.
    Padding and special tokens are never chosen, replaced or counted. Differs: a text in which chance chose none gets
    one, so that short titles all count. The same `seed` gives the same masks on any device.
    """
    generator = torch.Generator().manual_seed(seed)
    chance_RT, what_RT = torch.rand(2, *ids_RT.shape, generator=generator).to(ids_RT.device)
    other_RT = torch.randint(len(vocabulary.ordinary), tuple(ids_RT.shape), generator=generator).to(ids_RT.device)
    if first_RT is not None:
        chance_RT, what_RT = chance_RT.gather(1, first_RT), what_RT.gather(1, first_RT)
    allowed_RT = mask_RT & ~torch.isin(ids_RT, vocabulary.special)
    chance_RT = chance_RT.masked_fill(~allowed_RT, 2.0)
    chosen_RT = (chance_RT < share) | (chance_RT == chance_RT.amin(1, keepdim=True))
    chosen_RT &= allowed_RT
    shown_RT = torch.where(chosen_RT & (what_RT < 0.8), vocabulary.mask, ids_RT)
    return torch.where(chosen_RT & (what_RT >= 0.9), vocabulary.ordinary[other_RT], shown_RT), chosen_RT
