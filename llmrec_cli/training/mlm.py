"""Masked language modelling: batches, the loss, and the measure before and after.

Shapes: R texts of a batch, T tokens of the longest of them, M masked tokens, V tokens of the vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from llmrec_cli.encoders.masked_language_model import MaskedLanguageModel
from llmrec_cli.encoders.packed import PackedTokens, buckets
from llmrec_cli.errors import DataError
from llmrec_cli.training.masking import Vocabulary, mask_tokens

WINDOW = 16
"""Batches whose texts are sorted by length together: little padding, yet another mix in every epoch."""

MASKED_AT_ONCE = 1024
"""Texts of a measure that are masked together, whatever number of them is run at a time."""


@dataclass(frozen=True)
class Measure:
    """How well masked tokens of held-out texts are predicted.

    Attributes
    ----------
    loss : mean cross-entropy of a masked token, in nats
    accuracy : share of the masked tokens that get the highest logit
    num_tokens : masked tokens that both are taken over
    """

    loss: float
    accuracy: float
    num_tokens: int


Batch = tuple[np.ndarray, int]
"""Rows of the texts (R,), and the seed of their masks."""


class MaskedTexts:
    """Texts to train or to measure a masked language model with; those of unknown tokens alone are left out."""

    def __init__(self, model: MaskedLanguageModel, texts: list[str], mask_share: float, device: torch.device) -> None:
        encoder = model.encoder
        self.model = model
        self.mask_share = mask_share
        self.batch_tokens = encoder.settings.batch_tokens
        self.vocabulary = Vocabulary.of(encoder.tokenizer, len(encoder.tokenizer), device)
        special = self.vocabulary.special.cpu().numpy()
        tokens = [ids for ids in encoder.tokenize(texts) if not np.isin(ids, special).all()]
        if not tokens:
            raise DataError(f"none of {len(texts)} texts has a token that the encoder knows, '{texts[0][:40]}' for "
                            f"one; choose an encoder for this language, or encoder=scratch")
        self.tokens = PackedTokens(tokens, encoder.padding_id, device)
        self.device = device

    def __len__(self) -> int:
        return len(self.tokens.ragged.host_lengths)

    def num_batches(self, batch_size: int) -> int:
        """Return the batches of an epoch."""
        return -(-len(self) // batch_size)

    def batches(self, batch_size: int, generator: np.random.Generator) -> Iterator[Batch]:
        """Yield each text once, in batches of similar length and random order."""
        order = generator.permutation(len(self))
        lengths = self.tokens.ragged.host_lengths
        windows = [order[n:n + WINDOW * batch_size] for n in range(0, len(order), WINDOW * batch_size)]
        order = np.concatenate([w[np.argsort(lengths[w], kind="stable")] for w in windows])
        batches = [order[n:n + batch_size] for n in range(0, len(order), batch_size)]
        for place in generator.permutation(len(batches)):
            yield batches[place], int(generator.integers(2 ** 62))

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the mean cross-entropy of the masked tokens."""
        rows, seed = batch
        ids_RT, mask_RT = self.tokens.batch(torch.from_numpy(rows).to(self.device))
        shown_RT, chosen_RT = mask_tokens(ids_RT, mask_RT, self.mask_share, self.vocabulary, seed)
        return functional.cross_entropy(self.model(shown_RT, mask_RT, chosen_RT), ids_RT[chosen_RT])

    @torch.no_grad()
    def measure(self, seed: int) -> Measure:
        """Return how well masked tokens of all texts are predicted; the same seed masks the same tokens, always."""
        mode = self.model.training
        self.model.eval()
        loss, right, count = 0.0, 0, 0
        for start in range(0, len(self), MASKED_AT_ONCE):
            stop = min(start + MASKED_AT_ONCE, len(self))
            ids_RT, mask_RT = self.tokens.batch(torch.arange(start, stop, device=self.device))
            shown_RT, chosen_RT = mask_tokens(ids_RT, mask_RT, self.mask_share, self.vocabulary, seed + start)
            lengths = self.tokens.ragged.host_lengths[start:stop]
            for rows in buckets(lengths, self.batch_tokens):
                part = torch.from_numpy(rows).to(self.device)
                shown, mask, chosen, ids = (t[part, :lengths[rows[0]]] for t in (shown_RT, mask_RT, chosen_RT, ids_RT))
                logits_MV, truth_M = self.model(shown, mask, chosen), ids[chosen]
                loss += float(functional.cross_entropy(logits_MV, truth_M, reduction="sum"))
                right += int((logits_MV.argmax(1) == truth_M).sum())
                count += len(truth_M)
        self.model.train(mode)
        return Measure(loss / count, right / count, count)
