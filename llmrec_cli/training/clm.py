"""Causal language modelling: each token of a text is predicted from those before it.

Shapes: R texts of a batch, T tokens of the longest of them, M scored tokens, V tokens of the vocabulary.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.encoders.batching import PackedTokens, buckets, tokenize
from llmrec_cli.encoders.language_models import CausalLanguageModel, load_causal_model
from llmrec_cli.errors import DataError
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.encoder import TransformerSettings
from llmrec_cli.settings.objective import CausalLanguageModelSettings
from llmrec_cli.training.corpus import build_corpus
from llmrec_cli.training.objective import Measure, Task, batches_by_length, weight_parts


def causal_language_modelling(settings: CausalLanguageModelSettings, encoder: TransformerSettings,
                              data: TrainingData,
                              seed: int, device: torch.device) -> Task:
    """Return the decoder with its head, and the training and held-out corpus."""
    corpus = build_corpus(data, settings, seed)
    model = load_causal_model(encoder, corpus.train, seed, device)
    train, held_out = (NextTokens(model, texts, device) for texts in (corpus.train, corpus.held_out))
    return Task(model, model.encoder, model.head_is_new, train, held_out)


class NextTokens:
    """Texts for training or evaluating a causal language model, without texts of fewer than two tokens.

    All tokens are scored except the first of a text, unknown tokens and padding.
    """

    scored: str = Phrase("tokens")

    def __init__(self, model: CausalLanguageModel, texts: list[str], device: torch.device) -> None:
        encoder = model.encoder
        self.model = model
        self.batch_tokens = encoder.settings.batch_tokens
        unknown = encoder.tokenizer.unk_token_id
        # GPT-2's unknown token is also its end of text; neither occurs in texts.
        self.unknown = -1 if unknown is None else int(unknown)
        tokens = tokenize(encoder.tokenizer, texts, encoder.settings.max_length)
        rows = [n for n, ids in enumerate(tokens) if (ids[1:] != self.unknown).any()]
        if not rows:
            raise DataError(f"none of {len(texts)} texts has two tokens of the encoder's vocabulary, for example "
                            f"'{texts[0][:40]}'; choose an encoder for this language, or encoder=scratch")
        self.texts = [texts[n] for n in rows]
        self.tokens = PackedTokens([tokens[n] for n in rows], encoder.padding_id, device)
        self.device = device

    def __len__(self) -> int:
        return len(self.texts)

    def num_batches(self, batch_size: int) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self) // batch_size)

    def batches(self, batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield each text once, in batches of similar length and random order, rows (R,)."""
        yield from batches_by_length(self.tokens.ragged.host_lengths, batch_size, generator)

    def loss(self, batch: np.ndarray) -> torch.Tensor:
        """Return the mean cross-entropy of the next tokens."""
        logits_MV, truth_M = self._predict(batch)
        return functional.cross_entropy(logits_MV, truth_M)

    def split(self, batch: np.ndarray, parts: int) -> list[tuple[np.ndarray, float]]:
        """Return parts of a batch, weighted by their scored tokens."""
        rows = [part for part in np.array_split(batch, parts) if len(part)]
        return weight_parts(rows, [int(self._score_mask(part)[2].sum()) for part in rows])

    @torch.no_grad()
    def measure(self, seed: int) -> Measure:
        """Return loss and accuracy over the tokens of all texts; deterministic, so `seed` is not used."""
        mode = self.model.training
        self.model.eval()
        loss, right, count = 0.0, 0, 0
        for rows in buckets(self.tokens.ragged.host_lengths, self.batch_tokens):
            logits_MV, truth_M = self._predict(rows)
            loss += float(functional.cross_entropy(logits_MV, truth_M, reduction="sum"))
            right += int((logits_MV.argmax(1) == truth_M).sum())
            count += len(truth_M)
        self.model.train(mode)
        return Measure(loss / count, right / count, count)

    def _predict(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits (M, V) at the scored tokens, each from the tokens before it, and their ids (M,)."""
        ids_RT, mask_RT, scored_RT = self._score_mask(rows)
        before_RT = functional.pad(scored_RT, (0, 1))
        return self.model(ids_RT, mask_RT, before_RT), ids_RT[:, 1:][scored_RT]

    def _score_mask(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids_RT, mask_RT, and a mask of the scored tokens after the first, bool (R, T - 1)."""
        ids_RT, mask_RT = self.tokens.batch(torch.from_numpy(rows).to(self.device))
        return ids_RT, mask_RT, mask_RT[:, 1:] & (ids_RT[:, 1:] != self.unknown)
