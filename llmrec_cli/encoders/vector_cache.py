"""Vectors of texts kept across runs, so that a run on an unchanged catalogue encodes nothing.

    <cache>/1-<encoder's identity>/<SHA-256 of the file>.safetensors      a shard: SHA-256 of texts, and their vectors

Each run that encodes something adds shards and changes none, and a shard appears whole or not at all, so that runs
need no locks: two at once at worst encode the same text twice. A shard is named by its own hash. One that is damaged
is removed and its texts are encoded again, with a line that says so: unlike a model or data, nothing in it is lost.

Shapes: T texts, D = the encoder's embedding_size.
"""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from llmrec_cli.atomic_files import write_bytes
from llmrec_cli.encoders.base import Encoder
from llmrec_cli.errors import ResourceError

_FORMAT = 1
SHARD_TEXTS = 65536  # Encoded and written at a time, so that a run that is killed has not encoded all for nothing.
MOST_SHARDS = 16
MOST_BYTES = 8 * 2**30
_LEFTOVER_SECONDS = 24 * 3600


def encode_cached(encoder: Encoder, texts: Sequence[str], folder: Path | None,
                  log: Callable[..., None] | None = None) -> np.ndarray:
    """Return `encoder.encode(texts)` of items, float32 (T, D), where the cache in `folder` has it without encoding.

    Without a folder, or with an encoder that is not costly, nothing is kept. `log` is called with the event
    `vectors` and how many distinct texts were encoded and how many were read. A vector read is the one written, bit by
    bit; one encoded among other texts may differ from it in the last bits.
    """
    if folder is None or not encoder.is_costly:
        return encoder.encode(texts)
    cache = _Cache(folder, encoder)
    keys = {text: _key(text) for text in dict.fromkeys(map(str, texts))}
    found = cache.read(set(keys.values()))
    missing = [text for text, key in keys.items() if key not in found]
    is_writable = True
    for start in range(0, len(missing), SHARD_TEXTS):
        part = missing[start:start + SHARD_TEXTS]
        vectors_TD = encoder.encode(part)
        found |= zip((keys[text] for text in part), vectors_TD, strict=True)
        is_writable = is_writable and cache.keep([keys[text] for text in part], vectors_TD)
    if missing and is_writable:
        cache.tidy()
    if log is not None:
        log("vectors", encoded=len(missing), read=len(keys) - len(missing))
    empty = np.zeros((0, encoder.embedding_size), np.float32)
    return np.stack([found[keys[str(text)]] for text in texts]) if len(texts) else empty


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class _Cache:
    """The shards of one encoder."""

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        self.folder = folder
        self.size = encoder.embedding_size
        self.place = folder / f"{_FORMAT}-{encoder.identity}"

    def read(self, wanted: set[bytes] | None) -> dict[bytes, np.ndarray]:
        """Return the vectors of those of the `wanted` texts that have one; all there are when None."""
        found: dict[bytes, np.ndarray] = {}
        for file in sorted(self.place.glob("*.safetensors")):
            keys, vectors_TD = _read_shard(file, self.size)
            rows = [n for n, key in enumerate(keys) if (wanted is None or key in wanted) and key not in found]
            if rows:
                # Copied, so that the rest of the shard need not be held.
                found |= zip((keys[n] for n in rows), vectors_TD[rows], strict=True)
                with suppress(OSError):  # Gone, or in a folder that is only read from.
                    os.utime(file)  # When it was used last decides on what goes when there is too much.
        return found

    def keep(self, keys: Sequence[bytes], vectors_TD: np.ndarray) -> bool:
        """Write a shard and return True; where that is impossible print a warning and return False.

        It costs the next run time and this one nothing, so it is no error.
        """
        try:
            self.add(keys, vectors_TD)
        except ResourceError as error:
            print(f"warning: {error}; until then vectors of texts are not kept (cache=<folder>, or cache='' for none)",
                  file=sys.stderr)
            return False
        return True

    def add(self, keys: Sequence[bytes], vectors_TD: np.ndarray) -> Path:
        """Write a shard and return its file."""
        content = save({"texts": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32), "vectors": vectors_TD})
        file = self.place / f"{hashlib.sha256(content).hexdigest()}.safetensors"
        write_bytes(file, content)
        return file

    def tidy(self) -> None:
        """Make one shard of many, and remove what was used longest ago where the cache has outgrown its limit."""
        shards = sorted(self.place.glob("*.safetensors"))
        if len(shards) > MOST_SHARDS:
            content = self.read(None)
            merged = self.add(list(content), np.stack(list(content.values())))
            for file in shards:
                if file != merged:
                    file.unlink(missing_ok=True)
        files = sorted(_facts(self.folder.glob("*/*.safetensors")))
        total = sum(size for _, size, _ in files)
        for _, size, file in files:
            if total > MOST_BYTES:
                file.unlink(missing_ok=True)
                total -= size
        # What a run that was killed while it wrote left behind; one that is still writing is not that old.
        for changed, _, file in _facts(self.folder.glob("*/.*")):
            if changed < (time.time() - _LEFTOVER_SECONDS) * 1e9:
                file.unlink(missing_ok=True)


def _facts(files: Iterable[Path]) -> Iterator[tuple[int, int, Path]]:
    """Yield when a file was used last, in nanoseconds, its bytes and itself, of those that no other run removed."""
    for file in files:
        with suppress(FileNotFoundError):
            facts = file.stat()
            yield facts.st_mtime_ns, facts.st_size, file


def _read_shard(file: Path, size: int) -> tuple[list[bytes], np.ndarray]:
    """Return the hashes of a shard's texts and their vectors (T, D); none of one that is gone or damaged."""
    nothing = list[bytes](), np.zeros((0, size), np.float32)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return nothing  # Another run has made one shard of several.
    except OSError as error:
        raise ResourceError(f"{file}: cannot be read ({error.strerror}); choose another place for the cache, "
                            f"cache=<folder>, or none, cache=''") from error
    try:
        tensors = load(content) if hashlib.sha256(content).hexdigest() == file.stem else {}
    except SafetensorError:
        tensors = {}
    texts, vectors_TD = tensors.get("texts"), tensors.get("vectors")
    if texts is None or vectors_TD is None or texts.shape != (len(vectors_TD), 32) or texts.dtype != np.uint8 or \
            vectors_TD.shape[1:] != (size,) or vectors_TD.dtype != np.float32:
        print(f"warning: {file}: damaged, so it is removed and its texts are encoded again", file=sys.stderr)
        with suppress(OSError):  # Gone, or in a folder that is only read from.
            file.unlink()
        return nothing
    return [row.tobytes() for row in texts], vectors_TD
