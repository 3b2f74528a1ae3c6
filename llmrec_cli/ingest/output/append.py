"""mode=append: the prepared data's rows and numbers are kept; files without new rows are left out.

Prepared data holds all that is needed to prepare it again: every sound row is in interactions.parquet,
negatives.parquet or filtered.parquet, and what files said of users and items is in their own columns. Rows that were
merged are not needed: merging what was merged with what comes gives the same as merging all at once, whatever
dataset.duplicates says.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.data.manifest import outdated, read_manifest, sha256
from llmrec_cli.data.prepared import SPLITS, UNLISTED
from llmrec_cli.errors import ArtifactError, ConfigError, DataError, GateRefused
from llmrec_cli.ingest.engine import collect, read_staged, size
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.output.writing import TABLES, left_out_schema
from llmrec_cli.ingest.readers.checks import Raw, identifier, time_of
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.parquet import open_parquet
from llmrec_cli.ingest.readers.rejects import Rejects
from llmrec_cli.ingest.readers.sources import Source, Sources
from llmrec_cli.settings.base import defaults, to_plain
from llmrec_cli.settings.stages import PrepareConfig

# What says where rows come from and how they are written may change from one delivery to the next; what is made of
# them may not.
_READING = (
    "interactions", "train", "valid", "test", "items", "users", "groups", "group_info", "group_interactions",
    "group_train", "group_valid", "group_test", "knowledge", "links", "path", "columns", "item_columns", "user_columns",
    "group_columns", "header", "item_header", "user_header", "encoding", "delimiter", "quote", "escape",
    "max_reject_share", "timestamp_unit", "timestamp_format", "explode", "audit", "reviews", "metadata",
    "version", "dev_path", "name")
_BATCH = 1 << 14


@dataclass(frozen=True)
class Earlier:
    """Prepared data that new files are added to: its folder and its manifest."""

    folder: Path
    manifest: dict[str, Any]

    def rows(self, connection: BaseBackend, name: str, key: str = "user_id") -> Table | None:
        """Return user_id (or group_id: `key`), item_id, value, timestamp, split (int8), event and order of a file."""
        if not (self.folder / f"{name}.parquet").is_file():
            return None
        table = read_staged(connection, self.folder / f"{name}.parquet")
        # What was taken from training for validation is taken again, of what was there and what comes together.
        named = {"valid": "train"} if self._carved(key) else {}
        split = ibis.cases(*((table.split == s, ibis.literal(SPLITS.index(named.get(s, s)), "int8")) for s in SPLITS))
        more = [name for name in ("event", "order") if name in table.columns]
        return table.mutate(split=split).select(key, "item_id", "value", "timestamp", "split", *more)

    def names(self, name: str) -> list[str]:
        """Return those of our columns, beside the ids, that <name>.parquet has."""
        there = pq.read_schema(self.folder / f"{name}.parquet").names
        timed = ["timestamp"] if self.manifest["timestamp_unit"] else []
        return ["value", *timed, *(column for column in ("event", "order") if column in there)]

    def given(self, key: str) -> bool:
        """Return whether files said which split the interactions of users, or groups (`key`), are in."""
        inputs = self.manifest["inputs"]
        divided = inputs["split"]["kind"] == "given"
        # Data sets by name have their groups divided as their users.
        return divided if key == "user_id" else bool(inputs["dataset"].get("group_train", divided))

    def _carved(self, key: str) -> bool:
        """Return whether split=given took validation from the training of users, or groups (`key`)."""
        split = self.manifest["inputs"]["split"]
        of_users = split.get("valid", 0) if split["kind"] == "given" else 0
        of_groups = split.get("group_valid")
        return bool(of_users if key == "user_id" or of_groups is None else of_groups)

    def catalogue(self, connection: BaseBackend, kind: str) -> Table | None:
        """Return <kind> and <kind>_id of all items, users or groups (`kind`: item | user | group), each once."""
        file = self.folder / f"{kind}s.parquet"
        return read_staged(connection, file).select(kind, f"{kind}_id").distinct() if file.is_file() else None

    def listed(self, connection: BaseBackend) -> Table | None:
        """Return item_id of the items that files of items had; None where there were no such files."""
        if "items_read" not in self.manifest["counts"]:
            return None
        items = self.catalogue(connection, "item")
        unlisted = self.folder / UNLISTED
        if items is None or not unlisted.is_file():
            return items
        return items.anti_join(read_staged(connection, unlisted), "item_id")

    def rejects(self, scratch: Path) -> Rejects:
        """Return the rows that were bad then."""
        found = Rejects(scratch / "earlier.rejects")
        for batch in pq.ParquetFile(self.folder / "rejects.parquet").iter_batches(_BATCH):
            found.extend_table(pa.Table.from_batches([batch]))
        return found

    def sources(self, sources: Sources, scratch: Path) -> Sources:
        """Return `sources` with what was said before of items, users, groups and knowledge in front."""
        def before(kind: str) -> list[Source]:
            file = self.folder / f"{kind}.parquet"
            return [Source(file)] if file.is_file() else []

        described = {kind: self._described(kind, scratch) for kind in TABLES}
        return replace(sources, items=described["item"] + sources.items, users=described["user"] + sources.users,
                       groups=described["group"] + sources.groups,
                       members=before("groups") + sources.members, triples=before("triples") + sources.triples,
                       links=before("links") + sources.links, entities=before("entities") + sources.entities,
                       documents=before("documents") + sources.documents)

    def _described(self, kind: str, scratch: Path) -> list[Source]:
        """Return a file of the columns that files of items, users or groups had, under the names that they had."""
        names = self.manifest["texts"].get(kind, {}).get("names")
        if not names:
            return []
        file = pq.ParquetFile(self.folder / f"{TABLES[kind]}.parquet")
        own = file.schema_arrow.names[-len(names):]
        target = left_out_schema(names, kind)
        path = scratch / f"earlier_{kind}s.parquet"
        with pq.ParquetWriter(path, target) as writer:
            for batch in file.iter_batches(_BATCH, columns=[f"{kind}_id", *own]):
                columns = [batch.column(f"{kind}_id"), *(batch.column(name) for name in own)]
                said = columns[1].is_valid()
                for column in columns[2:]:
                    said = pc.or_(said, column.is_valid())
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=target).filter(said))
        left_out = self.folder / f"{kind}s_left_out.parquet"
        return [Source(path), *([Source(left_out)] if left_out.is_file() else [])]

    def check_unit(self, unit: str) -> None:
        """Raise DataError when the new rows write time as the earlier ones did not."""
        before = self.manifest["timestamp_unit"]
        if unit and not before:
            raise DataError(f"mode=append: the new rows have times, but {self.folder} was prepared without times, so "
                            f"the order of old and new rows is not known; prepare the old and new files together with "
                            f"mode=new (and dataset.columns.timestamp=<name> if the column has another name), or "
                            f"remove the column of times from the new files")
        if before and not unit:
            raise DataError(f"mode=append: the new rows have no times, but {self.folder} was prepared with times, so "
                            f"the order of old and new rows is not known; add a column 'timestamp' to the new files, "
                            f"or name it with dataset.columns.timestamp=<name>")
        if "order" in (unit, before) and unit != before:
            raise DataError(f"mode=append: the timestamps are written in '{unit}', and those in "
                            f"{self.folder} were in '{before}', so they cannot be compared; say which it "
                            f"is with dataset.timestamp_unit, or prepare all of it with mode=new")

    def chain(self) -> list[dict[str, Any]]:
        """Return fingerprint and inputs of all that came before, the oldest first."""
        own = {key: self.manifest[key] for key in ("fingerprint", "inputs")}
        return [*self.manifest.get("chain", []), own]


def read_earlier(cfg: PrepareConfig, output: Path) -> Earlier | None:
    """Return the prepared data in `output` for mode=append, None for mode=new.

    Raises ConfigError when there is nothing, and when it was made with other settings.
    """
    if cfg.mode == "new":
        return None
    if not (output / "manifest.json").is_file():
        raise ConfigError(f"mode=append: there is no prepared data in {output} to add to; leave mode out the "
                          f"first time")
    earlier = Earlier(output, read_manifest(output))
    if outdated(earlier.manifest):
        raise ArtifactError(f"mode=append: {output} was prepared by an earlier version, with another order of equal "
                            f"times; prepare all of it once more with mode=new")
    _refuse_other_settings(cfg, earlier)
    return earlier


def _refuse_other_settings(cfg: PrepareConfig, earlier: Earlier) -> None:
    problems = []
    for part, settings in (("dataset", cfg.dataset), ("split", cfg.split)):
        # A setting that did not exist then was what it is by default now.
        before, now = defaults(type(settings)) | earlier.manifest["inputs"][part], to_plain(settings)
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key) and not (part == "dataset" and key in _READING):
                problems.append(f"mode=append: {part}.{key}={now.get(key)}, but {earlier.folder} was made with "
                                f"{before.get(key)}; set it to that, or prepare all of it with mode=new")
    if problems:
        raise ConfigError(problems)


_COUNTED = ("interactions", "group_interactions")
"""Files whose rows count each time they are read; those that describe things only say the same again."""


def content_hashes(sources: Sources) -> dict[str, list[str]]:
    """Return the SHA-256 of each file whose rows count, by role, for the manifest."""
    return {role: [sha256(source.path) for source in getattr(sources, role)] for role in _COUNTED
            if getattr(sources, role)}


def all_hashes(sources: Sources, earlier: Earlier | None) -> dict[str, list[str]]:
    """Return `content_hashes` of the files and of all that were prepared before them."""
    found = content_hashes(sources)
    before: dict[str, list[str]] = earlier.manifest.get("contents", {}) if earlier else {}
    roles = dict.fromkeys([*before, *found])  # In order, so that the same files give the same manifest.
    return {role: list(dict.fromkeys([*before.get(role, []), *found.get(role, [])])) for role in roles}


def new_files(sources: Sources, earlier: Earlier, force: bool) -> tuple[Sources, list[str]]:
    """Return the files with rows that are not in the earlier data yet, and a sentence about each of the others.

    With `force` a file whose content was appended before is appended again.
    """
    before: dict[str, list[str]] = earlier.manifest.get("contents", {})
    told: list[str] = []
    found: dict[str, Any] = {}
    for role in (field.name for field in fields(sources)):
        files = getattr(sources, role)
        if not isinstance(files, list):
            continue
        found[role] = []
        for source in files:
            if not has_rows(source):
                told.append(f"{source.path} has no rows: nothing new")
            elif role in _COUNTED and not force and sha256(source.path) in before.get(role, []):
                told.append(f"{source.path} is in {earlier.folder} already (a file of the same content): nothing new; "
                            f"force=true appends it again")
            else:
                found[role].append(source)
    return replace(sources, **found), told


def has_rows(source: Source) -> bool:
    """Return whether a file has anything beside its header."""
    if source.read is not None:
        return True
    if source.format == "parquet":
        return bool(open_parquet(source).metadata.num_rows)
    has_header = source.format != "jsonl" and source.names is None
    written = (line for line in lines(source) if line.strip())
    return next(_after(written, int(has_header)), None) is not None


def _after(found: Iterator[str], num: int) -> Iterator[str]:
    for place, line in enumerate(found):
        if place >= num:
            yield line


def refuse_overlap(raw: Raw, force: bool, account: Account) -> None:
    """Raise DataError for new rows that dataset.duplicates=sum may have added up already, unless `force`.

    A row may have been counted when its pair was there with a time that is no older. Without times nothing tells, so
    such rows are counted and stated.
    """
    if not raw.earlier or not raw.parts:
        return
    before = [rows.select(*raw.keys, before="timestamp") for rows in raw.earlier]
    there = before[0].union(*before[1:]) if before[1:] else before[0]
    there = there.group_by(*raw.keys).agg(before=there.before.max())
    parts = [part.select("file", "line", at=time_of(part, raw), **{key: identifier(part[key]) for key in raw.keys})
             for part in raw.parts]
    rows = parts[0].union(*parts[1:]) if parts[1:] else parts[0]
    joined = rows.inner_join(there, list(raw.keys))
    seen: Table = joined.filter(joined["at"] <= joined.before)
    number = size(seen)
    if not number:
        return
    if not raw.unit or force:
        account.notes.append(f"dataset.duplicates=sum: {number:,} of the new rows have a pair that is in the data"
                             f"{' at the same time or later' if raw.unit else ''}, so their values are added to it; if "
                             f"they were in an earlier file, they count twice")
        return
    first = collect(seen.order_by("file", "line").limit(1)).to_pylist()[0]
    ids = " and ".join(f"{key.removesuffix('_id')} '{first[key]}'" for key in raw.keys)
    raise DataError(f"mode=append with dataset.duplicates=sum: {number:,} rows may have been added up already, since "
                    f"their pair is in the data with the same time or a later one; the first is "
                    f"{raw.files[first['file']]}: line {first['line']} ({ids}). Leave out rows of earlier files, "
                    f"prepare all files with mode=new, or set force=true if all these rows are new")


def refuse_shrunk(output: Path, manifest: dict[str, Any]) -> None:
    """Raise GateRefused when data of this name in `output` was made of more than twice the rows of `manifest`."""
    try:
        before = json.loads((output / "manifest.json").read_text("utf-8"))
        counts, same = before["counts"], before["name"] == manifest["name"]
        num_before = int(counts["read"]) + int(counts.get("earlier", 0))
    except (OSError, ValueError, KeyError, TypeError):
        return  # Nothing that could be lost: no prepared data, or no whole one.
    num_now = int(manifest["counts"]["read"])
    if same and 2 * num_now < num_before:
        raise GateRefused(f"{output}: these files have {num_now:,} rows of interactions, under half of the "
                          f"{num_before:,} that '{manifest['name']}' was prepared from, so they may be a truncated "
                          f"export; nothing was written. mode=append adds files to what is there, force=true replaces "
                          f"it, dataset.name=<another> keeps both")
