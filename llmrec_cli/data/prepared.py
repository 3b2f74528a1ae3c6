"""Prepared data: the folder that `prepare` writes and all other stages read.

A folder with Parquet files, `audit.json`, `audit.html` and `manifest.json`:

- `interactions.parquet`: user_id, item_id (strings, as in the files), user, item (int64), value (double),
  timestamp (int64 milliseconds, or an order), split (train | valid | test), event if there are several kinds,
  order if dataset.columns.order is set; sorted by user, timestamp, order, then a salted hash of user and item
- `negatives.parquet`, with feedback=explicit: dislikes, with the same columns
- `returned.parquet`, if there are any: returned items (pairs whose value is negative, or 0 as a sum), with the same
  columns; they are left out of lists
- `filtered.parquet`: user_id, item_id, value, timestamp, split, event, order, reason: all other sound rows, duplicates
  merged
- `items.parquet`: item (int64, the row number), item_id, title, text, attributes (list of `column=value`), then the
  columns of the item files as strings; a column with one of our names gets a '_', so `title_` is the original title
- `unlisted_items.parquet`, if the item files lack items of the interactions: their item_id
- `users.parquet`: user, user_id, title, text, attributes, then the columns of the user files
- `groups.parquet`: group, group_id, user, user_id; `group_interactions.parquet`: group, group_id, item, item_id, value,
  timestamp, split, order, sorted like interactions; `group_filtered.parquet`: sound rows of groups that are not used,
  with reason; `group_texts.parquet`: the columns of items.parquet for groups
- `triples.parquet`: head, relation, tail; `links.parquet`: item, item_id, entity_id; `entities.parquet`: entity_id,
  title, of the entities in triples
- `documents.parquet`: item, item_id, text: any number of texts about an item
- `items_left_out.parquet`, `users_left_out.parquet`: descriptions of items and users with too few interactions;
  `groups_left_out.parquet`: descriptions of groups without members
- `rejects.parquet`: file, line, column, reason

Users and items with training interactions come first, ordered by id, then those with validation interactions only, then
those with test interactions only, then the rest. So held-out interactions never change the integer ids of training.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue, Documents, read_documents
from llmrec_cli.data.groups import Groups, read_members, without_texts
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.knowledge import Knowledge, read_knowledge
from llmrec_cli.data.manifest import least_positive, open_prepared, other_sizes, outdated
from llmrec_cli.data.tables import Column, column_names, read_columns, require_order, to_numpy
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import ArtifactError
from llmrec_cli.pace import still_working
from llmrec_cli.pinned import PinnedFolder, retried
from llmrec_cli.run_dir import RunDir

SPLITS = ("train", "valid", "test")
UNLISTED, _NEGATIVES, _RETURNED = "unlisted_items.parquet", "negatives.parquet", "returned.parquet"
_ENTITY_FILES = {"user": "users.parquet", "item": "items.parquet", "group": "group_texts.parquet"}


@dataclass(frozen=True)
class PreparedData:
    """Prepared data in memory. `split` is int8 (num_interactions,), the place in `SPLITS`.

    `files` stay open, so that later reads see the same version; `path` is the folder, for messages.
    """

    path: Path
    manifest: dict[str, Any]
    users: Catalogue
    items: Catalogue
    interactions: Interactions
    split: np.ndarray
    files: PinnedFolder

    @cached_property
    def knowledge(self) -> Knowledge | None:
        """Knowledge graph features of the items, None without a graph."""
        return read_knowledge(self.files, len(self.items))

    @cached_property
    def documents(self) -> Documents | None:
        """Texts about the items, None if there are none."""
        return read_documents(self.files, len(self.items))

    @cached_property
    def listed(self) -> np.ndarray | None:
        """Mask of the items in the catalogue, bool (num_items,); None if all are, or if there was no catalogue."""
        if UNLISTED not in self.files:
            return None
        listed = np.ones(len(self.items), bool)
        unlisted = read_columns(self.files, UNLISTED, {"item_id": Column("text")})["item_id"]
        listed[self.items.find(_strings(unlisted))] = False
        return listed

    @property
    def counts(self) -> dict[str, int]:
        """Number of interactions in each split."""
        return dict(zip(SPLITS, np.bincount(self.split, minlength=len(SPLITS)).tolist(), strict=True))

    def with_valid(self, mask: np.ndarray) -> "PreparedData":
        """Return the data with the interactions of a mask (num_interactions,) in the validation split."""
        return replace(self, split=np.where(mask, SPLITS.index("valid"), self.split).astype(np.int8))

    def cold_share(self, split: str) -> float:
        """Return the share of the interactions of a split whose items are in no training; 0 without any."""
        is_known = np.zeros(len(self.items), bool)
        is_known[self.interactions.item[self.split == SPLITS.index("train")]] = True
        items = self.interactions.item[self.split == SPLITS.index(split)]
        return float(np.mean(~is_known[items])) if len(items) else 0.0

    @property
    def has_moments(self) -> bool:
        """True if timestamps are moments; False if they are only an order or absent."""
        return self.manifest.get("timestamp_unit", "") not in ("", "order")

    def times_of(self, interactions: Interactions) -> sp.csr_array | None:
        """Return the times of these interactions, as `Interactions.times`; None if the data has only an order."""
        return interactions.times if self.has_moments else None

    def part(self, *splits: str) -> Interactions:
        """Return the interactions of the splits; of a pair in several splits only the newest.

        Pairs can be in several splits only if the files gave the split.
        """
        interactions = self.interactions.rows(_among(self.split, splits))
        return interactions.without_repeats() if len(splits) > 1 else interactions

    def negatives(self, *splits: str) -> Interactions | None:
        """Return the dislikes of users in the splits; None unless feedback is explicit."""
        return self._beside(_NEGATIVES, splits)

    def returned(self, *splits: str) -> Interactions | None:
        """Return the pairs of users and items that they returned, in the splits; None if there are none."""
        return self._beside(_RETURNED, splits)

    def _beside(self, name: str, splits: tuple[str, ...]) -> Interactions | None:
        if name not in self.files:
            return None
        pairs, split = _read_interactions(self.files, name, len(self.users), len(self.items))
        return pairs.rows(_among(split, splits))

    def groups(self, *splits: str) -> Groups | None:
        """Return the groups with their interactions of the named splits, None where the data has no groups.

        A pair that several of the splits have counts where it is the newest, as in `part`.
        """
        groups = self._groups
        if groups is None:
            return None
        groups_ = groups.rows(_among(groups.split, splits))
        return groups_.without_repeats() if len(splits) > 1 else groups_

    @cached_property
    def _groups(self) -> Groups | None:
        return read_groups(self.files, self.manifest, self.users, self.items)

    def training(self, *splits: str) -> TrainingData:
        """Return the training data of a head for these splits."""
        return TrainingData(self.users, self.items, self.part(*splits), self.negatives(*splits), self.knowledge,
                            self.groups(*splits), self.documents, bool(self.manifest.get("timestamp_unit")),
                            str((self.manifest.get("split") or {}).get("kind", "")),
                            str(self.manifest.get("values", "")), self.has_moments)


@still_working("reading the prepared data")
def read_prepared(folder: str | Path) -> PreparedData:
    """Read the prepared data in `folder`, one consistent version, checked against the hashes of the manifest."""
    def read() -> PreparedData:
        path = _without_link(Path(folder))
        files, manifest = open_prepared(path)
        users, items = read_entities(files, "users.parquet", "user"), read_entities(files, "items.parquet", "item")
        interactions, split = _read_interactions(files, "interactions.parquet", len(users), len(items),
                                                 least=least_positive(manifest))
        sizes = {"users": len(users), "items": len(items)} | {
            name: int(size) for name, size in zip(SPLITS, np.bincount(split, minlength=len(SPLITS)), strict=True)}
        if wrong := other_sizes(manifest["counts"], sizes):
            raise ArtifactError(f"{path / 'manifest.json'}: {wrong}; {files.remedy}")
        files.check_rest()
        # Arrow keeps the memory of the tables read, twice that of the arrays made from them.
        pa.default_memory_pool().release_unused()
        return PreparedData(path, manifest, users, items, interactions, split, files)

    return retried(read)


def _without_link(path: Path) -> Path:
    """Return the target of a link, since models store the path of their data and `latest` will change."""
    try:
        return path.parent / path.readlink()
    except OSError:
        return path


def read_groups(files: PinnedFolder, manifest: dict[str, Any], users: Catalogue, items: Catalogue) -> Groups | None:
    """Return the groups of prepared data with all their interactions, None if it has none."""
    if "groups.parquet" not in files:
        return None
    ids, members = read_members(files, "groups.parquet", len(users))
    texts, together = _ENTITY_FILES["group"], "group_interactions.parquet"
    entities = read_entities(files, texts, "group") if texts in files else without_texts(ids)
    if list(entities.ids) != ids:
        raise ArtifactError(f"{files.path / texts}: does not match the groups in groups.parquet; {files.remedy}")
    settings = manifest.get("groups") or {}
    if together in files:
        interactions, split = _read_interactions(files, together, len(ids), len(items), "group")
    else:
        nothing: np.ndarray = np.zeros(0, np.int64)
        interactions = Interactions(nothing, nothing, nothing.astype(np.float32), nothing, len(ids), len(items))
        split = nothing.astype(np.int8)
    return Groups(entities, members, interactions, split, str(settings.get("synthetic") or ""))


def read_entities(files: PinnedFolder, name: str, kind: str) -> Catalogue:
    """Return the users, items or groups (`kind`: user | item | group) in a Parquet file."""
    table = read_columns(files, name, {f"{kind}_id": Column("text", unique=True), "title": Column("text"),
                                       "text": Column("text"), "attributes": Column("texts")})
    return Catalogue(_strings(table[f"{kind}_id"]), _strings(table["title"]), _strings(table["text"]),
                     *attribute_matrix(table["attributes"]))


def own_columns(files: PinnedFolder, kind: str) -> list[str]:
    """Return the original columns of the files of users, items or groups (`kind`: user | item | group)."""
    if _ENTITY_FILES[kind] not in files:
        return []
    return [name for name in column_names(files, _ENTITY_FILES[kind])
            if name not in (kind, f"{kind}_id", "title", "text", "attributes")]


def read_own_column(files: PinnedFolder, kind: str, name: str) -> np.ndarray:
    """Return one of `own_columns` as text, object array (num_entities,), "" for missing values."""
    column = read_columns(files, _ENTITY_FILES[kind], {name: Column("text", has_nulls=True)})[name]
    return np.array([value or "" for value in column.to_pylist()] + [None], object)[:-1]


def attribute_matrix(column: pa.ChunkedArray) -> tuple[sp.csr_array, list[str]]:
    """Return lists of `column=value` as a 0/1 matrix (num_rows, num_attributes) and the names of its columns."""
    lists = column.combine_chunks()
    offsets = to_numpy(lists.offsets) - lists.offsets[0].as_py()
    names, codes = np.unique(np.array(lists.flatten().to_pylist(), object), return_inverse=True)
    matrix = sp.csr_array((np.ones(len(codes), np.float32), codes.ravel(), offsets), shape=(len(lists), len(names)))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix, [str(n) for n in names]


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), object)


def _read_interactions(files: PinnedFolder, name: str, num_users: int, num_items: int,
                       who: str = "user", least: float | None = None) -> tuple[Interactions, np.ndarray]:
    """Return the interactions of a file and their splits, int8, by SPLITS; raises for a value below `least`."""
    table = read_columns(files, name, {
        who: Column("integer", 0, num_users - 1), "item": Column("integer", 0, num_items - 1),
        "value": Column("number"), "timestamp": Column("integer"), "split": Column("text", among=SPLITS)})
    value = to_numpy(table["value"]).astype(np.float32)
    if least is not None and len(value) and (smallest := float(value.min())) < least:
        raise ArtifactError(f"{files.path / name}: column 'value' has {smallest:g}, which is not a positive by "
                            f"dataset.min_value; {files.remedy}")
    interactions = Interactions(to_numpy(table[who]), to_numpy(table["item"]), value,
                                to_numpy(table["timestamp"]), num_users, num_items)
    require_order({who: interactions.user, "timestamp": interactions.timestamp}, str(files.path / name),
                  files.remedy)
    names = table["split"].combine_chunks().dictionary_encode()
    codes = np.array([SPLITS.index(s) for s in names.dictionary.to_pylist()], np.int8)
    return interactions, codes[to_numpy(names.indices)]


def _among(split: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    return np.array([name in names for name in SPLITS])[split]


def warn_outdated(manifest: Mapping[str, Any], run_dir: RunDir) -> None:
    """Print and log a warning when the data was prepared in an earlier format."""
    if text := outdated(manifest):
        run_dir.log("warning", text=text)
        print(f"warning: {text.encode('unicode_escape').decode()}", file=sys.stderr)
