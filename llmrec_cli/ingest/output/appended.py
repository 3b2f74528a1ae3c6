"""New files and rows of mode=append: files without rows, and files appended before, are left out."""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ibis.expr.types import Table

from llmrec_cli.data.manifest import sha256
from llmrec_cli.errors import DataError, GateRefused
from llmrec_cli.ingest.engine import collect, size
from llmrec_cli.ingest.output.account import Account
from llmrec_cli.ingest.output.earlier import Earlier
from llmrec_cli.ingest.readers.checks import Raw, identifier, time_of
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.parquet import open_parquet
from llmrec_cli.ingest.readers.sources import Source, Sources

COUNTED = ("interactions", "group_interactions")
"""Files whose rows count each time they are read; those that describe things only say the same again."""


def content_hashes(sources: Sources) -> dict[str, list[str]]:
    """Return the SHA-256 of each file whose rows count, by role, for the manifest."""
    return {role: [sha256(source.path) for source in getattr(sources, role)] for role in COUNTED
            if getattr(sources, role)}


def all_hashes(sources: Sources, earlier: Earlier | None) -> dict[str, list[str]]:
    """Return `content_hashes` of the files and of all that were prepared before them."""
    found = content_hashes(sources)
    before: dict[str, list[str]] = earlier.manifest.get("contents", {}) if earlier else {}
    return {role: list(dict.fromkeys([*before.get(role, []), *found.get(role, [])])) for role in {*before, *found}}


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
            elif role in COUNTED and not force and sha256(source.path) in before.get(role, []):
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
