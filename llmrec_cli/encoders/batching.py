"""Texts to token ids, packed end to end, and the padded batches made of them.

Shapes: R texts of a batch, T tokens of the longest of them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch


class Ragged:
    """Positions of many sequences in packed storage.

    Attributes
    ----------
    lengths : int64 (num_texts,), at least 1
    starts : int64 (num_texts,), the place of each sequence's first token
    size : number of tokens of all
    """

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        starts = np.cumsum(lengths) - lengths
        self.host_lengths = lengths.astype(np.int64)
        self.lengths = torch.from_numpy(self.host_lengths).to(device)
        self.starts = torch.from_numpy(starts.astype(np.int64)).to(device)
        self.size = int(lengths.sum())

    def places(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return int64 places_RT in the packed storage and bool mask_RT of the sequences `rows` (R,).

        Padding points at place `size`, one behind the last token.
        """
        lengths_R = self.lengths[rows]
        order_T = torch.arange(int(lengths_R.max()), device=lengths_R.device)
        mask_RT = order_T < lengths_R[:, None]
        return torch.where(mask_RT, self.starts[rows][:, None] + order_T, self.size), mask_RT


class PackedTokens:
    """Token ids of many texts; `ids` is int64 (num_tokens + 1,), its last entry the padding."""

    def __init__(self, tokens: Sequence[np.ndarray], padding_id: int, device: torch.device) -> None:
        self.ragged = Ragged(np.array([len(t) for t in tokens], np.int64), device)
        packed = np.concatenate([*tokens, np.array([padding_id])]).astype(np.int64)
        self.ids = torch.from_numpy(packed).to(device)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids_RT and mask_RT of the texts `rows` (R,), padded to the longest of them."""
        places_RT, mask_RT = self.ragged.places(rows)
        return self.ids[places_RT], mask_RT


def buckets(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Yield rows of similar length, longest first, each bucket within `batch_tokens` tokens with its padding.

    Longest first, so that running out of memory shows at once and not at the end.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start:start + count]
        start += count


def chunks(tokenizer: Any, text: str, room: int) -> list[str]:
    """Return a text in pieces of at most `room` tokens, in order and cut between words; none of a text without any."""
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets, words = read["offset_mapping"], read.word_ids()
    start, found = 0, list[str]()
    while start < len(offsets):
        stop = min(start + room, len(offsets))
        if stop < len(offsets):
            # Back to where a word begins, unless one word alone is too long.
            back = stop
            while back > start and words[back] == words[back - 1]:
                back -= 1
            stop = back if back > start else stop
        piece = text[offsets[start][0]:offsets[stop - 1][1]]
        if piece.strip():
            found.append(piece)
        start = stop
    return found


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

    The longer of the two is cut first. Only the separator marks where the second
    begins: segment ids (token types) are not carried, so BERT sees both texts as its first segment.
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
