"""Token ids of texts in packed storage, and padded batches of them.

Shapes: R texts of a batch, T tokens of the longest of them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from llmrec_cli.pace import timed_parts


class Ragged:
    """Positions of many sequences in packed storage.

    Attributes
    ----------
    lengths : int64 (num_texts,), at least 1
    starts : int64 (num_texts,), the position of each sequence's first token
    size : total number of tokens
    """

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        starts = np.cumsum(lengths) - lengths
        self.host_lengths = lengths.astype(np.int64)
        self.lengths = torch.from_numpy(self.host_lengths).to(device)
        self.starts = torch.from_numpy(starts.astype(np.int64)).to(device)
        self.size = int(lengths.sum())

    def places(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return positions places_RT (int64) in the packed storage and mask_RT (bool) of the sequences `rows` (R,).

        Padding has position `size`, one after the last token.
        """
        lengths_R = self.lengths[rows]
        order_T = torch.arange(int(lengths_R.max()), device=lengths_R.device)
        mask_RT = order_T < lengths_R[:, None]
        return torch.where(mask_RT, self.starts[rows][:, None] + order_T, self.size), mask_RT


class PackedTokens:
    """Token ids of many texts; `ids` is int64 (num_tokens + 1,), with the padding id as last entry."""

    def __init__(self, tokens: Sequence[np.ndarray], padding_id: int, device: torch.device) -> None:
        self.ragged = Ragged(np.array([len(t) for t in tokens], np.int64), device)
        packed = np.concatenate([*tokens, np.array([padding_id])]).astype(np.int64)
        self.ids = torch.from_numpy(packed).to(device)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids_RT and mask_RT of the texts `rows` (R,), padded to the longest text."""
        places_RT, mask_RT = self.ragged.places(rows)
        return self.ids[places_RT], mask_RT


def buckets(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Yield rows of similar length; each bucket with its padding has at most `batch_tokens` tokens.

    Longest first, so that running out of memory shows at once.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start:start + count]
        start += count


def timed_buckets(lengths: np.ndarray, batch_tokens: int, title: str) -> Iterator[np.ndarray]:
    """Yield the rows of `buckets`, and print how long the texts take where it is more than seconds."""
    parts = list(buckets(lengths, batch_tokens))
    # Padded tokens, the first row of a bucket being the longest.
    amounts = [float(len(rows) * max(1, int(lengths[rows[0]]))) for rows in parts]
    yield from timed_parts(title, "texts", parts, amounts, [len(rows) for rows in parts])


def chunks(tokenizer: Any, text: str, room: int) -> list[str]:
    """Split a text into pieces of at most `room` tokens, in order and between words; empty for a text without tokens.
    """
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets, words = encoding["offset_mapping"], encoding.word_ids()
    start, pieces = 0, list[str]()
    while start < len(offsets):
        stop = min(start + room, len(offsets))
        if stop < len(offsets):
            # Back to the beginning of a word, unless a single word is too long.
            back = stop
            while back > start and words[back] == words[back - 1]:
                back -= 1
            stop = back if back > start else stop
        piece = text[offsets[start][0]:offsets[stop - 1][1]]
        if piece.strip():
            pieces.append(piece)
        start = stop
    return pieces


CHARACTERS_PER_TOKEN = 100
TOKENIZED_AT_ONCE = 512


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int, prompt: str = "",
             special: bool = True) -> list[np.ndarray]:
    """Return int64 token ids of each text after `prompt`, with special tokens, at most `max_length`.

    At most 100 characters per token are read, so that very long texts cost no memory. An empty text has its special
    tokens, or a single token if the tokenizer adds none, so that it has a vector too. Special tokens written in a text,
    such as `[MASK]`, are read as plain text. With `special=False` only the text's own tokens are returned, none for an
    empty text.
    """
    cut = [prompt + _cut(text, max_length) for text in texts]
    return _ids(tokenizer, (cut,), special, truncation=True, max_length=max_length)


def tokenize_pairs(tokenizer: Any, first: Sequence[str], second: Sequence[str], max_length: int) -> list[np.ndarray]:
    """Return int64 token ids of pairs of texts as the tokenizer joins them, at most `max_length` each.

    The longer text of a pair is truncated first. Only the separator marks the beginning of the second text: segment ids
    (token types) are not used, so BERT reads both texts as its first segment.
    """
    cut = [[_cut(text, max_length) for text in texts] for texts in (first, second)]
    return _ids(tokenizer, cut, True, truncation="longest_first", max_length=max_length)


def padding_id(tokenizer: Any) -> int:
    """Return the padding token; 0 if the tokenizer has none, since padding is masked."""
    padding = tokenizer.pad_token_id
    return 0 if padding is None else int(padding)


def _cut(text: str, max_length: int) -> str:
    """Return the part of a text that is read; lone surrogates, as in broken command lines, become question marks."""
    return str(text)[:CHARACTERS_PER_TOKEN * max_length].encode("utf-8", "replace").decode("utf-8")


def _ids(tokenizer: Any, texts: Sequence[Sequence[str]], special: bool, **how: Any) -> list[np.ndarray]:
    tokens: list[np.ndarray] = []
    for start in range(0, len(texts[0]), TOKENIZED_AT_ONCE):
        parts = [side[start:start + TOKENIZED_AT_ONCE] for side in texts]
        ids = tokenizer(*parts, add_special_tokens=special, return_attention_mask=False, return_token_type_ids=False,
                        **how)["input_ids"]
        empty = [_empty_text_token(tokenizer)] if special else []
        tokens += [np.array(i or empty, np.int64) for i in ids]
    return tokens


def _empty_text_token(tokenizer: Any) -> int:
    """Return the token of an empty text if the tokenizer adds no special tokens: beginning or end of text."""
    tokens = [token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None]
    return int(tokens[0]) if tokens else padding_id(tokenizer)
