"""Masked language modelling: batches, loss and evaluation.

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
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.encoder import TransformerSettings
from llmrec_cli.settings.objective import MaskedLanguageModelSettings
from llmrec_cli.training.corpus import build_corpus
from llmrec_cli.training.masking import Vocabulary, has_word_ids, mask_tokens, tokenize_words
from llmrec_cli.training.objective import Measure, Task, batches_by_length, weight_parts

_MASKED_AT_ONCE = 1024
"""Texts that `measure` masks together, independent of the number that the model runs at a time."""

Batch = tuple[np.ndarray, int]
"""Rows of the texts (R,), and the seed of their masks."""
Part = tuple[np.ndarray, int, np.ndarray]
"""A batch, and the indices of a part of its texts."""


def masked_language_modelling(settings: MaskedLanguageModelSettings, encoder: TransformerSettings,
                              data: TrainingData,
                              seed: int, device: torch.device) -> Task:
    """Return the encoder with its head for masked tokens, and the training and held-out corpus."""
    corpus = build_corpus(data, settings, seed)
    model = load_masked_model(encoder, corpus.train, seed, device)
    whole = has_word_ids(model.encoder) if settings.whole_words is None else settings.whole_words
    if whole and not has_word_ids(model.encoder):
        raise ConfigError("objective.whole_words=true: this encoder's tokenizer does not map tokens to words; "
                          "set objective.whole_words=false")
    train, held_out = (MaskedTexts(model, texts, settings.mask_share, device, whole)
                       for texts in (corpus.train, corpus.held_out))
    return Task(model, model.encoder, model.head_is_new, train, held_out)


class MaskedTexts:
    """Texts for training or evaluating a masked language model, without texts that have unknown tokens only."""

    scored: str = Phrase("masked tokens")

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
        rows = [n for n, ids in enumerate(tokens) if not np.isin(ids, special).all()]
        if not rows:
            raise DataError(f"none of {len(texts)} texts has a token of the encoder's vocabulary, for example "
                            f"'{texts[0][:40]}'; choose an encoder for this language, or encoder=scratch")
        self.texts = [texts[n] for n in rows]
        self.tokens = PackedTokens([tokens[n] for n in rows], encoder.padding_id, device)
        self.firsts = PackedTokens([firsts[n] for n in rows], 0, device)
        self.device = device

    def __len__(self) -> int:
        return len(self.texts)

    def num_batches(self, batch_size: int) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self) // batch_size)

    def batches(self, batch_size: int, generator: np.random.Generator) -> Iterator[Batch]:
        """Yield each text once, in batches of similar length and random order."""
        for rows in batches_by_length(self.tokens.ragged.host_lengths, batch_size, generator):
            yield rows, int(generator.integers(2 ** 62))

    def loss(self, batch: Batch | Part) -> torch.Tensor:
        """Return the mean cross-entropy of the masked tokens."""
        ids_RT, mask_RT, input_RT, target_RT = self._of_batch(batch)
        return functional.cross_entropy(self.model(input_RT, mask_RT, target_RT), ids_RT[target_RT])

    def split(self, batch: Batch, parts: int) -> list[tuple[Part, float]]:
        """Return parts of a batch with the masks of the whole batch, weighted by their number of masked tokens."""
        rows, seed = batch
        places = [part for part in np.array_split(np.arange(len(rows)), parts) if len(part)]
        count_R = self._of_batch(batch)[3].sum(1).cpu().numpy()
        return weight_parts([(rows, seed, part) for part in places], [int(count_R[part].sum()) for part in places])

    @torch.no_grad()
    def measure(self, seed: int) -> Measure:
        """Return loss and accuracy over masked tokens of all texts; the same seed always masks the same tokens."""
        mode = self.model.training
        self.model.eval()
        loss, right, count = 0.0, 0, 0
        for start in range(0, len(self), _MASKED_AT_ONCE):
            stop = min(start + _MASKED_AT_ONCE, len(self))
            together = self._mask(torch.arange(start, stop, device=self.device), seed + start)
            lengths = self.tokens.ragged.host_lengths[start:stop]
            for rows in buckets(lengths, self.batch_tokens):
                part = torch.from_numpy(rows).to(self.device)
                ids, mask, inputs, target = (t[part, :lengths[rows[0]]] for t in together)
                logits_MV, truth_M = self.model(inputs, mask, target), ids[target]
                loss += float(functional.cross_entropy(logits_MV, truth_M, reduction="sum"))
                right += int((logits_MV.argmax(1) == truth_M).sum())
                count += len(truth_M)
        self.model.train(mode)
        return Measure(loss / count, right / count, count)

    def _of_batch(self, batch: Batch | Part) -> tuple[torch.Tensor, ...]:
        """Return the tensors of `_mask` for a batch, or for a part of it, cut to the part's longest text."""
        rows, seed, *places = batch
        whole = self._mask(torch.from_numpy(rows).to(self.device), seed)
        if not places:
            return whole
        part = torch.from_numpy(places[0]).to(self.device)
        longest = self.tokens.ragged.host_lengths[rows[places[0]]].max()
        return tuple(tensor[part, :longest] for tensor in whole)

    def _mask(self, rows: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids_RT, mask_RT, the model's input ids, and the mask of the tokens to predict, (R, T) each."""
        ids_RT, mask_RT = self.tokens.batch(rows)
        first_RT, _ = self.firsts.batch(rows)
        input_RT, target_RT = mask_tokens(ids_RT, mask_RT, self.mask_share, self.vocabulary, seed, first_RT)
        return ids_RT, mask_RT, input_RT, target_RT
