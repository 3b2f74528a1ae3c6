"""Base of the heads trained on interactions of groups.

Shapes: Q queries, K groups of the training data, N items in training, M items now, T size of a text vector.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import INTEGER, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import fit_weights
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.groups.inputs import Bags, ItemInputs, Past, of_queries
from llmrec_cli.heads.groups.model import GroupModel, Sizes
from llmrec_cli.heads.groups.steps import GroupSteps, Weights, alone_inputs, num_steps
from llmrec_cli.heads.shared.features import ItemFeatures, features_memory
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.heads.shared.tensor_files import load_parameters, require_sizes
from llmrec_cli.heads.shared.text_memory import encoder_memory, freed_memory
from llmrec_cli.heads.shared.text_training import train_with_texts
from llmrec_cli.scoring.memory import validation_memory
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.groups import TrainedGroupsSettings
from llmrec_cli.settings.peft import FrozenSettings

MEMBERSHIPS = 2**14
"""Most memberships of the groups scored at once; a member counts once in each of its groups."""
_SCORE_COPIES = 9
"""Copies of a step's scores: five alive at a time (logits by group and by target, masked, normalised, masks) and freed
ones, since glibc's heap does not reuse the place of a tensor for one of the same or a larger size."""
_HISTORY_BYTES = 25
"""Bytes per interaction of users while a step leaves its targets out of the histories: a mask, two int64 and a copy."""
CELLS = 2**24
"""Most scores computed at once, 64 MB; intermediate results take a few times as much."""


class TrainedGroupHead(Head):
    """A model of groups, trained on the interactions of groups and of users.

    The head stores memberships and histories of the training groups, so that an ad-hoc group is scored from each
    member's own history and their other groups. An unknown member is scored from their history.
    """

    model_class: ClassVar[type[GroupModel]]
    weighs_groups = True
    learns_groups = True
    settings: TrainedGroupsSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.stop_after: int | None = self.settings.stop_after
        self.model: GroupModel | None = None
        self.texts: ItemTexts | None = None
        self.group_texts: ItemTexts | None = None
        self.features: ItemFeatures | None = None
        self.past: Past | None = None
        self.num_items = 0
        self.user_counts_N = self.group_counts_N = np.zeros(0, np.int64)

    @property
    def uses_identity(self) -> bool:
        """Always: users have vectors of their own."""
        return True

    @property
    def supports_text_queries(self) -> bool:
        """True with texts: a text query counts as a history of one item without an id."""
        return self.settings.text

    @property
    def item_texts(self) -> ItemTexts | None:
        """Item texts, trained with the model."""
        return self.texts

    @property
    def rereads(self) -> bool:
        """True with texts or words, which are read for every item."""
        return self.settings.text or self.settings.features.words > 0

    def reread(self, texts: np.ndarray) -> None:
        """Replace the item texts (M,)."""
        if self.texts is not None:
            self.texts.reread(texts)
        if self.features is not None:
            self.features.reread(texts)

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of texts, features, ids with gradients and moments, and the scores of a step or validation.
        """
        if data.groups is None:
            return 0
        groups, together = data.groups, data.groups.interactions
        with_users = len(data.interactions) if self.settings.user_weight > 0 else 0
        steps = max(1, num_steps(len(together), with_users, self.config.optim.batch_size))
        of_groups, of_users = -(-len(together) // steps), -(-with_users // steps)
        rows = len(data.users) + len(data.items) + len(groups)
        size = self.settings.embedding_size
        num_negatives = self.config.loss.num_negatives
        candidates = len(data.items)
        if num_negatives is not None:
            candidates = min(candidates, num_negatives + of_groups + of_users)
        members = min(of_groups, len(groups)) * max(1.0, float(groups.members.nnz / max(1, len(groups))))
        step = int(4 * (_SCORE_COPIES * (of_groups + of_users) * candidates
                        + members * (8 * size + self.cells_of_a_member() * candidates)))
        step += _HISTORY_BYTES * len(data.interactions)
        validation = validation_memory(len(groups), len(data.items), len(data.interactions))
        return self._memory_with_texts(data, groups.entities.texts, 4 * 5 * size * rows + max(step, validation))

    def freed_memory(self, data: TrainingData) -> int:
        """Return the bytes of encoding or of a training step through the encoder, which are free after the fit."""
        if not self.settings.text:
            return super().freed_memory(data)
        return freed_memory(self.config, data.items.texts, self.settings.encoded_items)

    def _memory_with_texts(self, data: TrainingData, group_texts: np.ndarray, training: int) -> int:
        """Return the bytes of training, and of the item texts, item features and group texts in use."""
        settings, config = self.settings, self.config
        return ((encoder_memory(config, data.items.texts, settings.encoded_items, later=training) if settings.text
                 else training)
                + (encoder_memory(config, group_texts, 0, FrozenSettings()) if settings.group_text else 0)
                + (features_memory(settings.features, config, data) if settings.features.used else 0))

    def cells_of_a_member(self) -> int:
        """Return how many numbers a step stores for each pair of a member and a candidate."""
        return 0

    def fit(self, data: TrainingData, context: Context) -> None:
        """Train vectors and encoder together."""
        config, settings, device, groups = self.config, self.settings, context.device, data.groups
        if groups is None:
            raise DataError(f"head={settings.kind}: the prepared data has no groups; prepare with "
                            f"dataset.groups=<file> and dataset.group_interactions=<file>, or choose another head")
        if not len(groups.interactions):
            raise DataError(f"head={settings.kind}: no group has training interactions, so there is nothing to learn "
                            f"from; choose head=group_aggregate")
        torch.manual_seed(context.seed)
        self.user_counts_N, self.group_counts_N = data.interactions.item_counts, groups.interactions.item_counts
        self.num_items = len(data.items)
        if settings.text:
            trained_N = self.user_counts_N + self.group_counts_N > 0
            self.texts = ItemTexts.encode(config.encoder, config.peft, data.items.texts, device, context.seed,
                                          context.memo, trained_N, context.cache, config.optim.precision)
        if settings.group_text:
            trained_K = np.diff(groups.interactions.matrix.indptr) > 0
            self.group_texts = self._group_texts(groups.entities.texts, trained_K, context)
        if settings.features.used:
            self.features = ItemFeatures(settings.features, config, device)
            self.features.fit(data, context)
        self.past = Past(groups.members, groups.interactions.matrix)
        self.model = self._new(len(data.users)).to(device)
        steps = GroupSteps(self.model, self.texts, config, data, self._features(),
                           None if self.group_texts is None else self.group_texts.table, device,
                           Weights(fit_weights(data, settings), fit_weights(data, settings, groups=True)))
        self.stop_after = train_with_texts(self.model, self.texts, steps, config, self.stop_after, context, self.score)

    def _group_texts(self, texts: np.ndarray, trained_K: np.ndarray, context: Context) -> ItemTexts:
        """Encode the groups' texts by the frozen encoder.

        `trained_K` (bool) marks the groups in training, from which everything about texts is learned.
        """
        if not any(str(text).strip() for text in texts[trained_K]):
            raise DataError("head.group_text=true: no group in training has a text; prepare with a text of groups, or "
                            "remove the setting")
        # A separate memo: the run's memo has the items' vectors under the encoder's settings.
        return ItemTexts.encode(self.config.encoder, FrozenSettings(), texts, context.device, context.seed, {},
                                trained_K, context.cache)

    def _new(self, num_users: int) -> GroupModel:
        texts, group_texts, features = self.texts, self.group_texts, self.features
        sizes = Sizes(num_users, self._past().members.shape[0], 0 if texts is None else texts.size,
                      0 if group_texts is None else group_texts.size,
                      0 if features is None else features.sparse_NF.shape[1],
                      0 if features is None else features.dense_ND.shape[1])
        return self.model_class(sizes, self.settings, self.group_counts_N, self.user_counts_N)

    def _features(self) -> ItemInputs | None:
        if self.features is None:
            return None
        device = self._require_fitted().bias_N.device
        return ItemInputs(Bags.of(self.features.sparse_NF, device, weighted=True),
                          torch.from_numpy(self.features.dense_ND).to(device))

    def _items(self) -> torch.Tensor:
        text_MT = None if self.texts is None else self.texts.table
        return self._require_fitted().items(text_MT, self._features(), self.num_items)

    @torch.no_grad()
    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return logits (Q, M) of users from their histories, their groups' histories and, if known, their ids."""
        model, items_ME = self._require_fitted(), self._items()
        members_QE = model.members(alone_inputs(self._past(), queries.user, queries.history, items_ME.device), items_ME)
        scores_QM = items_ME.new_empty(len(queries), len(items_ME))
        size = max(1, CELLS // max(1, len(items_ME)))
        for start in range(0, len(queries), size):
            scores_QM[start:start + size] = model.user_logits(members_QE[start:start + size], items_ME)
        return scores_QM

    @torch.no_grad()
    def score_groups(self, queries: Queries) -> torch.Tensor:
        """Return logits (Q, M) of known and ad-hoc groups."""
        model, items_ME = self._require_fitted(), self._items()
        scores_QM = items_ME.new_empty(len(queries), len(items_ME))
        for part in _parts(queries, max(1, CELLS // max(1, len(items_ME)))):
            block = queries.rows(part)
            inputs = of_queries(self._past(), block, items_ME.device, self._texts_of(block))
            scores_QM[part] = model.group_logits(inputs, items_ME)
        return scores_QM

    def _texts_of(self, queries: Queries) -> torch.Tensor | None:
        """Return the groups' text vectors (Q, T): from training for known groups, else of the query's text."""
        if self.group_texts is None:
            return None
        assert queries.groups is not None
        group_Q = torch.from_numpy(queries.groups.group).to(self.group_texts.device)
        vectors_QT = self.group_texts.table[group_Q.clamp_min(0)] * (group_Q >= 0)[:, None]
        rows = np.flatnonzero((queries.groups.group < 0) & (queries.texts != ""))
        if len(rows):
            vectors_QT[torch.from_numpy(rows).to(group_Q.device)] = self.group_texts.vectors(list(queries.texts[rows]))
        return vectors_QT

    @torch.no_grad()
    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return logits (num_texts, M) of texts, each as a history of one item without an id."""
        model = self._require_fitted()
        if self.texts is None or model.text is None:
            return super().score_text(texts)
        items_ME = self._items()
        return model.user_logits(model.history(model.text(self.texts.vectors(list(texts)))), items_ME)

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the number of epochs that validation chose."""
        return replace(self.config, head=replace(self.settings, stop_after=self.stop_after))

    def add_items(self, items: Catalogue) -> None:
        """Append items described by texts, words and attributes; they have no id."""
        self.num_items += len(items)
        if self.texts is not None:
            self.texts.add(list(items.texts))
        if self.features is not None:
            self.features.add(items)

    def state(self) -> dict[str, np.ndarray]:
        """Return the model, its training groups, the text vectors and the trained weights of the encoder."""
        past = self._past()
        own = {f"model.{name}": tensor.cpu().numpy() for name, tensor in self._require_fitted().state_dict().items()}
        for name, matrix in (("members", past.members), ("history", past.history)):
            own |= {f"past.{name}.indices": matrix.indices.astype(np.int64),
                    f"past.{name}.indptr": matrix.indptr.astype(np.int64), f"past.{name}.shape": np.array(matrix.shape)}
        own |= {"counts.users": self.user_counts_N, "counts.groups": self.group_counts_N}
        if self.texts is not None:
            own |= self.texts.state()
        if self.group_texts is not None:
            own |= {f"groups.{name}": value for name, value in self.group_texts.state().items()}
        return own | ({} if self.features is None else self.features.state())

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore `state`."""
        config, settings = self.config, self.settings
        self.num_items = len(items)
        self.user_counts_N, self.group_counts_N = (tensors.take(f"counts.{name}", INTEGER, (len(items),), low=0)
                                                   for name in ("users", "groups"))
        num_groups = max(0, tensors.shape("past.members.indptr")[0] - 1)
        if tensors.num_groups not in (None, num_groups):
            raise tensors.error("past.members.indptr", f"has {num_groups} groups instead of {tensors.num_groups}")
        self.past = Past(*(_csr(tensors.inside(f"past.{name}."), (num_groups, size))
                           for name, size in (("members", len(users)), ("history", len(items)))))
        if settings.text:
            self.texts = ItemTexts.read(config.encoder, config.peft, tensors, len(items), context.device)
        if settings.group_text:
            self.group_texts = ItemTexts.read(config.encoder, FrozenSettings(), tensors.inside("groups."), num_groups,
                                              context.device)
        if settings.features.used:
            self.features = ItemFeatures(settings.features, config, context.device)
            self.features.read(tensors, items)
        require_sizes(settings, tensors, "model")
        self.model = self._new(len(users))
        load_parameters(self.model, tensors, "model", settings.kind)
        self.model.to(context.device).eval()

    def _require_fitted(self) -> GroupModel:
        assert self.model is not None, "fit or load first"
        return self.model

    def _past(self) -> Past:
        assert self.past is not None, "fit or load first"
        return self.past


def _parts(queries: Queries, most: int) -> Iterator[np.ndarray]:
    """Yield the queries in blocks of at most `most` and of a bounded number of memberships, in their order."""
    assert queries.groups is not None
    ends = np.diff(queries.groups.rows.indptr).cumsum()
    start = 0
    while start < len(queries):
        before = 0 if start == 0 else int(ends[start - 1])
        stop = max(start + 1, int(np.searchsorted(ends, before + MEMBERSHIPS, side="right")))
        yield np.arange(start, min(stop, start + most))
        start = min(stop, start + most)


def _csr(tensors: TensorReader, shape: tuple[int, int]) -> sp.csr_array:
    saved = tuple(int(size) for size in tensors.take("shape", INTEGER, (2,)))
    if saved != shape:
        raise tensors.error("shape", f"is {list(saved)} instead of {list(shape)}")
    return tensors.csr("", shape, values=None)
