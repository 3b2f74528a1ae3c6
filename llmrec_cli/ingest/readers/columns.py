"""Finding the columns we need among those a file has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.settings.base import nearest

if TYPE_CHECKING:
    from llmrec_cli.ingest.readers.staging import Staged

_TYPES = ("token", "token_seq", "float", "float_seq")
"""What RecBole writes behind a column's name, after a colon."""
_DIVIDERS = ("\t", ";", "|", ",")
_HEADERS = {("dataset.columns", "user_id"): "dataset.header",
            ("dataset.item_columns", "item_id"): "dataset.item_header",
            ("dataset.user_columns", "user_id"): "dataset.user_header"}
"""The setting that names the columns of a file without a header, by the setting that maps them and our first column."""


def check_names(source: Source, names: list[str]) -> None:
    """Raise DataError when two columns have the same name."""
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{source.path}: the column '{name}' is there twice; rename one of them in the header")


def plain_names(source: Source, names: list[str]) -> list[str]:
    """Return the names without RecBole's types, `user_id:token` as user_id, where no column has the plain name.

    Raises DataError when two columns have the same name.
    """
    check_names(source, names)
    plain: dict[str, str] = {}
    for name in names:
        before, colon, kind = name.rpartition(":")
        found = before if colon and before and kind in _TYPES and before not in names else name
        if found in plain:
            raise DataError(f"{source.path}: the column '{found}' is there twice, as '{plain[found]}' and as '{name}'; "
                            f"rename one of them in the header")
        plain[found] = name
    return list(plain)


def locate(source: Source, names: list[str], required: tuple[str, ...], optional: tuple[str, ...],
           notes: list[str] | None = None) -> dict[str, int]:
    """Return the place of each of our columns in the file's `names`; an optional one that is absent is left out.

    A column without another name is found in any case, `Title`, which joins `notes`; of two that differ by case none is
    taken. Raises DataError for a required column, or one that dataset.columns maps, that the file does not have.
    """
    plain = plain_names(source, names)
    places = {}
    for ours in (*required, *optional):
        theirs = source.columns.get(ours, ours)
        if theirs not in names and theirs not in plain and ours in required:
            theirs = ours  # dataset.columns.item_id=sku is meant for one file, and another has item_id already
        if theirs not in names and theirs not in plain and theirs == ours:
            theirs = _in_other_case(source, plain, ours, ours in required, notes if notes is not None else [])
        if theirs in names or theirs in plain:
            places[ours] = (names if theirs in names else plain).index(theirs)
        elif ours in required or ours in source.columns:
            raise DataError(missing(source, plain, ours))
    taken: dict[int, str] = {}
    for ours, place in places.items():
        if place in taken:
            raise DataError(f"{source.path}: {source.columns_key} maps both {taken[place]} and {ours} to "
                            f"'{names[place]}'; each needs a column of its own")
        taken[place] = ours
    return places


def _in_other_case(source: Source, names: list[str], ours: str, required: bool, notes: list[str]) -> str:
    """Return the one column whose name is ours in another case; ours when there is none, or several."""
    found = [name for name in names if name.casefold() == ours]
    shown = " and ".join(f"'{name}'" for name in found)
    how = f"with {source.columns_key}.{ours}=<name>" if source.columns_key else "by renaming it"
    if len(found) == 1:
        notes.append(f"{source.path}: the column '{found[0]}' is taken for {ours}")
        return found[0]
    if found and required:
        raise DataError(f"{source.path}: no column '{ours}', but {shown}; say "
                        f"which is meant {how}")
    if found:
        notes.append(f"{source.path}: {shown} differ by case alone, so none is "
                     f"taken for {ours}; say which is meant {how}")
    return ours


def mapped(source: Source, names: list[str]) -> set[str]:
    """Return those of our columns whose other name, by dataset.columns, the file has."""
    there = {*names, *plain_names(source, names)}
    return {ours for ours, theirs in source.columns.items() if theirs in there}


def refuse_unused(wanted: dict[str, str], used: set[str]) -> None:
    """Raise ConfigError for a name that a person gave to a column that files must have, and that no file has.

    `wanted` is our name -> the setting as it was typed. A file alone may lack it, since another is meant.
    """
    problems = [f"{typed}: no file has a column of that name, so it has no effect; name the column that is meant, or "
                f"leave it out" for ours, typed in wanted.items() if ours not in used]
    if problems:
        raise ConfigError(problems)


def refuse_idle_explode(files: Sequence[Staged]) -> None:
    """Raise ConfigError for dataset.explode where no file has an array in these columns."""
    explode = {name for part in files for source in part.sources for name in source.explode}
    if explode and not any(part.num_exploded for part in files):
        raise ConfigError(f"dataset.explode={','.join(sorted(explode))}: has no effect, since no row has an array "
                          f"there; leave it out, or map the column that has one with dataset.columns.<name>=<yours>")


def missing(source: Source, names: list[str], ours: str) -> str:
    """Return the sentence for a column that is not there."""
    theirs = source.columns.get(ours, ours)
    shown = ", ".join(f"'{n}'" for n in names[:12]) + (", ..." if len(names) > 12 else "")
    fix = f"map it with {source.columns_key}.{ours}=<name>" if source.columns_key else "rename the column that holds it"
    return f"{source.path}: no column '{theirs}'; there are {shown}; {_other_cause(source, names, ours) or fix}" \
           f"{nearest(theirs, names)}"


def _other_cause(source: Source, names: list[str], ours: str) -> str:
    """Return what to do when the file has no such header at all, or "" when only a name is another."""
    if not source.columns_key or source.format != "delimited":
        return ""
    divider = next((d for d in _DIVIDERS if len(names) == 1 and d in names[0]), "")
    if divider:
        shown = divider.replace("\t", "\\t")
        name = ".tsv" if divider == "\t" else ".txt, whose header decides"
        return f"its fields seem to be divided by '{shown}', so set dataset.delimiter='{shown}', or name it {name}"
    header = _HEADERS.get((source.columns_key, ours))
    if header and source.names is None and any(name.isdecimal() for name in names):
        return f"if line 1 is a row already, name the columns with {header}=[{ours},...]; otherwise map it with " \
               f"{source.columns_key}.{ours}=<name>"
    return ""
