"""The interface of heads: fitted once, then asked for scores.

Shapes: Q queries, N items of the catalogue, D dimensions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, unused_values
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
    """Inputs of a fit beside the data.

    Attributes
    ----------
    device : where to compute
    seed : seed of everything random in this fit
    validation : the monitored metric on validation queries, higher is better; None in a refit, where nothing may be
        chosen any more
    folder : where checkpoints may be written; None to write none
    resumed : whether to go on from the checkpoints in `folder`
    tensorboard : where curves are written; None to write none
    log : called with an event and its values
    memo : raw vectors of texts that a frozen encoder has encoded in this run, by the encoder's settings
    cache : folder where vectors of texts are kept across runs (`encoders.vector_cache`); None for none
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

    def inside(self, name: str) -> "Context":
        """Return the context of a part of what is fitted, with places of its own and its name in the log."""
        return replace(self, folder=None if self.folder is None else self.folder / name,
                       tensorboard=None if self.tensorboard is None else self.tensorboard / name,
                       log=partial(self.log, part=name))


class Head(ABC):
    """A recommender.

    Attributes
    ----------
    weighs_groups : whether `fit` weighs what groups did together too
    learns_groups : whether groups are learned apart from users, so that a group of one is not its member
    settings : those of the head itself, `config.head`
    members : heads whose scores this one puts together, by name; empty for most
    """

    weighs_groups = False
    learns_groups = False

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        # Each head says in its class which settings these are; the table of heads sees to it.
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
        """True if a known user's scores use parameters learned for this user beside the history."""
        return False

    @property
    def without_fold_in(self) -> list[str]:
        """Names of the parts that answer a known user by what was learned of this user, whatever the history."""
        return []

    @property
    def history_limit(self) -> int | None:
        """Number of newest items of a history that this head, once fitted, reads; None for all."""
        return None

    @property
    def rereads(self) -> bool:
        """True if `reread` changes the texts of all items, and not only of those that `add_items` brings."""
        return False

    def reread(self, texts: np.ndarray) -> None:
        """Take other texts for the items of the catalogue (N,), as they would be read on being asked."""
        raise NotImplementedError(f"{type(self).__name__} reads no text of a known item on being asked")

    @property
    def score_meaning(self) -> str | None:
        """Meaning of a score beside an order: the `value` of an interaction, the `logit` of a like, or None."""
        return None

    @property
    def item_texts(self) -> "ItemTexts | None":
        """The items' texts as this head reads them, where it does and is fitted."""
        return None

    @property
    def text_vectors(self) -> np.ndarray | None:
        """Vectors of the items' texts, float32 (N, D), where the head has an encoder and is fitted."""
        return None if self.item_texts is None else self.item_texts.table.detach().cpu().numpy()

    @abstractmethod
    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes that `fit` will take at its peak, beyond what the process holds before it."""

    @abstractmethod
    def fit(self, data: TrainingData, context: Context) -> None:
        """Learn from the interactions of `data`; what validation chooses is kept in `tuned_config()`."""

    def score(self, queries: Queries) -> "torch.Tensor":
        """Return float32 scores (Q, N) of all items; higher is better. Finite for every query, of users and groups."""
        asked = queries.groups
        if asked is None:
            return self.score_users(queries)
        if asked.is_group.all():
            return self.score_groups(queries)
        users, groups = np.flatnonzero(~asked.is_group), np.flatnonzero(asked.is_group)
        of_users = self.score_users(replace(queries.rows(users), groups=None))
        if not len(groups):
            return of_users
        scores_QN = of_users.new_empty((len(queries), of_users.shape[1]))
        scores_QN[users], scores_QN[groups] = of_users, self.score_groups(queries.rows(groups)).to(of_users.dtype)
        return scores_QN

    @abstractmethod
    def score_users(self, queries: Queries) -> "torch.Tensor":
        """Return the scores (Q, N) of users, made from their histories; finite also for an empty one."""

    def unused_values(self, data: TrainingData) -> list[str]:
        """Return a sentence where values of interactions differ and this head, fitted on them, made nothing of it."""
        reasons = [unused_values(data, self.config.head, groups) for groups in (False, True)[:1 + self.weighs_groups]]
        return [f"head={self.config.head.kind}: {reason}" for reason in reasons if reason is not None]

    def unused_settings(self, data: TrainingData) -> dict[str, str]:
        """Return the settings that would have no effect when fitted on `data`, each with the reason."""
        return {}

    def history(self, queries: Queries) -> sp.csr_array:
        """Return the queries' histories, each entry with the weight that it would have had in `fit`."""
        return self.interaction_weights.history(queries)

    def score_groups(self, queries: Queries) -> "torch.Tensor":
        """Return the scores (Q, N) of groups: the mean of what their members score, and of what they did together."""
        return score_by_members(self.score_users, queries, average)

    def score_text(self, texts: np.ndarray) -> "torch.Tensor":
        """Return float32 scores (num_texts, N) of all items for what is said in words."""
        raise NotImplementedError(f"{type(self).__name__} has no text encoder")

    def score_pairs(self, queries: Queries, pairs_QN: sp.csr_array, block_size: int = 1024) -> np.ndarray:
        """Return what `score_meaning` says of every entry of `pairs_QN`, in its order, float32 (num_pairs,)."""
        return pair_scores(self.score, queries, pairs_QN, block_size=block_size)

    def tuned_config(self) -> ModelConfig:
        """Return the model config with what validation chose filled in; fitting it needs no validation."""
        return self.config

    @abstractmethod
    def add_items(self, items: Catalogue) -> None:
        """Append items never seen in training to the catalogue, known by their text and attributes alone."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Return all that was learned, by name; with the model config and the entities it is enough to score."""

    def load(self, state: "dict[str, np.ndarray] | TensorReader", users: Catalogue, items: Catalogue,
             context: Context) -> None:
        """Take what `state` returned, for the same users and items; raises ArtifactError for anything else."""
        tensors = state if isinstance(state, TensorReader) else TensorReader(state)
        self.read(tensors, users, items, context)
        tensors.refuse_others()

    @abstractmethod
    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Take each tensor of `state`, saying what it must be: this is the schema of what the head saves."""


def build(config: ModelConfig) -> Head:
    """Return the head that a model config describes, not yet fitted."""
    built: Head = implementation_of(config.head)(config)
    return built
