"""Long texts in pieces that an encoder reads whole."""

from collections.abc import Sequence

from llmrec_cli.encoders.base import Encoder
from llmrec_cli.encoders.concat import ConcatEncoder
from llmrec_cli.encoders.text_encoder import TextEncoder


def chunks(encoder: Encoder, texts: Sequence[str]) -> list[list[str]]:
    """Return the pieces of each text, in order: no more tokens than the encoder reads, cut between words.

    A text without any token has no piece. What has no limit, as TF-IDF, has one piece. Of encoder=concat the part with
    the smallest limit decides.
    """
    limited = [part for part in _parts(encoder) if isinstance(part, TextEncoder)]
    if not limited:
        return [[text] if text.strip() else [] for text in texts]
    return [_pieces(min(limited, key=_room), text) for text in texts]


def _parts(encoder: Encoder) -> list[Encoder]:
    return [part for part, *_ in encoder.parts.values()] if isinstance(encoder, ConcatEncoder) else [encoder]


def _room(encoder: TextEncoder) -> int:
    """Return the tokens of a text that the encoder reads beside its prompt and special tokens."""
    prompt = encoder.prompts.get("item", "")
    taken = len(encoder.tokenizer(prompt, add_special_tokens=True)["input_ids"])
    return max(1, encoder.settings.max_length - taken)


def _pieces(encoder: TextEncoder, text: str) -> list[str]:
    read = encoder.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets, words = read["offset_mapping"], read.word_ids()
    room, start, found = _room(encoder), 0, []
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
