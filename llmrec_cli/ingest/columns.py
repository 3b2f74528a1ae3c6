"""Finding the columns we need among those a file has."""

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.sources import Source
from llmrec_cli.settings.base import nearest


def check_names(source: Source, names: list[str]) -> None:
    """Raise DataError when two columns have the same name."""
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{source.path}: the column '{name}' is there twice; rename one of them in the header")


def locate(source: Source, names: list[str], required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, int]:
    """Return the place of each of our columns in the file's `names`; an optional one that is absent is left out.

    Raises DataError for a required column, or one that dataset.columns maps, that the file does not have.
    """
    check_names(source, names)
    places = {}
    for ours in (*required, *optional):
        theirs = source.columns.get(ours, ours)
        if theirs not in names and ours in required:
            theirs = ours  # dataset.columns.item_id=sku is meant for one file, and another has item_id already
        if theirs in names:
            places[ours] = names.index(theirs)
        elif ours in required or ours in source.columns:
            raise DataError(missing(source, names, ours))
    taken: dict[int, str] = {}
    for ours, place in places.items():
        if place in taken:
            raise DataError(f"{source.path}: {source.columns_key} maps both {taken[place]} and {ours} to "
                            f"'{names[place]}'; each needs a column of its own")
        taken[place] = ours
    return places


def missing(source: Source, names: list[str], ours: str) -> str:
    """Return the sentence for a column that is not there."""
    theirs = source.columns.get(ours, ours)
    shown = ", ".join(f"'{n}'" for n in names[:12]) + (", ..." if len(names) > 12 else "")
    fix = f"map it with {source.columns_key}.{ours}=<name>"
    return f"{source.path}: no column '{theirs}'; there are {shown}; {fix}{nearest(theirs, names)}"
