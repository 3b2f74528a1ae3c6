"""Cache of the frozen layers' output for the texts of a catalogue, in memory and on disk.

    <cache>/hidden/<SHA-256 of weights and tokens>/    hidden.bin, manifest.json (dtype, shape, SHA-256)

A folder is published atomically. Unlike vectors, hidden states are cached for a catalogue as a whole: they serve later
runs on the same items (another seed, another peft), and are recomputed when items change.

Shapes: R texts of a batch, T tokens of the longest of them, S sampled tokens of a text, D = the encoder's
embedding_size.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from llmrec_cli.atomic_files import whole_folder, write_json
from llmrec_cli.data.manifest import sha256
from llmrec_cli.encoders.batching import PackedTokens, timed_buckets
from llmrec_cli.encoders.layer_split import Between
from llmrec_cli.encoders.text_encoder import TextEncoder

_NUMBERS, _MANIFEST = "hidden.bin", "manifest.json"
_MOST_FOLDERS = 4
_STORED: dict[torch.dtype, type] = {torch.float32: np.float32, torch.bfloat16: np.int16}
"""numpy has no bfloat16, so its bits are stored as integers."""


def cached_hidden(cache: Path, facts: str, arrays: Sequence[np.ndarray], dtype: torch.dtype,
                  make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return the hidden states of `make`, (num_tokens + 1, D) of `dtype`, from the cache if it has them.

    `facts` and `arrays` determine them: the identity of the layers' weights, and the tokens. A damaged folder is
    removed and recomputed, with a warning.
    """
    key = hashlib.sha256(f"{facts} {dtype}".encode())
    for array in arrays:
        key.update(np.ascontiguousarray(array).data)
    folder = cache / "hidden" / key.hexdigest()
    cached = _map(folder, dtype) if folder.is_dir() else None
    if cached is not None:
        return cached
    hidden = make()
    with whole_folder(folder) as temporary:
        _bits(hidden).tofile(temporary / _NUMBERS)
        write_json(temporary / _MANIFEST, {"shape": list(hidden.shape), "sha256": sha256(temporary / _NUMBERS)})
    _tidy(folder)
    return hidden


def _bits(hidden: torch.Tensor) -> np.ndarray:
    host = hidden.cpu().contiguous()
    return (host.view(torch.int16) if host.dtype == torch.bfloat16 else host).numpy()


def _map(folder: Path, dtype: torch.dtype) -> torch.Tensor | None:
    """Return the memory-mapped hidden states of a folder; remove the folder and return None if they are damaged."""
    mapped = None
    try:
        manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
        # Hash and map the same open file: another run may replace or remove its name in between.
        with (folder / _NUMBERS).open("rb") as numbers:
            if hashlib.file_digest(numbers, "sha256").hexdigest() == manifest["sha256"]:
                # Copy on write, since torch needs writable memory; nothing is written.
                mapped = np.memmap(numbers, _STORED[dtype], "c", shape=tuple(manifest["shape"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, FileNotFoundError) and not folder.is_dir():
            return None  # Another run has removed it to make room in the cache.
    if mapped is None:
        print(f"warning: {folder}: damaged, so it is removed and recomputed", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with suppress(FileNotFoundError):
        (folder / _MANIFEST).touch()
    return torch.from_numpy(mapped).view(dtype)


def _tidy(newest: Path) -> None:
    """Remove the least recently used folders if there are too many."""
    others = [(file.stat().st_mtime_ns, file.parent) for file in newest.parent.glob(f"*/{_MANIFEST}")
              if file.parent != newest]
    for _, folder in sorted(others)[: max(0, len(others) - _MOST_FOLDERS + 1)]:
        shutil.rmtree(folder, ignore_errors=True)


class FrozenLayerCache:
    """The input of an encoder's lowest trained layer for each text of a catalogue.

    While `encoder.lower` is frozen its output is stored, packed without padding, once for identical texts: 4 bytes per
    number (float32), or 2 with `dtype=torch.bfloat16`, which rounds to 8 bits of mantissa. 1,682 film titles of 12
    tokens at 384 dimensions take 31 MB. `batch` always returns float32. With a folder `cache` the output of frozen
    layers is stored there across runs and mapped into memory.

    With `sampled_tokens` a training batch has at most so many tokens of each text, sampled anew each time; their hidden
    states are still those of the whole text.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str], device: torch.device,
                 dtype: torch.dtype = torch.float32, cache: Path | None = None,
                 sampled_tokens: int | None = None) -> None:
        self.encoder = encoder
        self.device = device
        self.sampled_tokens = sampled_tokens
        distinct = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        self.num_distinct = len(distinct)
        places = np.fromiter((distinct[text] for text in texts), np.int64, len(texts))
        self.distinct_of = torch.from_numpy(places).to(device)
        self.tokens = PackedTokens(encoder.tokenize(list(distinct)), encoder.padding_id, device)
        self.hidden = self._load_hidden(dtype, cache) if encoder.lower_is_frozen else None

    def __len__(self) -> int:
        return len(self.distinct_of)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return hidden_RTD (float32) and mask_RT (bool) of the texts `rows`, int64 (R,), padded to the longest.

        Stored hidden states are 0 at padding. If `lower` is trained, it runs here with gradients.
        """
        return self._batch(self.distinct_of[rows])

    @torch.no_grad()
    def vectors(self) -> torch.Tensor:
        """Return the vectors of all texts (num_texts, D) at the encoder's current weights, without gradients."""
        vectors = torch.empty(self.num_distinct, self.encoder.embedding_size, device=self.device)
        mode = self.encoder.training
        self.encoder.train(False)
        for rows in self._buckets("encoding with the trained layers"):
            vectors[rows] = self.encoder.upper(*self._batch(rows)).float()
        self.encoder.train(mode)
        return vectors[self.distinct_of]

    def _batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.hidden is None:
            ids_RT, mask_RT = self.tokens.batch(rows)
            return self.encoder.lower(ids_RT, mask_RT), mask_RT
        places_RT, mask_RT = self.tokens.ragged.places(rows)
        if self.sampled_tokens is not None and self.encoder.training and places_RT.shape[1] > self.sampled_tokens:
            places_RT, mask_RT = _sample_tokens(places_RT, mask_RT, self.sampled_tokens)
        is_here = self.hidden.device == self.device
        hidden = self.hidden[places_RT] if is_here else self.hidden[places_RT.cpu()].to(self.device)
        return hidden.float(), mask_RT

    def _load_hidden(self, dtype: torch.dtype, cache: Path | None) -> torch.Tensor:
        """Return the output of `lower` for all tokens, (num_tokens + 1, D); the last row is padding, all 0."""
        cut = self.encoder.cut
        if cache is None or not isinstance(cut, Between):
            return self._run_lower(dtype)  # Looking up token embeddings is as fast as reading a cache.
        facts = f"{self.encoder.base_identity} {cut.first} {self.encoder.settings.max_length}"
        arrays = (self.tokens.ids.cpu().numpy(), self.tokens.ragged.host_lengths)
        return cached_hidden(cache, facts, arrays, dtype, lambda: self._run_lower(dtype))

    @torch.no_grad()
    def _run_lower(self, dtype: torch.dtype) -> torch.Tensor:
        hidden = torch.zeros(self.tokens.ragged.size + 1, self.encoder.hidden_size, dtype=dtype, device=self.device)
        for rows in self._buckets("encoding with the frozen layers"):
            ids_RT, mask_RT = self.tokens.batch(rows)
            places_RT, _ = self.tokens.ragged.places(rows)
            with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
                hidden[places_RT[mask_RT]] = self.encoder.lower(ids_RT, mask_RT)[mask_RT].to(dtype)
        return hidden

    def _buckets(self, title: str) -> Iterator[torch.Tensor]:
        lengths, limit = self.tokens.ragged.host_lengths, self.encoder.settings.batch_tokens
        for rows in timed_buckets(lengths, limit, title):
            yield torch.from_numpy(rows).to(self.device)


def _sample_tokens(places_RT: torch.Tensor, mask_RT: torch.Tensor, num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the positions and the mask of at most `num` tokens of each text (R, S), sampled without replacement."""
    # On the CPU, whose random stream is part of checkpoints for every device.
    chance_RT = torch.rand(mask_RT.shape).to(mask_RT.device).masked_fill(~mask_RT, -1)
    sample_RS = chance_RT.topk(num, dim=1).indices.sort(dim=1).values
    # Sorted, so that padding stays last in a row.
    return places_RT.gather(1, sample_RS), mask_RT.gather(1, sample_RS)
