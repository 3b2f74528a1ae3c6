"""Memory that text encoders take, stated before they are opened. Constants were measured by benchmarks/memory.py."""

from collections.abc import Sequence
from contextlib import suppress

from llmrec_cli.encoders.folder_files import shards_of
from llmrec_cli.encoders.locate import locate
from llmrec_cli.errors import LlmrecError
from llmrec_cli.settings.encoder import Concat, EncoderSettings, Lsa, MiniLM, Static, TfIdf, TransformerSettings

USUAL_SIZE = 384
"""Dimensions of the vectors of most small sentence encoders, MiniLM among them."""
MINILM_BYTES = 86 * 2**20
"""MiniLM's weights."""
ENCODING_BYTES = 190 * 2**20
"""The tokenizer with 512 texts at a time, the weights as matrix products want them, and the layers' working memory for
the usual `batch_tokens`. Where the cache has all vectors, the encoder is opened and encodes nothing: less is taken."""
STATIC_BYTES = 95 * 2**20
"""An opened static encoder: a table of the words' vectors and its tokenizer."""
BYTES_OF_A_CHARACTER = 12
"""Words of a text as numbers, as counts and as weights."""
MOST_WORDS = 50_000
"""Words that a catalogue's texts have in common, at most; fewer where texts are short."""


def vector_size(settings: EncoderSettings) -> int:
    """Return the dimensions of an encoder's vectors, as far as its settings say."""
    if settings.projection is not None:
        return settings.projection
    if isinstance(settings, TfIdf | Lsa):
        return settings.embedding_size
    if isinstance(settings, Concat):
        return sum(vector_size(part.encoder) for part in settings.parts.values() if part.weight > 0)
    return USUAL_SIZE


def encoder_memory(settings: EncoderSettings, texts: Sequence[str]) -> int:
    """Return the bytes that opening an encoder, learning and encoding take at their peak, beside the vectors."""
    if isinstance(settings, Concat):
        parts = [part.encoder for part in settings.parts.values() if part.weight > 0]
        return sum(encoder_memory(part, texts) for part in parts) + 8 * len(texts) * vector_size(settings)
    characters = sum(map(len, texts))
    words = min(MOST_WORDS, characters // 16)
    if isinstance(settings, TfIdf):
        return BYTES_OF_A_CHARACTER * characters
    if isinstance(settings, Lsa):
        # The randomised SVD holds words x dimensions and texts x dimensions several times, in float64 once.
        return BYTES_OF_A_CHARACTER * characters + 16 * (settings.embedding_size + 10) * (words + len(texts))
    if isinstance(settings, Static):
        return STATIC_BYTES
    return _transformer(settings) if isinstance(settings, TransformerSettings) else 0


def _transformer(settings: TransformerSettings) -> int:
    if isinstance(settings, MiniLM):
        return ENCODING_BYTES + MINILM_BYTES
    # A folder that cannot be used is refused with its reason where it is opened.
    with suppress(LlmrecError):
        files = locate(settings).files
        return ENCODING_BYTES + sum(files.status(name).st_size for name in shards_of(files))
    return ENCODING_BYTES + MINILM_BYTES
