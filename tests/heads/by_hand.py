"""Data small enough to calculate with."""

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.settings.head import HeadSettings, ModelConfig

CONTEXT = Context(torch.device("cpu"), seed=1)


def entities(size: int, attributes: np.ndarray | None = None, kind: str = "e") -> Catalogue:
    """Return entities with ids e0, e1, ... and these attributes (size, num_attributes) of 0/1."""
    ids = np.array([f"{kind}{n}" for n in range(size)], object)
    matrix = np.zeros((size, 0), np.float32) if attributes is None else attributes.astype(np.float32)
    names = [f"a={n}" for n in range(matrix.shape[1])]
    return Catalogue(ids, ids, np.full(size, "", object), sp.csr_array(matrix), names)


def training(matrix: np.ndarray, attributes: np.ndarray | None = None) -> TrainingData:
    """Return training data of a matrix (num_users, num_items) of interaction values, 0 for no interaction.

    The values are event weights, so that heads take them unchanged.
    """
    user, item = np.nonzero(matrix)
    value, order = np.asarray(matrix[user, item], np.float32), np.arange(len(user))
    interactions = Interactions(user, item, value, order, *matrix.shape)
    return TrainingData(entities(len(matrix), kind="u"), entities(matrix.shape[1], attributes), interactions,
                        value_kind="event_weight")


def queries(history: np.ndarray, user: list[int] | None = None) -> Queries:
    """Return queries with the histories of a matrix of interaction values, 0 for no interaction.

    `user` are the users' numbers, -1 for unknown users (the default).
    """
    size = len(history)
    ids, rows = np.array([f"q{n}" for n in range(size)], object), sp.csr_array(history.astype(np.float32))
    return Queries(ids, ids, np.array([-1] * size if user is None else user), rows, rows, np.full(size, "", object))


def fit(settings: HeadSettings, data: TrainingData) -> Head:
    """Return the head fitted on the data."""
    head = build(ModelConfig(head=settings))
    head.fit(data, CONTEXT)
    return head
