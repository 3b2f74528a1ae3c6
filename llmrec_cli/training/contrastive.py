"""Contrastive pretraining: pulls two views of an example together and pushes the rest of the batch away.

InfoNCE (van den Oord et al. 2018, eq. 4) of cosines over a temperature, in both directions as in CLIP (Radford et al.
2021, figure 3). The other examples of the batch are the negatives, except examples with the same text and items that
the user of a history has interacted with.

Shapes: P examples, R of a batch, D dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.encoders.batching import PackedTokens
from llmrec_cli.encoders.sources import load_trainable
from llmrec_cli.encoders.text_encoder import TextEncoder
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.encoder import TransformerSettings
from llmrec_cli.settings.objective import ContrastiveSettings
from llmrec_cli.training.corpus import held_out, knowledge_documents
from llmrec_cli.training.losses.softmax import softmax_loss
from llmrec_cli.training.next_item_pairs import ObservedPairs, build_pairs
from llmrec_cli.training.objective import Measure, Task

_MEASURED_AT_ONCE = 64
"""Examples of a block in `measure`, independent of the batch size of training."""
_HISTORY_LENGTH, _MAX_HISTORIES = 10, 1000


@dataclass(frozen=True)
class Views:
    """Two texts of each example; `user` and `item` (int64 (P,)) if the first text is a user's history, else None."""

    first: list[str]
    second: list[str]
    user: np.ndarray | None = None
    item: np.ndarray | None = None


def contrastive(settings: ContrastiveSettings, encoder: TransformerSettings, data: TrainingData, seed: int,
                device: torch.device) -> Task:
    """Return the encoder, and its training and held-out pairs of views."""
    parts = _views(settings, data, seed)
    trained = load_trainable(encoder, [*parts[0].first, *parts[0].second], seed, device)
    if settings.views == "dropout" and not any(m.p > 0 for m in trained.modules() if isinstance(m, nn.Dropout)):
        raise ConfigError("objective.views=dropout: this encoder has no dropout, so both views of a text would be the "
                          "same; choose objective.views=history, or another objective")
    train, held = (TwoViews(trained, views, ObservedPairs(data), settings, device) for views in parts)
    return Task(trained, trained, False, train, held)


def _views(settings: ContrastiveSettings, data: TrainingData, seed: int) -> tuple[Views, Views]:
    """Return training and held-out views; they are of different items."""
    texts = [str(text) for text in data.items.texts]
    if settings.views == "history":
        parts = build_pairs(data, settings.history_length or _HISTORY_LENGTH,
                            settings.max_histories or _MAX_HISTORIES, settings.holdout_share, seed)
        train, held = (Views(part.histories, [texts[n] for n in part.item], part.user, part.item) for part in parts)
    else:
        others = knowledge_documents(data) if settings.views == "knowledge" else texts
        # Distinct texts, since a copy of an example would be its negative.
        distinct = dict.fromkeys((one, other) for one, other in zip(texts, others, strict=True)
                                 if one.strip() and other.strip())
        out = held_out([one for one, _ in distinct], settings.holdout_share)
        train, held = (Views([one for (one, _), is_out in zip(distinct, out, strict=True) if is_out == is_held_out],
                             [other for (_, other), is_out in zip(distinct, out, strict=True) if is_out == is_held_out])
                       for is_held_out in (False, True))
    if min(len(train.first), len(held.first)) < 2:
        raise DataError(f"objective.views={settings.views}: {len(train.first)} training examples and "
                        f"{len(held.first)} held out, but two of each are needed; prepare more items with texts "
                        f"(dataset.item_text), or raise objective.holdout_share={settings.holdout_share}")
    return train, held


class TwoViews:
    """Pairs of views for training or evaluating an encoder."""

    scored: str = Phrase("pairs of views")
    split = None

    def __init__(self, encoder: TextEncoder, views: Views, observed_pairs: ObservedPairs,
                 settings: ContrastiveSettings, device: torch.device) -> None:
        # A history has the prompt of a query, as at recommendation time.
        first = encoder.tokenize(views.first, "item" if views.user is None else "query")
        second = encoder.tokenize(views.second)
        self.encoder = encoder
        self.texts = views.second if views.first == views.second else [
            f"{one} | {other}" for one, other in zip(views.first, views.second, strict=True)]
        self.views = views
        self.observed_pairs = observed_pairs
        self.temperature = settings.temperature
        self.dropout = settings.views == "dropout"
        self.first = PackedTokens(first, encoder.padding_id, device)
        self.second = PackedTokens(second, encoder.padding_id, device)
        # By tokens: texts that differ only in the truncated part are the same to the encoder.
        places: dict[bytes, int] = {}
        self.same_P = np.array([places.setdefault(ids.tobytes(), len(places)) for ids in second])
        self.device = device

    def __len__(self) -> int:
        return len(self.views.first)

    def num_batches(self, batch_size: int) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self) // batch_size)

    def batches(self, batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield each example once, in random batches of about the same size, rows (R,)."""
        yield from np.array_split(generator.permutation(len(self)), self.num_batches(batch_size))

    def loss(self, batch: np.ndarray) -> torch.Tensor:
        """Return the mean cross-entropy of finding the second view by the first and the first by the second."""
        logits_RR, excluded_RR = self._compare(batch)
        return _both_ways(logits_RR, excluded_RR)

    @torch.no_grad()
    def measure(self, seed: int) -> Measure:
        """Return loss and accuracy of finding views in random blocks; `seed` draws the blocks and the dropout."""
        mode = self.encoder.training
        self.encoder.train(self.dropout)
        order = np.random.default_rng(seed).permutation(len(self))
        blocks = np.array_split(order, -(-len(self) // _MEASURED_AT_ONCE))
        loss, right, chance = 0.0, 0, 0.0
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            for rows in blocks:
                logits_RR, excluded_RR = self._compare(rows)
                target_R = torch.arange(len(rows), device=self.device)
                loss += float(_both_ways(logits_RR, excluded_RR)) * len(rows)
                best_R = logits_RR.masked_fill(excluded_RR, float("-inf")).argmax(1)
                right += int((best_R == target_R).sum())
                chance += float((1 / (~excluded_RR).sum(1)).sum())
        self.encoder.train(mode)
        return Measure(loss / len(self), right / len(self), len(self), chance / len(self))

    def _compare(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return first-second cosines over the temperature (R, R), and a mask of the pairs that are no negatives."""
        place_R = torch.from_numpy(rows).to(self.device)
        first_RD, second_RD = (functional.normalize(self.encoder(*tokens.batch(place_R)), dim=1)
                               for tokens in (self.first, self.second))
        return first_RD @ second_RD.T / self.temperature, torch.from_numpy(self.excluded(rows)).to(self.device)

    def excluded(self, rows: np.ndarray) -> np.ndarray:
        """Return bool (R, R): True if the second view of the column is no negative of the first view of the row."""
        excluded_RR = self.same_P[rows][:, None] == self.same_P[rows]
        if self.views.user is not None and self.views.item is not None:
            excluded_RR |= self.observed_pairs(self.views.user[rows][:, None], self.views.item[rows])
        np.fill_diagonal(excluded_RR, False)
        return excluded_RR


def _both_ways(logits_RR: torch.Tensor, excluded_RR: torch.Tensor) -> torch.Tensor:
    target_R = torch.arange(len(logits_RR), device=logits_RR.device)
    return (softmax_loss(logits_RR, target_R, excluded_BC=excluded_RR)
            + softmax_loss(logits_RR.T, target_R, excluded_BC=excluded_RR.T)) / 2
