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
from llmrec_cli.heads.groups.inputs import Bags, ItemsKnown, Past, of_queries
from llmrec_cli.heads.groups.model import GroupModel, Sizes
from llmrec_cli.heads.groups.steps import GroupSteps, Weights, alone_inputs, num_steps
from llmrec_cli.heads.shared.features import ItemFeatures, features_memory
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.heads.shared.tensor_files import load_parameters, require_sizes
from llmrec_cli.heads.shared.text_memory import encoder_memory
from llmrec_cli.heads.shared.text_training import train_with_texts
from llmrec_cli.scoring.memory import validation_memory
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.groups import TrainedGroupsSettings
from llmrec_cli.settings.peft import FrozenSettings

MEMBERSHIPS = 2**14
"""Most members of groups that are answered at once, each counted in each of its groups."""
_SCORE_COPIES = 4.5
"""Scores of a step held at a time, with their gradients and with what is masked (benchmarks/memory.py)."""
CELLS = 2**24
"""Most scores made at once, 64 MB; formulas hold a few times as much on the way."""


class TrainedGroupHead(Head):
    """A model of groups, trained by the one loop on what groups and what users chose.

    It keeps who was in which group and what groups did: a list of people who never met is answered by what each of them
    did alone and with others. A member that the model does not know is answered by their history.
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
        """With texts: one is read as the history of one item without an id."""
        return self.settings.text

    @property
    def item_texts(self) -> ItemTexts | None:
        """The items' texts, trained with the model."""
        return self.texts

    @property
    def rereads(self) -> bool:
        """With texts: they are read of every item."""
        return self.settings.text or self.settings.features.words > 0

    def reread(self, texts: np.ndarray) -> None:
        """Take other texts for the items (M,)."""
        if self.texts is not None:
            self.texts.reread(texts)
        if self.features is not None:
            self.features.reread(texts)

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the texts and features, of ids with gradients and moments, and of a step's scores or a
        validation's.
        """
        if data.groups is None:
            return 0
        groups, together = data.groups, data.groups.interactions
        with_users = len(data.interactions) if self.settings.user_weight > 0 else 0
        steps = max(1, num_steps(len(together), with_users, self.config.optim.batch_size))
        of_groups, of_users = -(-len(together) // steps), -(-with_users // steps)
        rows = len(data.users) + len(data.items) + len(groups)
        size = self.settings.embedding_size
        drawn = self.config.loss.num_negatives
        candidates = min(len(data.items), len(data.items) if drawn is None else drawn + of_groups + of_users)
        members = min(of_groups, len(groups)) * max(1.0, float(groups.members.nnz / max(1, len(groups))))
        step = int(4 * (_SCORE_COPIES * (of_groups + of_users) * candidates
                        + members * (8 * size + self.cells_of_a_member() * candidates)))
        validation = validation_memory(len(groups), len(data.items), len(data.interactions))
        return self._memory_of_texts(data, groups.entities.texts) + 4 * 5 * size * rows + max(step, validation)

    def _memory_of_texts(self, data: TrainingData, group_texts: np.ndarray) -> int:
        """Return the bytes of the items' texts and features and of the groups' texts, where they are read."""
        settings, config = self.settings, self.config
        return ((encoder_memory(config, data.items.texts, settings.encoded_items) if settings.text else 0)
                + (encoder_memory(config, group_texts, 0, FrozenSettings()) if settings.group_text else 0)
                + (features_memory(settings.features, config, data) if settings.features.used else 0))

    def cells_of_a_member(self) -> int:
        """Return how many numbers a step holds for each pair of a member and a candidate."""
        return 0

    def fit(self, data: TrainingData, context: Context) -> None:
        """Train vectors and encoder together by the one loop."""
        config, settings, device, groups = self.config, self.settings, context.device, data.groups
        if groups is None:
            raise DataError(f"head={settings.kind}: the prepared data has no groups; prepare with "
                            f"dataset.groups=<file> and dataset.group_interactions=<file>, or choose another head")
        if not len(groups.interactions):
            raise DataError(f"head={settings.kind}: no group did anything together in training, so there is nothing to "
                            f"learn from; choose head=group_aggregate")
        torch.manual_seed(context.seed)
        self.user_counts_N, self.group_counts_N = data.interactions.item_counts, groups.interactions.item_counts
        self.num_items = len(data.items)
        if settings.text:
            trained_N = self.user_counts_N + self.group_counts_N > 0
            self.texts = ItemTexts.encoded(config.encoder, config.peft, data.items.texts, device, context.seed,
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
        """Return the vectors of the groups' own texts, by the encoder as it is before any training.

        What is learned of texts is learned from groups in training, `trained_K` (bool).
        """
        if not any(str(text).strip() for text in texts[trained_K]):
            raise DataError("head.group_text=true: no group in training has a text; prepare with a text of groups, or "
                            "leave it out")
        # A memo of their own: what is kept in a run by the encoder's settings are the items' vectors.
        return ItemTexts.encoded(self.config.encoder, FrozenSettings(), texts, context.device, context.seed, {},
                                 trained_K, context.cache)

    def _new(self, num_users: int) -> GroupModel:
        texts, said, known = self.texts, self.group_texts, self.features
        sizes = Sizes(num_users, self._past().members.shape[0], 0 if texts is None else texts.size,
                      0 if said is None else said.size, 0 if known is None else known.sparse_NF.shape[1],
                      0 if known is None else known.dense_ND.shape[1])
        return self.model_class(sizes, self.settings, self.group_counts_N, self.user_counts_N)

    def _features(self) -> ItemsKnown | None:
        if self.features is None:
            return None
        device = self._fitted().bias_N.device
        return ItemsKnown(Bags.of(self.features.sparse_NF, device, weighted=True),
                          torch.from_numpy(self.features.dense_ND).to(device))

    def _items(self) -> torch.Tensor:
        return self._fitted().items(None if self.texts is None else self.texts.table, self._features(), self.num_items)

    @torch.no_grad()
    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return logits (Q, M) of users by their histories, what their groups did and, for known ones, their ids."""
        model, items_ME = self._fitted(), self._items()
        members_QE = model.members(alone_inputs(self._past(), queries.user, queries.history, items_ME.device), items_ME)
        scores_QM = items_ME.new_empty(len(queries), len(items_ME))
        size = max(1, CELLS // max(1, len(items_ME)))
        for start in range(0, len(queries), size):
            scores_QM[start:start + size] = model.user_logits(members_QE[start:start + size], items_ME)
        return scores_QM

    @torch.no_grad()
    def score_groups(self, queries: Queries) -> torch.Tensor:
        """Return logits (Q, M) of groups, known ones and lists of members."""
        model, items_ME = self._fitted(), self._items()
        scores_QM = items_ME.new_empty(len(queries), len(items_ME))
        for part in _parts(queries, max(1, CELLS // max(1, len(items_ME)))):
            chosen = queries.rows(part)
            inputs = of_queries(self._past(), chosen, items_ME.device, self._texts_of(chosen))
            scores_QM[part] = model.group_logits(inputs, items_ME)
        return scores_QM

    def _texts_of(self, queries: Queries) -> torch.Tensor | None:
        """Return the vectors (Q, T) of what is said of groups: what was read in training, or what the query says."""
        if self.group_texts is None:
            return None
        assert queries.groups is not None
        known = torch.from_numpy(queries.groups.group).to(self.group_texts.device)
        vectors_QT = self.group_texts.table[known.clamp_min(0)] * (known >= 0)[:, None]
        said = np.flatnonzero((queries.groups.group < 0) & (queries.texts != ""))
        if len(said):
            vectors_QT[torch.from_numpy(said).to(known.device)] = self.group_texts.vectors(list(queries.texts[said]))
        return vectors_QT

    @torch.no_grad()
    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return logits (num_texts, M) of texts read as the history of one item without an id."""
        model = self._fitted()
        if self.texts is None or model.text is None:
            return super().score_text(texts)
        items_ME = self._items()
        return model.user_logits(model.history(model.text(self.texts.vectors(list(texts)))), items_ME)

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the number of epochs that validation chose."""
        return replace(self.config, head=replace(self.settings, stop_after=self.stop_after))

    def add_items(self, items: Catalogue) -> None:
        """Append items by their texts, words and attributes; they have no id."""
        self.num_items += len(items)
        if self.texts is not None:
            self.texts.add(list(items.texts))
        if self.features is not None:
            self.features.add(items)

    def state(self) -> dict[str, np.ndarray]:
        """Return the model, the groups it was trained on, the texts' vectors and what was trained of the encoder."""
        past = self._past()
        own = {f"model.{name}": tensor.cpu().numpy() for name, tensor in self._fitted().state_dict().items()}
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
        """Take what `state` returned."""
        config, settings = self.config, self.settings
        self.num_items = len(items)
        self.user_counts_N, self.group_counts_N = (tensors.take(f"counts.{name}", INTEGER, (len(items),), low=0)
                                                   for name in ("users", "groups"))
        num_groups = max(0, tensors.shape("past.members.indptr")[0] - 1)
        if tensors.num_groups not in (None, num_groups):
            raise tensors.error("past.members.indptr", f"is of {num_groups} groups instead of {tensors.num_groups}")
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

    def _fitted(self) -> GroupModel:
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
