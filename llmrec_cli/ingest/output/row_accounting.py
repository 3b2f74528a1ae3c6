"""Rows read, dropped and kept, with the reason: counted while reading, printed at the end."""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llmrec_cli.errors import DataError, counted
from llmrec_cli.ingest.readers.columns import refuse_idle_explode, refuse_unused
from llmrec_cli.ingest.readers.decompression_limits import has_checksums
from llmrec_cli.ingest.readers.delimited import HEADER_AGAIN
from llmrec_cli.ingest.readers.rejects import Reject
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.readers.staging import Staged
from llmrec_cli.ingest.readers.value_advice import HAS_DECIMAL_COMMA, advice, decimal_point_advice
from llmrec_cli.settings.dataset import DatasetSettings

_MOST_ADVISED = 0.2
"""Share of bad rows up to which leaving them out is advised; where more are bad, most often a setting is."""
_NO_TIME = re.compile("'(.*)' is not a time in '", re.DOTALL)


@dataclass
class Account:
    """Counts by name, and sentences about what a person should look at."""

    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What is likely to be wrong; with dataset.audit=strict any of them stops the run."""


def check_reading(files: list[Staged], settings: DatasetSettings, account: Account) -> None:
    """Note how files were read. Raises ConfigError for settings that none of them used, DataError for bad rows."""
    refuse_unused({ours: typed for part in files for ours, typed in part.wanted.items()},
                  {ours for part in files for ours in part.used})
    refuse_idle_explode(files)
    account.notes += reading_notes(files)
    for part in files:
        refuse_rejects(part, settings.max_reject_share)


def refuse_rejects(staged: Staged, most: float) -> None:
    """Raise DataError when the share of a file's rows that are bad is above `most`.

    A header again is in the rejects too, but no fault of the rows: files that were joined have one for each.
    """
    sizes: dict[str, int] = {}
    for source, num_rows in zip(staged.sources, staged.num_read, strict=True):
        sizes[str(source.path)] = sizes.get(str(source.path), 0) + num_rows
    for file, num_rows in sizes.items():
        bad = staged.rejects.count(file) - staged.headers.get(file, 0)
        if bad <= most * num_rows:
            continue
        shown = "\n".join(f"  line {r.line}: {r.column + ' ' if r.column else ''}{r.reason}"
                          for r in staged.rejects.first(file) if r.reason != HEADER_AGAIN)
        share = bad / num_rows
        raise DataError(f"{file}: {bad:,} of {num_rows:,} rows ({share:.2%}) are bad, more than "
                        f"dataset.max_reject_share={most:g} allows. The first:\n{shown}\n"
                        f"{_remedy(staged.rejects.first(file), bad, num_rows)}")


def _remedy(first: list[Reject], bad: int, num_rows: int) -> str:
    """Return the next step for a file in which `bad` of `num_rows` rows are bad; `first` are the first bad rows."""
    share, decimals = bad / num_rows, _decimals_of(first)
    if decimals and all(r.reason.endswith(HAS_DECIMAL_COMMA) for r in first if r.reason != HEADER_AGAIN):
        return decimals
    cause = decimals + "\n" if decimals else _times_of(first) if share > 0.5 else ""
    if share <= _MOST_ADVISED:
        return (f"{cause}Repair them, or set dataset.max_reject_share={_above(share)} to leave such rows out "
                f"(rejects.parquet then lists them)")
    return (f"{cause}{'No row is sound' if bad == num_rows else 'So many rows are bad'}, so it is likely that a "
            f"setting is wrong and not the rows: see the reason and the settings of this file")


def reading_notes(files: list[Staged]) -> list[str]:
    """Return what a person should know of how files were read, one sentence each."""
    found = [note for part in files for note in part.notes]
    for part in files:
        found += [f"{file}: {num:,} {'row is its header' if num == 1 else 'rows are its header'} again, left out; "
                  f"rejects.parquet lists {'it' if num == 1 else 'them'}" for file, num in part.headers.items()]
    return found + _unchecked([source for part in files for source in part.sources])


def _unchecked(sources: list[Source]) -> list[str]:
    """Return a sentence about packed files in which damage cannot be seen."""
    paths = dict.fromkeys(str(source.path) for source in sources
                          if source.compression == "zstd" and not has_checksums(source.path))
    if not paths:
        return []
    return [f".zst files without a checksum, in which damage can go unseen: {counted(len(paths), list(paths))}; packed "
            f"by `zstd`, which adds one, they would be checked"]


def _times_of(first: list[Reject]) -> str:
    """Return how times among the first rejects seem to be written and what reads them, as a line; "" without any."""
    texts = [found[1] for r in first if r.column == "timestamp" and (found := _NO_TIME.match(r.reason))]
    said = advice(texts)
    return f"'{texts[0]}' {said}.\n" if said else ""


def _decimals_of(first: list[Reject]) -> str:
    """Return how to write the first number with a decimal comma among the rejects, as a sentence; "" without any."""
    texts = [(r.column, r.reason[1:].split("'")[0]) for r in first if r.reason.endswith(HAS_DECIMAL_COMMA)]
    return f"In the column {texts[0][0]}, {decimal_point_advice(texts[0][1])}" if texts else ""


def _above(share: float) -> str:
    """Return a round number that is at least `share`."""
    return next(f"{step:g}" for step in (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0) if share <= step)


def refuse_warnings(account: Account, strict: bool) -> None:
    """Raise DataError with all warnings when they are not to be lived with."""
    if strict and account.warnings:
        told = "\n".join(f"  {sentence}" for sentence in account.warnings)
        raise DataError(f"dataset.audit=strict: the audit warns, so nothing was written:\n{told}\n"
                        f"Repair the data, or set dataset.audit=warn to go on with it")


def tell(sentence: str) -> None:
    """Print a sentence to stderr."""
    Console(stderr=True, soft_wrap=True).print(escape(sentence), highlight=False)


def show(account: Account, manifest: dict[str, Any], folder: str) -> None:
    """Print what became of the rows, what is likely to be wrong, and what is worth knowing, to stderr."""
    counts = manifest["counts"]
    console = Console(stderr=True, soft_wrap=True)
    for sentence in account.warnings:
        console.print(f"[bold]WARNING: {escape(_plain(sentence))}[/bold]", highlight=False)
    table = Table(title=f"prepared '{escape(manifest['name'])}' in {escape(folder)}", title_justify="left")
    for name, justify in (("interactions", "left"), ("rows", "right"), ("why", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name, key, why in _ROWS:
        if key in counts and (counts[key] or key in _ALWAYS):
            table.add_row(name, f"{counts[key]:,}", why)
    console.print(table)
    console.print(f"{counts['users']:,} users, {counts['items']:,} items; fingerprint {manifest['fingerprint'][:16]}",
                  highlight=False)
    for sentence in account.notes:
        console.print(f"- {escape(_plain(sentence))}", highlight=False)
    if "audit.html" in manifest["files"]:
        console.print(f"splits, popularity, texts and leakage checks: {escape(folder)}/audit.html", highlight=False)


def _plain(text: str) -> str:
    """Return `text` with what could act on a terminal written out: sentences quote ids and texts of anyone."""
    return "".join(c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
                   else c.encode("unicode_escape").decode() for c in text)


_ALWAYS = ("read", "interactions", "train", "valid", "test")
_ROWS = (("read", "read", ""), ("prepared before", "earlier", "sound rows that were there; mode=append"),
         ("  rejected", "rejected", "not readable or not sound; listed in rejects.parquet"),
         ("  merged", "duplicates", "several of one user with one item; dataset.duplicates"),
         ("  ignored", "ignored_events", "events whose weight is 0; dataset.event_weights"),
         ("  dropped", "dropped_ids", "of dataset.drop_users or dataset.drop_items"),
         ("  other times", "outside_times", "after dataset.newest or before dataset.oldest"),
         ("  not positive", "not_positive", "value of 0 or below; dataset.min_value"),
         ("  too low", "below_min_value", "value below dataset.min_value"),
         ("  too few", "below_core", "user or item with fewer than dataset.min_*_interactions"),
         ("  leaked", "leaks", "held out, and in an earlier split too; split.leaks"),
         ("negative", "negatives", "dislikes; apart, in negatives.parquet"),
         ("kept", "interactions", ""), ("  train", "train", ""), ("  valid", "valid", "for choosing"),
         ("  test", "test", "to be read once"),
         ("  tied in time", "interactions_tied", "with another of their user"))
