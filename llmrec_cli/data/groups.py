"""Groups of users: their members, texts and interactions.

Shapes: G groups, U users, N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.interactions import Interactions, last_of_each
from llmrec_cli.data.tables import LARGEST, Column, read_columns, to_numpy
from llmrec_cli.errors import ArtifactError
from llmrec_cli.pinned import PinnedFolder


@dataclass(frozen=True)
class Groups:
    """Groups as columns; row n is the group with integer id n.

    Attributes
    ----------
    entities : ids, titles, texts and attributes of the G groups
    members : CSR (G, U) of 1s
    interactions : interactions of groups; `user` is the integer id of the group, num_users is G
    split : int8 (num_interactions,), the split of each interaction as its place in `prepared.SPLITS`
    synthetic : the rule that made the groups, "" for observed groups
    """

    entities: Catalogue
    members: sp.csr_array
    interactions: Interactions
    split: np.ndarray
    synthetic: str = ""

    def __len__(self) -> int:
        return len(self.entities)

    def rows(self, mask: np.ndarray) -> "Groups":
        """Return the same groups with the interactions of a mask (num_interactions,)."""
        return replace(self, interactions=self.interactions.rows(mask), split=self.split[mask])

    def without_repeats(self) -> "Groups":
        """Return the same groups with only the newest interaction of each group and item."""
        pairs = self.interactions
        last = last_of_each(pairs.user * pairs.num_items + pairs.item)
        return self if last is None else self.rows(last)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of members of each group, int64 (G,)."""
        return np.diff(self.members.indptr).astype(np.int64)


@dataclass(frozen=True)
class KnownGroups:
    """The groups stored in a recommender.

    Attributes
    ----------
    members : CSR (G, U) of 1s
    history : CSR (G, N) of values, the interactions that the recommender was fitted on, oldest first
    seen : CSR (G, N) of 1s, the history and all other interactions before the test, excluded from lists
    synthetic : the rule that made the groups, "" for observed groups
    times : CSR int64 with the entries of `history`, as in `Queries`; None without times
    """

    entities: Catalogue
    members: sp.csr_array
    history: sp.csr_array
    seen: sp.csr_array
    synthetic: str = ""
    times: sp.csr_array | None = None


def read_members(files: PinnedFolder, name: str, num_users: int,
                 known: np.ndarray | None = None) -> tuple[list[str], sp.csr_array]:
    """Return the ids and the members, CSR (G, U), of the groups in a file with columns group, group_id and user.

    `known` are the ids of all groups, if known already; groups without a row in the file then have no members.
    Otherwise the groups are those in the file.
    """
    limit = LARGEST if known is None else len(known) - 1
    table = read_columns(files, name, {"group": Column("integer", 0, limit), "group_id": Column("text"),
                                       "user": Column("integer", 0, num_users - 1)})
    file, remedy = files.path / name, files.remedy
    group, user = to_numpy(table["group"]), to_numpy(table["user"])
    num_groups = int(group.max(initial=-1)) + 1 if known is None else len(known)
    if known is None and len(np.unique(group)) != num_groups:
        raise ArtifactError(f"{file}: column 'group' skips numbers below {num_groups}; {remedy}")
    ids = np.full(num_groups, "", object) if known is None else known.copy()
    names = np.array([*table["group_id"].to_pylist(), None], object)[:-1]
    ids[group] = names
    if (ids[group] != names).any() or (known is not None and (ids != known).any()) or len(set(ids)) < num_groups:
        raise ArtifactError(f"{file}: column 'group_id' does not give each group one id of its own; {remedy}")
    order = np.lexsort((user, group))
    group, user = group[order], user[order]
    if ((group[1:] == group[:-1]) & (user[1:] == user[:-1])).any():
        raise ArtifactError(f"{file}: names a member of a group twice; {remedy}")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=num_groups))])
    return list(ids), sp.csr_array((np.ones(len(user), np.float32), user, indptr), shape=(num_groups, num_users))


def without_texts(ids: Sequence[str]) -> Catalogue:
    """Return groups with ids only, without titles, texts and attributes."""
    names = np.array([*ids, None], object)[:-1]
    nothing = sp.csr_array((np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(len(names) + 1, np.int64)),
                           shape=(len(names), 0))
    return Catalogue(names, names, np.full(len(names), "", object), nothing, [])


def write_members(file: Path, groups: Groups) -> None:
    """Write the members in the format of `read_members`."""
    group = np.repeat(np.arange(len(groups)), groups.sizes)
    pq.write_table(pa.table({"group": pa.array(group, pa.int64()),
                             "group_id": pa.array(list(groups.entities.ids[group]), pa.string()),
                             "user": pa.array(groups.members.indices.astype(np.int64), pa.int64())}), file)
