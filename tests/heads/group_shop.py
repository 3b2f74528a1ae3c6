"""Training data of friends who share a taste: users, groups and their interactions, with learnable structure."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.groups import Groups, without_texts
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import Membership, Queries, known_groups, known_users
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.settings.adversarial import NoAdversarySettings
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.loss import SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import FrozenSettings

NUM_USERS, NUM_GROUPS, NUM_ITEMS, TASTES = 48, 40, 32, 4
WORDS = ("robot galaxy", "love letters", "desert sheriff", "clown circus")


def entities(ids, texts=None) -> Catalogue:
    """Return a catalogue of ids, optionally with texts, without attributes."""
    plain = without_texts([str(name) for name in ids])
    if texts is None:
        return plain
    array = np.array([*texts, None], object)[:-1]
    return Catalogue(plain.ids, array, array, plain.attributes, [])


def interactions(pairs, num_users: int, num_items: int = NUM_ITEMS) -> Interactions:
    """Return interactions of pairs of a user and an item."""
    rows = np.unique(np.array(pairs, np.int64).reshape(-1, 2), axis=0)
    return Interactions(rows[:, 0], rows[:, 1], np.ones(len(rows), np.float32), np.zeros(len(rows), np.int64),
                        num_users, num_items)


def csr(rows, num_columns: int) -> sp.csr_array:
    """Return lists of columns as a CSR matrix of 1s."""
    indices = np.array([column for row in rows for column in row], np.int64)
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return sp.csr_array((np.ones(len(indices), np.float32), indices, indptr), shape=(len(rows), num_columns))


@dataclass(frozen=True)
class GroupShop:
    """Training data, and one held-out item of each group."""

    data: TrainingData
    held_out: np.ndarray

    def config(self, head, **changed) -> ModelConfig:
        """Return a model config without an encoder that trains in a second, with the settings in `changed`."""
        usual = {"encoder": None, "peft": FrozenSettings(), "adversarial": NoAdversarySettings(),
                 "loss": SoftmaxSettings(),
                 "optim": AdamWSettings(epochs=6, batch_size=128, learning_rate=0.03, patience=6)}
        return ModelConfig(head=head, **(usual | changed))

    def fit(self, config: ModelConfig, validates: bool = True, **context) -> Head:
        """Fit a head on the training interactions, with early stopping on the held-out items."""
        head = build(config)
        validation = (lambda score: hit_rate(score(self.known_groups()).numpy(), self)) if validates else None
        head.fit(self.data, Context(torch.device("cpu"), 3, validation, **context))
        return head

    def users(self) -> Queries:
        """Return queries of all users."""
        matrix = self.data.interactions.matrix
        return known_users(np.arange(NUM_USERS), self.data.users.ids, matrix, matrix)

    def known_groups(self, which=None) -> Queries:
        """Return queries of groups, all of them by default."""
        groups = self.data.groups
        history = groups.interactions.matrix
        rows = np.arange(NUM_GROUPS) if which is None else np.array(which)
        return known_groups(rows, groups.entities, groups.members, history, history, self.users())

    def together(self, members, groups=None, histories=None) -> Queries:
        """Return queries of lists of members; `groups` are the model's groups, -1 (the default) for ad-hoc ones."""
        size = len(members)
        history = csr(histories or [[]] * size, NUM_ITEMS)
        names, empty = np.array([f"list {n}" for n in range(size)], object), np.full(size, "", object)
        group = np.full(size, -1) if groups is None else np.array(groups)
        membership = Membership(group, self.users(), csr(members, NUM_USERS), np.ones(size, bool)).select(slice(None))
        return Queries(names, empty, np.full(size, -1), history, history, empty, membership)


def hit_rate(scores_QN: np.ndarray, shop: GroupShop) -> float:
    """Return the share of groups whose held-out item is among their five highest unseen items."""
    scores_QN = np.where(shop.data.groups.interactions.matrix.toarray() > 0, -np.inf, scores_QN)
    target_Q = scores_QN[np.arange(len(scores_QN)), shop.held_out]
    return float(((scores_QN > target_Q[:, None]).sum(axis=1) < 5).mean())


def group_shop(seed: int = 5) -> GroupShop:
    """Return 48 users and 40 groups of 3 to 5 users of one taste, who choose mostly among the 8 items of that taste.

    Half of the users have two training items, the others none; groups have one or two training items and one held out.
    """
    rng = np.random.default_rng(seed)
    weights = np.where(np.arange(NUM_ITEMS) % TASTES == np.arange(TASTES)[:, None], 1.0, 0.02)
    weights /= weights.sum(axis=1, keepdims=True)
    own = [(user, item) for user in range(0, NUM_USERS, 2)
           for item in rng.choice(NUM_ITEMS, 2, replace=False, p=weights[user // 2 % TASTES])]
    of_taste = [[user for user in range(NUM_USERS) if user // 2 % TASTES == taste] for taste in range(TASTES)]
    members = [sorted(rng.choice(of_taste[group % TASTES], 3 + group % 3, replace=False)) for group in
               range(NUM_GROUPS)]
    choices = [rng.choice(NUM_ITEMS, 2 + group // TASTES % 2, replace=False, p=weights[group % TASTES])
               for group in range(NUM_GROUPS)]
    together = interactions([(group, item) for group, items in enumerate(choices) for item in items[1:]], NUM_GROUPS)
    groups = Groups(entities(range(NUM_GROUPS), [f"friends of {WORDS[g % TASTES]}" for g in range(NUM_GROUPS)]),
                    csr(members, NUM_USERS), together, np.zeros(len(together), np.int8))
    items = entities(range(NUM_ITEMS), [f"{WORDS[item % TASTES]} number {item}" for item in range(NUM_ITEMS)])
    data = TrainingData(entities(range(NUM_USERS)), items, interactions(own, NUM_USERS), groups=groups)
    return GroupShop(data, np.array([items[0] for items in choices]))
