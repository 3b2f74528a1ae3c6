"""Next-sentence prediction (Devlin et al. 2019, section 3.1) of items: does this item follow this history?

The encoder reads history and item as the two sentences of a pair, and a linear head on the pooled vector predicts the
label. The label is never part of the text. Differs: negatives are items that followed other users' histories, so that
popularity does not give the label away.

Shapes: P examples, R of a batch, K negatives of an example, D dimensions.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.encoders.batching import PackedTokens, buckets
from llmrec_cli.encoders.sources import load_trainable
from llmrec_cli.encoders.text_encoder import TextEncoder
from llmrec_cli.errors import ConfigError
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.encoder import TransformerSettings
from llmrec_cli.settings.objective import NextSentenceSettings
from llmrec_cli.training.next_item_pairs import NextItemPairs, ObservedPairs, build_pairs
from llmrec_cli.training.objective import Measure, Task, batches_by_length, weight_parts

_TRIES = 20


def next_sentence_prediction(settings: NextSentenceSettings, encoder: TransformerSettings, data: TrainingData,
                             seed: int,
                             device: torch.device) -> Task:
    """Return the encoder with a binary classification head, and the training and held-out pairs."""
    parts = build_pairs(data, settings.history_length, settings.max_histories, settings.holdout_share, seed)
    texts = np.array([str(text) for text in data.items.texts] + [None], object)[:-1]
    words = [*parts[0].histories, *texts[parts[0].item]]
    trained = load_trainable(encoder, words, seed, device)
    if trained.tokenizer.num_special_tokens_to_add(pair=True) <= trained.tokenizer.num_special_tokens_to_add():
        raise ConfigError("objective=nsp: this encoder's tokenizer has no separator between two texts, so the end of "
                          "the history is not marked; choose an encoder like BERT, or objective=contrastive")
    model = PairClassifier(trained, seed).to(device)
    observed_pairs = ObservedPairs(data)
    train, held_out = (Pairs(model, part, texts, negatives(part, texts, observed_pairs, settings.num_negatives, seed),
                             device) for part in parts)
    return Task(model, model.encoder, True, train, held_out)


class PairClassifier(nn.Module):
    """An encoder of pairs and a linear head on its pooled vector; the head starts at 0, so at probability one half."""

    def __init__(self, encoder: TextEncoder, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(encoder.embedding_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        """Return the logit that the item follows, (R,)."""
        return self.head(self.encoder(ids_RT, mask_RT)).squeeze(1)


def negatives(part: NextItemPairs, texts: np.ndarray, observed_pairs: ObservedPairs, num_negatives: int,
              seed: int) -> np.ndarray:
    """Return negative items for each history, int64 (P, K), drawn from the next items of the other pairs.

    A negative is not observed for the user and has another text than the pair's next item; -1 where twenty tries found
    none.
    """
    generator = np.random.default_rng([seed, len(part)])
    negatives_PK = np.full((len(part), num_negatives), -1)
    for _ in range(_TRIES):
        candidates_PK = part.item[generator.integers(len(part), size=negatives_PK.shape)]
        bad_PK = (observed_pairs(part.user[:, None], candidates_PK)
                  | (texts[candidates_PK] == texts[part.item][:, None]))
        negatives_PK = np.where((negatives_PK < 0) & ~bad_PK, candidates_PK, negatives_PK)
    return negatives_PK


class Pairs:
    """Pairs of a history and an item, positive (the item follows) and negative."""

    scored: str = Phrase("pairs of a history and an item")

    def __init__(self, model: PairClassifier, part: NextItemPairs, texts: np.ndarray, negatives_PK: np.ndarray,
                 device: torch.device) -> None:
        encoder = model.encoder
        row, column = np.nonzero(negatives_PK >= 0)
        history = np.concatenate([np.arange(len(part)), row])
        item = np.concatenate([part.item, negatives_PK[row, column]])
        first, second = [part.histories[n] for n in history], [str(text) for text in texts[item]]
        self.texts = [f"{one} | {other}" for one, other in zip(first, second, strict=True)]
        self.model = model
        self.batch_tokens = encoder.settings.batch_tokens
        self.tokens = PackedTokens(encoder.tokenize_pairs(first, second), encoder.padding_id, device)
        self.follows = torch.from_numpy((np.arange(len(item)) < len(part)).astype(np.float32)).to(device)
        self.device = device

    def __len__(self) -> int:
        return len(self.texts)

    def num_batches(self, batch_size: int) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self) // batch_size)

    def batches(self, batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield each pair once, in batches of similar length and random order, rows (R,)."""
        yield from batches_by_length(self.tokens.ragged.host_lengths, batch_size, generator)

    def loss(self, batch: np.ndarray) -> torch.Tensor:
        """Return the mean binary cross-entropy of the pairs."""
        rows = torch.from_numpy(batch).to(self.device)
        return binary_cross_entropy_with_logits(self.model(*self.tokens.batch(rows)), self.follows[rows])

    def split(self, batch: np.ndarray, parts: int) -> list[tuple[np.ndarray, float]]:
        """Return parts of a batch, weighted by their number of pairs."""
        rows = np.array_split(batch, parts)
        return weight_parts(rows, [len(part) for part in rows])

    @torch.no_grad()
    def measure(self, seed: int) -> Measure:
        """Return loss and accuracy over all pairs; deterministic, so `seed` is not used."""
        mode = self.model.training
        self.model.eval()
        logits = torch.empty(len(self), device=self.device)
        for rows in buckets(self.tokens.ragged.host_lengths, self.batch_tokens):
            part = torch.from_numpy(rows).to(self.device)
            logits[part] = self.model(*self.tokens.batch(part)).float()
        self.model.train(mode)
        share = float(self.follows.mean())
        right = float(((logits > 0) == (self.follows > 0)).float().mean())
        loss = float(binary_cross_entropy_with_logits(logits, self.follows))
        return Measure(loss, right, len(self), max(share, 1 - share))
