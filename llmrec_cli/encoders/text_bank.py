"""The texts of a catalogue, ready for training: tokenised once, and run through the frozen layers once.

Shapes: R texts of a batch, T tokens of the longest of them, D = the encoder's embedding_size.
"""

from collections.abc import Sequence

import numpy as np
import torch

from llmrec_cli.encoders.packed import PackedTokens, buckets
from llmrec_cli.encoders.text_encoder import TextEncoder


class TextBank:
    """The input of an encoder's lowest trained layer for each text of a catalogue.

    While `encoder.lower` is frozen its output is kept, packed without padding, identical texts once: 4 bytes per number
    (float32), or 2 with `dtype=torch.bfloat16`, which rounds to 8 bits of mantissa. 1,682 film titles of 12 tokens at
    384 dimensions take 31 MB. What `batch` returns is float32 either way.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str], device: torch.device,
                 dtype: torch.dtype = torch.float32) -> None:
        self.encoder = encoder
        self.device = device
        distinct = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        self.num_distinct = len(distinct)
        places = np.fromiter((distinct[text] for text in texts), np.int64, len(texts))
        self.distinct_of = torch.from_numpy(places).to(device)
        self.tokens = PackedTokens(encoder.tokenize(list(distinct)), encoder.padding_id, device)
        self.kept = self._run_lower(dtype) if encoder.lower_is_frozen else None

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
        return self.kept[places_RT].float(), mask_RT

    @torch.no_grad()
    def _run_lower(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the output of `lower` for all tokens, (num_tokens + 1, D); the last row is padding, all 0."""
        kept = torch.zeros(self.tokens.ragged.size + 1, self.encoder.hidden_size, dtype=dtype, device=self.device)
        for rows in self._buckets():
            ids_RT, mask_RT = self.tokens.batch(rows)
            places_RT, _ = self.tokens.ragged.places(rows)
            kept[places_RT[mask_RT]] = self.encoder.lower(ids_RT, mask_RT)[mask_RT].to(dtype)
        return kept

    def _buckets(self) -> list[torch.Tensor]:
        lengths, limit = self.tokens.ragged.host_lengths, self.encoder.settings.batch_tokens
        return [torch.from_numpy(rows).to(self.device) for rows in buckets(lengths, limit)]
