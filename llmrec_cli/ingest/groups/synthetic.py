"""Synthetic groups for data without groups: random users, similar users, or clusters of users.

These groups were not observed; the manifest, the audit and a note of `prepare` say so. Metrics on them show that a
group recommender works, not how well it serves real groups. Random groups and groups of similar users were used to
compare group recommenders before group data existed (Baltrunas et al. 2010).

A group interacts with an item when the share `dataset.group_share` of its members, and at least two of them, do. If
training interactions of members are enough, it is a training interaction of the group; if validation interactions are
needed as well, a validation interaction; else a test interaction. So training interactions of groups depend on
training only, and no pair is in two splits.

Clusters follow the same rule with the share `dataset.cluster_users.share`. The value of a cluster's interaction is the
share of its members that have the item in training.

Shapes: U users, N items, B groups at a time.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from ibis.backends import BaseBackend

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import collect, read_staged
from llmrec_cli.ingest.groups.groups import Groups
from llmrec_cli.ingest.interactions.id_codes import CodedRows
from llmrec_cli.ingest.readers.sources import Sources
from llmrec_cli.settings.dataset import DatasetSettings

_CELLS = 1 << 24
"""Approximate number of similarities in memory at a time."""


def refuse_synthetic_conflicts(sources: Sources, settings: DatasetSettings, group_split: str, mode: str) -> None:
    """Raise ConfigError for settings and files that contradict groups made of users."""
    if sources.members and settings.synthetic_group_rule:
        key = "cluster_users=true" if settings.cluster_users.on else f"synthetic_groups={settings.synthetic_groups}"
        raise ConfigError(f"dataset.{key}: the data set has groups of its own ({sources.members[0].path}); remove the "
                          f"setting")
    if problems := list(settings.problems_of_made_groups(group_split, mode)):
        raise ConfigError(problems)


def synthetic_groups(connection: BaseBackend, coded: CodedRows, settings: DatasetSettings, scratch: Path) -> Groups:
    """Return synthetic groups of the users of `coded` (with `split` set), with their common interactions."""
    columns = collect(coded.rows.select("user", "item", "timestamp", "split").order_by("user", "item", "split"))
    user, item, time, split = (columns[name].to_numpy() for name in ("user", "item", "timestamp", "split"))
    user_ids, item_ids = (collect(ids.order_by(kind).select(f"{kind}_id")).column(0) for kind, ids in
                          (("user", coded.users), ("item", coded.items)))
    shape = len(user_ids), len(item_ids)
    trained = sp.csr_array((np.ones(int((split == 0).sum()), np.float32), (user[split == 0], item[split == 0])), shape)
    trained.data[:] = 1
    members = sample_members(trained, settings)
    common = common_items(members, user, item, time, split, settings.group_share, shape[1])
    return _build_groups(connection, scratch / "synthetic", "group", members, (user_ids, item_ids), common,
                 np.ones(len(common[0])))


def sample_members(trained: sp.csr_array, settings: DatasetSettings) -> sp.csr_array:
    """Sample the members of the groups, CSR (num_groups, U) of 1s; `trained` is CSR (U, N) of 1s.

    Only users with training interactions are sampled. `random`: uniformly, without replacement. `similar`: one user,
    and the users whose training histories have the highest cosine similarity with that user's, ties in random order.
    """
    generator = np.random.default_rng(settings.group_seed)
    candidates = np.flatnonzero(np.diff(trained.indptr))
    least, most = settings.group_size
    if len(candidates) < most:
        raise DataError(f"dataset.group_size=[{least},{most}]: only {len(candidates):,} users have training "
                        f"interactions; set smaller groups")
    sizes = generator.integers(least, most + 1, settings.num_groups)
    if settings.synthetic_groups == "random":
        sampled = [candidates[generator.choice(len(candidates), n, replace=False)] for n in sizes]
    else:
        candidates = generator.permutation(candidates)
        places = np.resize(generator.permutation(len(candidates)), settings.num_groups)
        sampled = [candidates[near] for near in _nearest(trained[candidates], places, sizes)]
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    members = sp.csr_array((np.ones(indptr[-1], np.float32), np.concatenate(sampled), indptr),
                           (settings.num_groups, trained.shape[0]))
    members.sort_indices()
    return members


def _nearest(histories: sp.csr_array, leaders: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """Return for each leader, a row of `histories`, the leader and its most similar rows, as many as its size."""
    lengths = np.sqrt(np.diff(histories.indptr)).astype(np.float32)
    scaled_UN = sp.csr_array(sp.diags_array(1 / lengths) @ histories)
    nearest = []
    step = max(1, _CELLS // histories.shape[0])
    for first in range(0, len(leaders), step):
        some = leaders[first:first + step]
        cosine_BU = (scaled_UN[some] @ scaled_UN.T).toarray()
        cosine_BU[np.arange(len(some)), some] = 2.0  # The leader comes first, even if histories are equal.
        order = np.argsort(-cosine_BU, axis=1, kind="stable")
        nearest += [row[:size] for row, size in zip(order, sizes[first:first + step], strict=True)]
    return nearest


def common_items(members: sp.csr_array, user: np.ndarray, item: np.ndarray, time: np.ndarray, split: np.ndarray,
                 share: float, num_items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return group, item, timestamp and split of the interactions of groups (each num_pairs,), by the rule above.

    `user`, `item`, `time` and `split` (each num_interactions,) are the users' interactions; of a user-item pair in
    several splits the earliest counts. The timestamp is the newest of the members' interactions that count.
    """
    sizes = np.diff(members.indptr)
    # Repeat every interaction for each group of its user.
    groups_of = sp.csr_array(members.T)
    times = np.diff(groups_of.indptr)[user]
    row = np.repeat(np.arange(len(user)), times)
    place = np.arange(len(row)) - np.repeat(np.cumsum(times) - times, times)
    pair = groups_of.indices[groups_of.indptr[user[row]] + place].astype(np.int64) * num_items + item[row]
    order = np.lexsort((split[row], user[row], pair))
    pair, row = pair[order], row[order]
    first = np.ones(len(pair), bool)
    first[1:] = (pair[1:] != pair[:-1]) | (user[row[1:]] != user[row[:-1]])
    pair, row = pair[first], row[first]
    # Order the members of each pair by split: the member that reaches the needed number decides the group's split.
    order = np.lexsort((split[row], pair))
    pair, row = pair[order], row[order]
    starts = np.flatnonzero(np.r_[True, pair[1:] != pair[:-1]]) if len(pair) else np.zeros(0, np.int64)
    needed = np.maximum(2, np.ceil(share * sizes[pair[starts] // num_items] - 1e-9)).astype(np.int64)
    counts = np.diff(np.append(starts, len(pair)))
    enough = counts >= needed
    part = split[row[starts[enough] + needed[enough] - 1]]
    is_kept = np.repeat(enough, counts)
    pair, row, counts = pair[is_kept], row[is_kept], counts[enough]
    starts = np.cumsum(counts) - counts
    counted = split[row] <= np.repeat(part, counts)
    when = np.maximum.reduceat(np.where(counted, time[row], np.iinfo(np.int64).min), starts) if len(starts) else starts
    return pair[starts] // num_items, pair[starts] % num_items, when, part


def clustered_groups(connection: BaseBackend, folder: Path, cluster_U: np.ndarray, share: float,
                     scratch: Path) -> Groups:
    """Return clusters of users as groups, with their common interactions.

    `cluster_U` is the cluster of each user, int64 (U,), -1 for none. `folder` has users, items and interactions;
    `share` is dataset.cluster_users.share.
    """
    rows = pq.read_table(folder / "interactions.parquet", columns=["user", "item", "timestamp", "split"])
    user, item, time = (rows[name].to_numpy() for name in ("user", "item", "timestamp"))
    split = np.array([SPLITS.index(name) for name in rows["split"].to_pylist()], np.int64)
    user_ids = pq.read_table(folder / "users.parquet", columns=["user_id"]).column(0)
    item_ids = pq.read_table(folder / "items.parquet", columns=["item_id"]).column(0)
    members = members_of(cluster_U)
    order = np.lexsort((split, item, user))
    common = common_items(members, user[order], item[order], time[order], split[order], share, len(item_ids))
    trained = sp.csr_array((np.ones(int((split == 0).sum()), np.float32), (user[split == 0], item[split == 0])),
                           shape=(members.shape[1], len(item_ids)))
    share_GN = (members @ trained).toarray() / np.diff(members.indptr)[:, None]
    group, its_item, _, _ = common
    return _build_groups(connection, scratch / "clustered", "cluster", members, (user_ids, item_ids), common,
                 share_GN[group, its_item].astype(np.float64))


def members_of(cluster_U: np.ndarray) -> sp.csr_array:
    """Return the members of each cluster, CSR (num_clusters, U) of 1s; empty clusters are left out."""
    inside = np.flatnonzero(cluster_U >= 0)
    clusters, place = np.unique(cluster_U[inside], return_inverse=True)
    members = sp.csr_array((np.ones(len(inside), np.float32), (place, inside)), shape=(len(clusters), len(cluster_U)))
    members.sort_indices()
    return members


def _build_groups(connection: BaseBackend, path: Path, name: str, members: sp.csr_array,
          ids: tuple[pa.ChunkedArray, pa.ChunkedArray],
          common: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], value: np.ndarray) -> Groups:
    """Return groups with the ids <name>0, <name>1, ..., written to two temporary files whose names start with `path`.

    `ids` are the user and item ids, `common` the result of `common_items`, `value` (num_pairs,) its values.
    """
    user_ids, item_ids = ids
    group, item, when, split = common
    names = pa.array([f"{name}{n}" for n in range(members.shape[0])])
    of_member = np.repeat(np.arange(members.shape[0]), np.diff(members.indptr))
    parts = {"members": pa.table({"group_id": names.take(pa.array(of_member)),
                                  "user_id": user_ids.take(pa.array(members.indices.astype(np.int64)))}),
             "rows": pa.table({"split": pa.array([SPLITS[n] for n in split], pa.string()),
                               "group_id": names.take(pa.array(group)), "item_id": item_ids.take(pa.array(item)),
                               "value": pa.array(value), "timestamp": pa.array(when, pa.int64())})}
    tables = {}
    for part, table in parts.items():
        file = path.with_name(f"{path.name}_{part}.parquet")
        pq.write_table(table, file)
        tables[part] = read_staged(connection, file)
    return Groups(tables["members"], tables["rows"])
