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
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.requests.relevant_rows import QueryRows
from llmrec_cli.scoring.heldout import Audience, HeldOut

_SAMPLE_CELLS = 2**22
"""Maximum number of random numbers in memory at once."""


@dataclass(frozen=True)
class CandidateLists:
    """Lists of candidates of users or groups, in the integers of the prepared data.

    Attributes
    ----------
    owner_L : int64 (L,), the user or group of each list
    target_L : int64 (L,), the held-out item of each list, -1 for all held-out items of its owner
    items_LM : CSR (L, M), the candidates without the held-out items
    number_L : int64 (L,), position of each list in the file, from 1
    by_row : True if each list is a query of its own; an owner can then have several lists
    """

    owner_L: np.ndarray
    target_L: np.ndarray
    items_LM: sp.csr_array
    number_L: np.ndarray
    by_row: bool = False


@dataclass(frozen=True)
class Protocol:
    """Candidates in the integers of the prepared data, and the queries of a file, the same for all recommenders.

    Attributes
    ----------
    rows : the queries of the setting `queries`; None for the users or groups of the evaluated split
    label : for metrics.json: all, cold, `given: ...` or `sampled: ...`
    allowed_M : bool (M,), None for all
    lists : the candidates of each user or group; None if they are the same for all
    counts : counts of a candidate file for metrics.json, including rows that are not ranked as given
    """

    label: Phrase = Phrase("all")
    allowed_M: np.ndarray | None = None
    lists: CandidateLists | None = None
    counts: dict[str, int | str] = field(default_factory=dict)
    rows: QueryRows | None = None

    @property
    def sampled(self) -> bool:
        """True if only a few candidates per user are ranked."""
        return self.lists is not None

    def apply(self, task: HeldOut, user_Q: np.ndarray, item_of_M: np.ndarray, what: str) -> HeldOut:
        """Return the task restricted to these candidates, without queries that have no relevant item left.

        `user_Q` are the queries' users or groups in the prepared data; `item_of_M` maps its items to the recommender's
        integers.
        """
        if self.allowed_M is not None:
            candidates_N = np.zeros(len(task.candidates_N), bool)
            candidates_N[item_of_M[self.allowed_M]] = True
            task = replace(task, relevant_QN=filter_entries(task.relevant_QN, candidates_N[task.relevant_QN.indices]),
                           candidates_N=candidates_N)
        num_queries = len(task.queries)
        if self.lists is None:
            query_L = np.flatnonzero(np.diff(task.relevant_QN.indptr))
            new_task = replace(task, relevant_QN=task.relevant_QN[query_L])
        else:
            query_L, new_task = _by_list(self.lists, task, user_Q, item_of_M)
        if len(query_L) == 0:
            raise DataError(f"{what}: none of the {num_queries:,} queries has candidates with a held-out item among "
                            f"them, so nothing can be evaluated; choose other candidates")
        queries = task.queries.rows(query_L)
        if self.rows is not None:
            new_task = replace(new_task, owner_Q=self.rows.owners[query_L])
        elif new_task.owner_Q is not None:
            queries = replace(queries, ids=new_task.queries.ids)
        return replace(new_task, queries=queries, lengths_Q=task.lengths_Q[query_L],
                       num_skipped=task.num_skipped + num_queries - len(np.unique(query_L)))


def _by_list(lists: CandidateLists, task: HeldOut, user_Q: np.ndarray,
             item_of_M: np.ndarray) -> tuple[np.ndarray, HeldOut]:
    """Return the query of each list with a relevant item, int64, and the task with one query per list.

    Lists are in the order of the queries, the lists of one query in the order of the file. If each list is a query of
    its own, `queries.ids` and `owner_Q` of the task are those of the lists.
    """
    place_U = np.full(max(lists.owner_L.max(initial=-1), user_Q.max(initial=-1)) + 1, -1, np.int64)
    place_U[user_Q] = np.arange(len(user_Q))
    query_L = place_U[lists.owner_L]
    list_rows = np.argsort(query_L, kind="stable")
    list_rows = list_rows[query_L[list_rows] >= 0]
    relevant = task.relevant_QN[query_L[list_rows]]
    # A list has one held-out item of its owner, or all of them.
    target = np.append(item_of_M, -1)[lists.target_L[list_rows]]
    target_R = np.repeat(target, np.diff(relevant.indptr))
    relevant = filter_entries(relevant, (target_R < 0) | (target_R == relevant.indices))
    usable = np.flatnonzero((np.diff(relevant.indptr) > 0) & (np.diff(lists.items_LM.indptr)[list_rows] > 0))
    list_rows, relevant = list_rows[usable], relevant[usable]
    own = lists.items_LM[list_rows]
    own = sp.csr_array((np.ones(own.nnz, np.float32), item_of_M[own.indices], own.indptr), relevant.shape)
    candidates = sp.csr_array(own + relevant)
    candidates.data[:] = 1
    new_task = replace(task, relevant_QN=relevant, candidates_QN=candidates)
    if lists.by_row:
        owners = task.queries.ids[query_L[list_rows]]
        ids = np.array([*(f"{owner} [{n}]" for owner, n in zip(owners, lists.number_L[list_rows], strict=True)), None],
                       object)[:-1]
        new_task = replace(new_task, owner_Q=owners, queries=replace(task.queries, ids=ids))
    return query_L[list_rows], new_task


def cold_items(data: PreparedData, split: str) -> Protocol:
    """Return the protocol that ranks only items without interactions before the evaluated split.

    With split=test, items of the validation split are not cold: a model refitted on train and valid knows them.
    """
    cold_M = data.part(*(("train",) if split == "valid" else ("train", "valid"))).item_counts == 0
    if not cold_M.any():
        raise DataError(f"candidates=cold: {data.path}: every item has interactions before split={split}; prepare with "
                        f"split=cold_items, or leave candidates out")
    return Protocol(Phrase("cold"), allowed_M=cold_M)


def file_candidates(data: PreparedData, audience: Audience, candidates: Candidates, path: str) -> Protocol:
    """Return the protocol that ranks the candidates of a file: the same for all, or per user or group.

    Repeated candidates, unknown ones and those equal to the list's held-out item are left out and counted.
    """
    file, item = Path(path).name, data.items.find(candidates.items)
    num_unknown = int((item < 0).sum())
    if num_unknown == len(item):
        raise DataError(f"candidates={path}: none of the {len(item):,} item_ids is in {data.path}; the first is "
                        f"'{candidates.items[0]}'; use item_ids of the data")
    row = np.repeat(np.arange(len(candidates.ids)), np.diff(candidates.offsets))[item >= 0]
    item = item[item >= 0]
    counts: dict[str, int | str] = {"file": file, "candidates": len(candidates.items), "unknown_items": num_unknown}
    if not candidates.column:
        allowed_M = np.zeros(len(data.items), bool)
        allowed_M[item] = True
        counts |= {"repeated": len(item) - int(allowed_M.sum()),
                   "held_out_not_candidates": int((~allowed_M[audience.held.item]).sum())}
        return Protocol(Phrase("given: {num:,} items ({file})", num=int(allowed_M.sum()), file=file), allowed_M,
                        counts=counts)
    return _own_candidates(data, audience, candidates, path, row, item, counts)


def _own_candidates(data: PreparedData, audience: Audience, candidates: Candidates, path: str, row: np.ndarray,
                    item: np.ndarray, counts: dict[str, int | str]) -> Protocol:
    """Return the protocol of lists of candidates per user or group; `row`, `item` are the known candidates."""
    owner_L, num_items = audience.entities.find(candidates.ids), len(data.items)
    if (owner_L < 0).all():
        other = "users" if audience.kind == "group" else "groups"
        raise DataError(f"candidates={path}: none of the {len(owner_L):,} {candidates.column}s is a {audience.kind} of "
                        f"{data.path}; the first is '{candidates.ids[0]}'; use {audience.kind}s of the data, or set "
                        f"audience={other} if they are {other}")
    has_target_L = candidates.targets != ""
    target_L = np.where(has_target_L, data.items.find(candidates.targets), -1)
    held_keys = np.unique(audience.held.user * num_items + audience.held.item)
    is_held_L = (owner_L >= 0) & (target_L >= 0) & np.isin(owner_L * num_items + target_L, held_keys)
    usable_L = is_held_L | ((owner_L >= 0) & ~has_target_L)
    if not usable_L.any():
        raise DataError(f"candidates={path}: none of the {len(owner_L):,} rows has an interaction of the evaluated "
                        f"split; the first has {audience.kind} '{candidates.ids[0]}' and item "
                        f"'{candidates.targets[0]}'; set split= to the split that the file was made for")
    keys = np.unique(row * num_items + item)
    row, repeated = keys // num_items, len(item) - len(keys)
    is_target = keys % num_items == target_L[row]
    lists_LM = sp.csr_array((np.ones(len(keys), np.float32)[~is_target],
                             (row[~is_target], (keys % num_items)[~is_target])), shape=(len(owner_L), num_items))
    lengths = np.diff(candidates.offsets)
    least, most = int(lengths.min()), int(lengths.max())
    counts |= {"lists": len(owner_L), "least_per_list": least, "most_per_list": most, "repeated": repeated,
               f"lists_of_unknown_{audience.kind}s": int((owner_L < 0).sum()),
               "lists_without_candidates": int((np.diff(lists_LM.indptr) == 0).sum())}
    owner_P = held_keys // num_items
    if candidates.by_row:
        about = (owner_L * num_items + target_L)[is_held_L]
        without = ~np.isin(held_keys, about) & ~np.isin(owner_P, owner_L[usable_L & ~has_target_L])
        counts |= {"equal_to_target": int(is_target.sum()), "lists_repeated": len(about) - len(np.unique(about)),
                   "lists_not_held_out": int((has_target_L & ~is_held_L & (owner_L >= 0)).sum()),
                   "held_out_without_list": int(without.sum())}
    else:
        added = ~np.isin(held_keys, owner_L[row] * num_items + keys % num_items) & np.isin(owner_P, owner_L)
        counts |= {"held_out_added": int(added.sum()),
                   f"{audience.kind}s_without_list": len(np.setdiff1d(audience.held.user, owner_L))}
    num = f"{least:,}" if least == most else Phrase("{low} to {high}", low=f"{least:,}", high=f"{most:,}")
    label = (Phrase("sampled: {num} given per row ({file}), plus the row's held-out item", num=num, file=counts["file"])
             if candidates.by_row else
             Phrase("sampled: {num} given per {owner} ({file}), plus the held-out items", num=num,
                    owner=Phrase(audience.kind), file=counts["file"]))
    used = np.flatnonzero(usable_L)
    return Protocol(label, lists=CandidateLists(owner_L[used], target_L[used], lists_LM[used], used + 1,
                                                candidates.by_row),
                    counts=counts)


def sampled_candidates(audience: Audience, number: int, seed: int) -> Protocol:
    """Return the protocol that ranks `number` random items that a user, or group, has not interacted with."""
    generator = np.random.default_rng(seed)
    owners, seen = np.unique(audience.held.user), audience.interactions.matrix
    num_items = seen.shape[1]
    rows, step = [], max(1, _SAMPLE_CELLS // num_items)
    for start in range(0, len(owners), step):
        users = owners[start:start + step]
        keys = generator.random((len(users), num_items), np.float32)
        own = seen[users]
        keys[np.repeat(np.arange(len(users)), np.diff(own.indptr)), own.indices] = 2.0
        sample = np.argpartition(keys, min(number, num_items) - 1, axis=1)[:, :number]
        unseen, place = np.nonzero(np.take_along_axis(keys, sample, axis=1) < 1)
        rows.append(np.stack([unseen + start, sample[unseen, place]]))
    row, item = np.concatenate(rows, axis=1)
    sample_LM = sp.csr_array((np.ones(len(row), np.float32), (row, item)), shape=(len(owners), num_items))
    short = int((np.diff(sample_LM.indptr) < number).sum())
    return Protocol(Phrase("sampled: {num} at random per {owner}, plus the held-out items", num=number,
                           owner=Phrase(audience.kind)),
                    lists=CandidateLists(owners, np.full(len(owners), -1), sample_LM, np.arange(1, len(owners) + 1)),
                    counts={"drawn": number, f"{audience.kind}s_with_fewer": short})


def is_file(candidates: str) -> bool:
    """Return True if the setting `candidates` names a file."""
    return candidates not in ("all", "cold") and not candidates.startswith("sampled:")


def num_seen(task: HeldOut) -> tuple[int, int]:
    """Return the numbers of candidates and of held-out items that are in their query's seen items."""
    seen = pair_keys(task.queries.seen)
    held_out = pair_keys(task.relevant_QN)
    if task.candidates_QN is None:
        candidates = seen[task.candidates_N[task.queries.seen.indices]]
    else:
        candidates = np.intersect1d(pair_keys(task.candidates_QN), seen)
    return int((~np.isin(candidates, held_out)).sum()), int(np.isin(held_out, seen).sum())
