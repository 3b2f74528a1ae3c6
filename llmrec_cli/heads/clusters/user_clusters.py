"""Clusters of the users of prepared data, by head=clusters fitted on the training interactions."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.manifest import REMEDY
from llmrec_cli.data.prepared import read_entities
from llmrec_cli.data.tables import read_table
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.clusters.head import Clusters
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.settings.cluster_users import ClusterUsersSettings
from llmrec_cli.settings.encoder import ENCODERS
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.clusters import ClustersSettings

_TEXT = 0.5
"""Weight of the users' texts relative to their behaviour, if users have texts."""


def cluster_users(settings: ClusterUsersSettings, folder: Path) -> np.ndarray:
    """Cluster the users in a folder of users, items and interactions; return int64 (num_users,), -1 for no cluster."""
    data = read_training(folder)
    texts = any(data.users.texts)
    config = ModelConfig(head=ClustersSettings(num_clusters=settings.num_clusters, text=_TEXT if texts else 0.0),
                         encoder=ENCODERS[settings.encoder]() if texts else None)
    head = Clusters(config)
    head.fit(data, Context(torch.device("cpu"), settings.seed))
    return head.cluster_U


def read_training(folder: Path) -> TrainingData:
    """Return the users, items and training interactions in a folder of prepared data that has no manifest yet."""
    files = PinnedFolder(folder, REMEDY)
    users, items = read_entities(files, "users.parquet", "user"), read_entities(files, "items.parquet", "item")
    rows = read_table(files, "interactions.parquet", ["user", "item", "value", "timestamp", "split"])
    rows = rows.filter(pc.equal(rows["split"], "train"))
    user, item, value, timestamp = (rows[name].to_numpy() for name in ("user", "item", "value", "timestamp"))
    return TrainingData(users, items, Interactions(user, item, value.astype(np.float32), timestamp, len(users),
                                                   len(items)))
