"""Cache of text vectors across runs, so that a run on an unchanged catalogue encodes nothing.

    <cache>/1-<encoder's identity>/<SHA-256 of the file>.safetensors      a shard: SHA-256 of texts, and their vectors

Runs add shards, never change them, and publish each atomically, so no locks are needed: at worst two concurrent runs
encode the same text twice. A shard's name is its hash. A damaged shard is removed with a warning and its texts are
encoded again.

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
SHARD_TEXTS = 65536  # Texts encoded and written at a time, so that a killed run loses at most one shard.
MOST_SHARDS = 16
MOST_BYTES = 8 * 2**30
_LEFTOVER_SECONDS = 24 * 3600


def encode_cached(encoder: Encoder, texts: Sequence[str], folder: Path | None,
                  log: Callable[..., None] | None = None) -> np.ndarray:
    """Return `encoder.encode(texts)` of items, float32 (T, D), read from the cache in `folder` where possible.

    The cache is not used without a folder or with an encoder that is not costly. `log` is called with the event
    `vectors` and the numbers of distinct texts encoded and read. A cached vector is returned bit by bit; a vector that
    is encoded in another batch may differ in the last bits.
    """
    if folder is None or not encoder.is_costly:
        return encoder.encode(texts)
    cache = _Cache(folder, encoder)
    keys = {text: _key(text) for text in dict.fromkeys(map(str, texts))}
    vectors = cache.read(set(keys.values()))
    missing = [text for text, key in keys.items() if key not in vectors]
    is_writable = True
    for start in range(0, len(missing), SHARD_TEXTS):
        part = missing[start:start + SHARD_TEXTS]
        vectors_TD = encoder.encode(part)
        vectors |= zip((keys[text] for text in part), vectors_TD, strict=True)
        is_writable = is_writable and cache.try_add([keys[text] for text in part], vectors_TD)
    if missing and is_writable:
        cache.tidy()
    if log is not None:
        log("vectors", encoded=len(missing), read=len(keys) - len(missing))
    empty = np.zeros((0, encoder.embedding_size), np.float32)
    return np.stack([vectors[keys[str(text)]] for text in texts]) if len(texts) else empty


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class _Cache:
    """The shards of an encoder."""

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        self.folder = folder
        self.size = encoder.embedding_size
        self.place = folder / f"{_FORMAT}-{encoder.identity}"

    def read(self, requested: set[bytes] | None) -> dict[bytes, np.ndarray]:
        """Return the cached vectors of the `requested` texts; all cached vectors if None."""
        vectors: dict[bytes, np.ndarray] = {}
        for file in sorted(self.place.glob("*.safetensors")):
            keys, vectors_TD = _read_shard(file, self.size)
            rows = [n for n, key in enumerate(keys) if (requested is None or key in requested) and key not in vectors]
            if rows:
                # Indexing copies, so that the rest of the shard can be freed.
                vectors |= zip((keys[n] for n in rows), vectors_TD[rows], strict=True)
                with suppress(OSError):  # Removed, or in a read-only folder.
                    os.utime(file)  # The time of last use decides which shards are removed first.
        return vectors

    def try_add(self, keys: Sequence[bytes], vectors_TD: np.ndarray) -> bool:
        """Write a shard and return True; print a warning and return False if that is impossible.

        No error, since it only costs the next run time.
        """
        try:
            self.add(keys, vectors_TD)
        except ResourceError as error:
            print(f"warning: {error}; until then text vectors are not cached (cache=<folder>, or cache='' for none)",
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
        """Merge shards if there are too many, and remove the least recently used ones if the cache is too large."""
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
        # Temporary files of killed runs; those of active runs are not that old.
        for changed, _, file in _facts(self.folder.glob("*/.*")):
            if changed < (time.time() - _LEFTOVER_SECONDS) * 1e9:
                file.unlink(missing_ok=True)


def _facts(files: Iterable[Path]) -> Iterator[tuple[int, int, Path]]:
    """Yield time of last use in nanoseconds, size in bytes and path of each file that still exists."""
    for file in files:
        with suppress(FileNotFoundError):
            facts = file.stat()
            yield facts.st_mtime_ns, facts.st_size, file


def _read_shard(file: Path, size: int) -> tuple[list[bytes], np.ndarray]:
    """Return the hashes of a shard's texts and their vectors (T, D); empty for a missing or damaged shard."""
    nothing = list[bytes](), np.zeros((0, size), np.float32)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return nothing  # Another run has merged shards.
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
        with suppress(OSError):  # Removed, or in a read-only folder.
            file.unlink()
        return nothing
    return [row.tobytes() for row in texts], vectors_TD
