"""Slices of an evaluation: items by popularity, users and groups by their history, size and likeness.

Shapes: Q queries, G groups, U users.

Shapes: Q queries, N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.prepared import PreparedData, own_columns, read_own_column
from llmrec_cli.errors import ConfigError
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


def group_masks(data: PreparedData, group_Q: np.ndarray) -> dict[str, np.ndarray]:
    """Return slices of the queries of groups, bool (Q,) by name.

    `group_Q` are the queries' groups in `data`. size and cohesion: thirds. members: how many have a training history.
    standing: groups that did something together in training; occasional: the others. few, many, cold: as of users, by
    what a group did together in training.
    """
    groups = data.groups("train")
    assert groups is not None
    train = data.part("train").matrix
    sizes_G, known_U = groups.sizes, np.diff(train.indptr) > 0
    known_G = groups.members @ known_U.astype(np.float32)
    lengths_G = np.diff(groups.interactions.matrix.indptr)
    masks_G = {f"size={name}": mask for name, mask in quantiles(sizes_G.astype(np.float64), _PARTS).items()}
    cohesion_G = np.round(cohesion(groups.members, train), 3)
    masks_G |= {f"cohesion={name}": mask for name, mask in quantiles(cohesion_G, _PARTS).items()}
    masks_G |= {"members=none known": known_G == 0, "members=all known": (known_G == sizes_G) & (known_G > 0),
                "members=some known": (known_G > 0) & (known_G < sizes_G),
                "standing": lengths_G > 0, "occasional": lengths_G == 0}
    found = {name: mask[group_Q] for name, mask in masks_G.items()}
    found |= user_slices(lengths_G[group_Q])
    return {f"group:{name}": mask for name, mask in found.items()}


def cohesion(members: sp.csr_array, histories: sp.csr_array) -> np.ndarray:
    """Return the mean cosine of the histories of two members of a group, 0 to 1, float64 (G,).

    Over the members who have a history; NaN where fewer than two have. From the length of the sum of the unit
    histories: |sum|^2 is the number of members plus the cosines of all ordered pairs.
    """
    lengths_U = np.diff(histories.indptr)
    unit = sp.diags_array(np.divide(1.0, np.sqrt(lengths_U), out=np.zeros(len(lengths_U)), where=lengths_U > 0))
    sums = members @ (unit @ histories)
    squared_G = np.asarray(sums.multiply(sums).sum(axis=1)).ravel()
    num_G = members @ (lengths_U > 0).astype(np.float64)
    pairs_G = num_G * (num_G - 1)
    return np.divide(squared_G - num_G, pairs_G, out=np.full(len(num_G), np.nan), where=pairs_G > 0)


_MOST_VALUES = 60
"""Values of an attribute from which on a slice for each would say little."""
_COUNTED = {"item": "popularity", "user": "history", "group": "history"}
"""What can be sliced without being an attribute: training interactions of an item, of a user, and of a group."""

Masks = dict[str, np.ndarray]


@dataclass(frozen=True)
class Slices:
    """Named parts of the items, bool (N,) each, and of the queries, bool (Q,) each."""

    items: Masks
    queries: Masks


def build_slices(asked: Sequence[str], data: PreparedData, whom: Audience, query_Q: np.ndarray, counts_N: np.ndarray,
                 lengths_Q: np.ndarray) -> Slices:
    """Return the slices that are always there, and those that the setting `slices` asks for.

    `query_Q` are the queries' users or groups in `whom`. An entry is `item:<attribute>` or `user:<attribute>`, of
    groups `group:<attribute>`, for a slice per value, with `:<number>` for that many quantiles of a number;
    item:popularity and user:history are numbers too.
    """
    groups_N = item_slices(counts_N)
    item_masks = {f"item:{name}": groups_N == n for n, name in enumerate(ITEM_SLICES)}
    item_masks["item:warm"] = groups_N != ITEM_SLICES.index(COLD)
    if whom.kind == "group":
        query_masks = group_masks(data, query_Q)
    else:
        query_masks = {f"user:{name}": mask for name, mask in user_slices(lengths_Q).items()}
        query_masks["user:warm"] = lengths_Q > 0
    for entry in asked:
        side, name, number = split_entry(entry)
        if side not in ("item", whom.kind):
            raise ConfigError(f"slices={entry}: {whom.kind}s are asked for, so there are slices of items and "
                              f"{whom.kind}s; write {whom.kind}:{name}, or set audience={side}s")
        if name == _COUNTED[side]:
            if number is None:
                raise ConfigError(f"slices={entry}: is a number; say into how many parts, {entry}:5")
            counts = np.where(counts_N > 0, counts_N, np.nan) if side == "item" else lengths_Q.astype(np.float64)
            masks = quantiles(counts, number)
        else:
            masks = _of_attribute(entry, data, side, name, number)
            masks = masks if side == "item" else {value: mask[query_Q] for value, mask in masks.items()}
        named = {f"{side}:{name}={value}": mask for value, mask in masks.items()}
        (item_masks if side == "item" else query_masks).update(named)
    return Slices(item_masks, query_masks)


def values_of(data: PreparedData, side: str, name: str, setting: str) -> Masks:
    """Return who has each value of an attribute, or of a column that the file of items or users brought along."""
    entities = data.items if side == "item" else audience_of(data, f"{side}s", "test").entities
    named = attribute_values(entities.attributes, entities.attribute_names, name)
    if named:
        return named
    columns = [*columns_of(entities.attribute_names), *own_columns(data.files, side)]
    if name not in columns:
        raise ConfigError(f"{setting}: the {side}s have no attribute '{name}'{nearest(name, columns)}; there are "
                          f"{', '.join(dict.fromkeys([*columns, _COUNTED[side]]))}")
    column = read_own_column(data.files, side, name)
    return {value: column == value for value in sorted({*column} - {""})}


def split_entry(entry: str) -> tuple[str, str, int | None]:
    """Return item, user or group, what to slice by and into how many quantiles; `settings` has checked the form."""
    side, _, rest = entry.partition(":")
    name, colon, number = rest.rpartition(":")
    return (side, name, int(number)) if colon and number.isdigit() else (side, rest, None)


def _of_attribute(entry: str, data: PreparedData, side: str, name: str, number: int | None) -> Masks:
    if number is not None:
        # As it came, where it did: an attribute may be a class of numbers by now.
        raw = name in own_columns(data.files, side)
        column = read_own_column(data.files, side, name) if raw else None
        named = values_of(data, side, name, f"slices={entry}") if column is None else {}
        return quantiles(_numbers(entry, column) if column is not None else _numbers_of(entry, named), number)
    named = values_of(data, side, name, f"slices={entry}")
    if len(named) > _MOST_VALUES:
        raise ConfigError(f"slices={entry}: '{name}' has {len(named):,} values, and more than {_MOST_VALUES} slices "
                          f"say little; for a number name quantiles, {entry}:5")
    return named


def _numbers_of(entry: str, named: Masks) -> np.ndarray:
    """Return the number that each entity has as its attribute, float64 (size,), NaN where it has none."""
    texts = np.full(len(next(iter(named.values()))), "", object)
    for value, mask in named.items():
        texts[mask] = value
    return _numbers(entry, texts)


def _numbers(entry: str, texts: np.ndarray) -> np.ndarray:
    """Return texts as numbers, float64, NaN where there is none."""
    values = np.full(len(texts), np.nan)
    for n, text in enumerate(texts):
        try:
            values[n] = float(text) if text else np.nan
        except ValueError as error:
            raise ConfigError(f"slices={entry}: quantiles need numbers, and there is the value '{text[:60]}'; leave "
                              f"the number out for a slice per value") from error
    return values
