"""Where the interactions, items and users come from, and which of them are kept."""

import codecs
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
    """Name of the prepared data: letters, digits, '_', '-', '.'; not `latest`, which names the newest."""
    item_text: str = ""
    """Template of an item's text over the item's columns, '{title} ({year})'; empty joins all columns."""
    user_text: str = ""
    """Template of a user's text over the user's columns; empty for no text."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Item columns that are attributes: column -> category | list."""
    user_attributes: dict[str, str] = field(default_factory=dict)
    """User columns that are attributes: column -> category | list."""
    list_separator: str = "|"
    """Separates the values of a list attribute; a JSON array needs none."""
    max_text_length: int = 20000
    """Characters of a text that are kept, at least 1; encoders cut much earlier, by their max_length in tokens."""
    min_value: float | None = None
    """Keep interactions whose value is at least this, after duplicates are merged; null keeps all."""
    min_user_interactions: int = 0
    """Fewest interactions of a user that is kept (iterated with min_item_interactions), at least 0; above 0 only these
    users are kept."""
    min_item_interactions: int = 0
    """Fewest interactions of an item that is kept, at least 0; above 0 the catalogue is only these items."""
    duplicates: str = "keep_last"
    """keep_last | keep_first | sum | max | error: what becomes of several interactions of one user with one item.
    First and last are by timestamp, then by value, never by the order in the file; sum and max are of the values,
    with the last timestamp."""
    timestamp_unit: str = "auto"
    """auto | s | ms | iso | order: how timestamps are written; order is any whole number that grows with time."""
    max_reject_share: float = 0.001
    """Largest share of a file's rows that may be bad before the run stops, 0 to 1."""

    def problems(self) -> Iterator[str]:
        if not self.name or not all(c.isalnum() or c in "_-." for c in self.name) or self.name.startswith("."):
            yield f"name={self.name}: use letters, digits, '_', '-' and '.', not starting with '.'"
        if self.name == "latest":
            yield "name=latest: is the link to the data prepared last; choose another name"
        yield from self.check("min_user_interactions", "min_item_interactions", least=0)
        yield from self.check("max_text_length", least=1)
        yield from self.check("max_reject_share", least=0, most=1)
        yield from self.check("duplicates", among=("keep_last", "keep_first", "sum", "max", "error"))
        yield from self.check("timestamp_unit", among=("auto", "s", "ms", "iso", "order"))
        if not self.list_separator:
            yield "list_separator=: must be at least one character"
        for key in ("attributes", "user_attributes"):
            for column, what in getattr(self, key).items():
                if what not in ("category", "list"):
                    yield f"{key}.{column}={what}: choose one of category, list"


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
    """Your names for user_id, item_id, value, timestamp and title, in all files."""
    item_columns: dict[str, str] = field(default_factory=dict)
    """Your names for item_id and title in dataset.items, where they differ from dataset.columns."""
    user_columns: dict[str, str] = field(default_factory=dict)
    """Your names for user_id and title in dataset.users, where they differ from dataset.columns."""
    encoding: str = "utf-8"
    """Encoding of CSV, TSV and JSONL, one that extends ASCII: utf-8, latin-1, gb18030, ..."""
    delimiter: str = ""
    """Separates the fields of a row, one character (`\\t` for a tab); empty takes ',' for .csv, tab for .tsv, and for
    other names whichever of comma, tab, ';' and '|' the header has most of."""
    quote: str = '"'
    """Quotes fields that contain the delimiter or a line break, one character; empty where nothing is quoted."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        known = {"columns": COLUMNS, "item_columns": ("item_id", "title"), "user_columns": ("user_id", "title")}
        for key, ours in known.items():
            for name in getattr(self, key):
                if name not in ours:
                    yield f"{key}.{name}: no such column of ours{nearest(name, ours)}; there are {', '.join(ours)}"
        if self.interactions is None and self.train is None:
            yield "interactions: missing; set dataset.interactions=<file> (or dataset.train=<file> with split=given)"
        if len(self.delimiter) > 1 and self.delimiter != "\\t":
            yield f"delimiter={self.delimiter}: must be one character"
        if len(self.quote) > 1:
            yield f"quote={self.quote}: must be one character, or empty"
        yield from self._encoding_problems()

    def _encoding_problems(self) -> Iterator[str]:
        try:
            ascii_stays = "a,\n".encode(self.encoding) == b"a,\n"
        except (LookupError, UnicodeError):
            yield f"encoding={self.encoding}: no such encoding{nearest(self.encoding, _ENCODINGS)}"
            return
        if not ascii_stays or codecs.lookup(self.encoding).name.startswith(("utf-16", "utf-32", "utf-7")):
            yield f"encoding={self.encoding}: only encodings that extend ASCII can be read; convert the file to UTF-8"


_ENCODINGS = ("utf-8", "latin-1", "cp1252", "gb18030", "gbk", "big5", "shift_jis", "euc-jp", "euc-kr", "koi8-r")


@dataclass
class MovieLens100k(DatasetSettings):
    """MovieLens-100K (Harper and Konstan 2015): fetched at run time, or GroupLens's own folder."""

    kind: str = "movielens_100k"
    name: str = "movielens_100k"
    item_text: str = "{title}. {genres}"
    attributes: dict[str, str] = field(default_factory=lambda: {"genres": "list"})
    path: str = ""
    """GroupLens's folder `ml-100k` with u.data, u.item and u.user; empty to fetch the data."""


DATASETS = {"files": Files, "movielens_100k": MovieLens100k}
