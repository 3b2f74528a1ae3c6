"""Clusters: recommend what similar users do, for users with a short history.

Shapes: Q queries, U users, V users with interactions, N items in training, M items now, C clusters.
"""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import FLOAT, INTEGER, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, fit_weights
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.clusters.fit import (
    GRID,
    HISTORY_LENGTHS,
    MOST_USERS,
    NUM_FOLDS,
    Behaviour,
    TrainingUsers,
    choose_settings,
    cluster,
    null_settings,
    posterior,
)
from llmrec_cli.heads.clusters.profiles import Placement, ProfileTexts, UserProfiles, log_softmax
from llmrec_cli.heads.shared.text_memory import encoder_memory
from llmrec_cli.scoring.heldout import ordered_matrix
from llmrec_cli.scoring.memory import validation_memory
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.clusters import ClustersSettings
from llmrec_cli.settings.peft import FrozenSettings


class Clusters(Head):
    """k-means on vectors of behaviour and profile; a user gets the behaviour of the clusters they are likely to be in.

    p(c | profile, clicks) = softmax(log p(c | profile) + click_weight * sum of log p(click | c)), a logistic regression
    and naive Bayes; score of an item: sum over c of p(c | ...) times the share of c's members who interact with it.
    Known users are scored the same way, so a new user with the same profile and history gets the same scores. For
    users with a long history other heads are better: combine them by `head=fusion` with `long_weights`.
    """

    settings: ClustersSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if self.settings.text > 0 and config.encoder is None:
            raise ConfigError(f"head.text={self.settings.text}: needs a text encoder; choose encoder=minilm")
        self.cluster_U: np.ndarray = np.zeros(0, np.int64)
        self.profiles = UserProfiles(None)
        self.by_profile = Placement(np.zeros((0, 0), np.float32), np.zeros(0, np.float32))
        self.by_text: Placement | None = None
        self.behaviour = Behaviour(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))
        self.num_items = 0

    @property
    def supports_text_queries(self) -> bool:
        """True if the head uses texts."""
        return self.by_text is not None

    @property
    def uses_user_profiles(self) -> bool:
        """Always: profiles assign users to clusters."""
        return True

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the sorted and weighted interactions, the users' vectors and the clusters' behaviour.

        Clustering holds the users' vectors and profiles three times: concatenated, and twice in k-means. Choosing
        settings scores blocks of hidden users with enough interactions, one block at a time. The bytes of scikit-learn
        itself are measured (benchmarks/memory.py).
        """
        settings, num_users = self.settings, len(data.users)
        num_clusters = int(max(GRID["num_clusters"])) if settings.num_clusters is None else settings.num_clusters
        profile_size = len(data.users.attribute_names) + (_TEXT_SIZE if settings.text > 0 else 0)
        num_measurable = (int((np.bincount(data.interactions.user) > max(HISTORY_LENGTHS)).sum())
                          if null_settings(settings) else 0)
        texts = data.users.texts if any(map(str.strip, data.users.texts)) else data.items.texts
        return (_LIBRARY_BYTES + _INTERACTION_BYTES * len(data.interactions)
                + 12 * num_users * (settings.vector_size + profile_size)
                + 40 * num_clusters * len(data.items)
                + validation_memory(min(num_measurable, MOST_USERS) // NUM_FOLDS, len(data.items), 0) // 2
                + (encoder_memory(self.config, texts, 0, FrozenSettings()) if settings.text > 0 else 0))

    def fit(self, data: TrainingData, context: Context) -> None:
        """Choose the null settings, cluster the users, and learn the placement and behaviour of each cluster."""
        trained_V = np.flatnonzero(np.bincount(data.interactions.user, minlength=len(data.users)))
        if len(trained_V) < 2:
            raise DataError(f"head=clusters: only {len(trained_V)} users have training interactions, too few to "
                            f"cluster; prepare with a larger training split, or choose head=popularity")
        self._check_number(len(trained_V))
        self.interaction_weights = fit_weights(data, self.settings)
        matrix_UN = ordered_matrix(data.interactions, self.interaction_weights.of(data.interactions))
        users, texts_VT = self._training_users(data, matrix_UN, trained_V, context)
        if null_settings(self.settings):
            self.settings = choose_settings(self.settings, users, item_hash_ranks(data.items.ids), context)
        num_clusters, first = self._numbers()[:2]
        cluster_V = cluster(users.vectors(self.settings, context.seed), num_clusters, context.seed)
        self.cluster_U = np.full(len(data.users), -1, np.int64)
        self.cluster_U[trained_V] = cluster_V
        self.by_profile = Placement.fit(users.profile_VF, cluster_V, num_clusters, self.settings.l2)
        if texts_VT is not None:
            self.by_text = Placement.fit(texts_VT, cluster_V, num_clusters, self.settings.l2)
        self.behaviour = Behaviour.of(users.matrix_VN, cluster_V, num_clusters, self.settings)
        self.num_items = len(data.items)
        context.log("clustered", sizes=np.bincount(cluster_V, minlength=num_clusters).tolist(), first_clicks=first)

    def _check_number(self, num_users: int) -> None:
        """Raise ConfigError for more clusters than users; choosing other settings hides a fold of the users."""
        num_hidden = -(-min(num_users, MOST_USERS) // NUM_FOLDS) if null_settings(self.settings) else 0
        if (self.settings.num_clusters or 0) > num_users - num_hidden:
            among = f", and {num_hidden} of them are hidden while settings are chosen" if num_hidden else ""
            raise ConfigError(f"head.num_clusters={self.settings.num_clusters}: there are only {num_users} users with "
                              f"training interactions{among}; choose fewer, or null to choose the number automatically")

    def _training_users(self, data: TrainingData, matrix_UN: sp.csr_array, trained_V: np.ndarray,
                        context: Context) -> tuple[TrainingUsers, np.ndarray | None]:
        """Return the users in training and, if texts are used, the text vectors for placement (V, T)."""
        settings, is_trained_U = self.settings, np.zeros(len(data.users), bool)
        is_trained_U[trained_V] = True
        texts = ProfileTexts(self.config.encoder, context.device) if settings.text > 0 else None
        self.profiles = UserProfiles(texts)
        attributes_VA = self.profiles.fit(data.users, is_trained_U)[trained_V]
        extra, profile, texts_VT = [settings.attributes * attributes_VA], [attributes_VA], None
        if texts is not None:
            texts_VT = texts.fit(data.users, data.items, matrix_UN, context.cache)[trained_V]
            extra.append(settings.text * texts_VT)
            if texts.own:
                profile.append(texts_VT)
        users = TrainingUsers(matrix_UN[trained_V], np.concatenate(profile, axis=1), np.concatenate(extra, axis=1))
        return users, texts_VT

    def _numbers(self) -> tuple[int, int, float]:
        settings = self.settings
        assert settings.num_clusters is not None
        assert settings.first_clicks is not None
        assert settings.click_weight is not None
        return settings.num_clusters, settings.first_clicks, settings.click_weight

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return the clusters' behaviour, weighted by their probability given profile and history (Q, M)."""
        _, first, click_weight = self._numbers()
        features_QF = self.profiles(queries.attributes, queries.profiles, len(queries))
        likely_QC = posterior(self.by_profile(features_QF), self.behaviour.likelihood(self.history(queries), first),
                              click_weight)
        return self._scores(likely_QC)

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return scores (T, M): the item shares of the clusters, averaged with the cluster probabilities of each text.

        A text without any known word scores 0.
        """
        assert self.by_text is not None
        assert self.profiles.texts is not None
        features = self.profiles.texts(texts)
        return self._scores(np.exp(log_softmax(self.by_text(features))) * (features != 0).any(axis=1, keepdims=True))

    def _scores(self, likely_QC: np.ndarray) -> torch.Tensor:
        scores_QM = torch.zeros((len(likely_QC), self.num_items))
        share_CN = torch.from_numpy(self.behaviour.share_CN)
        scores_QM[:, :share_CN.shape[1]] = torch.from_numpy(likely_QC.astype(np.float32)) @ share_CN
        return scores_QM

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the chosen settings."""
        return replace(self.config, head=self.settings)

    def add_items(self, items: Catalogue) -> None:
        """Append items that no cluster has interacted with; they score 0."""
        self.num_items += len(items)

    def state(self) -> dict[str, np.ndarray]:
        """Return the users' clusters, the clusters' behaviour and the placement models."""
        state = {"cluster": self.cluster_U, "click": self.behaviour.click_CN, "share": self.behaviour.share_CN,
                 "attributes.mean": self.profiles.mean_A,
                 **self.by_profile.state("by_profile"), **self.interaction_weights.state()}
        if self.by_text is not None and self.profiles.texts is not None:
            state |= self.by_text.state("by_text") | self.profiles.texts.state()
        return state

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore `state`."""
        num_clusters, self.num_items = self.settings.num_clusters, len(items)
        if num_clusters is None or None in (self.settings.first_clicks, self.settings.click_weight):
            raise tensors.error("click", "config.yaml has null for head.num_clusters, head.first_clicks or "
                                         "head.click_weight, but a fitted model has numbers there")
        self.cluster_U = tensors.take("cluster", INTEGER, (len(users),), low=-1, high=num_clusters - 1)
        self.interaction_weights = InteractionWeights.read(tensors)
        shape = (num_clusters, len(items))
        self.behaviour = Behaviour(tensors.take("click", FLOAT, shape, high=0),
                                   tensors.take("share", FLOAT, shape, low=0))
        texts, num_attributes = None, len(users.attribute_names)
        if self.settings.text > 0:
            texts = ProfileTexts(self.config.encoder, context.device)
            texts.read(tensors)
            self.by_text = Placement.read(tensors.inside("by_text."), texts.whitening.size, num_clusters)
        self.profiles = UserProfiles(texts)
        self.profiles.mean_A = tensors.take("attributes.mean", FLOAT, (num_attributes,))
        own = texts.whitening.size if texts is not None and texts.own else 0
        self.by_profile = Placement.read(tensors.inside("by_profile."), num_attributes + own, num_clusters)


_LIBRARY_BYTES = 104 * 2**20
"""Memory of scikit-learn once it has clustered."""
_INTERACTION_BYTES = 50
"""Bytes per interaction: a float32 and an int64 in the sorted matrix, in that of the users in training and in a fold's
parts (5/3 as large), and what splits and divides them."""
_TEXT_SIZE = 400
"""Dimensions of a text vector assumed in the memory estimate."""
