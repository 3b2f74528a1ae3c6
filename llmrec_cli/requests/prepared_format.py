"""Reading a file given beside a model like the files of `prepare`: names of columns, delimiter, encoding, nulls.

A file in llmrec's own names, or in the usual format, is read too: of the ways to read a file, the one that finds most
of the columns is taken, and on a tie that of `prepare`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmrec_cli.data.file_rules import FileRules
from llmrec_cli.errors import LlmrecError
from llmrec_cli.ingest.readers.lines import UTF8_BOM, read_head
from llmrec_cli.ingest.readers.raw_files import open_raw
from llmrec_cli.ingest.readers.sniffing import SAMPLE, with_format
from llmrec_cli.ingest.readers.sources import Source, steps_of
from llmrec_cli.settings.formats import FormatSettings


@dataclass(frozen=True)
class PreparedFormat:
    """A file with one of the formats it may have.

    Attributes
    ----------
    source : the file, with its format and the mapping of its columns
    score : number of our columns in the file
    notes : sentences about columns that could be read in two ways
    """

    source: Source
    score: int = -1
    notes: tuple[str, ...] = ()


Nulls = Mapping[str, tuple[str, ...]]


def prepared_format(path: Path, rules: Sequence[FileRules], ours: Sequence[str], mapped: Sequence[str] | None = None,
                    inside: tuple[str, ...] = ()) -> PreparedFormat:
    """Return how to read a file with our columns `ours`, like the files that `rules` are about if possible.

    `mapped` are the columns that may have the name they had in these files, by default all. `inside` are paths inside
    arrays and objects that are columns too.
    """
    plain = Source(path, columns_key="", paths=inside)  # No setting maps columns here.
    tried: list[Source] = []
    best = PreparedFormat(plain)
    for source, nulls in (*_ways(plain, rules, ours if mapped is None else mapped), (plain, {})):
        if source not in tried:
            tried.append(source)
            one = _matched(source, nulls, ours)
            best = one if one.score > best.score else best
    return best


def _ways(plain: Source, rules: Sequence[FileRules], mapped: Sequence[str]) -> Iterator[tuple[Source, Nulls]]:
    """Yield the file with the format of each of the rules, and then with their names of columns only."""
    columns = [{ours: theirs for ours, theirs in one.columns.items() if ours in mapped} for one in rules]
    named = [replace(plain, columns=names, explode=one.explode, separator=one.separator)
             for one, names in zip(rules, columns, strict=True)]
    for one, source in zip(rules, named, strict=True):
        yield replace(source, names=one.header or None, given=_format_for(plain, one.format)), one.nulls
    yield from ((source, {}) for source in named)


def _format_for(source: Source, given: FormatSettings) -> FormatSettings:
    """Return the format of the rules, but UTF-8 for a file that is UTF-8 beyond ASCII."""
    if not given.encoding or source.format == "parquet":
        return given
    head = read_head(source, SAMPLE)
    try:
        is_utf8 = head.startswith(UTF8_BOM) or (not head.isascii() and bool(head.decode("utf-8")))
    except UnicodeDecodeError:
        is_utf8 = False
    return replace(given, encoding="utf-8") if is_utf8 else given


def _matched(source: Source, nulls: Nulls, ours: Sequence[str]) -> PreparedFormat:
    """Return how to read the file in this way, with the mapping of only those columns that the file has."""
    try:
        source = with_format(source)
        names = _names_in(source)
        own = {*ours, *source.columns.values(), *(source.names or ())}
        if source.names and own & {*_names_in(replace(source, names=None))}:
            return PreparedFormat(source)  # The files of `prepare` had no header, and this one does.
    except LlmrecError:
        return PreparedFormat(source)  # Another way may fit; if none does, reading the file says why.
    columns = {one: theirs for one, theirs in source.columns.items() if steps_of(theirs)[0] in names}
    matches = [one for one in ours if one in columns or one in names]
    notes = tuple(f"{source.path}: '{theirs}' is read as {one}, as in the prepared files, and the column '{one}' is "
                  f"not used; leave one of the two out" for one, theirs in columns.items() if one in names)
    if source.text_format is not None and nulls:
        before = source.text_format.nulls
        both = {name: tuple(dict.fromkeys((*before.get(name, ()), *nulls.get(name, ())))) for name in {*before, *nulls}}
        source = replace(source, text_format=replace(source.text_format, nulls=both))
    explode = tuple(one for one in source.explode if one in matches)
    return PreparedFormat(replace(source, columns=columns, explode=explode), len(matches), notes)


def _names_in(source: Source) -> tuple[str, ...]:
    """Return the names of the columns in a file."""
    return open_raw(replace(source, columns={}, explode=(), paths=()), (), (), rest=True, hasty=False).columns
