"""Texts of a catalogue tokenised once, and run through the frozen layers once; their outputs kept on disk.

    <cache>/hidden/<SHA-256 of what decides on it>/    hidden.bin, manifest.json (dtype, shape, SHA-256)

A folder appears whole or not at all. Unlike vectors, hidden states are kept for a catalogue as a whole: they serve the
next run on the same items (another seed, another peft), and are made anew when items change.

Shapes: R texts of a batch, T tokens of the longest of them, S tokens drawn of a text, D = the encoder's embedding_size.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from llmrec_cli.atomic_files import whole_folder, write_json
from llmrec_cli.data.manifest import sha256
from llmrec_cli.encoders.batching import PackedTokens, buckets
from llmrec_cli.encoders.layer_split import Between
from llmrec_cli.encoders.text_encoder import TextEncoder

_NUMBERS, _MANIFEST = "hidden.bin", "manifest.json"
_MOST_FOLDERS = 4
_STORED: dict[torch.dtype, type] = {torch.float32: np.float32, torch.bfloat16: np.int16}
"""numpy has no bfloat16: its bits are kept as whole numbers."""


def cached_hidden(cache: Path, facts: str, arrays: Sequence[np.ndarray], dtype: torch.dtype,
                  make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return what `make` returns, (num_tokens + 1, D) of `dtype`, from the cache where it is there.

    `facts` and `arrays` are all that decides on it: the layers' weights and the tokens. A damaged folder is removed
    and made again, with a line that says so: nothing in it is lost.
    """
    key = hashlib.sha256(f"{facts} {dtype}".encode())
    for array in arrays:
        key.update(np.ascontiguousarray(array).data)
    folder = cache / "hidden" / key.hexdigest()
    found = _mapped(folder, dtype) if folder.is_dir() else None
    if found is not None:
        return found
    hidden = make()
    with whole_folder(folder) as temporary:
        _bits(hidden).tofile(temporary / _NUMBERS)
        write_json(temporary / _MANIFEST, {"shape": list(hidden.shape), "sha256": sha256(temporary / _NUMBERS)})
    _tidy(folder)
    return hidden


def _bits(hidden: torch.Tensor) -> np.ndarray:
    host = hidden.cpu().contiguous()
    return (host.view(torch.int16) if host.dtype == torch.bfloat16 else host).numpy()


def _mapped(folder: Path, dtype: torch.dtype) -> torch.Tensor | None:
    """Return the numbers in a folder, mapped and not read; None, and the folder is gone, where they are damaged."""
    mapped = None
    try:
        manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
        # One file for the hash and the map: its name may be another's by then, or nobody's.
        with (folder / _NUMBERS).open("rb") as numbers:
            if hashlib.file_digest(numbers, "sha256").hexdigest() == manifest["sha256"]:
                # Copy on write, since torch takes no tensor that it may not write to; nothing ever is written.
                mapped = np.memmap(numbers, _STORED[dtype], "c", shape=tuple(manifest["shape"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, FileNotFoundError) and not folder.is_dir():
            return None  # Another run has made room in the cache.
    if mapped is None:
        print(f"warning: {folder}: damaged, so it is removed and made again", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with suppress(FileNotFoundError):
        (folder / _MANIFEST).touch()
    return torch.from_numpy(mapped).view(dtype)


def _tidy(newest: Path) -> None:
    """Remove the folders that were used longest ago where there are too many."""
    others = [(file.stat().st_mtime_ns, file.parent) for file in newest.parent.glob(f"*/{_MANIFEST}")
              if file.parent != newest]
    for _, folder in sorted(others)[: max(0, len(others) - _MOST_FOLDERS + 1)]:
        shutil.rmtree(folder, ignore_errors=True)


class TextBank:
    """The input of an encoder's lowest trained layer for each text of a catalogue.

    While `encoder.lower` is frozen its output is kept, packed without padding, identical texts once: 4 bytes per number
    (float32), or 2 with `dtype=torch.bfloat16`, which rounds to 8 bits of mantissa. 1,682 film titles of 12 tokens at
    384 dimensions take 31 MB. What `batch` returns is float32 either way. With a folder `cache` the output of frozen
    layers is kept there across runs and only mapped into memory.

    With `sampled_tokens` a batch in training has at most so many tokens of each text, drawn anew each time: what the
    frozen layers made of them has seen the whole text.
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
        self.kept = self._kept(dtype, cache) if encoder.lower_is_frozen else None

    def __len__(self) -> int:
        return len(self.distinct_of)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return hidden_RTD (float32; 0 at padding when kept) and mask_RT (bool) of the texts `rows`, int64 (R,).

        Padded to the longest of them only. When `lower` is trained it runs here, with gradients.
        """
        return self._batch(self.distinct_of[rows])

    @torch.no_grad()
    def vectors(self) -> torch.Tensor:
        """Return the vectors of all texts (num_texts, D) at the encoder's present weights, without gradients."""
        vectors = torch.empty(self.num_distinct, self.encoder.embedding_size, device=self.device)
        mode = self.encoder.training
        self.encoder.train(False)
        for rows in self._buckets():
            vectors[rows] = self.encoder.upper(*self._batch(rows)).float()
        self.encoder.train(mode)
        return vectors[self.distinct_of]

    def _batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.kept is None:
            ids_RT, mask_RT = self.tokens.batch(rows)
            return self.encoder.lower(ids_RT, mask_RT), mask_RT
        places_RT, mask_RT = self.tokens.ragged.places(rows)
        if self.sampled_tokens is not None and self.encoder.training and places_RT.shape[1] > self.sampled_tokens:
            places_RT, mask_RT = _drawn(places_RT, mask_RT, self.sampled_tokens)
        kept = self.kept[places_RT.cpu()].to(self.device) if self.kept.device != self.device else self.kept[places_RT]
        return kept.float(), mask_RT

    def _kept(self, dtype: torch.dtype, cache: Path | None) -> torch.Tensor:
        """Return the output of `lower` for all tokens, (num_tokens + 1, D); the last row is padding, all 0."""
        cut = self.encoder.cut
        if cache is None or not isinstance(cut, Between):
            return self._run_lower(dtype)  # Token embeddings are looked up as fast as they are read.
        facts = f"{self.encoder.base_identity} {cut.first} {self.encoder.settings.max_length}"
        arrays = (self.tokens.ids.cpu().numpy(), self.tokens.ragged.host_lengths)
        return cached_hidden(cache, facts, arrays, dtype, lambda: self._run_lower(dtype))

    @torch.no_grad()
    def _run_lower(self, dtype: torch.dtype) -> torch.Tensor:
        kept = torch.zeros(self.tokens.ragged.size + 1, self.encoder.hidden_size, dtype=dtype, device=self.device)
        for rows in self._buckets():
            ids_RT, mask_RT = self.tokens.batch(rows)
            places_RT, _ = self.tokens.ragged.places(rows)
            with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
                kept[places_RT[mask_RT]] = self.encoder.lower(ids_RT, mask_RT)[mask_RT].to(dtype)
        return kept

    def _buckets(self) -> list[torch.Tensor]:
        lengths, limit = self.tokens.ragged.host_lengths, self.encoder.settings.batch_tokens
        return [torch.from_numpy(rows).to(self.device) for rows in buckets(lengths, limit)]


def _drawn(places_RT: torch.Tensor, mask_RT: torch.Tensor, num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the places and the mask of at most `num` tokens of each text (R, S), drawn without replacement."""
    # On the CPU, whose stream a checkpoint keeps for every device.
    chance_RT = torch.rand(mask_RT.shape).to(mask_RT.device).masked_fill(~mask_RT, -1)
    chosen_RS = chance_RT.topk(num, dim=1).indices.sort(dim=1).values
    # Padding comes last in a row, so that what is left of it does too.
    return places_RT.gather(1, chosen_RS), mask_RT.gather(1, chosen_RS)
