"""Long texts in pieces that an encoder reads whole."""

from typing import Any


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
