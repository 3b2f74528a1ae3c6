"""Numbers of rows read, dropped by reason, and kept: counted while reading, printed at the end."""

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmrec_cli.data.filter_reasons import FILTER_REASONS
from llmrec_cli.data.reject_reasons import EMPTY, HAS_DECIMAL_COMMA, NOT_BAD
from llmrec_cli.errors import DataError, format_count
from llmrec_cli.ingest.readers.columns import refuse_idle_explode, refuse_unused
from llmrec_cli.ingest.readers.decompression_limits import has_checksums
from llmrec_cli.ingest.readers.rejects import Reject
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.readers.staging import StagedFiles
from llmrec_cli.ingest.readers.value_advice import advice, decimal_advice
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.plain_text import columns, printable
from llmrec_cli.settings.dataset import DatasetSettings

_MOST_ADVISED = 0.05
"""Share of bad rows up to which leaving them out is advised; a larger share usually comes from a wrong setting."""
_NO_TIME = re.compile("'(.*)' is not a time in '", re.DOTALL)


@dataclass
class Account:
    """Counts by name, notes and warnings about the data."""

    counts: dict[str, int] = field(default_factory=dict)
    notes: list[Phrase] = field(default_factory=list)
    warnings: list[Phrase] = field(default_factory=list)
    """Likely faults; with dataset.audit=strict any warning that is not in `cautions` stops the run."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Name of a count -> the first ids that it counts."""
    cautions: set[str] = field(default_factory=set)
    """The warnings that do not stop a strict run, since data without a fault may have them too."""
    busy_users: set[str] = field(default_factory=set)
    """Ids of users that a warning about too many interactions names."""
    formats: dict[str, str] = field(default_factory=dict)
    """Path of a file -> what was detected about its format."""

    def caution(self, *sentences: Phrase) -> None:
        """Add warnings that do not stop a strict run."""
        self.warnings += sentences
        self.cautions |= set(sentences)


def count_notes(counts: Mapping[str, int], templates: Iterable[tuple[str, str]]) -> list[Phrase]:
    """Return a note for each count above 0; `templates` are pairs of a count's name and a template with `num`."""
    return [Phrase(template, num=counts[key]) for key, template in templates if counts.get(key)]


def check_reading(files: list[StagedFiles], settings: DatasetSettings, account: Account) -> None:
    """Add notes on how files were read. Raises ConfigError for unused settings, DataError for too many bad rows."""
    if all(part.sources for part in files):
        # With mode=append, a mapping may be for a file of interactions that is skipped, since the data has it already.
        refuse_unused({ours: typed for part in files for ours, typed in part.wanted.items()},
                      {ours for part in files for ours in part.used})
    refuse_idle_explode(files)
    account.notes += reading_notes(files)
    account.formats |= {str(source.path): ", ".join(source.text_format.detected) for part in files
                        for source in part.sources if source.text_format and source.text_format.detected}
    for part in files:
        refuse_rejects(part, settings.max_reject_share)


def refuse_rejects(staged: StagedFiles, most: float) -> None:
    """Raise DataError when the share of bad rows of a file is above `most`.

    Repeated headers and last rows with totals are in the rejects too, but do not count here: concatenated files have a
    header for each, and a small file has a total for few rows.
    """
    sizes: dict[str, int] = {}
    for source, num_rows in zip(staged.sources, staged.num_read, strict=True):
        sizes[str(source.path)] = sizes.get(str(source.path), 0) + num_rows
    for file, num_rows in sizes.items():
        bad = staged.rejects.count(file) - staged.headers.get(file, 0) - staged.totals.count(file)
        if bad <= most * num_rows:
            continue
        examples = "\n".join(f"  line {r.line}: {r.column + ' ' if r.column else ''}{r.reason}"
                          for r in staged.rejects.first(file) if r.reason not in NOT_BAD)
        share = bad / num_rows
        raise DataError(f"{file}: {bad:,} of {num_rows:,} rows ({share:.2%}) are bad, more than "
                        f"dataset.max_reject_share={most:g} allows. The first ones:\n{examples}\n"
                        f"{_remedy(staged, file, bad, num_rows)}")


def _remedy(staged: StagedFiles, file: str, bad: int, num_rows: int) -> str:
    """Return the advice for a file with `bad` bad rows of `num_rows`."""
    share, first = bad / num_rows, staged.rejects.first(file)
    decimals = _decimal_advice(first)
    if decimals and all(r.reason.endswith(HAS_DECIMAL_COMMA) for r in first if r.reason not in NOT_BAD):
        return decimals
    start = f"{decimals}\n" if decimals else ""
    if all(r.column == "event" for r in first):
        return ("Give every event a weight in dataset.event_weights; a weight of 0 drops its rows, and one below 0 is "
                "for returns and dislikes")
    if share <= _MOST_ADVISED:
        return (f"{start}Repair them, or set dataset.max_reject_share={_round_up(share)} to continue without them "
                f"(rejects.parquet then lists them)")
    column, reason, number = next(one for one in staged.rejects.causes(file) if one[1] not in NOT_BAD)
    what = f"{column} {reason}".strip()
    key = next((s.format_key for s in staged.sources if str(s.path) == file and s.format_key), "dataset")
    remedies = {
        "": f"compare the format with the file: {key}.delimiter, quote, escape and skip_rows",
        "value": "map dataset.columns.value to a column of numbers, or remove that column or mapping",
        "event": "give every event a weight in dataset.event_weights; a weight of 0 drops its rows",
        "timestamp": _time_advice(first) or "set dataset.timestamp_unit or dataset.timestamp_format to their form"}
    otherwise = (f"map a column that is filled with dataset.columns.{column}=<name>, or leave these rows out of the "
                 f"export" if reason == EMPTY else "compare them with the settings of this file")
    return (f"{start}{'All' if number == num_rows else f'{number:,}'} of them: {what}; "
            f"probably a setting is wrong and not the rows: {remedies.get(column, otherwise)}")


def reading_notes(files: list[StagedFiles]) -> list[Phrase]:
    """Return notes on how files were read, one sentence each."""
    sentences = [note for part in files for note in part.notes]
    for part in files:
        sentences += [Phrase("{file}: {num:,} row repeats the header; rejected, listed in rejects.parquet", file=file,
                             num=num) if num == 1 else
                      Phrase("{file}: {num:,} rows repeat the header; rejected, listed in rejects.parquet", file=file,
                             num=num) for file, num in part.headers.items()]
    totals = [file for part in files for file in part.totals]
    if len(totals) == 1:
        sentences.append(Phrase("the last row of {file} is a total; left out, listed in rejects.parquet",
                                file=totals[0]))
    elif totals:
        sentences.append(Phrase("files whose last row is a total: {files}; left out, listed in rejects.parquet",
                                files=format_count(len(totals), totals)))
    return sentences + _unchecked([source for part in files for source in part.sources])


def _unchecked(sources: list[Source]) -> list[Phrase]:
    """Return a note on .zst files without checksums, in which damage cannot be detected."""
    paths = dict.fromkeys(str(source.path) for source in sources
                          if source.compression == "zstd" and not has_checksums(source.path))
    if not paths:
        return []
    return [Phrase(".zst files without a checksum, so damage may go unnoticed: {files}; the command `zstd` adds "
                   "checksums", files=format_count(len(paths), list(paths)))]


def _time_advice(first: list[Reject]) -> str:
    """Return the form of rejected times and the setting that reads it; "" without rejected times."""
    texts = [match[1] for r in first if r.column == "timestamp" and (match := _NO_TIME.match(r.reason))]
    hint = advice(texts)
    return f"'{texts[0]}' {hint}" if hint else ""


def _decimal_advice(first: list[Reject]) -> str:
    """Return a sentence on how to write the first number with a decimal comma; "" without such rejects."""
    texts = [(r.column, r.reason[1:].split("'")[0]) for r in first if r.reason.endswith(HAS_DECIMAL_COMMA)]
    return f"In the column {texts[0][0]}, {decimal_advice(texts[0][1])}" if texts else ""


def _round_up(share: float) -> str:
    """Return the smallest round number of a list that is at least `share`."""
    return next(f"{step:g}" for step in (0.001, 0.01, 0.05) if share <= step)


def refuse_warnings(account: Account, strict: bool) -> None:
    """Raise DataError with all warnings about likely faults if dataset.audit=strict (`strict`)."""
    faults = [sentence for sentence in account.warnings if sentence not in account.cautions]
    if strict and faults:
        sentences = "\n".join(f"  {sentence}" for sentence in faults)
        raise DataError(f"dataset.audit=strict: nothing was written because of these warnings:\n{sentences}\n"
                        f"Repair the data, or set dataset.audit=warn to write it anyway")


def print_sentence(sentence: str) -> None:
    """Print a sentence, or lines, to stderr."""
    print("\n".join(map(printable, sentence.split("\n"))), file=sys.stderr)


def print_summary(account: Account, manifest: dict[str, Any], folder: str) -> None:
    """Print warnings, the table of row counts, and notes to stderr."""
    counts = manifest["counts"]
    for sentence in account.warnings:
        print_sentence(f"WARNING: {printable(sentence)}")
    print_sentence(f"prepared '{manifest['name']}' in {folder}")
    rows = [(name, f"{counts[key]:,}", why) for name, key, why in _ROWS
            if key in counts and (counts[key] or key in _ALWAYS)]
    print_sentence(columns(("interactions", "rows", "why"), rows, align="lrl"))
    print_sentence(f"{counts['users']:,} users, {counts['items']:,} items; fingerprint {manifest['fingerprint'][:16]}")
    for sentence in account.notes:
        print_sentence(f"- {printable(sentence)}")
    if "audit.html" in manifest["files"]:
        print_sentence(f"splits, popularity, texts and leakage checks: {folder}/audit.html")


_ALWAYS = ("read", "interactions", "train", "valid", "test")
_ROWS = (("read", "read", ""), ("prepared before", "earlier", "valid rows of the earlier data; mode=append"),
         ("  rejected", "rejected", "unreadable or invalid; listed in rejects.parquet"),
         ("  merged", "duplicates", "repeated pairs of user and item; dataset.duplicates"),
         ("  ignored", "ignored_events", "events with weight 0; dataset.event_weights"),
         ("  dropped", "dropped_ids", "ids in dataset.drop_users or dataset.drop_items"),
         ("  other times", "outside_times", "after dataset.newest or before dataset.oldest"),
         ("  not positive", "not_positive", "value of 0 or below; dataset.min_value"),
         ("  too low", "below_min_value", FILTER_REASONS["below_min_value"]),
         ("  too few", "below_core", FILTER_REASONS["below_core"]),
         ("  leaked", "leaks", "held-out pairs that an earlier split has too; split.leaks"),
         ("negative", "negatives", "dislikes, written to negatives.parquet"),
         ("kept", "interactions", ""), ("  train", "train", ""), ("  valid", "valid", "for model selection"),
         ("  test", "test", "for the final evaluation only"),
         ("  tied in time", "interactions_tied", "same time as another interaction of the user"))
