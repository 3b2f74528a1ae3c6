"""Histories for `recommend`: interactions of the fit, or all those in the prepared data and the file of new ones.

The test split of the data that a model was fitted on is left out of histories, since the model and its lists are
measured on it. Data that was prepared after the fit is used whole.

Shapes: U users and N items that can be asked for, G groups.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
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
from llmrec_cli.data.prepared import PreparedData, read_prepared
from llmrec_cli.data.queries import UNTIMED
from llmrec_cli.errors import ArtifactError, DataError, counted
from llmrec_cli.heads.artifact import Recommender
from llmrec_cli.requests.new_interactions import NewInteractions, read_new_interactions
from llmrec_cli.scoring.heldout import union
from llmrec_cli.settings.command import FIT, LATEST
from llmrec_cli.settings.recommend import RecommendConfig

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


def histories_of_fit(known: Recommender, users: Catalogue, num_items: int) -> Histories:
    """Return what the model was fitted on; `users` are the model's and those that were added."""
    groups = known.groups
    if groups is not None:
        groups = replace(groups, history=widened(groups.history, num_items), seen=widened(groups.seen, num_items),
                         times=None if groups.times is None else widened(groups.times, num_items))
    history, seen, times = (None if matrix is None else lengthened(widened(matrix, num_items), len(users))
                            for matrix in (known.history, known.seen, known.times))
    assert history is not None
    assert seen is not None
    return Histories(users, len(known.users), history, seen, groups, FIT, 0, [], times)


def latest_histories(cfg: RecommendConfig, known: Recommender, users: Catalogue, items: Catalogue,
                     names_somebody: bool) -> Histories:
    """Return the histories that the setting `history` asks for.

    `users` and `items` are the model's and those that were added. Where no query names a user or a group
    (`names_somebody`), nobody has a history but the query's own, and the data is not read.
    """
    found = histories_of_fit(known, users, len(items))
    if cfg.history == FIT or not (names_somebody or cfg.interactions):
        return found
    data = find_data(cfg, known)
    if isinstance(data, PreparedData):
        found = _with_data(found, data, known, items)
    else:
        found.notes.append(f"histories: interactions of the fit only, since {data}; add newer ones with "
                           f"interactions=<file>, or silence this with history=fit")
    if cfg.interactions:
        found = _with_file(found, cfg, known, items)
    if found.label == FIT:
        return found
    fitted = lengthened(widened(known.history, len(items)), len(found.users))
    newer_U = np.diff(without(found.history, fitted).indptr) > 0
    num_newer, num_new = int(newer_U[:found.num_known].sum()), int(newer_U[found.num_known:].sum())
    new = f"; {num_new:,} users that it does not know have a history" if num_new else ""
    newer_G = _newer_groups(found, known, newer_U, len(items))
    groups = f", {int(newer_G.sum()):,} of its {len(newer_G):,} groups, counting their members" if len(newer_G) else ""
    found.notes.append(f"histories: newer interactions than at the fit: {num_newer:,} of the model's "
                       f"{found.num_known:,} users{groups}{new}")
    if (num_newer or newer_G.any()) and known.head.without_fold_in:
        found.notes.append(f"  {', '.join(known.head.without_fold_in)}: known users are scored from vectors learned in "
                           f"the fit, so newer interactions only keep items off their lists; train again to use them")
    return replace(found, num_newer=num_newer, num_newer_groups=int(newer_G.sum()))


def _newer_groups(found: Histories, known: Recommender, newer_U: np.ndarray, num_items: int) -> np.ndarray:
    """Return which groups of the model, bool (G,), have interactions, theirs or a member's, newer than the fit."""
    if found.groups is None or known.groups is None:
        return np.zeros(0, bool)
    own = np.diff(without(found.groups.history, widened(known.groups.history, num_items)).indptr) > 0
    newer: np.ndarray = own | (known.groups.members @ newer_U[:found.num_known].astype(np.float32) > 0)
    return newer


def find_data(cfg: RecommendConfig, known: Recommender) -> PreparedData | str:
    """Return the prepared data that the model was fitted on, as it is now, or why it is not to be had.

    With history=latest, which somebody asked for, the latter is an error.
    """
    told = known.manifest["data"]
    path = Path(told["path"])
    if not (path / "manifest.json").is_file():
        found: PreparedData | str = f"the model's prepared data is missing ({path})"
    else:
        try:
            found = read_prepared(path)
        except ArtifactError as error:
            raise ArtifactError(f"{error}; the latest interactions of known users are read from it: {_REMEDY}") \
                from error
        if not (known.users.find(found.users.ids) >= 0).any():
            found = f"the data in {path} is other data: it has none of the model's users"
    if isinstance(found, str) and cfg.history == LATEST:
        raise DataError(f"history=latest: {found}; copy the data there, give the interactions with interactions=<file> "
                        f"and leave out history, or set history=fit")
    return found


def _with_data(found: Histories, data: PreparedData, known: Recommender, items: Catalogue) -> Histories:
    """Return the histories with what the prepared data has now."""
    same = data.manifest["fingerprint"] == known.manifest["data_fingerprint"]
    splits = ("train", "valid") if same and "test" not in known.manifest["fitted_on"] else ("train", "valid", "test")
    item_of_M, interactions = items.find(data.items.ids), data.part(*splits)
    lost = item_of_M[interactions.item] < 0
    if lost.any():
        rows = np.unique(interactions.item[lost])
        found.notes.append(f"items of {data.path} that the model does not know, so left out of histories: "
                           f"{counted(len(rows), data.items.ids[rows])}; add them with items=<file>, or train again")
    place_U = found.users.find(data.users.ids)
    fresh = np.flatnonzero((place_U < 0) & (np.bincount(interactions.user[~lost], minlength=len(place_U)) > 0))
    users = found.users.extended(_chosen(data.users, fresh)) if len(fresh) else found.users
    place_U[fresh] = len(found.users) + np.arange(len(fresh))
    shape = (len(users), len(items))
    newer, times = (_matrix(interactions, column, place_U, item_of_M, shape)
                    for column in (interactions.value, _times(interactions, data.has_moments)))
    groups = found.groups
    if groups is not None and (together := data.groups(*splits)) is not None:
        # A new group has no place here: it is asked for by its members.
        place_G = groups.entities.find(together.entities.ids)
        both, shape = together.interactions, groups.history.shape
        own, when = (_matrix(both, column, place_G, item_of_M, shape)
                     for column in (both.value, _times(both, data.has_moments)))
        groups = replace(groups, history=appended(groups.history, own), seen=union(groups.seen, presence(own)),
                         times=None if groups.times is None else appended(groups.times, when))
    return _grown(replace(found, users=users, groups=groups, label=LATEST), newer, times)


def _with_file(found: Histories, cfg: RecommendConfig, known: Recommender, items: Catalogue) -> Histories:
    """Return the histories with the interactions of a file as the newest; users of whom nothing is known are new."""
    given = read_new_interactions(cfg.interactions, known.manifest.get("positives") or {}, known.usual_value)
    name = f"interactions={cfg.interactions}"
    item = items.find(given.item_ids)
    lost = np.flatnonzero(item < 0)
    if len(lost):
        first = f"{given.rows.where(int(given.row[lost[0]]))}: '{given.item_ids[lost[0]]}'"
        if len(lost) == len(given):
            raise DataError(f"{first} is no item of the model, and neither is any other id in the file; are these the "
                            f"ids of another catalogue? items=<file> adds new items")
        if cfg.on_unknown == "error":
            raise DataError(f"{first} is no item of the model; add it with items=<file>, or leave out on_unknown=error")
        unknown = list(dict.fromkeys(given.item_ids[lost]))
        found.notes.append(f"{name}: items that the model does not know, so ignored: {counted(len(unknown), unknown)}")
    if num_weak := int((~given.are_positive(given.values)).sum()):
        found.notes.append(f"{name}: {num_weak:,} of {len(given.rows):,} rows have a value that is no sign of "
                           f"interest, so they are not added to histories")
    rows = np.flatnonzero(item >= 0)
    _, user = np.unique(given.user_ids[rows], return_inverse=True)
    pair = user * len(items) + item[rows]
    places, values = merged_rows(pair, given.values[rows], given.duplicates)
    if given.duplicates == "error" and len(places) < len(rows):
        _refuse_repeated(given, int(np.setdiff1d(rows, rows[np.unique(pair, return_index=True)[1]])[0]))
    rows = rows[places]
    # What is no sign of interest makes nobody known. Of users who are known it may take something back.
    able = given.are_positive(values) | (found.users.find(given.user_ids[rows]) >= 0)
    rows, values = rows[able], values[able]
    ids = given.user_ids[rows]
    fresh = [user for user in dict.fromkeys(ids) if user not in found.users.index]
    users = found.users.extended(without_texts(fresh)) if fresh else found.users
    place, shape = users.find(ids), (len(users), len(items))
    times = np.full(len(rows), UNTIMED) if given.timestamps is None else given.timestamps[rows]
    newer, when, row = (history_matrix(place, item[rows], column, shape) for column in (values, times, rows))
    return _merged(replace(found, users=users, label=LATEST), newer, when, row, given, name)


def _merged(found: Histories, newer: sp.csr_array, when: sp.csr_array, row: sp.csr_array, given: NewInteractions,
            name: str) -> Histories:
    """Return the histories with `newer`, merged with what is known by the rule that the model's data was prepared by.

    `newer`, its times `when` and the rows of `given`, `row`, are CSR (U, N) of all users with the same entries. Where
    an interaction that was known counts, it stays where it is.
    """
    policy = given.duplicates
    before = values_in(newer, lengthened(found.history, len(found.users)))
    is_known = ~np.isnan(before)
    if policy == "error" and is_known.any():
        _refuse_repeated(given, int(row.data[is_known].min()))
    values = (newer.data + np.where(is_known, before, 0)).astype(np.float32) if policy == "sum" else newer.data
    stays = is_known & ((policy == "keep_first") | ((policy == "max") & (before >= values)))
    is_taken_back = is_known & ~stays & ~given.are_positive(values)
    if is_taken_back.any():
        found.notes.append(f"{name}: {int(is_taken_back.sum()):,} known interactions are removed from histories, since "
                           f"with the file's rows their value is no sign of interest (dataset.duplicates={policy})")
    if policy == "sum" and is_known.any():
        found.notes.append(f"{name}: values are added to those of {int(is_known.sum()):,} known interactions "
                           f"(dataset.duplicates=sum); rows that are already in the data count twice")
    back = filter_entries(newer, is_taken_back)
    found = replace(found, history=without(lengthened(found.history, len(found.users)), back),
                    times=None if found.times is None else without(lengthened(found.times, len(found.users)), back))
    enters = ~stays & given.are_positive(values)
    merged = sp.csr_array((values, newer.indices, newer.indptr), shape=newer.shape)
    return _grown(found, filter_entries(merged, enters), filter_entries(when, enters))


def _refuse_repeated(given: NewInteractions, place: int) -> None:
    """Raise DataError for an interaction of a pair that is known already, where none may be."""
    raise DataError(f"{given.rows.where(int(given.row[place]))}: user '{given.user_ids[place]}' has an interaction "
                    f"with item '{given.item_ids[place]}' already, and the model's data was prepared with "
                    f"dataset.duplicates=error; remove the row")


def _grown(found: Histories, newer: sp.csr_array, times: sp.csr_array) -> Histories:
    """Return the histories followed by `newer`, CSR (U, N) of all users, with its `times`."""
    history, seen = (lengthened(matrix, len(found.users)) for matrix in (found.history, found.seen))
    older = None if found.times is None else lengthened(found.times, len(found.users))
    return replace(found, history=appended(history, newer), seen=union(seen, presence(newer)),
                   times=None if older is None else appended(older, times))


def _times(interactions: Interactions, are_moments: bool) -> np.ndarray:
    """Return the timestamps of interactions where they are moments, and not a mere order."""
    return interactions.timestamp if are_moments else np.full(len(interactions), UNTIMED)


def _matrix(interactions: Interactions, column: np.ndarray, place_U: np.ndarray, item_of_M: np.ndarray,
            shape: tuple[int, int]) -> sp.csr_array:
    """Return a column of interactions in other integers, without users or items whose place is -1."""
    user, item = place_U[interactions.user], item_of_M[interactions.item]
    kept = (user >= 0) & (item >= 0)
    return history_matrix(user[kept], item[kept], column[kept], shape)


def _chosen(entities: Catalogue, rows: np.ndarray) -> Catalogue:
    return Catalogue(entities.ids[rows], entities.titles[rows], entities.texts[rows], entities.attributes[rows],
                     entities.attribute_names)

