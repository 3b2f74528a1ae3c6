"""Two towers: texts and ids of users and of items, trained by gradients together with the text encoder.

Shapes: Q queries, N items in training, M items now, B interactions of a step, R distinct items of a step, L items
encoded in a step, T size of a text vector, E embedding size.
"""

from dataclasses import replace

import numpy as np
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import FLOAT, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import fit_weights
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.shared.item_entities import item_entities
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.heads.shared.negatives import mine
from llmrec_cli.heads.shared.tensor_files import load_parameters, require_sizes
from llmrec_cli.heads.shared.text_memory import encoder_memory, freed_memory
from llmrec_cli.heads.shared.text_training import train_with_texts
from llmrec_cli.heads.shared.training_history import BEFORE, newest_entries, resolve_history
from llmrec_cli.heads.two_tower.steps import MOST_WITH_RECENCY, TowerSteps
from llmrec_cli.heads.two_tower.towers import Towers
from llmrec_cli.scoring.memory import scoring_memory, validation_memory
from llmrec_cli.scoring.scorer import VALIDATION_BLOCK
from llmrec_cli.settings.head import ModelConfig, TwoTowerSettings
from llmrec_cli.settings.peft import FrozenSettings

_ENTRY_BYTES = 64
"""Bytes per entry of a step's histories: item and age as int64, weight, intermediate results and their gradients."""


class TwoTower(Head):
    """Two-tower retrieval (Covington et al. 2016; Yi et al. 2019).

    A step has B interactions. The user vector is computed from the items before the target, or, if the split is not by
    time, from all other items of the user (`head.training_history`). Each distinct text of a step is encoded at most
    once, however many interactions use it, and at most `encoded_items` texts with gradients; the other items keep the
    vectors of their last encoding.
    """

    settings: TwoTowerSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.stop_after: int | None = self.settings.stop_after
        self.towers: Towers | None = None
        self.texts: ItemTexts | None = None
        self.profiles: ItemTexts | None = None

    @property
    def uses_identity(self) -> bool:
        """True with ids: users in training have vectors of their own."""
        return self.settings.id_scale > 0

    @property
    def supports_text_queries(self) -> bool:
        """Always: a text query counts as the profile of a new user, or without profiles as a history of one item."""
        return True

    @property
    def item_texts(self) -> ItemTexts | None:
        """Item texts, trained with the towers."""
        return self.texts

    @property
    def history_limit(self) -> int | None:
        """MOST_WITH_RECENCY if recency is learned from histories before each target, else None."""
        is_cut = self.settings.recency and self.settings.training_history == BEFORE
        return MOST_WITH_RECENCY if is_cut else None

    @property
    def rereads(self) -> bool:
        """Always True: the vector of every item is computed from its text and its id."""
        return True

    def reread(self, texts: np.ndarray) -> None:
        """Recompute the vectors of all items from other texts (N,)."""
        self._require_fitted()[1].reread(texts)

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the texts, of ids, their gradients and moments, and of a step or a validation."""
        ids = 4 * 4 * self.settings.embedding_size * (len(data.users) + len(data.items))
        batch = min(self.config.optim.batch_size, len(data.interactions))
        lengths_U = np.diff(data.interactions.matrix.indptr)
        # With recency each target has its own history; otherwise a step reads each user's history once.
        entries = (batch * min(int(lengths_U.max(initial=0)), MOST_WITH_RECENCY) if self.settings.recency else
                   int(np.sort(lengths_U)[-batch:].sum()))
        profiles = encoder_memory(self.config, data.users.texts, 0, FrozenSettings()) if self.settings.profile else 0
        scores = 4 * 4 * batch * min(batch, len(data.items)) + 4 * 4 * batch * batch
        # Logits are computed in three arrays, one more than every validation counts: products, scaled, with biases.
        validation = (validation_memory(len(data.users), len(data.items), len(data.interactions))
                      + scoring_memory(len(data.users), len(data.items), VALIDATION_BLOCK) // 2)
        training = ids + max(scores + _ENTRY_BYTES * entries, validation)
        return profiles + encoder_memory(self.config, data.items.texts, self.settings.encoded_items, later=training)

    def freed_memory(self, data: TrainingData) -> int:
        """Return the bytes of encoding or of a training step through the encoder, which are free after the fit."""
        return freed_memory(self.config, data.items.texts, self.settings.encoded_items)

    def fit(self, data: TrainingData, context: Context) -> None:
        """Train towers and encoder together."""
        config, device = self.config, context.device
        self._check_recency(data)
        history = resolve_history(self.settings.training_history, data, context)
        self.settings = replace(self.settings, training_history=history)
        torch.manual_seed(context.seed)
        trained_N = data.interactions.item_counts > 0
        self.texts = ItemTexts.encode(config.encoder, config.peft, data.items.texts, device, context.seed,
                                      context.memo, trained_N, context.cache, config.optim.precision)
        if self.settings.profile:
            self.profiles = self._profiles(data.users.texts, np.diff(data.interactions.matrix.indptr) > 0, context)
        profile_size = 0 if self.profiles is None else self.profiles.size
        self.towers = Towers(len(data.users), len(data.items), self.texts.size, self.settings, config.loss,
                             profile_size, self._entities(data, context)).to(device)
        steps = TowerSteps(self.towers, self.texts, config, data.interactions,
                           None if self.profiles is None else self.profiles.table,
                           mine(config.loss.hard_negatives, data, context), device, history == BEFORE,
                           fit_weights(data, self.settings))
        self.stop_after = train_with_texts(self.towers, self.texts, steps, config, self.stop_after, context, self.score)

    def _check_recency(self, data: TrainingData) -> None:
        if self.settings.recency and not data.has_order:
            raise DataError("head.recency=true: the interactions have no times, so none is more recent than another; "
                            "prepare with dataset.columns.timestamp=<column>, or remove the setting")

    def _profiles(self, texts: np.ndarray, trained_U: np.ndarray, context: Context) -> ItemTexts:
        """Encode the users' texts by the frozen encoder.

        `trained_U` (bool) marks the users in training, from which everything about texts is learned.
        """
        if not any(str(text).strip() for text in texts[trained_U]):
            raise DataError("head.profile=true: no user in training has a text; prepare with "
                            "dataset.user_text=<template> and dataset.users=<file>, or remove the setting")
        # A separate memo: the run's memo has the items' vectors under the encoder's settings.
        return ItemTexts.encode(self.config.encoder, FrozenSettings(), texts, context.device, context.seed, {},
                                trained_U, context.cache)

    def _entities(self, data: TrainingData, context: Context) -> torch.Tensor | None:
        if not self.settings.entity_gate:
            return None
        return torch.from_numpy(item_entities(self.config.entities, data, context, "head.entity_gate=true"))

    @torch.no_grad()
    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return logits (Q, M) of the histories and, for known users, their ids."""
        towers, texts = self._require_fitted()
        device = towers.bias_N.device
        text_MT = texts.table
        items_ME = towers.items(text_MT)
        history = queries.history
        # Scoring uses as much of a history as a training step.
        most = history.shape[1] if self.history_limit is None else self.history_limit
        indices, indptr = (torch.from_numpy(array.astype(np.int64)).to(device)
                           for array in newest_entries(history.indices, history.indptr, most))
        history_QE = towers.histories(items_ME, indices, indptr)
        user_Q = torch.from_numpy(queries.user).to(device)
        is_known_Q1 = (user_Q >= 0)[:, None]
        ids_QE = towers.user_ids(user_Q.clamp_min(0)) * is_known_Q1
        profile_QT = None if self.profiles is None else self.profiles.table[user_Q.clamp_min(0)] * is_known_Q1
        return self._logits(towers.users(history_QE, ids_QE, profile_QT), items_ME)

    @torch.no_grad()
    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return logits (num_texts, M) of texts as profiles of users without history and id.

        Without profiles, a text counts as a history of one item without an id.
        """
        towers, item_texts = self._require_fitted()
        items_ME = towers.items(item_texts.table)
        no_ids = items_ME.new_zeros(len(texts), items_ME.shape[1])
        if self.profiles is not None:
            return self._logits(towers.users(no_ids, no_ids, self.profiles.vectors(list(texts))), items_ME)
        return self._logits(towers.users(towers.text(item_texts.vectors(list(texts))), no_ids), items_ME)

    def _logits(self, users_QE: torch.Tensor, items_ME: torch.Tensor) -> torch.Tensor:
        towers, _ = self._require_fitted()
        return towers.logits(users_QE, items_ME, towers.bias(len(items_ME)))

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the number of epochs that validation chose."""
        return replace(self.config, head=replace(self.settings, stop_after=self.stop_after))

    def add_items(self, items: Catalogue) -> None:
        """Append items described by texts; they have no entity, no id and no bias."""
        _, texts = self._require_fitted()
        texts.add(list(items.texts))

    def state(self) -> dict[str, np.ndarray]:
        """Return the towers, the text vectors and the trained weights of the encoder."""
        towers, texts = self._require_fitted()
        own = {f"towers.{name}": tensor.cpu().numpy() for name, tensor in towers.state_dict().items()}
        profiles = {} if self.profiles is None else self.profiles.state()
        return own | texts.state() | {f"profiles.{name}": value for name, value in profiles.items()}

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore `state`."""
        config = self.config
        self.texts = ItemTexts.read(config.encoder, config.peft, tensors, len(items), context.device)
        if self.settings.profile:
            self.profiles = ItemTexts.read(config.encoder, FrozenSettings(), tensors.inside("profiles."), len(users),
                                           context.device)
        profile_size = 0 if self.profiles is None else self.profiles.size
        require_sizes(self.settings, tensors, "towers")
        entities_ND = None
        if self.settings.entity_gate:
            entities_ND = torch.from_numpy(tensors.take("towers.entities.vectors_ND", FLOAT, (len(items), None)))
        self.towers = Towers(len(users), len(items), self.texts.size, self.settings, config.loss, profile_size,
                             entities_ND)
        load_parameters(self.towers, tensors, "towers", "two_tower")
        self.towers.to(context.device).eval()

    def _require_fitted(self) -> tuple[Towers, ItemTexts]:
        assert self.towers is not None, "fit or load first"
        assert self.texts is not None
        return self.towers, self.texts
