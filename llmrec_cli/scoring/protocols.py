"""What is ranked: the whole catalogue, its cold items, or a few candidates per user, as many papers do.

With candidates per user what was held out is always among them. Metrics of a few sampled candidates are not those of
the catalogue, and can order recommenders differently (Krichene and Rendle 2020): they must be labelled.

Shapes: Q queries, N items of a recommender, U users and M items of the prepared data.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.errors import DataError
from llmrec_cli.scoring.audience import Audience
from llmrec_cli.scoring.heldout import HeldOut

SAMPLE_CELLS = 2**22
"""Most random numbers held at a time."""


@dataclass(frozen=True)
class Protocol:
    """What may be on a list, in the integers of the prepared data, the same for all recommenders.

    Attributes
    ----------
    label : for metrics.json: all, cold or `sampled: ...`
    allowed_M : bool (M,), None for all
    candidates_UM : CSR (U, M), what each user or group is asked about beside what was held out; None for the same for
        all
    """

    label: str = "all"
    allowed_M: np.ndarray | None = None
    candidates_UM: sp.csr_array | None = None

    @property
    def sampled(self) -> bool:
        """Whether only a few candidates per user are ranked."""
        return self.candidates_UM is not None

    def apply(self, task: HeldOut, user_Q: np.ndarray, item_of_M: np.ndarray, what: str) -> HeldOut:
        """Return the task with these candidates, without queries that have nothing left to find.

        `user_Q` are the queries' users or groups in the prepared data, `item_of_M` its items in the recommender's
        integers.
        """
        relevant, candidates_N, candidates_QN = task.relevant_QN, task.candidates_N, None
        if self.allowed_M is not None:
            candidates_N = np.zeros(len(task.candidates_N), bool)
            candidates_N[item_of_M[self.allowed_M]] = True
            relevant = kept_entries(relevant, candidates_N[relevant.indices])
        kept = np.diff(relevant.indptr) > 0
        if self.candidates_UM is not None:
            own = self.candidates_UM[user_Q]
            kept &= np.diff(own.indptr) > 0
            own = sp.csr_array((np.ones(own.nnz, np.float32), item_of_M[own.indices], own.indptr), relevant.shape)
            candidates_QN = sp.csr_array(own + relevant)
        chosen = np.flatnonzero(kept)
        if len(chosen) == 0:
            raise DataError(f"{what}: none of the {len(task.queries):,} queries that could be measured has a held-out "
                            f"item among the candidates, or candidates at all; choose other candidates")
        return replace(task, queries=task.queries.rows(chosen), relevant_QN=relevant[chosen],
                       lengths_Q=task.lengths_Q[chosen], candidates_N=candidates_N,
                       candidates_QN=None if candidates_QN is None else candidates_QN[chosen],
                       num_skipped=task.num_skipped + len(task.queries) - len(chosen))


def cold_items(data: PreparedData, split: str) -> Protocol:
    """Return the protocol that ranks the items that nobody chose before the split that is measured.

    For test that leaves out the validation split's items: a model refitted on train + validation knows them.
    """
    cold_M = data.part(*(("train",) if split == "valid" else ("train", "valid"))).item_counts == 0
    if not cold_M.any():
        raise DataError(f"candidates=cold: {data.path}: every item has interactions before split={split}; prepare with "
                        f"split=cold_items, or leave candidates out")
    return Protocol("cold", allowed_M=cold_M)


def given_candidates(data: PreparedData, whom: Audience, ids: np.ndarray, item_ids: np.ndarray,
                     named: str) -> Protocol:
    """Return the protocol that ranks for each user, or group, the items that pairs of ids name."""
    user, item = whom.entities.find(ids), data.items.find(item_ids)
    for places, asked, kind in ((user, ids, whom.kind), (item, item_ids, "item")):
        if (places < 0).any():
            unknown = asked[places < 0]
            raise DataError(f"candidates={named}: {len(unknown):,} of {len(asked):,} {kind}_ids are not in "
                            f"{data.path}, the first '{unknown[0]}'; leave them out")
    pairs = sp.csr_array((np.ones(len(user), np.float32), (user, item)), shape=(len(whom.entities), len(data.items)))
    num_asked = int((np.diff(pairs.indptr) > 0).sum())
    return Protocol(f"sampled: {pairs.nnz / max(1, num_asked):.0f} given per {whom.kind}, and what was held out",
                    candidates_UM=pairs)


def sampled_candidates(whom: Audience, number: int, seed: int) -> Protocol:
    """Return the protocol that ranks `number` items, drawn at random from those a user, or group, has not had."""
    generator = np.random.default_rng(seed)
    asked, known = np.unique(whom.held.user), whom.interactions.matrix
    num_items = known.shape[1]
    rows, step = [], max(1, SAMPLE_CELLS // num_items)
    for start in range(0, len(asked), step):
        users = asked[start:start + step]
        keys = generator.random((len(users), num_items), np.float32)
        mine = known[users]
        keys[np.repeat(np.arange(len(users)), np.diff(mine.indptr)), mine.indices] = 2.0
        drawn = np.argpartition(keys, min(number, num_items) - 1, axis=1)[:, :number]
        left, place = np.nonzero(np.take_along_axis(keys, drawn, axis=1) < 1)
        rows.append(np.stack([users[left], drawn[left, place]]))
    user, item = np.concatenate(rows, axis=1)
    pairs = sp.csr_array((np.ones(len(user), np.float32), (user, item)), shape=known.shape)
    return Protocol(f"sampled: {number} at random per {whom.kind}, and what was held out", candidates_UM=pairs)


def kept_entries(matrix: sp.csr_array, which: np.ndarray) -> sp.csr_array:
    """Return the matrix with the chosen entries alone."""
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))[which]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=matrix.shape[0]))])
    return sp.csr_array((matrix.data[which], matrix.indices[which], indptr), shape=matrix.shape)
