"""Masked language modelling: batches, the loss, and the measure before and after.

Shapes: R texts of a batch, T tokens of the longest of them, M masked tokens, V tokens of the vocabulary.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.encoders.batching import PackedTokens, buckets, tokenize
from llmrec_cli.encoders.language_models import MaskedLanguageModel, load_masked_model
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.settings import objective as settings
from llmrec_cli.settings.encoder import TransformerSettings
from llmrec_cli.training.corpus import build_corpus
from llmrec_cli.training.masking import Vocabulary, knows_words, mask_tokens, tokenize_words
from llmrec_cli.training.objective import Measure, Task, batches_by_length, weighted

_MASKED_AT_ONCE = 1024
"""Texts of a measure that are masked together, whatever number of them is run at a time."""

Batch = tuple[np.ndarray, int]
"""Rows of the texts (R,), and the seed of their masks."""
Part = tuple[np.ndarray, int, np.ndarray]
"""A batch, and which of its texts are meant."""


def masked_language_modelling(chosen: settings.MaskedLanguageModelSettings, encoder: TransformerSettings,
                              data: TrainingData,
                              seed: int, device: torch.device) -> Task:
    """Return the encoder with its head for masked tokens, and the corpus to train and to measure it with."""
    corpus = build_corpus(data, chosen, seed)
    model = load_masked_model(encoder, corpus.train, seed, device)
    whole = knows_words(model.encoder) if chosen.whole_words is None else chosen.whole_words
    if whole and not knows_words(model.encoder):
        raise ConfigError("objective.whole_words=true: this encoder's tokenizer does not say which tokens make a word; "
                          "set objective.whole_words=false")
    train, held_out = (MaskedTexts(model, texts, chosen.mask_share, device, whole)
                       for texts in (corpus.train, corpus.held_out))
    return Task(model, model.encoder, model.head_is_new, train, held_out)


class MaskedTexts:
    """Texts to train or to measure a masked language model with; those of unknown tokens alone are left out."""

    scored = "masked tokens"

    def __init__(self, model: MaskedLanguageModel, texts: list[str], mask_share: float, device: torch.device,
                 whole_words: bool = False) -> None:
        encoder = model.encoder
        self.model = model
        self.mask_share = mask_share
        self.batch_tokens = encoder.settings.batch_tokens
        self.vocabulary = Vocabulary.of(encoder.tokenizer, len(encoder.tokenizer), device)
        special = self.vocabulary.special.cpu().numpy()
        if whole_words:
            tokens, firsts = tokenize_words(encoder, texts)
        else:
            tokens = tokenize(encoder.tokenizer, texts, encoder.settings.max_length)
            firsts = [np.arange(len(ids)) for ids in tokens]
        kept = [n for n, ids in enumerate(tokens) if not np.isin(ids, special).all()]
        if not kept:
            raise DataError(f"none of {len(texts)} texts has a token that the encoder knows, '{texts[0][:40]}' for "
                            f"one; choose an encoder for this language, or encoder=scratch")
        self.texts = [texts[n] for n in kept]
        self.tokens = PackedTokens([tokens[n] for n in kept], encoder.padding_id, device)
        self.firsts = PackedTokens([firsts[n] for n in kept], 0, device)
        self.device = device

    def __len__(self) -> int:
        return len(self.texts)

    def num_batches(self, batch_size: int) -> int:
        """Return the batches of an epoch."""
        return -(-len(self) // batch_size)

    def batches(self, batch_size: int, generator: np.random.Generator) -> Iterator[Batch]:
        """Yield each text once, in batches of similar length and random order."""
        for rows in batches_by_length(self.tokens.ragged.host_lengths, batch_size, generator):
            yield rows, int(generator.integers(2 ** 62))

    def loss(self, batch: Batch | Part) -> torch.Tensor:
        """Return the mean cross-entropy of the masked tokens."""
        ids_RT, mask_RT, shown_RT, chosen_RT = self._of_batch(batch)
        return functional.cross_entropy(self.model(shown_RT, mask_RT, chosen_RT), ids_RT[chosen_RT])

    def split(self, batch: Batch, parts: int) -> list[tuple[Part, float]]:
        """Return parts of a batch, masked as the whole is, weighted by their masked tokens."""
        rows, seed = batch
        places = [part for part in np.array_split(np.arange(len(rows)), parts) if len(part)]
        count_R = self._of_batch(batch)[3].sum(1).cpu().numpy()
        return weighted([(rows, seed, part) for part in places], [int(count_R[part].sum()) for part in places])

    @torch.no_grad()
    def measure(self, seed: int) -> Measure:
        """Return how well masked tokens of all texts are predicted; the same seed masks the same tokens, always."""
        mode = self.model.training
        self.model.eval()
        loss, right, count = 0.0, 0, 0
        for start in range(0, len(self), _MASKED_AT_ONCE):
            stop = min(start + _MASKED_AT_ONCE, len(self))
            together = self._masked(torch.arange(start, stop, device=self.device), seed + start)
            lengths = self.tokens.ragged.host_lengths[start:stop]
            for rows in buckets(lengths, self.batch_tokens):
                part = torch.from_numpy(rows).to(self.device)
                ids, mask, shown, chosen = (t[part, :lengths[rows[0]]] for t in together)
                logits_MV, truth_M = self.model(shown, mask, chosen), ids[chosen]
                loss += float(functional.cross_entropy(logits_MV, truth_M, reduction="sum"))
                right += int((logits_MV.argmax(1) == truth_M).sum())
                count += len(truth_M)
        self.model.train(mode)
        return Measure(loss / count, right / count, count)

    def _of_batch(self, batch: Batch | Part) -> tuple[torch.Tensor, ...]:
        """Return what `_masked` does, of the texts that are meant and no wider than they are long."""
        rows, seed, *meant = batch
        whole = self._masked(torch.from_numpy(rows).to(self.device), seed)
        if not meant:
            return whole
        part = torch.from_numpy(meant[0]).to(self.device)
        longest = self.tokens.ragged.host_lengths[rows[meant[0]]].max()
        return tuple(tensor[part, :longest] for tensor in whole)

    def _masked(self, rows: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids_RT, mask_RT, what is shown in place of the ids, and which of them are to be predicted."""
        ids_RT, mask_RT = self.tokens.batch(rows)
        first_RT, _ = self.firsts.batch(rows)
        shown_RT, chosen_RT = mask_tokens(ids_RT, mask_RT, self.mask_share, self.vocabulary, seed, first_RT)
        return ids_RT, mask_RT, shown_RT, chosen_RT
