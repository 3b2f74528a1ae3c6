"""Histories for `recommend`: interactions of the fit, or those of the prepared data and a file of new ones.

The test split of the data that a model was fitted on is left out of histories, since the model and its lists are
evaluated on it. Data that was prepared after the fit is used whole.

Shapes: U users and N items, G groups.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.file_rules import file_rules_of
from llmrec_cli.data.groups import KnownGroups, without_texts
from llmrec_cli.data.histories import (
    appended,
    filter_entries,
    history_matrix,
    lengthened,
    merged_rows,
    values_in,
    widened,
    without,
)
from llmrec_cli.data.interactions import Interactions, presence
from llmrec_cli.data.prepared import SPLITS, PreparedData, read_prepared
from llmrec_cli.data.queries import UNTIMED
from llmrec_cli.errors import ArtifactError, DataError, format_count
from llmrec_cli.heads.artifact import Recommender
from llmrec_cli.pace import still_working
from llmrec_cli.scoring.heldout import union
from llmrec_cli.settings.command import FIT, LATEST
from llmrec_cli.settings.recommend import RecommendConfig

if TYPE_CHECKING:
    from llmrec_cli.requests.new_interactions import NewInteractions

_REMEDY = "prepare it again, or set history=fit"


@dataclass(frozen=True)
class Histories:
    """Histories of the users and groups that lists are requested for.

    Attributes
    ----------
    users : users of the model, then new users, U in all
    num_known : number of users that the model knows
    history, seen : CSR (U, N), interactions that scores are made from, oldest first; items left out of lists
    times : CSR int64 with the entries of `history`, as in `Queries`; None if the model does not use times
    groups : groups of the model and their histories; None if the model knows no groups
    label : latest | fit, the setting that these histories follow
    num_newer : users of the model with interactions that it was not fitted on
    num_newer_groups : groups of the model with such interactions, of the group or of a member
    notes : sentences about the sources that were used and the rows that were ignored
    unknown_only : ids of users, new since the fit, that are not among `users`: the model knows none of their items
    """

    users: Catalogue
    num_known: int
    history: sp.csr_array
    seen: sp.csr_array
    groups: KnownGroups | None
    label: str
    num_newer: int
    notes: list[str]
    times: sp.csr_array | None = None
    num_newer_groups: int = 0
    unknown_only: frozenset[str] = frozenset()


def histories_of_fit(recommender: Recommender, users: Catalogue, num_items: int) -> Histories:
    """Return the histories of the fit; `users` are the model's and added users."""
    groups = recommender.groups
    if groups is not None:
        groups = replace(groups, history=widened(groups.history, num_items), seen=widened(groups.seen, num_items),
                         times=None if groups.times is None else widened(groups.times, num_items))
    history, seen, times = (None if matrix is None else lengthened(widened(matrix, num_items), len(users))
                            for matrix in (recommender.history, recommender.seen, recommender.times))
    assert history is not None
    assert seen is not None
    return Histories(users, len(recommender.users), history, seen, groups, FIT, 0, [], times)


@still_working("reading histories")
def latest_histories(cfg: RecommendConfig, recommender: Recommender, users: Catalogue, items: Catalogue,
                     has_user_or_group: bool) -> Histories:
    """Return the histories of the setting `history`.

    `users` and `items` are the model's and added ones. If no query has a user_id, group_id or members
    (`has_user_or_group` is False), the data is not read.
    """
    histories = histories_of_fit(recommender, users, len(items))
    if cfg.history == FIT or not (has_user_or_group or cfg.interactions):
        return histories
    data = find_data(cfg, recommender)
    if isinstance(data, PreparedData):
        histories = _with_data(histories, data, recommender, items)
    else:
        histories.notes.append(f"histories: only interactions of the fit are used, since {data}; add newer ones with "
                               f"interactions=<file>, or set history=fit to omit this note")
    if cfg.interactions:
        histories = _with_file(histories, cfg, recommender, items)
    if histories.label == FIT:
        return histories
    fitted = lengthened(widened(recommender.history, len(items)), len(histories.users))
    newer_U = np.diff(without(histories.history, fitted).indptr) > 0
    num_newer, num_new = int(newer_U[:histories.num_known].sum()), int(newer_U[histories.num_known:].sum())
    new = f"; {num_new:,} new users have a history" if num_new else ""
    newer_G = _newer_groups(histories, recommender, newer_U, len(items))
    groups = f" and {int(newer_G.sum()):,} of its {len(newer_G):,} groups (counting members)" if len(newer_G) else ""
    histories.notes.append(f"histories: {num_newer:,} of the model's {histories.num_known:,} users{groups} have "
                           f"interactions newer than the fit{new}")
    if (num_newer or newer_G.any()) and recommender.head.without_fold_in:
        parts = ", ".join(recommender.head.without_fold_in)
        histories.notes.append(f"  {parts}: known users are scored from learned vectors, so newer "
                               f" interactions only remove items from their lists; train again to use them")
    return replace(histories, num_newer=num_newer, num_newer_groups=int(newer_G.sum()))


def _newer_groups(histories: Histories, recommender: Recommender, newer_U: np.ndarray, num_items: int) -> np.ndarray:
    """Return a mask of the model's groups, bool (G,), with interactions of the group or a member newer than the fit."""
    if histories.groups is None or recommender.groups is None:
        return np.zeros(0, bool)
    own = np.diff(without(histories.groups.history, widened(recommender.groups.history, num_items)).indptr) > 0
    newer: np.ndarray = own | (recommender.groups.members @ newer_U[:histories.num_known].astype(np.float32) > 0)
    return newer


def find_data(cfg: RecommendConfig, recommender: Recommender) -> PreparedData | str:
    """Return the current prepared data of the model, or the reason why it is not available.

    With history=latest, missing data is an error.
    """
    data_facts = recommender.manifest["data"]
    path = Path(data_facts["path"])
    if not (path / "manifest.json").is_file():
        data: PreparedData | str = f"the model's prepared data is missing ({path})"
    else:
        try:
            data = read_prepared(path)
        except ArtifactError as error:
            raise ArtifactError(f"{error}; the latest interactions are read from this data: {_REMEDY}") \
                from error
        if not (recommender.users.find(data.users.ids) >= 0).any():
            data = f"the data in {path} is other data: it has none of the model's users"
    if isinstance(data, str) and cfg.history == LATEST:
        raise DataError(f"history=latest: {data}; copy the data there, use interactions=<file> without "
                        f"history=latest, or set history=fit")
    return data


def _with_data(histories: Histories, data: PreparedData, recommender: Recommender, items: Catalogue) -> Histories:
    """Return the histories with the interactions of the current prepared data."""
    same = data.manifest["fingerprint"] == recommender.manifest["data_fingerprint"]
    held_out = same and "test" not in recommender.manifest["fitted_on"] and data.manifest["counts"]["test"] > 0
    if held_out:
        num_users = len(np.unique(data.part("test").user))
        histories.notes.append(f"held out: the {data.manifest['counts']['test']:,} interactions of the test split "
                               f"({num_users:,} users) are not in the histories, so lists may contain these items; "
                               f"publish lists of a model trained with refit=all")
    splits = ("train", "valid") if held_out else ("train", "valid", "test")
    item_of_M, interactions = items.find(data.items.ids), data.part(*splits)
    is_unknown = item_of_M[interactions.item] < 0
    if is_unknown.any():
        rows = np.unique(interactions.item[is_unknown])
        histories.notes.append(f"items of {data.path} left out of histories, unknown to the model: "
                               f"{format_count(len(rows), data.items.ids[rows])}; add them with items=<file>, or train "
                               f"again")
    place_U = histories.users.find(data.users.ids)
    fresh = np.flatnonzero((place_U < 0) & (np.bincount(interactions.user[~is_unknown], minlength=len(place_U)) > 0))
    unknown_only = frozenset(data.users.ids[place_U < 0]) - frozenset(data.users.ids[fresh])
    users = histories.users.extended(_rows(data.users, fresh)) if len(fresh) else histories.users
    place_U[fresh] = len(histories.users) + np.arange(len(fresh))
    shape = (len(users), len(items))
    newer, times = (_matrix(interactions, column, place_U, item_of_M, shape)
                    for column in (interactions.value, _times(interactions, data.has_moments)))
    groups = histories.groups
    if groups is not None and (together := data.groups(*splits)) is not None:
        # New groups are ignored here: their queries list the members.
        place_G = groups.entities.find(together.entities.ids)
        both, shape = together.interactions, groups.history.shape
        own, when = (_matrix(both, column, place_G, item_of_M, shape)
                     for column in (both.value, _times(both, data.has_moments)))
        groups = replace(groups, history=appended(groups.history, own), seen=union(groups.seen, presence(own)),
                         times=None if groups.times is None else appended(groups.times, when))
    histories = _append(replace(histories, users=users, groups=groups, label=LATEST, unknown_only=unknown_only), newer,
                        times)
    returned = data.returned(*SPLITS)
    if returned is None:
        return histories
    back = _matrix(returned, returned.value, place_U, item_of_M, (len(users), len(items)))
    return replace(histories, seen=union(histories.seen, presence(back)))


def _with_file(histories: Histories, cfg: RecommendConfig, recommender: Recommender, items: Catalogue) -> Histories:
    """Return the histories with the interactions of a file as the newest; unknown users are added as new."""
    # Only here: ibis takes half a second to load.
    from llmrec_cli.requests.new_interactions import read_new_interactions

    new = read_new_interactions(cfg.interactions, recommender.manifest.get("positives") or {}, recommender.usual_value,
                                file_rules_of(recommender.manifest))
    name = f"interactions={cfg.interactions}"
    if new.num_ignored:
        histories.notes.append(f"{name}: {new.num_ignored:,} rows ignored: their event has weight 0 in "
                               f"dataset.event_weights")
    item = items.find(new.item_ids)
    is_unknown = np.flatnonzero(item < 0)
    if len(is_unknown):
        first = f"{new.rows.where(int(new.row[is_unknown[0]]))}: '{new.item_ids[is_unknown[0]]}'"
        if len(is_unknown) == len(new):
            raise DataError(f"{first} is not an item of the model, nor is any other id in the file; check that the ids "
                            f"are from the model's catalogue, or add new items with items=<file>")
        if cfg.on_unknown == "error":
            raise DataError(f"{first} is not an item of the model; add it with items=<file>, or leave out "
                            f"on_unknown=error")
        unknown = list(dict.fromkeys(new.item_ids[is_unknown]))
        histories.notes.append(f"{name}: items ignored, unknown to the model: {format_count(len(unknown), unknown)}")
    if num_weak := int((~new.are_positive(new.values)).sum()):
        histories.notes.append(f"{name}: {num_weak:,} of {len(new.rows):,} rows not added to histories: their value "
                               f"is not positive feedback")
    rows = np.flatnonzero(item >= 0)
    unknown = is_unknown[new.are_positive(new.values[is_unknown])]
    unknown_only = histories.unknown_only | frozenset(new.user_ids[unknown])
    _, user = np.unique(new.user_ids[rows], return_inverse=True)
    pair = user * len(items) + item[rows]
    places, values = merged_rows(pair, new.values[rows], new.duplicates)
    if new.duplicates == "error" and len(places) < len(rows):
        _refuse_repeated(new, int(np.setdiff1d(rows, rows[np.unique(pair, return_index=True)[1]])[0]))
    rows = rows[places]
    # A row without positive feedback adds no new user, but can remove an interaction of a known user.
    is_usable = new.are_positive(values) | (histories.users.find(new.user_ids[rows]) >= 0)
    rows, values = rows[is_usable], values[is_usable]
    ids = new.user_ids[rows]
    fresh = [user for user in dict.fromkeys(ids) if user not in histories.users.index]
    users = histories.users.extended(without_texts(fresh)) if fresh else histories.users
    place, shape = users.find(ids), (len(users), len(items))
    times = np.full(len(rows), UNTIMED) if new.timestamps is None else new.timestamps[rows]
    newer, when, row = (history_matrix(place, item[rows], column, shape) for column in (values, times, rows))
    unknown_only = frozenset(user for user in unknown_only if user not in users.index)
    return _merge(replace(histories, users=users, label=LATEST, unknown_only=unknown_only), newer, when, row, new, name)


def _merge(histories: Histories, newer: sp.csr_array, when: sp.csr_array, row: sp.csr_array, new: "NewInteractions",
           name: str) -> Histories:
    """Merge `newer` into the histories by the rule for duplicates of the model's data.

    `newer`, `when` and `row` are CSR (U, N) of all users with the same entries: the values, the times, and the rows in
    `new`. If the rule prefers the known interaction of a pair, it keeps its position.
    """
    policy = new.duplicates
    before = values_in(newer, lengthened(histories.history, len(histories.users)))
    is_known = ~np.isnan(before)
    if policy == "error" and is_known.any():
        _refuse_repeated(new, int(row.data[is_known].min()))
    values = (newer.data + np.where(is_known, before, 0)).astype(np.float32) if policy == "sum" else newer.data
    keeps_known = is_known & ((policy == "keep_first") | ((policy == "max") & (before >= values)))
    is_taken_back = is_known & ~keeps_known & ~new.are_positive(values)
    if is_taken_back.any():
        histories.notes.append(f"{name}: {int(is_taken_back.sum()):,} known interactions removed from histories: "
                               f"merged with the file, their value is not positive feedback "
                               f"(dataset.duplicates={policy})")
    if policy == "sum" and is_known.any():
        histories.notes.append(f"{name}: values added to {int(is_known.sum()):,} known interactions "
                               f"(dataset.duplicates=sum); rows that are already in the data count twice")
    back = filter_entries(newer, is_taken_back)
    histories = replace(histories, history=without(lengthened(histories.history, len(histories.users)), back),
                        times=None if histories.times is None else without(lengthened(histories.times,
                                                                                      len(histories.users)), back))
    enters = ~keeps_known & new.are_positive(values)
    merged = sp.csr_array((values, newer.indices, newer.indptr), shape=newer.shape)
    histories = _append(histories, filter_entries(merged, enters), filter_entries(when, enters))
    # An item that the user returns is left out of lists, as in the prepared data.
    return replace(histories, seen=union(histories.seen, presence(filter_entries(newer, newer.data < 0))))


def _refuse_repeated(new: "NewInteractions", place: int) -> None:
    """Raise DataError for a repeated pair, which dataset.duplicates=error does not allow."""
    raise DataError(f"{new.rows.where(int(new.row[place]))}: user '{new.user_ids[place]}' already has an "
                    f"interaction with item '{new.item_ids[place]}', and the model's data was prepared with "
                    f"dataset.duplicates=error; remove the row")


def _append(histories: Histories, newer: sp.csr_array, times: sp.csr_array) -> Histories:
    """Return the histories followed by `newer`, CSR (U, N) of all users, with its `times`."""
    history, seen = (lengthened(matrix, len(histories.users)) for matrix in (histories.history, histories.seen))
    older = None if histories.times is None else lengthened(histories.times, len(histories.users))
    return replace(histories, history=appended(history, newer), seen=union(seen, presence(newer)),
                   times=None if older is None else appended(older, times))


def _times(interactions: Interactions, are_moments: bool) -> np.ndarray:
    """Return the timestamps of interactions, `UNTIMED` if they are only an order."""
    return interactions.timestamp if are_moments else np.full(len(interactions), UNTIMED)


def _matrix(interactions: Interactions, column: np.ndarray, place_U: np.ndarray, item_of_M: np.ndarray,
            shape: tuple[int, int]) -> sp.csr_array:
    """Return a column of interactions as a matrix in other integers, without users or items whose place is -1."""
    user, item = place_U[interactions.user], item_of_M[interactions.item]
    is_known = (user >= 0) & (item >= 0)
    return history_matrix(user[is_known], item[is_known], column[is_known], shape)


def _rows(entities: Catalogue, rows: np.ndarray) -> Catalogue:
    return Catalogue(entities.ids[rows], entities.titles[rows], entities.texts[rows], entities.attributes[rows],
                     entities.attribute_names)

