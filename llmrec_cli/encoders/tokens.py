"""Texts to token ids."""

from collections.abc import Sequence
from typing import Any

import numpy as np

CHARACTERS_PER_TOKEN = 100
TOKENIZED_AT_ONCE = 512


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int, prompt: str = "",
             special: bool = True) -> list[np.ndarray]:
    """Return int64 token ids of each text, `prompt` before it, with its special tokens, at most `max_length`.

    Of a very long text only 100 characters per token kept are read, so that its length costs no memory. An empty
    text is its special tokens alone, or one where the tokenizer adds none, and so has a vector like any other. `[MASK]`
    and the like written in a text are letters, not commands. With `special=False` there are the text's own tokens
    alone, of an empty text none.
    """
    cut = [prompt + _cut(text, max_length) for text in texts]
    return _ids(tokenizer, (cut,), special, truncation=True, max_length=max_length)


def tokenize_pairs(tokenizer: Any, first: Sequence[str], second: Sequence[str], max_length: int) -> list[np.ndarray]:
    """Return int64 token ids of pairs of texts as the tokenizer joins them, at most `max_length` each.

    The longer of the two is cut first. Which of the texts a token is of is told by the separator between them alone:
    segment ids (token types) are not carried, so that BERT sees both as its first segment.
    """
    cut = [[_cut(text, max_length) for text in texts] for texts in (first, second)]
    return _ids(tokenizer, cut, True, truncation="longest_first", max_length=max_length)


def padding_id(tokenizer: Any) -> int:
    """Return the token that fills the rest of a row; masked, so any will do where the tokenizer has none."""
    padding = tokenizer.pad_token_id
    return 0 if padding is None else int(padding)


def _cut(text: str, max_length: int) -> str:
    """Return what is read of a text. Halves of characters, as a broken command line has them, become question marks."""
    return str(text)[:CHARACTERS_PER_TOKEN * max_length].encode("utf-8", "replace").decode("utf-8")


def _ids(tokenizer: Any, texts: Sequence[Sequence[str]], special: bool, **how: Any) -> list[np.ndarray]:
    tokens: list[np.ndarray] = []
    for start in range(0, len(texts[0]), TOKENIZED_AT_ONCE):
        parts = [side[start:start + TOKENIZED_AT_ONCE] for side in texts]
        ids = tokenizer(*parts, add_special_tokens=special, return_attention_mask=False, return_token_type_ids=False,
                        **how)["input_ids"]
        nothing = [_something(tokenizer)] if special else []
        tokens += [np.array(i or nothing, np.int64) for i in ids]
    return tokens


def _something(tokenizer: Any) -> int:
    """Return the token that stands for an empty text where the tokenizer adds none: where a text begins or ends."""
    known = [token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None]
    return int(known[0]) if known else padding_id(tokenizer)
