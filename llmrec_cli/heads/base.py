"""The interface of heads: fit once, then score queries.

Shapes: Q queries, N items of the catalogue, D dimensions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.recency import Recency
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, unused_values
from llmrec_cli.encoders.base import encoder_class
from llmrec_cli.scoring.groups import average, score_by_members
from llmrec_cli.scoring.scorer import pair_scores
from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.head import ModelConfig

if TYPE_CHECKING:
    import torch

    from llmrec_cli.heads.shared.item_texts import ItemTexts
    from llmrec_cli.scoring.validation import Validation


@dataclass
class Context:
    """Inputs of a fit besides the data.

    Attributes
    ----------
    device : where to compute
    seed : seed of everything random in this fit
    validation : the monitored metric on validation queries, higher is better; None in a refit, which chooses nothing
    folder : folder for checkpoints; None to write none
    resumed : True to resume from the checkpoints in `folder`
    tensorboard : folder for TensorBoard curves; None to write none
    log : called with an event and its values
    memo : raw text vectors that a frozen encoder computed in this run, by the encoder's settings
    cache : folder of text vectors shared across runs (`encoders.vector_cache`); None for none
    learned : in a refit, what `Head.learned_on_validation` returned after the first fit
    """

    device: "torch.device"
    seed: int
    validation: "Validation | None" = None
    folder: Path | None = None
    resumed: bool = False
    tensorboard: Path | None = None
    log: Callable[..., None] = field(default=lambda event, **values: None)
    memo: dict[str, np.ndarray] = field(default_factory=dict)
    cache: Path | None = None
    learned: "Mapping[str, np.ndarray]" = field(default_factory=dict)

    def inside(self, name: str) -> "Context":
        """Return the context for fitting a member: subfolders of its own, and its name in the log."""
        return replace(self, folder=None if self.folder is None else self.folder / name,
                       tensorboard=None if self.tensorboard is None else self.tensorboard / name,
                       log=partial(self.log, part=name))


class Head(ABC):
    """A recommender.

    Attributes
    ----------
    weighs_groups : True if `fit` weighs group interactions too
    learns_groups : True if groups are learned apart from users, so that a group of one may score unlike its member
    settings : settings of the head itself, `config.head`
    members : heads whose scores this head combines, by name; empty for most heads
    """

    weighs_groups = False
    learns_groups = False

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        # Each head narrows the type in its class; the table of heads guarantees it.
        self.settings = config.head
        self.members: dict[str, Head] = {}
        self.interaction_weights = InteractionWeights()

    @property
    def supports_text_queries(self) -> bool:
        """True if the fitted head has `score_text`."""
        return False

    @property
    def uses_user_profiles(self) -> bool:
        """True if `score_users` reads a user's attributes or own text, also without a history."""
        return False

    @property
    def is_personal(self) -> bool:
        """True if scores differ between queries; False for a head that recommends the same to everybody."""
        return True

    @property
    def uses_identity(self) -> bool:
        """True if a known user's scores use parameters learned for this user besides the history."""
        return False

    @property
    def without_fold_in(self) -> list[str]:
        """Names of the parts that score a known user from learned user parameters and ignore the history."""
        return []

    @property
    def history_limit(self) -> int | None:
        """Number of newest items of a history that this head, once fitted, reads; None for all."""
        return None

    @property
    def rereads(self) -> bool:
        """True if `reread` changes the texts of all items, not only of items appended by `add_items`."""
        return False

    def reread(self, texts: np.ndarray) -> None:
        """Replace the texts of all items of the catalogue, (N,), for scoring."""
        raise NotImplementedError(f"{type(self).__name__} does not read item texts when scoring")

    @property
    def score_meaning(self) -> str | None:
        """Meaning of a score: `value` of an interaction, `logit` of a like, or None if it only orders items."""
        return None

    @property
    def item_texts(self) -> "ItemTexts | None":
        """Item texts as this head reads them; None if it reads none or is not fitted."""
        return None

    @property
    def text_vectors(self) -> np.ndarray | None:
        """Vectors of the item texts, float32 (N, D); None without an encoder or before the fit."""
        return None if self.item_texts is None else self.item_texts.table.detach().cpu().numpy()

    @abstractmethod
    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes that `fit` will add to the process's memory at its peak."""

    def freed_memory(self, data: TrainingData) -> int:
        """Return the bytes of `estimate_memory` that are free again after `fit`: here the buffers of the encoder."""
        encoder = self.config.encoder
        if encoder is None or "encoder" not in self.config.head.uses():
            return 0
        return encoder_class(encoder).buffer_memory(encoder)

    def estimate_seconds(self, data: TrainingData, device: "torch.device") -> float:
        """Return the predicted seconds of `fit`; 0 for a short fit, and for one that predicts its time as it runs."""
        return 0.0

    @abstractmethod
    def fit(self, data: TrainingData, context: Context) -> None:
        """Learn from the interactions of `data`; `tuned_config()` then has the settings that validation chose."""

    def score(self, queries: Queries) -> "torch.Tensor":
        """Return float32 scores (Q, N) of all items, for users and groups; higher is better. Always finite."""
        members = queries.groups
        if members is None:
            return self.score_users(queries)
        if members.is_group.all():
            return self.score_groups(queries)
        users, groups = np.flatnonzero(~members.is_group), np.flatnonzero(members.is_group)
        of_users = self.score_users(replace(queries.rows(users), groups=None))
        if not len(groups):
            return of_users
        scores_QN = of_users.new_empty((len(queries), of_users.shape[1]))
        scores_QN[users], scores_QN[groups] = of_users, self.score_groups(queries.rows(groups)).to(of_users.dtype)
        return scores_QN

    @abstractmethod
    def score_users(self, queries: Queries) -> "torch.Tensor":
        """Return the scores (Q, N) of users from their histories; finite for an empty history too."""

    def unused_values(self, data: TrainingData) -> list[str]:
        """Return a sentence for each kind of interaction whose differing values this head ignored when fitted."""
        reasons = [unused_values(data, self.config.head, groups) for groups in (False, True)[:1 + self.weighs_groups]]
        return [f"head={self.config.head.kind}: {reason}" for reason in reasons if reason is not None]

    def unused_settings(self, data: TrainingData) -> dict[str, str]:
        """Return the settings that would have no effect when fitted on `data`, each with the reason."""
        return {}

    def history(self, queries: Queries) -> sp.csr_array:
        """Return the queries' histories; each entry is weighted as in `fit`, and by recency (`settings.recency`)."""
        recency = Recency(*self.config.head.recency_of_histories())
        return recency.weigh(self.interaction_weights.history(queries), queries.times)

    def score_groups(self, queries: Queries) -> "torch.Tensor":
        """Return the scores (Q, N) of groups: the mean over the members' scores and the group's own history."""
        return score_by_members(self.score_users, queries, average)

    def score_text(self, texts: np.ndarray) -> "torch.Tensor":
        """Return float32 scores (num_texts, N) of all items for text queries."""
        raise NotImplementedError(f"{type(self).__name__} has no text encoder")

    def score_pairs(self, queries: Queries, pairs_QN: sp.csr_array, block_size: int = 1024) -> np.ndarray:
        """Return the score of each entry of `pairs_QN` in its order, float32 (num_pairs,), on `score_meaning`'s scale.
        """
        return pair_scores(self.score, queries, pairs_QN, block_size=block_size)

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the settings that validation chose; fitting it needs no validation."""
        return self.config

    def validation_values(self, validation: "Validation") -> np.ndarray:
        """Return the metric of each validation query with a relevant item, float64; of at most 10,000 for a fusion.

        A head that learned much on these very queries returns what it reached on them without having learned them.
        """
        return validation.values(self.score)

    def learned_on_validation(self) -> dict[str, np.ndarray]:
        """Return arrays that validation chose, beside the settings of `tuned_config`, for the refit."""
        return {}

    @abstractmethod
    def add_items(self, items: Catalogue) -> None:
        """Append cold items to the catalogue, described by text and attributes only."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Return all learned arrays by name; with the model config and the catalogues they suffice to score."""

    def load(self, state: "dict[str, np.ndarray] | TensorReader", users: Catalogue, items: Catalogue,
             context: Context) -> None:
        """Restore `state`, for the same users and items; raise ArtifactError for anything else."""
        tensors = state if isinstance(state, TensorReader) else TensorReader(state)
        self.read(tensors, users, items, context)
        tensors.refuse_others()

    @abstractmethod
    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Read each tensor of `state` with its expected type, shape and range: the schema of the saved head."""


def build(config: ModelConfig) -> Head:
    """Return the unfitted head of a model config."""
    head: Head = implementation_of(config.head)(config)
    return head
