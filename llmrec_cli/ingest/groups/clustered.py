"""Clusters of users as groups, where data has none.

What a cluster has together follows the rule of `synthetic`, with the share `dataset.cluster_users.share`; the value of
such an interaction is the share of the members that have the item in training: the cluster's behaviour.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from ibis.backends import BaseBackend

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.engine import read_staged
from llmrec_cli.ingest.groups.groups import Groups
from llmrec_cli.ingest.groups.synthetic import common_items
from llmrec_cli.ingest.readers.sources import Sources
from llmrec_cli.settings.dataset import DatasetSettings

ClusterOf = Callable[[Path], np.ndarray]
"""From a folder with users, items and interactions to the cluster of each user, int64, -1 for none."""


def refuse_clusters_beside(sources: Sources, settings: DatasetSettings, group: str, mode: str) -> None:
    """Raise ConfigError for what cannot be together with clusters as groups."""
    if not settings.cluster_users.on:
        return
    if sources.members:
        raise ConfigError(f"dataset.cluster_users=true: the data set has groups of its own "
                          f"({sources.members[0].path}); leave the setting out")
    if mode == "append":
        raise ConfigError("mode=append: dataset.cluster_users=true clusters all users anew, so the groups would be "
                          "others each time; prepare all of it with mode=new")
    if group:
        raise ConfigError(f"split.group={group}: has no effect on clusters of users, which are divided as their "
                          f"members' interactions are; leave it out")


def clustered_groups(connection: BaseBackend, folder: Path, cluster_of: ClusterOf, settings: DatasetSettings,
                     scratch: Path) -> Groups:
    """Return the clusters of the users in `folder`, with what they have together."""
    rows = pq.read_table(folder / "interactions.parquet", columns=["user", "item", "timestamp", "split"])
    user, item, time = (rows[name].to_numpy() for name in ("user", "item", "timestamp"))
    split = np.array([SPLITS.index(name) for name in rows["split"].to_pylist()], np.int64)
    user_ids = pq.read_table(folder / "users.parquet", columns=["user_id"]).column(0)
    item_ids = pq.read_table(folder / "items.parquet", columns=["item_id"]).column(0)
    members = members_of(cluster_of(folder))
    order = np.lexsort((split, item, user))
    group, its_item, when, part = common_items(members, user[order], item[order], time[order], split[order],
                                               settings.cluster_users.share, len(item_ids))
    trained = sp.csr_array((np.ones(int((split == 0).sum()), np.float32), (user[split == 0], item[split == 0])),
                           shape=(members.shape[1], len(item_ids)))
    share_GN = (members @ trained).toarray() / np.diff(members.indptr)[:, None]
    names = pa.array([f"cluster{n}" for n in range(members.shape[0])])
    of_member = np.repeat(np.arange(members.shape[0]), np.diff(members.indptr))
    found = {"members": pa.table({"group_id": names.take(pa.array(of_member)),
                                  "user_id": user_ids.take(pa.array(members.indices.astype(np.int64)))}),
             "rows": pa.table({"split": pa.array([SPLITS[n] for n in part], pa.string()),
                               "group_id": names.take(pa.array(group)), "item_id": item_ids.take(pa.array(its_item)),
                               "value": pa.array(share_GN[group, its_item].astype(np.float64)),
                               "timestamp": pa.array(when, pa.int64())})}
    tables = {}
    for name, table in found.items():
        pq.write_table(table, scratch / f"clustered_{name}.parquet")
        tables[name] = read_staged(connection, scratch / f"clustered_{name}.parquet")
    return Groups(tables["members"], tables["rows"])


def members_of(cluster_U: np.ndarray) -> sp.csr_array:
    """Return who is in which cluster, CSR (num_clusters, U) of 1s; clusters that nobody is in are left out."""
    inside = np.flatnonzero(cluster_U >= 0)
    clusters, place = np.unique(cluster_U[inside], return_inverse=True)
    members = sp.csr_array((np.ones(len(inside), np.float32), (place, inside)), shape=(len(clusters), len(cluster_U)))
    members.sort_indices()
    return members
