"""Slices of an evaluation: items by popularity, users by history, groups by history, size and cohesion.

Shapes: Q queries, G groups, U users, N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.prepared import PreparedData, own_columns, read_own_column
from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.texts.attributes import number_of
from llmrec_cli.metrics.slices import (
    COLD,
    ITEM_SLICES,
    attribute_values,
    columns_of,
    item_slices,
    quantiles,
    user_slices,
)
from llmrec_cli.scoring.heldout import Audience, audience_of
from llmrec_cli.settings.base import nearest

_PARTS = 3


def group_masks(data: PreparedData, group_Q: np.ndarray, lengths_Q: np.ndarray) -> dict[str, np.ndarray]:
    """Return slices of the queries of groups, bool (Q,) by name.

    `group_Q` are the queries' groups in `data`, -1 for others, and `lengths_Q` the lengths of their histories. size,
    cohesion: a slice for each third of the groups. members: slices by the number of members with a training history.
    standing: groups with joint training interactions; occasional: the others. few, many, cold: as for users, by the
    length of the group's history.
    """
    groups = data.groups("train")
    if groups is None:  # Rows of a file with members of their own.
        return {f"group:{name}": mask for name, mask in user_slices(lengths_Q).items()}
    train = data.part("train").matrix
    sizes_G, has_history_U = groups.sizes, np.diff(train.indptr) > 0
    num_known_G = groups.members @ has_history_U.astype(np.float32)
    lengths_G = np.diff(groups.interactions.matrix.indptr)
    masks_G = {f"size={name}": mask for name, mask in quantiles(sizes_G.astype(np.float64), _PARTS).items()}
    cohesion_G = np.round(cohesion(groups.members, train), 3)
    masks_G |= {f"cohesion={name}": mask for name, mask in quantiles(cohesion_G, _PARTS).items()}
    masks_G |= {"members=none known": num_known_G == 0,
                "members=all known": (num_known_G == sizes_G) & (num_known_G > 0),
                "members=some known": (num_known_G > 0) & (num_known_G < sizes_G),
                "standing": lengths_G > 0, "occasional": lengths_G == 0}
    masks = {name: _of_queries(mask, group_Q) for name, mask in masks_G.items()}
    masks |= user_slices(lengths_Q)
    return {f"group:{name}": mask for name, mask in masks.items()}


def cohesion(members: sp.csr_array, histories: sp.csr_array) -> np.ndarray:
    """Return the mean cosine between the histories of two members of a group, 0 to 1, float64 (G,).

    Only members with a history count; NaN with fewer than two. Computed from the sum of the unit histories: |sum|^2 is
    the number of members plus the cosines of all ordered pairs.
    """
    lengths_U = np.diff(histories.indptr)
    unit = sp.diags_array(np.divide(1.0, np.sqrt(lengths_U), out=np.zeros(len(lengths_U)), where=lengths_U > 0))
    sums = members @ (unit @ histories)
    squared_G = np.asarray(sums.multiply(sums).sum(axis=1)).ravel()
    num_G = members @ (lengths_U > 0).astype(np.float64)
    pairs_G = num_G * (num_G - 1)
    return np.divide(squared_G - num_G, pairs_G, out=np.full(len(num_G), np.nan), where=pairs_G > 0)


_MAX_VALUES = 60
"""Maximum number of values of an attribute for one slice per value."""
_COUNT_NAMES = {"item": "popularity", "user": "history", "group": "history"}
"""Names for slices by number of training interactions."""

Masks = dict[str, np.ndarray]


@dataclass(frozen=True)
class Slices:
    """Named parts of the items, bool (N,) each, and of the queries, bool (Q,) each."""

    items: Masks
    queries: Masks


def build_slices(requested: Sequence[str], data: PreparedData, audience: Audience, query_Q: np.ndarray,
                 counts_N: np.ndarray, lengths_Q: np.ndarray) -> Slices:
    """Return the default slices and those of the setting `slices`.

    `query_Q` are the queries' users or groups in `audience`, -1 for others, which are in no slice by attribute. An
    entry of `requested` is `item:<attribute>`, `user:<attribute>` or `group:<attribute>` for one slice per value. With
    `:<number>` at the end it gives this number of quantiles of a numeric attribute; item:popularity and user:history
    are numeric too.
    """
    groups_N = item_slices(counts_N)
    item_masks = {f"item:{name}": groups_N == n for n, name in enumerate(ITEM_SLICES)}
    item_masks["item:warm"] = groups_N != ITEM_SLICES.index(COLD)
    if audience.kind == "group":
        query_masks = group_masks(data, query_Q, lengths_Q)
    else:
        query_masks = {f"user:{name}": mask for name, mask in user_slices(lengths_Q).items()}
        query_masks["user:warm"] = lengths_Q > 0
    for entry in requested:
        side, name, number = split_entry(entry)
        if side not in ("item", audience.kind):
            raise ConfigError(f"slices={entry}: not possible with audience={audience.kind}s; write "
                              f"{audience.kind}:{name}, or set audience={side}s")
        if name == _COUNT_NAMES[side]:
            if number is None:
                raise ConfigError(f"slices={entry}: is numeric; add the number of quantiles, for example {entry}:5")
            counts = np.where(counts_N > 0, counts_N, np.nan) if side == "item" else lengths_Q.astype(np.float64)
            masks = quantiles(counts, number)
        else:
            masks = _of_attribute(entry, data, side, name, number)
            masks = masks if side == "item" else {value: _of_queries(mask, query_Q) for value, mask in masks.items()}
        new_masks = {f"{side}:{name}={value}": mask for value, mask in masks.items()}
        (item_masks if side == "item" else query_masks).update(new_masks)
    return Slices(item_masks, query_masks)


def _of_queries(mask: np.ndarray, query_Q: np.ndarray) -> np.ndarray:
    """Return a mask of users or groups as a mask of their queries, bool (Q,)."""
    of_queries: np.ndarray = np.append(mask, False)[query_Q]
    return of_queries


def values_of(data: PreparedData, side: str, name: str, setting: str) -> Masks:
    """Return a mask per value of an attribute, or of another column in the file of items or users."""
    entities = data.items if side == "item" else audience_of(data, f"{side}s", "test").entities
    masks = attribute_values(entities.attributes, entities.attribute_names, name)
    if masks:
        return masks
    columns = [*columns_of(entities.attribute_names), *own_columns(data.files, side)]
    if name not in columns:
        raise ConfigError(f"{setting}: the {side}s have no attribute '{name}'{nearest(name, columns)}; there are "
                          f"{', '.join(dict.fromkeys([*columns, _COUNT_NAMES[side]]))}")
    column = read_own_column(data.files, side, name)
    return {value: column == value for value in sorted({*column} - {""})}


def split_entry(entry: str) -> tuple[str, str, int | None]:
    """Return side (item, user or group), attribute and number of quantiles; `settings` has checked the form."""
    side, _, rest = entry.partition(":")
    name, colon, number = rest.rpartition(":")
    return (side, name, int(number)) if colon and number.isdigit() else (side, rest, None)


def _of_attribute(entry: str, data: PreparedData, side: str, name: str, number: int | None) -> Masks:
    if number is not None:
        # Use the column as in the file: as an attribute, numbers may have been binned.
        raw = name in own_columns(data.files, side)
        column = read_own_column(data.files, side, name) if raw else None
        masks = values_of(data, side, name, f"slices={entry}") if column is None else {}
        return quantiles(_numbers(entry, column) if column is not None else _numbers_of(entry, masks), number)
    masks = values_of(data, side, name, f"slices={entry}")
    if len(masks) > _MAX_VALUES:
        raise ConfigError(f"slices={entry}: '{name}' has {len(masks):,} values, more than the maximum of "
                          f"{_MAX_VALUES} slices; for numbers use quantiles, for example {entry}:5")
    return masks


def _numbers_of(entry: str, masks: Masks) -> np.ndarray:
    """Return the numeric attribute of each item, user or group, float64 (size,); NaN without a value."""
    texts = np.full(len(next(iter(masks.values()))), "", object)
    for value, mask in masks.items():
        texts[mask] = value
    return _numbers(entry, texts)


def _numbers(entry: str, texts: np.ndarray) -> np.ndarray:
    """Parse texts as numbers, float64; NaN for an empty text."""
    values = np.full(len(texts), np.nan)
    for n, text in enumerate(texts):
        try:
            number = number_of(text)  # Reads 66.12 € too, as `prepare` does.
            values[n] = number if number is not None else float(text) if text else np.nan
        except ValueError as error:
            raise ConfigError(f"slices={entry}: quantiles need numbers, but one value is '{text[:60]}'; leave out "
                              f"the number of quantiles to get one slice per value") from error
    return values
