"""Candidates of an evaluation: the whole catalogue, its cold items, one list for all, or a few items per user.

Candidates per user always contain the held-out items. A file may have several lists for a user, one for each held-out
item, as papers publish them; then every list is a query of its own. Metrics on a few sampled candidates differ from
those on the catalogue and can order recommenders differently (Krichene and Rendle 2020), so they must be labelled.

Shapes: Q queries, L lists of candidates, N items of a recommender, U users and M items of the prepared data.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.histories import filter_entries, pair_keys
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.data.queries import Candidates
from llmrec_cli.errors import DataError
from llmrec_cli.scoring.heldout import Audience, HeldOut

_SAMPLE_CELLS = 2**22
"""Most random numbers held at a time."""


@dataclass(frozen=True)
class CandidateLists:
    """Lists of candidates of users or groups, in the integers of the prepared data.

    Attributes
    ----------
    owner_L : int64 (L,), the user or group of each list
    target_L : int64 (L,), the held-out item that a list is about, -1 for everything that its owner has held out
    items_LM : CSR (L, M), the candidates beside what was held out
    number_L : int64 (L,), place of each list in the file, from 1
    by_row : whether every list is measured by itself, so that an owner can have several
    """

    owner_L: np.ndarray
    target_L: np.ndarray
    items_LM: sp.csr_array
    number_L: np.ndarray
    by_row: bool = False


@dataclass(frozen=True)
class Protocol:
    """Candidates in the integers of the prepared data, the same for all recommenders.

    Attributes
    ----------
    label : for metrics.json: all, cold, `given: ...` or `sampled: ...`
    allowed_M : bool (M,), None for all
    lists : what each user or group is asked about; None for the same for all
    counts : for metrics.json, what a file of candidates has, and what of it is not ranked as given
    """

    label: str = "all"
    allowed_M: np.ndarray | None = None
    lists: CandidateLists | None = None
    counts: dict[str, int | str] = field(default_factory=dict)

    @property
    def sampled(self) -> bool:
        """True if only a few candidates per user are ranked."""
        return self.lists is not None

    def apply(self, task: HeldOut, user_Q: np.ndarray, item_of_M: np.ndarray, what: str) -> HeldOut:
        """Return the task with these candidates, without queries that have nothing left to find.

        `user_Q` are the queries' users or groups in the prepared data, `item_of_M` its items in the recommender's
        integers.
        """
        if self.allowed_M is not None:
            candidates_N = np.zeros(len(task.candidates_N), bool)
            candidates_N[item_of_M[self.allowed_M]] = True
            task = replace(task, relevant_QN=filter_entries(task.relevant_QN, candidates_N[task.relevant_QN.indices]),
                           candidates_N=candidates_N)
        num_asked = len(task.queries)
        if self.lists is None:
            query_L = np.flatnonzero(np.diff(task.relevant_QN.indptr))
            found = replace(task, relevant_QN=task.relevant_QN[query_L])
        else:
            query_L, found = _by_list(self.lists, task, user_Q, item_of_M)
        if len(query_L) == 0:
            raise DataError(f"{what}: none of the {num_asked:,} queries that could be measured has a held-out item "
                            f"among the candidates, or candidates at all; choose other candidates")
        queries = task.queries.rows(query_L)
        if found.owner_Q is not None:
            queries = replace(queries, ids=found.queries.ids)
        return replace(found, queries=queries, lengths_Q=task.lengths_Q[query_L],
                       num_skipped=task.num_skipped + num_asked - len(np.unique(query_L)))


def _by_list(lists: CandidateLists, task: HeldOut, user_Q: np.ndarray,
             item_of_M: np.ndarray) -> tuple[np.ndarray, HeldOut]:
    """Return the query of each list that has something to find, int64, and the task with the lists' own columns.

    Lists come in the order of the queries, those of one in the order of the file. Where every list is measured by
    itself `queries.ids` and `owner_Q` of the task are those of the lists.
    """
    place_U = np.full(max(lists.owner_L.max(initial=-1), user_Q.max(initial=-1)) + 1, -1, np.int64)
    place_U[user_Q] = np.arange(len(user_Q))
    query_L = place_U[lists.owner_L]
    chosen = np.argsort(query_L, kind="stable")
    chosen = chosen[query_L[chosen] >= 0]
    relevant = task.relevant_QN[query_L[chosen]]
    # A list is about one held-out item of its owner, or about all.
    target = np.append(item_of_M, -1)[lists.target_L[chosen]]
    wanted = np.repeat(target, np.diff(relevant.indptr))
    relevant = filter_entries(relevant, (wanted < 0) | (wanted == relevant.indices))
    full = np.flatnonzero((np.diff(relevant.indptr) > 0) & (np.diff(lists.items_LM.indptr)[chosen] > 0))
    chosen, relevant = chosen[full], relevant[full]
    own = lists.items_LM[chosen]
    own = sp.csr_array((np.ones(own.nnz, np.float32), item_of_M[own.indices], own.indptr), relevant.shape)
    candidates = sp.csr_array(own + relevant)
    candidates.data[:] = 1
    found = replace(task, relevant_QN=relevant, candidates_QN=candidates)
    if lists.by_row:
        owners = task.queries.ids[query_L[chosen]]
        ids = np.array([*(f"{owner} [{n}]" for owner, n in zip(owners, lists.number_L[chosen], strict=True)), None],
                       object)[:-1]
        found = replace(found, owner_Q=owners, queries=replace(task.queries, ids=ids))
    return query_L[chosen], found


def cold_items(data: PreparedData, split: str) -> Protocol:
    """Return the protocol that ranks the items that nobody chose before the split that is measured.

    For test that leaves out the validation split's items: a model refitted on train + validation knows them.
    """
    cold_M = data.part(*(("train",) if split == "valid" else ("train", "valid"))).item_counts == 0
    if not cold_M.any():
        raise DataError(f"candidates=cold: {data.path}: every item has interactions before split={split}; prepare with "
                        f"split=cold_items, or leave candidates out")
    return Protocol("cold", allowed_M=cold_M)


def given_candidates(data: PreparedData, whom: Audience, found: Candidates, named: str) -> Protocol:
    """Return the protocol that ranks the candidates of a file: the same for all, or each user's or group's own.

    What is repeated in a list, equal to the list's held-out item, or unknown, is left out and counted.
    """
    file, item = Path(named).name, data.items.find(found.items)
    num_unknown = int((item < 0).sum())
    if num_unknown == len(item):
        raise DataError(f"candidates={named}: none of the {len(item):,} item_ids is in {data.path}, the first "
                        f"'{found.items[0]}'; name items of the data")
    row = np.repeat(np.arange(len(found.ids)), np.diff(found.offsets))[item >= 0]
    item = item[item >= 0]
    counts: dict[str, int | str] = {"file": file, "candidates": len(found.items), "unknown_items": num_unknown}
    if not found.column:
        allowed_M = np.zeros(len(data.items), bool)
        allowed_M[item] = True
        counts |= {"repeated": len(item) - int(allowed_M.sum()),
                   "held_out_not_candidates": int((~allowed_M[whom.held.item]).sum())}
        return Protocol(f"given: {int(allowed_M.sum()):,} items ({file})", allowed_M, counts=counts)
    return _own_candidates(data, whom, found, named, row, item, counts)


def _own_candidates(data: PreparedData, whom: Audience, found: Candidates, named: str, row: np.ndarray,
                    item: np.ndarray, counts: dict[str, int | str]) -> Protocol:
    """Return the protocol of lists of candidates per user or group; `row`, `item` are the known candidates."""
    owner_L, num_items = whom.entities.find(found.ids), len(data.items)
    if (owner_L < 0).all():
        other = "users" if whom.kind == "group" else "groups"
        raise DataError(f"candidates={named}: none of the {len(owner_L):,} {found.column}s is a {whom.kind} of "
                        f"{data.path}, the first '{found.ids[0]}'; name {whom.kind}s of the data, or set "
                        f"audience={other} if they are {other}")
    named_L = found.targets != ""
    target_L = np.where(named_L, data.items.find(found.targets), -1)
    held = np.unique(whom.held.user * num_items + whom.held.item)
    is_held_L = (owner_L >= 0) & (target_L >= 0) & np.isin(owner_L * num_items + target_L, held)
    usable_L = is_held_L | ((owner_L >= 0) & ~named_L)
    if not usable_L.any():
        raise DataError(f"candidates={named}: none of the {len(owner_L):,} rows is about an interaction of the split "
                        f"that is measured, the first has {whom.kind} '{found.ids[0]}' and item "
                        f"'{found.targets[0]}'; name the split that the file belongs to with split=")
    keys = np.unique(row * num_items + item)
    row, repeated = keys // num_items, len(item) - len(keys)
    is_target = keys % num_items == target_L[row]
    lists_LM = sp.csr_array((np.ones(len(keys), np.float32)[~is_target],
                             (row[~is_target], (keys % num_items)[~is_target])), shape=(len(owner_L), num_items))
    lengths = np.diff(found.offsets)
    least, most = int(lengths.min()), int(lengths.max())
    counts |= {"lists": len(owner_L), "least_per_list": least, "most_per_list": most, "repeated": repeated,
               f"lists_of_unknown_{whom.kind}s": int((owner_L < 0).sum()),
               "lists_without_candidates": int((np.diff(lists_LM.indptr) == 0).sum())}
    owner_P = held // num_items
    if found.by_row:
        about = (owner_L * num_items + target_L)[is_held_L]
        without = ~np.isin(held, about) & ~np.isin(owner_P, owner_L[usable_L & ~named_L])
        counts |= {"equal_to_target": int(is_target.sum()), "lists_repeated": len(about) - len(np.unique(about)),
                   "lists_not_held_out": int((named_L & ~is_held_L & (owner_L >= 0)).sum()),
                   "held_out_without_list": int(without.sum())}
    else:
        added = ~np.isin(held, owner_L[row] * num_items + keys % num_items) & np.isin(owner_P, owner_L)
        counts |= {"held_out_added": int(added.sum()),
                   f"{whom.kind}s_without_list": len(np.setdiff1d(whom.held.user, owner_L))}
    per = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    label = (f"sampled: {per} given per row ({counts['file']}), and the row's held-out item" if found.by_row else
             f"sampled: {per} given per {whom.kind} ({counts['file']}), and what was held out")
    used = np.flatnonzero(usable_L)
    return Protocol(label, lists=CandidateLists(owner_L[used], target_L[used], lists_LM[used], used + 1, found.by_row),
                    counts=counts)


def sampled_candidates(whom: Audience, number: int, seed: int) -> Protocol:
    """Return the protocol that ranks `number` items, drawn at random from those a user, or group, has not had."""
    generator = np.random.default_rng(seed)
    asked, known = np.unique(whom.held.user), whom.interactions.matrix
    num_items = known.shape[1]
    rows, step = [], max(1, _SAMPLE_CELLS // num_items)
    for start in range(0, len(asked), step):
        users = asked[start:start + step]
        keys = generator.random((len(users), num_items), np.float32)
        mine = known[users]
        keys[np.repeat(np.arange(len(users)), np.diff(mine.indptr)), mine.indices] = 2.0
        drawn = np.argpartition(keys, min(number, num_items) - 1, axis=1)[:, :number]
        left, place = np.nonzero(np.take_along_axis(keys, drawn, axis=1) < 1)
        rows.append(np.stack([left + start, drawn[left, place]]))
    row, item = np.concatenate(rows, axis=1)
    drawn_LM = sp.csr_array((np.ones(len(row), np.float32), (row, item)), shape=(len(asked), num_items))
    short = int((np.diff(drawn_LM.indptr) < number).sum())
    return Protocol(f"sampled: {number} at random per {whom.kind}, and what was held out",
                    lists=CandidateLists(asked, np.full(len(asked), -1), drawn_LM, np.arange(1, len(asked) + 1)),
                    counts={"drawn": number, f"{whom.kind}s_with_fewer": short})


def is_file(candidates: str) -> bool:
    """Return True if the setting `candidates` names a file."""
    return candidates not in ("all", "cold") and not candidates.startswith("sampled:")


def num_seen(task: HeldOut) -> tuple[int, int]:
    """Return how many candidates, and how many held-out items, their queries are known to have interacted with."""
    seen = pair_keys(task.queries.seen)
    held_out = pair_keys(task.relevant_QN)
    if task.candidates_QN is None:
        candidates = seen[task.candidates_N[task.queries.seen.indices]]
    else:
        candidates = np.intersect1d(pair_keys(task.candidates_QN), seen)
    return int((~np.isin(candidates, held_out)).sum()), int(np.isin(held_out, seen).sum())
