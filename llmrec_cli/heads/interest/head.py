"""Interest: a cross-encoder from a user's text and an item's text to the probability of a like or a value.

Shapes: Q queries, M items including those added since the fit, P pairs, T tokens of the longest pair, D size of the
encoder's vector.
"""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import FLOAT, INTEGER, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.encoders.batching import PackedTokens, buckets
from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.encoders.text_encoder import TextEncoder
from llmrec_cli.errors import ConfigError
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.heads.interest.pairs import Batch, Pairs
from llmrec_cli.heads.shared.pair_targets import pair_values, resolve_target, unused_weights, weights_of_choices
from llmrec_cli.heads.shared.tensor_files import load_parameters
from llmrec_cli.heads.shared.text_memory import pairs_memory
from llmrec_cli.heads.shared.training_history import BEFORE, resolve_history
from llmrec_cli.settings.head import HEADS, InterestSettings, ModelConfig
from llmrec_cli.training.adversary import adversarial_loss
from llmrec_cli.training.context import Length, TrainContext
from llmrec_cli.training.loop import train
from llmrec_cli.training.losses.base import build_pointwise

_BLOCK_PAIRS = 4096
"""Pairs tokenised at a time."""
_TARGETS = ("choice", "value", "opinion")


class Reading(nn.Module):
    """Linear map from a pair's standardised vector to one number.

    `centre` and `scale` (D,) are the mean and the standard deviation of vectors before training, and stay fixed.
    """

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.linear = nn.Linear(size, 1)
        nn.init.zeros_(self.linear.bias)

    def forward(self, vectors_PD: torch.Tensor) -> torch.Tensor:
        """Return one number per pair (P,)."""
        numbers_P: torch.Tensor = self.linear((vectors_PD.float() - self.centre) / self.scale)[:, 0]
        return numbers_P

    def set_scale(self, vectors_PD: torch.Tensor) -> None:
        """Set centre and scale from sample vectors."""
        self.centre.copy_(vectors_PD.mean(dim=0))
        self.scale.copy_(vectors_PD.std(dim=0, correction=0).clamp_min(1e-6))


class Interest(Head):
    """A cross-encoder (Nogueira and Cho 2019) that reranks another head's candidates.

    The user's text is the titles of the newest history items, newest first, or the text of the query. In training it
    has the newest items before the pair, or, if the split is not by time, all items except the pair's
    (`head.training_history`). The label is never part of a text. The encoder and a linear map give one number per
    pair: a logit, turned into a probability once, in the loss and on lists; with loss=mse the difference from the mean
    value.
    """

    settings: InterestSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.criterion = build_pointwise(config.loss)
        self.candidates = build(ModelConfig(head=HEADS[self.settings.candidates](weight=self.settings.weight,
                                                                                 decay=self.settings.decay)))
        self.encoder: TextEncoder | None = None
        self.out: Reading | None = None
        self.target = "choice"
        self.mean = 0.0
        self.histories: sp.csr_array = sp.csr_array((0, 0))
        self.titles: np.ndarray = np.zeros(0, object)
        self.texts: np.ndarray = np.zeros(0, object)

    @property
    def supports_text_queries(self) -> bool:
        """Always: a text query serves as the user's text."""
        return True

    @property
    def uses_identity(self) -> bool:
        """True if the candidates' head uses it."""
        return self.candidates.uses_identity

    @property
    def without_fold_in(self) -> list[str]:
        """The candidates' head, if it scores known users from learned user parameters."""
        return self.candidates.without_fold_in

    @property
    def rereads(self) -> bool:
        """Always: texts are encoded when scoring."""
        return True

    def reread(self, texts: np.ndarray) -> None:
        """Replace the item texts (M,)."""
        self.texts = texts

    @property
    def score_meaning(self) -> str | None:
        """`value`, or `logit` of a like if dislikes were in training, else None."""
        return {"value": "value", "opinion": "logit"}.get(self.target)

    def unused_values(self, data: TrainingData) -> list[str]:
        """Return the reasons why values are not used; empty if the values are the target."""
        return super().unused_values(data) if self.target == "choice" else []

    def unused_settings(self, data: TrainingData) -> dict[str, str]:
        """Return weight and decay unless the target is `choice`."""
        return unused_weights(resolve_target("auto", self.config.loss, data))

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the candidates' head, of the pairs, and of a step."""
        target = resolve_target("auto", self.config.loss, data)
        num_pairs = len(pair_values(data, target)[0])
        # For choices, one negative is drawn per interaction.
        size = min(self.config.optim.batch_size, num_pairs) * (2 if target == "choice" else 1)
        return (self.candidates.estimate_memory(data) + 8 * len(data.items) + 40 * num_pairs
                + pairs_memory(self.config, size))

    def fit(self, data: TrainingData, context: Context) -> None:
        """Fit the candidates' head, then train encoder and map on pairs, for all of optim.epochs.

        There is no early stopping: the order of a list does not measure the error of probabilities, and scoring all
        lists costs as much as an epoch.
        """
        config, device, optim = self.config, context.device, self.config.optim
        if config.peft.trains and not config.peft.trains_layers:
            raise ConfigError(f"peft={config.peft.kind}: maps vectors of single items, but head=interest encodes pairs "
                              f"of texts; choose peft=lora, top_layers or frozen")
        self.candidates.fit(data, context.inside("candidates"))
        self.titles, self.texts = _titles(data.items), data.items.texts
        self.target = resolve_target("auto", config.loss, data)
        history = resolve_history(self.settings.training_history, data, context)
        self.settings = replace(self.settings, training_history=history)
        self.interaction_weights = weights_of_choices(data, self.settings, self.target)
        pairs = Pairs(data, self.target, optim.batch_size, history == BEFORE, self.interaction_weights)
        self.mean = pairs.mean
        torch.manual_seed(context.seed)
        self._build(context)
        encoder, out = self._require_fitted()
        self.histories = data.interactions.matrix
        self._set_scale(next(iter(pairs.batches(0, np.random.default_rng(context.seed)))))
        length = Length(optim.epochs, pairs.num_batches, optim.epochs)
        train_context = TrainContext(device, context.seed, context.log, context.folder,
                                     context.folder if context.resumed else None, context.tensorboard, "interest",
                                     config.flat("optim"))
        rates: list[tuple[nn.Module, float]] = [(out, optim.rate())]
        rates += [(encoder, optim.encoder_learning_rate)] if encoder.trained_state() else []
        if encoder.budget is not None:
            encoder.budget.plan(length.schedule_epochs * length.steps(optim.accumulate))
        context.log("target", target=self.target)
        train(nn.ModuleDict({"encoder": encoder, "out": out}), pairs.batches, self._loss, rates, optim, length,
              train_context, None, after_step=None if encoder.budget is None else encoder.budget.after_step,
              split=Pairs.parts)
        self.histories = sp.csr_array((0, 0))

    def _build(self, context: Context) -> None:
        self.encoder = load_encoder(self.config.encoder, self.config.peft, context.device, seed=context.seed)
        self.out = Reading(self.encoder.embedding_size).to(context.device)

    def _packed(self, batch: Batch) -> PackedTokens:
        users = [self._user_text(self.histories, user, item, num_before)
                 for user, item, num_before in zip(batch.user, batch.item, batch.num_before, strict=True)]
        return self._tokens(users, list(self.texts[batch.item]))

    @torch.no_grad()
    def _set_scale(self, batch: Batch) -> None:
        encoder, out = self._require_fitted()
        ids_PT, mask_PT = self._packed(batch).batch(torch.arange(len(batch.user), device=encoder.device))
        out.set_scale(encoder(ids_PT, mask_PT).float())

    def _loss(self, batch: Batch) -> torch.Tensor:
        """Return the mean loss of pairs, with the adversarial loss if there is an adversary."""
        encoder, out = self._require_fitted()
        ids_PT, mask_PT = self._packed(batch).batch(torch.arange(len(batch.user), device=encoder.device))
        target_P = torch.from_numpy(batch.target).to(encoder.device)
        weight_P = None if self.interaction_weights.is_uniform else torch.from_numpy(batch.weight).to(encoder.device)

        def numbers(states: torch.Tensor) -> torch.Tensor:
            scores_P: torch.Tensor = out(encoder.upper(states, mask_PT))
            return scores_P + self.mean

        def logits(states: torch.Tensor) -> torch.Tensor:
            scores_P = numbers(states)
            return torch.stack([torch.zeros_like(scores_P), scores_P], dim=1)

        value = adversarial_loss(lambda states: self.criterion.of_values(numbers(states), target_P, weight_P),
                                 encoder.lower(ids_PT, mask_PT), self.config.adversarial, logits)
        return value if encoder.budget is None else value + encoder.budget.penalty()

    def _user_text(self, histories: sp.csr_array, row: int, without: int = -1, num_before: int | None = None) -> str:
        """Return the newest titles among the first `num_before` history items (default all), without one item."""
        items = histories.indices[histories.indptr[row]:histories.indptr[row + 1]][:num_before]
        newest = items[items != without][::-1][:self.settings.history_items]
        return "; ".join(self.titles[newest])

    def _tokens(self, users: list[str], items: list[str]) -> PackedTokens:
        encoder, _ = self._require_fitted()
        return PackedTokens(encoder.tokenize_pairs(users, items), encoder.padding_id, encoder.device)

    @torch.inference_mode()
    def _predict(self, users: list[str], items: np.ndarray) -> np.ndarray:
        """Return the prediction for each pair of a user's text and an item, float32 (P,)."""
        encoder, out = self._require_fitted()
        predictions = np.zeros(len(users), np.float32)
        for start in range(0, len(users), _BLOCK_PAIRS):
            part = slice(start, start + _BLOCK_PAIRS)
            packed = self._tokens(users[part], list(self.texts[items[part]]))
            for rows in buckets(packed.ragged.host_lengths, encoder.settings.batch_tokens):
                ids_RT, mask_RT = packed.batch(torch.from_numpy(rows).to(encoder.device))
                scores_R = out(encoder(ids_RT, mask_RT)) + self.mean
                predictions[start + rows] = scores_R.cpu().numpy()
        return predictions

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return scores (Q, M): of the top candidates a probability or a value, of all other items lower scores.

        History items are not chosen as candidates. The other items keep the order of the candidates' head.
        """
        first_stage_QM = self.candidates.score(queries).cpu().float()
        free_QM = first_stage_QM.clone()
        row = np.repeat(np.arange(len(queries)), np.diff(queries.history.indptr))
        free_QM[torch.from_numpy(row), torch.from_numpy(queries.history.indices.astype(np.int64))] = -torch.inf
        num = min(self.settings.rerank, free_QM.shape[1])
        # Stable sort: the same candidates among ties, independent of the other queries.
        candidates_QR = free_QM.sort(dim=1, descending=True, stable=True).indices[:, :num]
        users = [self._user_text(queries.history, n) for n in range(len(queries))]
        numbers_QR = torch.from_numpy(self._predict([user for user in users for _ in range(num)],
                                                    candidates_QR.numpy().ravel())).view(len(queries), num)
        scores_QR = self._to_scores(numbers_QR)
        floor_Q1 = scores_QR.amin(dim=1, keepdim=True).clamp_max(0) - 2
        return (floor_Q1 + first_stage_QM / (1 + first_stage_QM.abs())).scatter(1, candidates_QR, scores_QR)

    def _to_scores(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.criterion.expected(numbers)

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return a probability or a value for each text with each item (num_texts, M)."""
        users = [str(text) for text in texts for _ in range(len(self.texts))]
        numbers = self._predict(users, np.tile(np.arange(len(self.texts)), len(texts)))
        return self._to_scores(torch.from_numpy(numbers)).view(len(texts), len(self.texts))

    def score_pairs(self, queries: Queries, pairs_QN: sp.csr_array, block_size: int = 1024) -> np.ndarray:
        """Return the logit or value of every entry of `pairs_QN`, candidate or not."""
        users = [self._user_text(queries.history, n) for n in range(len(queries))]
        row = np.repeat(np.arange(len(queries)), np.diff(pairs_QN.indptr))
        return self._predict([users[n] for n in row], pairs_QN.indices)

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the resolved `training_history`."""
        return replace(self.config, head=self.settings)

    def add_items(self, items: Catalogue) -> None:
        """Append items described by texts; the candidates' head decides whether they become candidates."""
        self.candidates.add_items(items)
        self.titles = np.concatenate([self.titles, _titles(items)])
        self.texts = np.concatenate([self.texts, items.texts])

    def state(self) -> dict[str, np.ndarray]:
        """Return the map, the trained weights of the encoder, and the candidates' state."""
        encoder, out = self._require_fitted()
        return {**{f"out.{name}": tensor.cpu().numpy() for name, tensor in out.state_dict().items()},
                "mean": np.array([self.mean], np.float32), "target": np.array([_TARGETS.index(self.target)]),
                **{f"encoder.{name}": value for name, value in encoder.trained_state().items()},
                **{f"candidates/{name}": value for name, value in self.candidates.state().items()}}

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore `state`."""
        self.candidates.read(tensors.inside("candidates/"), users, items, context)
        self.titles, self.texts = _titles(items), items.texts
        self.mean = float(tensors.take("mean", FLOAT, (1,))[0])
        self.target = _TARGETS[int(tensors.take("target", INTEGER, (1,), low=0, high=len(_TARGETS) - 1)[0])]
        self._build(context)
        encoder, out = self._require_fitted()
        encoder.load_trained_state(tensors.inside("encoder.").take_all())
        load_parameters(out, tensors, "out", "interest")
        encoder.eval()

    def _require_fitted(self) -> tuple[TextEncoder, Reading]:
        assert self.encoder is not None, "fit or load first"
        assert self.out is not None
        return self.encoder, self.out


def _titles(items: Catalogue) -> np.ndarray:
    """Return the items' titles; the text of an item without a title."""
    titles: np.ndarray = np.where(items.titles == "", items.texts, items.titles)
    return titles
