"""Groups made of users for data that has none: at random, similar users, or clusters.

Nobody observed them: the manifest, the audit and a note of prepare say so, and what is measured on them says how a
recommender works, not how good it is for people who go out together. Random groups and groups of similar users are how
group recommenders were compared before there was data of groups (Baltrunas et al. 2010).

A group has an item as soon as the share `dataset.group_share` of its members, and at least two of them, have it: where
training is enough it is a training interaction of the group; where validation makes it enough, one of validation; where
the test does, one of the test. So what a group has in training is made of training alone, and no pair is in two splits.

Shapes: U users, N items, B groups at a time.

What a cluster has together follows the rule of `synthetic`, with the share `dataset.cluster_users.share`; the value of
such an interaction is the share of the members that have the item in training: the cluster's behaviour.
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
from llmrec_cli.ingest.interactions.id_codes import Coded
from llmrec_cli.ingest.readers.sources import Sources
from llmrec_cli.settings.dataset import DatasetSettings
from llmrec_cli.settings.split import SplitSettings

_CELLS = 1 << 24
"""Similarities that are held at a time, about."""


def refuse_beside(sources: Sources, settings: DatasetSettings, split: SplitSettings, mode: str) -> None:
    """Raise ConfigError for what cannot be together with groups that are made of users."""
    refuse_clusters_beside(sources, settings, split.group, mode)
    kind = settings.synthetic_groups
    if not kind:
        return
    if sources.members:
        raise ConfigError(f"dataset.synthetic_groups={kind}: the data set has groups of its own "
                          f"({sources.members[0].path}); leave the setting out")
    if mode == "append":
        raise ConfigError(f"mode=append: dataset.synthetic_groups={kind} are made of all users and what they did, so "
                          f"they would be others each time; prepare all of it with mode=new")
    if split.group:
        raise ConfigError(f"split.group={split.group}: has no effect on synthetic groups, which are divided as their "
                          f"members' interactions are; leave it out")


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


def synthetic_groups(connection: BaseBackend, coded: Coded, settings: DatasetSettings, scratch: Path) -> Groups:
    """Return groups of users of `coded`, whose `split` is set, with what they have together."""
    columns = collect(coded.rows.select("user", "item", "timestamp", "split").order_by("user", "item", "split"))
    user, item, time, split = (columns[name].to_numpy() for name in ("user", "item", "timestamp", "split"))
    user_ids, item_ids = (collect(ids.order_by(kind).select(f"{kind}_id")).column(0) for kind, ids in
                          (("user", coded.users), ("item", coded.items)))
    shape = len(user_ids), len(item_ids)
    trained = sp.csr_array((np.ones(int((split == 0).sum()), np.float32), (user[split == 0], item[split == 0])), shape)
    trained.data[:] = 1
    members = draw_members(trained, settings)
    common = common_items(members, user, item, time, split, settings.group_share, shape[1])
    return _made(connection, scratch / "synthetic", "group", members, (user_ids, item_ids), common,
                 np.ones(len(common[0])))


def draw_members(trained: sp.csr_array, settings: DatasetSettings) -> sp.csr_array:
    """Return who is in which group, CSR (num_groups, U) of 1s; `trained` is CSR (U, N) of 1s.

    Only users with training interactions are drawn. Random: each group as many as its size, all as likely. Similar: one
    user, drawn like that, and those whose training histories have the highest cosine with theirs; of equal ones those
    that a shuffle has first.
    """
    generator = np.random.default_rng(settings.group_seed)
    known = np.flatnonzero(np.diff(trained.indptr))
    least, most = settings.group_size
    if len(known) < most:
        raise DataError(f"dataset.group_size=[{least},{most}]: only {len(known):,} users have training interactions; "
                        f"make the groups smaller")
    sizes = generator.integers(least, most + 1, settings.num_groups)
    if settings.synthetic_groups == "random":
        drawn = [known[generator.choice(len(known), n, replace=False)] for n in sizes]
    else:
        known = generator.permutation(known)
        places = np.resize(generator.permutation(len(known)), settings.num_groups)
        drawn = [known[near] for near in _nearest(trained[known], places, sizes)]
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    members = sp.csr_array((np.ones(indptr[-1], np.float32), np.concatenate(drawn), indptr),
                           (settings.num_groups, trained.shape[0]))
    members.sort_indices()
    return members


def _nearest(histories: sp.csr_array, leaders: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """Return for each leader, a row of `histories`, as many rows as the size says: itself and the most similar."""
    lengths = np.sqrt(np.diff(histories.indptr)).astype(np.float32)
    scaled_UN = sp.csr_array(sp.diags_array(1 / lengths) @ histories)
    found = []
    step = max(1, _CELLS // histories.shape[0])
    for first in range(0, len(leaders), step):
        some = leaders[first:first + step]
        cosine_BU = (scaled_UN[some] @ scaled_UN.T).toarray()
        cosine_BU[np.arange(len(some)), some] = 2.0  # Itself first, also beside one with the same history.
        order = np.argsort(-cosine_BU, axis=1, kind="stable")
        found += [row[:size] for row, size in zip(order, sizes[first:first + step], strict=True)]
    return found


def common_items(members: sp.csr_array, user: np.ndarray, item: np.ndarray, time: np.ndarray, split: np.ndarray,
                 share: float, num_items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return group, item, timestamp and split of what groups have together (each num_pairs,), by the rule above.

    `user`, `item`, `time` and `split` (each num_interactions,) are those of the users; a user who has an item in
    several splits has it from the earliest. The time is that of the newest of the interactions that are counted.
    """
    sizes = np.diff(members.indptr)
    # Every interaction once for each group of its user.
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
    # Of each pair the members in the order in which they came to it: the one who makes it enough decides.
    order = np.lexsort((split[row], pair))
    pair, row = pair[order], row[order]
    starts = np.flatnonzero(np.r_[True, pair[1:] != pair[:-1]]) if len(pair) else np.zeros(0, np.int64)
    needed = np.maximum(2, np.ceil(share * sizes[pair[starts] // num_items] - 1e-9)).astype(np.int64)
    counts = np.diff(np.append(starts, len(pair)))
    enough = counts >= needed
    part = split[row[starts[enough] + needed[enough] - 1]]
    kept = np.repeat(enough, counts)
    pair, row, counts = pair[kept], row[kept], counts[enough]
    starts = np.cumsum(counts) - counts
    counted = split[row] <= np.repeat(part, counts)
    when = np.maximum.reduceat(np.where(counted, time[row], np.iinfo(np.int64).min), starts) if len(starts) else starts
    return pair[starts] // num_items, pair[starts] % num_items, when, part


def clustered_groups(connection: BaseBackend, folder: Path, cluster_U: np.ndarray, share: float,
                     scratch: Path) -> Groups:
    """Return the clusters of the users in `folder`, int64 (U,) with -1 for none, with what they have together.

    `folder` has users, items and interactions; `share` is dataset.cluster_users.share.
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
    return _made(connection, scratch / "clustered", "cluster", members, (user_ids, item_ids), common,
                 share_GN[group, its_item].astype(np.float64))


def members_of(cluster_U: np.ndarray) -> sp.csr_array:
    """Return who is in which cluster, CSR (num_clusters, U) of 1s; clusters that nobody is in are left out."""
    inside = np.flatnonzero(cluster_U >= 0)
    clusters, place = np.unique(cluster_U[inside], return_inverse=True)
    members = sp.csr_array((np.ones(len(inside), np.float32), (place, inside)), shape=(len(clusters), len(cluster_U)))
    members.sort_indices()
    return members


def _made(connection: BaseBackend, path: Path, name: str, members: sp.csr_array,
          ids: tuple[pa.ChunkedArray, pa.ChunkedArray],
          common: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], value: np.ndarray) -> Groups:
    """Return groups called <name>0, <name>1, ... of users and items with `ids`; `path` begins the names of two files.

    `common` is what `common_items` returns, `value` (num_pairs,) the value of each such interaction.
    """
    user_ids, item_ids = ids
    group, item, when, split = common
    names = pa.array([f"{name}{n}" for n in range(members.shape[0])])
    of_member = np.repeat(np.arange(members.shape[0]), np.diff(members.indptr))
    found = {"members": pa.table({"group_id": names.take(pa.array(of_member)),
                                  "user_id": user_ids.take(pa.array(members.indices.astype(np.int64)))}),
             "rows": pa.table({"split": pa.array([SPLITS[n] for n in split], pa.string()),
                               "group_id": names.take(pa.array(group)), "item_id": item_ids.take(pa.array(item)),
                               "value": pa.array(value), "timestamp": pa.array(when, pa.int64())})}
    tables = {}
    for part, table in found.items():
        file = path.with_name(f"{path.name}_{part}.parquet")
        pq.write_table(table, file)
        tables[part] = read_staged(connection, file)
    return Groups(tables["members"], tables["rows"])
