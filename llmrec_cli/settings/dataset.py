"""Where the interactions, items and users come from, and which of them are kept."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from llmrec_cli.settings.base import Settings, nearest

COLUMNS = ("user_id", "item_id", "value", "timestamp", "title")


@dataclass
class DatasetSettings(Settings):
    """What every data set has."""

    kind: str = ""
    """The option's name; choose with dataset=<name>."""
    name: str = "data"
    """Name of the prepared data: letters, digits, '_', '-', '.'."""
    item_text: str = ""
    """Template of an item's text over the item's columns, '{title} ({year})'; empty joins all columns."""
    user_text: str = ""
    """Template of a user's text over the user's columns; empty for no text."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Item columns that are attributes: column -> category | list."""
    list_separator: str = "|"
    """Separates the values of a list attribute."""
    min_value: float | None = None
    """Keep interactions whose value is at least this; null keeps all."""
    min_user_interactions: int = 0
    """Fewest interactions of a user that is kept (iterated with min_item_interactions), at least 0."""
    min_item_interactions: int = 0
    """Fewest interactions of an item that is kept, at least 0; above 0 the catalogue is only these items."""
    duplicates: str = "keep_last"
    """keep_last | keep_first | sum | max | error: what becomes of several interactions of one user with one item."""
    timestamp_unit: str = "auto"
    """auto | s | ms | iso | order: how timestamps are written."""
    max_reject_share: float = 0.001
    """Largest share of bad rows before the run stops, 0 to 1."""

    def problems(self) -> Iterator[str]:
        if not self.name or not all(c.isalnum() or c in "_-." for c in self.name) or self.name.startswith("."):
            yield f"name={self.name}: use letters, digits, '_', '-' and '.', not starting with '.'"
        yield from self.check("min_user_interactions", "min_item_interactions", least=0)
        yield from self.check("max_reject_share", least=0, most=1)
        yield from self.check("duplicates", among=("keep_last", "keep_first", "sum", "max", "error"))
        yield from self.check("timestamp_unit", among=("auto", "s", "ms", "iso", "order"))
        for column, what in self.attributes.items():
            if what not in ("category", "list"):
                yield f"attributes.{column}={what}: choose one of category, list"


@dataclass
class Files(DatasetSettings):
    """Anyone's CSV, TSV, JSONL and Parquet, plain, .gz or .zst: one file, a list or a glob."""

    kind: str = "files"
    interactions: str | list[str] | None = None
    """File(s) with user_id, item_id and optionally value and timestamp."""
    train: str | list[str] | None = None
    """With split=given: the training interactions."""
    valid: str | list[str] | None = None
    """With split=given: the validation interactions."""
    test: str | list[str] | None = None
    """With split=given: the test interactions."""
    items: str | list[str] | None = None
    """File(s) with item_id and any columns."""
    users: str | list[str] | None = None
    """File(s) with user_id and any columns."""
    columns: dict[str, str] = field(default_factory=dict)
    """Your names for user_id, item_id, value, timestamp and title."""
    encoding: str = "utf-8"
    """Encoding of text files."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        for name in self.columns:
            if name not in COLUMNS:
                yield f"columns.{name}: no such column of ours{nearest(name, COLUMNS)}; there are {', '.join(COLUMNS)}"
        if self.interactions is None and self.train is None:
            yield "interactions: missing; set dataset.interactions=<file> (or dataset.train=<file> with split=given)"


@dataclass
class MovieLens100k(DatasetSettings):
    """MovieLens-100K (Harper and Konstan 2015): fetched at run time, or GroupLens's own folder."""

    kind: str = "movielens_100k"
    name: str = "movielens_100k"
    path: str = ""
    """GroupLens's folder `ml-100k` with u.data and u.item; empty to fetch the data."""


DATASETS = {"files": Files, "movielens_100k": MovieLens100k}
