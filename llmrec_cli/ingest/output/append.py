"""mode=append: new files join prepared data, whose rows and integer ids are kept; files without new rows are skipped.

Prepared data holds everything needed to prepare it again. Every sound row is in interactions.parquet,
negatives.parquet or filtered.parquet, and the tables of users and items have the columns of their files. Merged rows
are not needed: merging the earlier result with new rows gives the same as merging all rows at once, for every value of
dataset.duplicates.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import islice
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
from llmrec_cli.ingest.readers.checks import RawRows, divide_by_weight, identifier, time_of
from llmrec_cli.ingest.readers.csv_blocks import Dialect
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.parquet import open_parquet
from llmrec_cli.ingest.readers.rejects import Rejects
from llmrec_cli.ingest.readers.sniffing import with_format
from llmrec_cli.ingest.readers.sources import Source, Sources, TextFormat
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.base import defaults, to_plain
from llmrec_cli.settings.formats import FormatSettings
from llmrec_cli.settings.stages import PrepareConfig

# Settings that say where rows come from and how files are written may differ between deliveries; all others may not.
_READING = (
    "interactions", "train", "valid", "test", "items", "users", "groups", "group_info", "group_interactions",
    "group_train", "group_valid", "group_test", "knowledge", "links", "path", "columns", "item_columns", "user_columns",
    "group_columns", "header", "item_header", "user_header", "formats", *(f.name for f in fields(FormatSettings)),
    "max_reject_share", "timestamp_unit", "timestamp_format", "explode", "audit", "reviews", "metadata",
    "version", "dev_path", "name")
_BATCH = 1 << 14


@dataclass(frozen=True)
class EarlierData:
    """Prepared data that new files are added to: its folder and its manifest."""

    folder: Path
    manifest: dict[str, Any]

    def rows(self, connection: BaseBackend, name: str, key: str = "user_id") -> Table | None:
        """Return `key` (user_id or group_id), item_id, value, timestamp, split (int8), event and order of a file."""
        if not (self.folder / f"{name}.parquet").is_file():
            return None
        table = read_staged(connection, self.folder / f"{name}.parquet")
        # Validation that was carved from training is carved again, from earlier and new rows together.
        named = {"valid": "train"} if self._carved(key) else {}
        split = ibis.cases(*((table.split == s, ibis.literal(SPLITS.index(named.get(s, s)), "int8")) for s in SPLITS))
        more = [name for name in ("event", "order") if name in table.columns]
        return table.mutate(split=split).select(key, "item_id", "value", "timestamp", "split", *more)

    def names(self, name: str) -> list[str]:
        """Return the columns of <name>.parquet beside the ids: value, and timestamp, event and order if present."""
        there = pq.read_schema(self.folder / f"{name}.parquet").names
        timed = ["timestamp"] if self.manifest["timestamp_unit"] else []
        return ["value", *timed, *(column for column in ("event", "order") if column in there)]

    def is_presplit(self, key: str) -> bool:
        """Return True if the files gave the split of the interactions of users, or of groups (`key`)."""
        inputs = self.manifest["inputs"]
        divided = inputs["split"]["kind"] == "given"
        # In built-in data sets groups are split like users.
        return divided if key == "user_id" else bool(inputs["dataset"].get("group_train", divided))

    def _carved(self, key: str) -> bool:
        """Return True if split=given carved validation from the training of users, or of groups (`key`)."""
        split = self.manifest["inputs"]["split"]
        of_users = split.get("valid", 0) if split["kind"] == "given" else 0
        of_groups = split.get("group_valid")
        return bool(of_users if key == "user_id" or of_groups is None else of_groups)

    def catalogue(self, connection: BaseBackend, kind: str) -> Table | None:
        """Return <kind> and <kind>_id of all items, users or groups (`kind`: item | user | group) without repeats."""
        file = self.folder / f"{kind}s.parquet"
        return read_staged(connection, file).select(kind, f"{kind}_id").distinct() if file.is_file() else None

    def listed(self, connection: BaseBackend) -> Table | None:
        """Return item_id of the items that item files listed; None if there were no item files."""
        if "items_read" not in self.manifest["counts"]:
            return None
        items = self.catalogue(connection, "item")
        unlisted = self.folder / UNLISTED
        if items is None or not unlisted.is_file():
            return items
        return items.anti_join(read_staged(connection, unlisted), "item_id")

    def rejects(self, scratch: Path) -> Rejects:
        """Return the rejects of the earlier data."""
        rejects_ = Rejects(scratch / "earlier.rejects")
        for batch in pq.ParquetFile(self.folder / "rejects.parquet").iter_batches(_BATCH):
            rejects_.extend_table(pa.Table.from_batches([batch]))
        return rejects_

    def sources(self, sources: Sources, scratch: Path) -> Sources:
        """Return `sources` with the earlier descriptions of items, users, groups and knowledge in front."""
        def before(kind: str) -> list[Source]:
            file = self.folder / f"{kind}.parquet"
            return [Source(file)] if file.is_file() else []

        described = {kind: self._description_files(kind, scratch) for kind in TABLES}
        return replace(sources, items=described["item"] + sources.items, users=described["user"] + sources.users,
                       groups=described["group"] + sources.groups,
                       members=before("groups") + sources.members, triples=before("triples") + sources.triples,
                       links=before("links") + sources.links, entities=before("entities") + sources.entities,
                       documents=before("documents") + sources.documents)

    def _description_files(self, kind: str, scratch: Path) -> list[Source]:
        """Write the original columns of the earlier item, user or group files to a file and return it as a source."""
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
                is_described = columns[1].is_valid()
                for column in columns[2:]:
                    is_described = pc.or_(is_described, column.is_valid())
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=target).filter(is_described))
        left_out = self.folder / f"{kind}s_left_out.parquet"
        return [Source(file, is_earlier=True) for file in (path, left_out) if file == path or left_out.is_file()]

    def check_unit(self, unit: str) -> None:
        """Raise DataError if the new rows have no times and the earlier have, or the reverse, or other units."""
        before = self.manifest["timestamp_unit"]
        if unit and not before:
            raise DataError(f"mode=append: the new rows have times, but {self.folder} was prepared without times, so "
                            f"old and new rows cannot be ordered; prepare the old and new files together with "
                            f"mode=new (and dataset.columns.timestamp=<name> if the column has another name), or "
                            f"remove the column of times from the new files")
        if before and not unit:
            raise DataError(f"mode=append: the new rows have no times, but {self.folder} was prepared with times, so "
                            f"old and new rows cannot be ordered; add a column 'timestamp' to the new files, or name "
                            f"it with dataset.columns.timestamp=<name>")
        if "order" in (unit, before) and unit != before:
            raise DataError(f"mode=append: the new timestamps are in '{unit}' and those in {self.folder} in "
                            f"'{before}', so they cannot be compared; set dataset.timestamp_unit to the unit of the "
                            f"new files, or prepare all files with mode=new")

    def chain(self) -> list[dict[str, Any]]:
        """Return fingerprint and inputs of this and all earlier data, the oldest first."""
        own = {key: self.manifest[key] for key in ("fingerprint", "inputs")}
        return [*self.manifest.get("chain", []), own]


def read_earlier(cfg: PrepareConfig, output: Path) -> EarlierData | None:
    """Return the prepared data in `output` for mode=append, None for mode=new.

    Raises ConfigError if there is no prepared data, or if it was made with other settings.
    """
    if cfg.mode == "new":
        return None
    if not (output / "manifest.json").is_file():
        raise ConfigError(f"mode=append: there is no prepared data in {output} to add to; use mode=new the first time")
    earlier = EarlierData(output, read_manifest(output))
    if outdated(earlier.manifest):
        raise ArtifactError(f"mode=append: {output} was prepared by an earlier version, with another order of equal "
                            f"times; prepare all files again with mode=new")
    _refuse_other_settings(cfg, earlier)
    return earlier


def _refuse_other_settings(cfg: PrepareConfig, earlier: EarlierData) -> None:
    problems = []
    for part, settings in (("dataset", cfg.dataset), ("split", cfg.split)):
        # A setting that did not exist then counts as its present default.
        before, now = defaults(type(settings)) | earlier.manifest["inputs"][part], to_plain(settings)
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key) and not (part == "dataset" and key in _READING):
                problems.append(f"mode=append: {part}.{key}={now.get(key)}, but {earlier.folder} was made with "
                                f"{before.get(key)}; set it to that, or prepare all files with mode=new")
    if problems:
        raise ConfigError(problems)


_COUNTED = ("interactions", "group_interactions")
"""Files whose rows would count twice if appended twice; files of descriptions may be read again without harm."""


def content_hashes(sources: Sources) -> dict[str, list[str]]:
    """Return the SHA-256 of each file of interactions, by role, for the manifest."""
    return {role: [sha256(source.path) for source in getattr(sources, role)] for role in _COUNTED
            if getattr(sources, role)}


def all_hashes(sources: Sources, earlier: EarlierData | None) -> dict[str, list[str]]:
    """Return `content_hashes` of the files and of all files appended before them."""
    hashes = content_hashes(sources)
    before: dict[str, list[str]] = earlier.manifest.get("contents", {}) if earlier else {}
    roles = dict.fromkeys([*before, *hashes])  # In order, so that the same files give the same manifest.
    return {role: list(dict.fromkeys([*before.get(role, []), *hashes.get(role, [])])) for role in roles}


def new_files(sources: Sources, earlier: EarlierData, force: bool) -> tuple[Sources, list[Phrase]]:
    """Return the files with rows that are not in the earlier data yet, and a sentence about each skipped file.

    With `force` a file that was appended before is appended again.
    """
    before: dict[str, list[str]] = earlier.manifest.get("contents", {})
    sentences: list[Phrase] = []
    selected: dict[str, Any] = {}
    for role in (field.name for field in fields(sources)):
        files = getattr(sources, role)
        if not isinstance(files, list):
            continue
        selected[role] = []
        for source in files:
            if not has_rows(source):
                sentences.append(Phrase("{file}: skipped, it has no rows", file=source.path))
            elif role in _COUNTED and not force and sha256(source.path) in before.get(role, []):
                sentences.append(Phrase("{file}: skipped, a file with the same content is in {folder} already; "
                                        "force=true appends it again", file=source.path, folder=earlier.folder))
            else:
                selected[role].append(source)
    return replace(sources, **selected), sentences


def has_rows(source: Source) -> bool:
    """Return True if a file has rows beside its header."""
    if source.read is not None:
        return True
    if source.format == "parquet":
        return bool(open_parquet(source).metadata.num_rows)
    source = with_format(source)
    has_header = source.format != "jsonl" and source.names is None
    form = source.text_format or TextFormat()
    dialect = Dialect(form.delimiter, form.quote, form.escape)
    written = (line for line in islice(lines(source), form.skip_rows, None) if line.strip()
               and not (source.format == "delimited" and dialect.is_empty_row(line)))
    return next(_after(written, int(has_header)), None) is not None


def _after(lines_: Iterator[str], num: int) -> Iterator[str]:
    for place, line in enumerate(lines_):
        if place >= num:
            yield line


def refuse_overlap(raw: RawRows, force: bool, account: Account) -> None:
    """Raise DataError for new rows that dataset.duplicates=sum may have counted already, unless `force`.

    A new row may have been counted if the earlier data has its pair with the same time or a later one. Without times
    this cannot be known, so such rows only add a note.
    """
    if not raw.earlier or not raw.parts:
        return
    before = [rows.select(*raw.keys, before="timestamp") for rows in raw.earlier]
    there = before[0].union(*before[1:]) if before[1:] else before[0]
    there = there.group_by(*raw.keys).agg(before=there.before.max())
    parts = [part.select("file", "line", at=time_of(part, raw), **{key: identifier(part[key]) for key in raw.keys})
             for part in (divide_by_weight(part, raw)[0] for part in raw.parts)]
    rows = parts[0].union(*parts[1:]) if parts[1:] else parts[0]
    joined = rows.inner_join(there, list(raw.keys))
    seen: Table = joined.filter(joined["at"] <= joined.before)
    number = size(seen)
    if not number:
        return
    if not raw.unit or force:
        account.notes.append(
            Phrase("dataset.duplicates=sum: {num:,} new rows repeat a pair that is in the data with the same time or a "
                   "later one, and their values are added to it; rows that were in an earlier file count twice",
                   num=number) if raw.unit else
            Phrase("dataset.duplicates=sum: {num:,} new rows repeat a pair that is in the data, and their values are "
                   "added to it; rows that were in an earlier file count twice", num=number))
        return
    first = collect(seen.order_by("file", "line").limit(1)).to_pylist()[0]
    ids = " and ".join(f"{key.removesuffix('_id')} '{first[key]}'" for key in raw.keys)
    raise DataError(f"mode=append with dataset.duplicates=sum: {number:,} rows may have been counted already, since "
                    f"their pair is in the data with the same time or a later one; the first is "
                    f"{raw.files[first['file']]}: line {first['line']} ({ids}). Remove the rows of earlier files, "
                    f"prepare all files with mode=new, or set force=true if all these rows are new")


def refuse_shrunk(output: Path, manifest: dict[str, Any]) -> None:
    """Raise GateRefused if the data of the same name in `output` was made from more than twice as many rows."""
    try:
        before = json.loads((output / "manifest.json").read_text("utf-8"))
        counts, same = before["counts"], before["name"] == manifest["name"]
        num_before = int(counts["read"]) + int(counts.get("earlier", 0))
    except (OSError, ValueError, KeyError, TypeError):
        return  # No intact prepared data that could be lost.
    num_now = int(manifest["counts"]["read"])
    if same and 2 * num_now < num_before:
        raise GateRefused(f"{output}: these files have {num_now:,} rows of interactions, less than half of the "
                          f"{num_before:,} rows that '{before['name']}' was prepared from; nothing was written. For "
                          f"new rows, mode=append was probably meant: it adds them. If they should be all rows, the "
                          f"export may be truncated. force=true replaces, dataset.name=<another> keeps both")


def note_lost_files(output: Path, sources: Sources) -> list[Phrase]:
    """Return a note on the files of interactions that the data in `output` was made from and that are not prepared now.

    A file with the path or the content of a new file is not lost.
    """
    try:
        before = json.loads((output / "manifest.json").read_text("utf-8"))
        runs = [part["inputs"]["files"] for part in (*before.get("chain", []), before)]
        paths = dict.fromkeys(file["path"] for files in runs for role in _COUNTED for file in files.get(role, []))
        hashes = {one for role in _COUNTED for one in before["contents"].get(role, [])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # No intact prepared data that could be lost.
    new = [source.path for role in _COUNTED for source in getattr(sources, role)]
    lost = [path for path in paths if path not in map(str, new)]
    num = len(lost) - (sum(sha256(path) in hashes for path in new if str(path) not in paths) if lost else 0)
    if num <= 0:
        return []
    # The manifest does not say which of the files has which content, so with moved files the lost ones are unknown.
    named = f" ({', '.join(lost[:3])}{', ...' if lost[3:] else ''})" if num == len(lost) else ""
    if num == 1:
        return [Phrase("{folder} was replaced, and 1 file of interactions that it was made from is not among the new "
                       "ones{named}, so its rows are gone unless the new files have them too; mode=append adds new "
                       "files to the data", folder=output, named=named)]
    return [Phrase("{folder} was replaced, and {num:,} files of interactions that it was made from are not among the "
                   "new ones{named}, so their rows are gone unless the new files have them too; mode=append adds new "
                   "files to the data", folder=output, num=num, named=named)]
