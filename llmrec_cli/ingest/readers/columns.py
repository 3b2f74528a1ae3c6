"""Finding our columns among the columns of a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.language.phrases import Joined, Phrase
from llmrec_cli.settings.base import nearest

if TYPE_CHECKING:
    from llmrec_cli.ingest.readers.staging import StagedFiles

_TYPES = ("token", "token_seq", "float", "float_seq")
"""Types that RecBole appends to column names after a colon."""
_DIVIDERS = ("\t", ";", "|", ",", "^", "~", ":", "\x01")
_HEADERS = {("dataset.columns", "user_id"): "dataset.header",
            ("dataset.item_columns", "item_id"): "dataset.item_header",
            ("dataset.user_columns", "user_id"): "dataset.user_header"}
"""(mapping setting, our first column) -> the setting that names the columns of a file without a header."""


def check_names(source: Source, names: list[str]) -> None:
    """Raise DataError if two columns have the same name."""
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{source.path}: two columns are called '{name}'; rename one of them in the header")


def plain_names(source: Source, names: list[str]) -> list[str]:
    """Return the names without RecBole's types (`user_id:token` becomes user_id) unless a column has the plain name.

    Raises DataError if two columns have the same name.
    """
    check_names(source, names)
    plain: dict[str, str] = {}
    for name in names:
        before, colon, kind = name.rpartition(":")
        bare = before if colon and before and kind in _TYPES and before not in names else name
        if bare in plain:
            raise DataError(f"{source.path}: two columns are called '{bare}', as '{plain[bare]}' and as '{name}'; "
                            f"rename one of them in the header")
        plain[bare] = name
    return list(plain)


def locate(source: Source, names: list[str], required: tuple[str, ...], optional: tuple[str, ...],
           notes: list[Phrase] | None = None) -> dict[str, int]:
    """Return the place of each of our columns in the file's `names`, without absent optional columns.

    A column that the settings do not map is also found in another case (`Title`), which adds a note; if several columns
    differ only by case, none is used. Raises DataError if a required or mapped column is missing.
    """
    plain = plain_names(source, names)
    places = {}
    for ours in (*required, *optional):
        theirs = source.columns.get(ours, ours)
        if theirs not in names and theirs not in plain and ours in required:
            theirs = ours  # dataset.columns.item_id=sku may be for another file, and this one has item_id already
        if theirs not in names and theirs not in plain and theirs == ours:
            theirs = _in_other_case(source, plain, ours, ours in required, notes if notes is not None else [])
        if theirs in names or theirs in plain:
            places[ours] = (names if theirs in names else plain).index(theirs)
        elif ours in required or ours in source.columns:
            raise DataError(missing_message(source, plain, ours))
    ours_at: dict[int, str] = {}
    for ours, place in places.items():
        if place in ours_at:
            raise DataError(f"{source.path}: {source.columns_key} maps both {ours_at[place]} and {ours} to "
                            f"'{names[place]}'; map each to its own column")
        ours_at[place] = ours
    return places


def _in_other_case(source: Source, names: list[str], ours: str, required: bool, notes: list[Phrase]) -> str:
    """Return the only column whose name is ours in another case; `ours` if there is none, or several."""
    matches = [name for name in names if name.casefold() == ours]
    listed = Joined((f"'{name}'" for name in matches), " and ")
    if len(matches) == 1:
        notes.append(Phrase("{file}: column '{column}' is read as {ours}", file=source.path, column=matches[0],
                            ours=ours))
        return matches[0]
    how = (Phrase("with {setting}=<name>", setting=f"{source.columns_key}.{ours}") if source.columns_key else
           Phrase("by renaming it"))
    if matches and required:
        raise DataError(f"{source.path}: no column '{ours}', but {listed}; choose one {how}")
    if matches:
        notes.append(Phrase("{file}: {columns} differ only by case, so none is read as {ours}; choose one {how}",
                            file=source.path, columns=listed, ours=ours, how=how))
    return ours


def mapped_columns(source: Source, names: list[str]) -> set[str]:
    """Return our columns that dataset.columns maps to a column of the file."""
    there = {*names, *plain_names(source, names)}
    return {ours for ours, theirs in source.columns.items() if theirs in there}


def refuse_unused(wanted: dict[str, str], used: set[str]) -> None:
    """Raise ConfigError for a mapping of a required column that no file uses.

    `wanted` is our name -> the setting as typed. A mapping may be for only one of several files.
    """
    problems = [f"{typed}: no file has a column of that name, so it has no effect; name an existing column, or remove "
                f"the setting" for ours, typed in wanted.items() if ours not in used]
    if problems:
        raise ConfigError(problems)


def refuse_idle_explode(files: Sequence[StagedFiles]) -> None:
    """Raise ConfigError for dataset.explode if no file has an array in these columns."""
    explode = {name for part in files for source in part.sources for name in source.explode}
    if explode and not any(part.num_exploded for part in files):
        raise ConfigError(f"dataset.explode={','.join(sorted(explode))}: has no effect, since no row has an array "
                          f"there; remove it, or map the column of arrays with dataset.columns.<name>=<yours>")


def missing_message(source: Source, names: list[str], ours: str) -> str:
    """Return the message for a missing column."""
    theirs = source.columns.get(ours, ours)
    listed = ", ".join(f"'{n}'" for n in names[:12]) + (", ..." if len(names) > 12 else "")
    fix = f"map it with {source.columns_key}.{ours}=<name>" if source.columns_key else "rename the column that holds it"
    return f"{source.path}: no column '{theirs}'; there are {listed}; {_other_cause(source, names, ours) or fix}" \
           f"{nearest(theirs, names)}{_skipped(source)}"


def _skipped(source: Source) -> str:
    """Return a clause on the lines skipped before the header, since the header may be one of them; "" without any."""
    num = source.text_format.skip_rows if source.text_format is not None else 0
    if not num or source.format != "delimited":
        return ""
    why = f"skip_rows={num} skipped" if source.given.skip_rows is not None else \
        "reading skipped, as lines before the header,"
    return (f"; {why} the first {'line' if num == 1 else f'{num} lines'} of this file: if the header is among them, "
            f"set {source.format_key or 'dataset'}.skip_rows to the number of lines before it")


def _other_cause(source: Source, names: list[str], ours: str) -> str:
    """Return the remedy if the file has no proper header, or "" if only a name differs."""
    if not source.columns_key or source.format != "delimited":
        return ""
    divider = next((d for d in _DIVIDERS if len(names) == 1 and d in names[0]), "")
    if divider:
        written = divider.replace("\t", "\\t")
        key = source.format_key or "dataset"
        return f"its fields seem to be separated by '{written}'; set {key}.delimiter='{written}'"
    header = _HEADERS.get((source.columns_key, ours))
    if header and source.names is None and any(name.isdecimal() for name in names):
        return f"if the file has no header, name its columns with {header}=[{ours},...]; otherwise map it with " \
               f"{source.columns_key}.{ours}=<name>"
    return ""
