"""Prepared data on disk: what `prepare` writes and every other stage reads.

A folder with Parquet files, `audit.json`, `audit.html` and `manifest.json`:

- `interactions.parquet`: user_id, item_id (strings, as they came), user, item (int64), value (double),
  timestamp (int64 milliseconds, or an order), split (train | valid | test), event where there are several kinds,
  order where dataset.columns.order is set; sorted by user, timestamp, order, then a salted hash of user and item
- `negatives.parquet`, with feedback=explicit: the same columns, of what users do not like
- `filtered.parquet`: user_id, item_id, value, timestamp, split, event, order, reason: sound rows, duplicates merged,
  that are in neither
- `items.parquet`: item (int64, the row number), item_id, title, text, attributes (list of `column=value`),
  then the file's own columns as strings; one that has a name of ours gets a '_', so `title_` is the title as it came
- `unlisted_items.parquet`, where a file of items was given and lacks some of the log's: their item_id
- `users.parquet`: user, user_id, title, text, attributes, then the file's own columns
- `groups.parquet`: group, group_id, user, user_id; `group_interactions.parquet`: group, group_id, item, item_id, value,
  timestamp, split, order, in the same order; `group_filtered.parquet`: sound rows of groups that are not used, with
  reason; `group_texts.parquet`: of groups what items.parquet says of items
- `triples.parquet`: head, relation, tail; `links.parquet`: item, item_id, entity_id; `entities.parquet`: entity_id,
  title, of the entities that are in a triple
- `documents.parquet`: item, item_id, text: texts about the items, several for an item or none
- `items_left_out.parquet`, `users_left_out.parquet`: what files say of those that have too few interactions;
  `groups_left_out.parquet`: of those that have no members
- `rejects.parquet`: file, line, column, reason

Catalogue that training interactions name come first, in the order of their ids, then those that only validation
names, then those that only the test names, then the rest: so nothing held out can move a number that is trained on.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
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
from llmrec_cli.data.tables import Column, column_names, read_columns, require_order
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import ArtifactError
from llmrec_cli.pinned import PinnedFolder, retried
from llmrec_cli.run_dir import RunDir

SPLITS = ("train", "valid", "test")
UNLISTED, _NEGATIVES = "unlisted_items.parquet", "negatives.parquet"
_ENTITY_FILES = {"user": "users.parquet", "item": "items.parquet", "group": "group_texts.parquet"}


@dataclass(frozen=True)
class PreparedData:
    """Everything `prepare` kept. `split` is int8 (num_interactions,): the place in `SPLITS`.

    `files` are open, so that what is read later is of the same version; `path` is where they were, for people.
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
        """Texts about the items, None where there are none."""
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
    def has_moments(self) -> bool:
        """True if timestamps are moments; False if they are only an order or absent."""
        return self.manifest.get("timestamp_unit", "") not in ("", "order")

    def times_of(self, interactions: Interactions) -> sp.csr_array | None:
        """Return the times of some of the interactions as `Interactions.times`, None where the data has no moments."""
        return interactions.times if self.has_moments else None

    def part(self, *splits: str) -> Interactions:
        """Return the interactions of the named splits; a pair that several of them have counts where it is the newest.

        Only splits that were given can overlap.
        """
        found = self.interactions.rows(_among(self.split, splits))
        return found.without_repeats() if len(splits) > 1 else found

    def negatives(self, *splits: str) -> Interactions | None:
        """Return what users said they do not like, of the named splits; None unless feedback is explicit."""
        if _NEGATIVES not in self.files:
            return None
        dislikes, split = _read_interactions(self.files, _NEGATIVES, len(self.users), len(self.items))
        return dislikes.rows(_among(split, splits))

    def groups(self, *splits: str) -> Groups | None:
        """Return the groups with their interactions of the named splits, None where the data has no groups.

        A pair that several of the splits have counts where it is the newest, as in `part`.
        """
        groups = self._groups
        if groups is None:
            return None
        found = groups.rows(_among(groups.split, splits))
        return found.without_repeats() if len(splits) > 1 else found

    @cached_property
    def _groups(self) -> Groups | None:
        return read_groups(self.files, self.manifest, self.users, self.items)

    def training(self, *splits: str) -> TrainingData:
        """Return what a head may learn from when it is given the named splits."""
        return TrainingData(self.users, self.items, self.part(*splits), self.negatives(*splits), self.knowledge,
                            self.groups(*splits), self.documents, bool(self.manifest.get("timestamp_unit")),
                            str((self.manifest.get("split") or {}).get("kind", "")),
                            str(self.manifest.get("values", "")), self.has_moments)


def read_prepared(folder: str | Path) -> PreparedData:
    """Return the prepared data in `folder`, of one version, its files checked against the manifest's hashes."""
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
        # Arrow keeps the memory of tables that it has read, twice what is left of them as arrays.
        pa.default_memory_pool().release_unused()
        return PreparedData(path, manifest, users, items, interactions, split, files)

    return retried(read)


def _without_link(path: Path) -> Path:
    """Return the folder that a link names: `latest` will mean other data one day, and models name their data."""
    try:
        return path.parent / path.readlink()
    except OSError:
        return path


def read_groups(files: PinnedFolder, manifest: dict[str, Any], users: Catalogue, items: Catalogue) -> Groups | None:
    """Return the groups of prepared data with all their interactions, None where it has none."""
    if "groups.parquet" not in files:
        return None
    ids, members = read_members(files, "groups.parquet", len(users))
    texts, together = _ENTITY_FILES["group"], "group_interactions.parquet"
    entities = read_entities(files, texts, "group") if texts in files else without_texts(ids)
    if list(entities.ids) != ids:
        raise ArtifactError(f"{files.path / texts}: is not of the groups in groups.parquet; {files.remedy}")
    told = manifest.get("groups") or {}
    if together in files:
        interactions, split = _read_interactions(files, together, len(ids), len(items), "group")
    else:
        nothing: np.ndarray = np.zeros(0, np.int64)
        interactions = Interactions(nothing, nothing, nothing.astype(np.float32), nothing, len(ids), len(items))
        split = nothing.astype(np.int8)
    return Groups(entities, members, interactions, split, str(told.get("synthetic") or ""))


def read_entities(files: PinnedFolder, name: str, kind: str) -> Catalogue:
    """Return the users, items or groups (`kind`: user | item | group) in a Parquet file."""
    table = read_columns(files, name, {f"{kind}_id": Column("text", unique=True), "title": Column("text"),
                                       "text": Column("text"), "attributes": Column("texts")})
    return Catalogue(_strings(table[f"{kind}_id"]), _strings(table["title"]), _strings(table["text"]),
                     *attribute_matrix(table["attributes"]))


def own_columns(files: PinnedFolder, kind: str) -> list[str]:
    """Return the columns that the own file of users, items or groups (`kind`: user | item | group) brought along."""
    if _ENTITY_FILES[kind] not in files:
        return []
    return [name for name in column_names(files, _ENTITY_FILES[kind])
            if name not in (kind, f"{kind}_id", "title", "text", "attributes")]


def read_own_column(files: PinnedFolder, kind: str, name: str) -> np.ndarray:
    """Return one of `own_columns` as text, object array (num_entities,), "" where there is none."""
    column = read_columns(files, _ENTITY_FILES[kind], {name: Column("text", has_nulls=True)})[name]
    return np.array([value or "" for value in column.to_pylist()] + [None], object)[:-1]


def attribute_matrix(column: pa.ChunkedArray) -> tuple[sp.csr_array, list[str]]:
    """Return lists of `column=value` as a 0/1 matrix (num_rows, num_attributes) and the names of its columns."""
    lists = column.combine_chunks()
    offsets = lists.offsets.to_numpy() - lists.offsets[0].as_py()
    names, codes = np.unique(np.array(lists.flatten().to_pylist(), object), return_inverse=True)
    matrix = sp.csr_array((np.ones(len(codes), np.float32), codes.ravel(), offsets), shape=(len(lists), len(names)))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix, [str(n) for n in names]


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), object)


def _read_interactions(files: PinnedFolder, name: str, num_users: int, num_items: int,
                       who: str = "user", least: float | None = None) -> tuple[Interactions, np.ndarray]:
    """Return the rows of a file of interactions, none with a value below `least`, and the splits, int8, by SPLITS."""
    table = read_columns(files, name, {
        who: Column("integer", 0, num_users - 1), "item": Column("integer", 0, num_items - 1),
        "value": Column("number"), "timestamp": Column("integer"), "split": Column("text", among=SPLITS)})
    value = table["value"].to_numpy().astype(np.float32)
    if least is not None and len(value) and (smallest := float(value.min())) < least:
        raise ArtifactError(f"{files.path / name}: column 'value' has {smallest:g}, and by dataset.min_value no such "
                            f"row is a positive; {files.remedy}")
    interactions = Interactions(table[who].to_numpy(), table["item"].to_numpy(), value,
                                table["timestamp"].to_numpy(), num_users, num_items)
    require_order({who: interactions.user, "timestamp": interactions.timestamp}, str(files.path / name),
                  files.remedy)
    names = table["split"].combine_chunks().dictionary_encode()
    codes = np.array([SPLITS.index(s) for s in names.dictionary.to_pylist()], np.int8)
    return interactions, codes[names.indices.to_numpy()]


def _among(split: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    return np.array([name in names for name in SPLITS])[split]


def warn_outdated(manifest: Mapping[str, Any], run_dir: RunDir) -> None:
    """Print and log a warning when the data was prepared in an earlier format."""
    if text := outdated(manifest):
        run_dir.log("warning", text=text)
        print(f"warning: {text.encode('unicode_escape').decode()}", file=sys.stderr)
