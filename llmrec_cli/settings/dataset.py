"""Data sets: the files of interactions, items and users, and the rows that are kept."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings, Settings, nearest
from llmrec_cli.settings.cluster_users import ClusterUsersSettings
from llmrec_cli.settings.time_format import format_problems

COLUMNS = ("user_id", "item_id", "value", "timestamp", "event", "title", "group_id", "head", "relation", "tail",
           "entity_id", "text", "order")
EXPLODABLE = ("item_id", "user_id", "value", "timestamp", "event", "order", "group_id", "entity_id")
DUPLICATES = ("keep_last", "keep_first", "sum", "max", "error")
VALUES = ("strength", "rating")
VALUE_KINDS = ("event_weight", *VALUES)
"""Kinds of values as manifests name them."""
_ATTRIBUTE_TYPES = ("category", "list", "number", "text", "image")


@dataclass
class KnowledgeSettings(Settings):
    """A knowledge graph: triples, and which of their entities are items."""

    shorthand: ClassVar[str] = "triples"
    """dataset.knowledge=<file> means dataset.knowledge.triples=<file>."""
    triples: str | list[str] | None = None
    """File(s) with head, relation and tail."""
    entities: str | list[str] | None = None
    """File(s) with entity_id and any columns, their names for instance."""
    link_on: list[str] = field(default_factory=list)
    """Item columns by which entities are found when there is no dataset.links: an entity is an item when all of them
    are equal, in any case and punctuation, and no other is. What an entity has is in knowledge.entities, else the tail
    of its triple whose relation has the column's name."""
    relations: dict[str, str] = field(default_factory=dict)
    """Item column -> relation or column of knowledge.entities that says the same of entities, where the names differ;
    {year: film.release_year}."""

    def problems(self) -> Iterator[str]:
        if self.triples is None and (self.entities is not None or self.link_on or self.relations):
            yield "triples: missing; set dataset.knowledge=<file> with head, relation and tail"


@dataclass
class DatasetSettings(OptionSettings):
    """Settings of every data set; `implementation` is a function (settings, split kind, scratch folder) -> Sources."""

    kind: str = ""
    """The option's name; choose with dataset=<name>."""
    own_knowledge: ClassVar[bool] = False
    """Whether the data set brings triples of its own when dataset.links is set and dataset.knowledge is not."""
    name: str = "data"
    """Name of the prepared data: letters, digits, '_', '-', '.'; not `latest`, which names the newest."""
    item_text: str = ""
    """Template of an item's text over the item's columns, '{title} ({year})'; empty joins all columns."""
    user_text: str = ""
    """Template of a user's text over the user's columns; {history} is the titles of the training history, oldest
    first; empty for no text."""
    history_titles: int = 20
    """Titles in {history}, the newest ones, at least 1."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Item columns that are attributes: column -> category | list | number | text | image. A number becomes one of ten
    classes of equal size among trained items; text and image are no attributes of a model, but are checked and kept."""
    user_attributes: dict[str, str] = field(default_factory=dict)
    """User columns that are attributes: column -> category | list | number | text | image."""
    group_text: str = ""
    """Template of a group's text over the columns of dataset.group_info; empty joins all of them."""
    group_attributes: dict[str, str] = field(default_factory=dict)
    """Group columns that are attributes: column -> category | list | number | text | image."""
    list_separator: str = "|"
    """Separates the values of a list attribute; a JSON array needs none."""
    max_text_length: int = 20000
    """Characters of a text that are kept, at least 1; encoders cut much earlier, by their max_length in tokens."""
    strip_html: bool = True
    """Take HTML tags and entities out of titles, texts and attributes."""
    feedback: str = "implicit"
    """implicit | explicit: whether a value is how strong a sign of interest is (clicks, counts, dwell time), or an
    opinion, in which case what is below min_value is kept apart as a dislike, in negatives.parquet."""
    values: str = "auto"
    """auto | strength | rating: kind of the values. Strengths, such as counts, amounts and durations, are weights in
    training by default; ratings are not (head.weight changes this). auto: rating if min_value is above 0 or
    feedback=explicit, else strength; always strength with duplicates=sum; event weights if event_weights is set."""
    event_weights: dict[str, float] = field(default_factory=dict)
    """Weight of each kind of event in the column `event`, {view: 1, buy: 5}: the value is multiplied by it; 0 leaves
    such events out; an event that is not named is a bad row."""
    min_value: float | None = None
    """Least value of kept interactions, after duplicates are merged. null keeps positive values, since returns and
    unopened items are not signs of interest; 0 keeps zeros too."""
    max_negative_value: float | None = None
    """With feedback=explicit: largest value of a dislike, below min_value; what lies between is neither; null for all
    below min_value."""
    min_user_interactions: int = 0
    """Fewest interactions of a user that is kept (iterated with min_item_interactions), at least 0; above 0 only these
    users are kept."""
    min_item_interactions: int = 0
    """Fewest interactions of an item that is kept, at least 0; above 0 the catalogue is only these items."""
    drop_users: list[str] = field(default_factory=list)
    """User ids to leave out everywhere, [guest,nan]: placeholders that stand for many people."""
    drop_items: list[str] = field(default_factory=list)
    """Item ids to leave out everywhere, placeholders for instance."""
    newest: str | None = None
    """Newest time of interactions to keep, written like the timestamps or as 2024-05-31 (this day is kept). Later
    interactions, for example from a wrong clock, are left out. null keeps all."""
    oldest: str | None = None
    """Oldest time of interactions to keep, written like `newest`; null keeps all."""
    duplicates: str = "auto"
    """auto | keep_last | keep_first | sum | max | error: rule for several interactions of one user with one item.
    keep_last and keep_first go by timestamp, then dataset.columns.order, then a salted hash of the row, never by the
    order in the file. max keeps the row with the largest value, the earliest if several have it. sum adds up the values
    and takes the last timestamp. error stops. auto: keep_last without event_weights; with them max, or sum if a weight
    is negative."""
    timestamp_unit: str = "auto"
    """auto | s | ms | us | ns | iso | excel | order: unit of timestamps: seconds, milliseconds, microseconds or
    nanoseconds since 1970, ISO 8601, days since 1899-12-30 (as in spreadsheets), or whole numbers that grow with time.
    auto detects the unit."""
    timestamp_format: str = ""
    """Pattern of other timestamps, for example '%d/%m/%Y %H:%M', with strptime's %Y %y %m %d %H %I %p %M %S %f %b %a %z
    %Z. Times are UTC if the pattern has no zone. Empty: timestamps are read by dataset.timestamp_unit."""
    max_reject_share: float = 0.001
    """Largest share of a file's rows that may be bad before the run stops, 0 to 1."""
    knowledge: KnowledgeSettings = field(default_factory=KnowledgeSettings)
    """Triples about the items, and how items are found among their entities."""
    synthetic_groups: str = ""
    """random | similar: make groups of users for a demonstration, by chance or of users with like histories; empty for
    the groups that files name, if any."""
    num_groups: int = 500
    """Synthetic groups to make, at least 1."""
    group_size: list[int] = field(default_factory=lambda: [2, 8])
    """Fewest and most members of a synthetic group, at least 2; every size between is as likely."""
    group_share: float = 0.5
    """Share of its members, two at least, that must have an item for a synthetic group to have it, above 0 to 1."""
    group_seed: int = 42
    """Seed of the synthetic groups."""
    cluster_users: ClusterUsersSettings = field(default_factory=ClusterUsersSettings)
    """Make groups of users who are alike, where there are none: dataset.cluster_users=true."""
    links: str | list[str] | None = None
    """File(s) with item_id and entity_id: which entity of the knowledge an item is."""
    documents: str | list[str] | None = None
    """File(s) with text and item_id or entity_id: documents about items, several for an item or none, in any language;
    those about an entity go through the links."""
    audit: str = "warn"
    """warn | strict: whether what the audit warns of stops the run."""

    def problems(self) -> Iterator[str]:
        if not self.name or not all(c.isalnum() or c in "_-." for c in self.name) or self.name.startswith("."):
            yield f"name={self.name}: use letters, digits, '_', '-' and '.', not starting with '.'"
        if self.name == "latest":
            yield "name=latest: is the link to the data prepared last; choose another name"
        yield from self.check("min_user_interactions", "min_item_interactions", least=0)
        yield from self.check("max_text_length", "history_titles", least=1)
        yield from self.check("max_reject_share", least=0, most=1)
        yield from self.check("duplicates", among=("auto", *DUPLICATES))
        yield from self.check("timestamp_unit", among=("auto", "s", "ms", "us", "ns", "iso", "excel", "order"))
        if self.timestamp_format:
            if self.timestamp_unit != "auto":
                yield (f"timestamp_format={self.timestamp_format}: stands beside timestamp_unit={self.timestamp_unit}; "
                       f"leave out one of the two")
            yield from format_problems(self.timestamp_format)
        yield from self.check("feedback", among=("implicit", "explicit"))
        yield from self.check("values", among=("auto", *VALUES))
        yield from self.check("audit", among=("warn", "strict"))
        if self.max_negative_value is not None:
            if self.feedback != "explicit" or self.min_value is None:
                yield (f"max_negative_value={self.max_negative_value:g}: has an effect only with feedback=explicit and "
                       f"min_value; set both or leave it out")
            elif self.max_negative_value >= self.min_value:
                yield f"max_negative_value={self.max_negative_value:g}: must be below min_value={self.min_value:g}"
        if self.links is not None and self.knowledge.triples is None and not self.own_knowledge:
            yield f"links={self.links}: has an effect only with dataset.knowledge=<file of triples>"
        if self.links is not None and self.knowledge.link_on:
            yield "knowledge.link_on: has no effect beside dataset.links; leave out one of the two"
        yield from (f"knowledge.{problem}" for problem in self.knowledge.problems())
        yield from self._problems_of_synthetic_groups()
        yield from (f"cluster_users.{problem}" for problem in self.cluster_users.problems())
        if self.cluster_users.on and self.synthetic_groups:
            yield (f"cluster_users=true: would stand beside dataset.synthetic_groups={self.synthetic_groups}; leave "
                   f"out one of the two")
        if not self.list_separator:
            yield "list_separator=: must be at least one character"
        for key in ("attributes", "user_attributes", "group_attributes"):
            for column, what in getattr(self, key).items():
                if what not in _ATTRIBUTE_TYPES:
                    yield f"{key}.{column}={what}: choose one of {', '.join(_ATTRIBUTE_TYPES)}"

    @property
    def time_unit(self) -> str:
        """Format of timestamps in the settings: a unit, a pattern, or auto."""
        return self.timestamp_format or self.timestamp_unit

    @property
    def made_groups(self) -> str:
        """Rule by which groups are made of users, for the manifest; "" if they are not."""
        return "clusters" if self.cluster_users.on else self.synthetic_groups

    def _problems_of_synthetic_groups(self) -> Iterator[str]:
        usual = DatasetSettings()
        yield from self.check("num_groups", least=1)
        yield from self.check("group_share", above=0, most=1)
        yield from self.check("group_seed", least=0)
        if not self.synthetic_groups:
            yield from (f"{key}: has an effect only with dataset.synthetic_groups=random|similar" for key in
                        ("num_groups", "group_size", "group_share", "group_seed")
                        if getattr(self, key) != getattr(usual, key))
            return
        yield from self.check("synthetic_groups", among=("random", "similar"))
        if len(self.group_size) != 2 or not 2 <= self.group_size[0] <= self.group_size[1]:
            yield f"group_size={self.group_size}: must be the fewest and the most members, [2,8], at least 2"


@dataclass
class FilesSettings(DatasetSettings):
    """Anyone's CSV, TSV, JSONL and Parquet, plain, .gz or .zst: one file, a list or a glob."""

    kind: str = "files"
    implementation: ClassVar[str] = "llmrec_cli.ingest.readers.sources.file_sources"
    path: str = ""
    """Folder that relative file names are in; empty for the current one."""
    origin: str = ""
    """Where the files are to be had and under which terms: what to tell somebody who does not have them."""
    interactions: str | list[str] | None = None
    """File(s) with user_id, item_id and optionally value, timestamp and event."""
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
    groups: str | list[str] | None = None
    """File(s) with group_id and user_id: the members of groups."""
    group_info: str | list[str] | None = None
    """File(s) with group_id and any columns: what is known of groups beside their members."""
    group_interactions: str | list[str] | None = None
    """File(s) with group_id, item_id and optionally value and timestamp, to be divided by split.group."""
    group_train: str | list[str] | None = None
    """With group interactions that are divided already: those to train on."""
    group_valid: str | list[str] | None = None
    """With group interactions that are divided already: those to choose by."""
    group_test: str | list[str] | None = None
    """With group interactions that are divided already: those of the test."""
    columns: dict[str, str] = field(default_factory=dict)
    """Your names for user_id, item_id, value, timestamp, event, title, group_id, head, relation, tail, entity_id
    and text (of dataset.documents), in all files. `order` is a whole number that orders interactions of equal time, or
    all interactions without timestamps; it is used only if it is named here. A path such as user.id reads a value
    inside an object; items[].sku reads a value in each entry of an array and makes a row of each entry."""
    explode: list[str] = field(default_factory=list)
    """Columns (by our names) of interactions, groups and links with arrays, to make a row of each entry;
    [item_id,value] reads two arrays side by side. In CSV an array is JSON, or divided by list_separator. Empty: no
    column."""
    header: list[str] = field(default_factory=list)
    """Names of the columns of interactions in files that have no header; empty where there is one."""
    item_header: list[str] = field(default_factory=list)
    """Names of the columns of dataset.items in files that have no header."""
    user_header: list[str] = field(default_factory=list)
    """Names of the columns of dataset.users in files that have no header."""
    item_columns: dict[str, str] = field(default_factory=dict)
    """Your names for item_id, title and timestamp (when an item was described) in dataset.items, where they differ
    from dataset.columns."""
    user_columns: dict[str, str] = field(default_factory=dict)
    """Your names for user_id and title in dataset.users, where they differ from dataset.columns."""
    group_columns: dict[str, str] = field(default_factory=dict)
    """Your names for group_id and title in dataset.group_info, where they differ from dataset.columns."""
    encoding: str = "utf-8"
    """Encoding of CSV, TSV and JSONL, one that extends ASCII: utf-8, latin-1, gb18030, ..."""
    delimiter: str = ""
    """Separates the fields of a row, one character (`\\t` for a tab); empty takes ',' for .csv, tab for .tsv, and for
    other names whichever of comma, tab, ';' and '|' the header has most of."""
    quote: str = '"'
    """Quotes fields that contain the delimiter or a line break, one character; empty where nothing is quoted."""
    escape: str = ""
    """Escape character of delimited files: `\\` for files that write \\" for a quote inside quotes (a field \\N, as
    MySQL writes it, is then empty). Empty (default): quotes inside quotes are doubled."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        known = {"columns": COLUMNS, "item_columns": ("item_id", "title", "timestamp"),
                 "user_columns": ("user_id", "title"), "group_columns": ("group_id", "title")}
        for key, ours in known.items():
            for name in getattr(self, key):
                if name not in ours:
                    yield f"{key}.{name}: no such column of ours{nearest(name, ours)}; there are {', '.join(ours)}"
        for name in self.explode:
            if name not in EXPLODABLE:
                yield f"explode={name}: no such column of ours{nearest(name, EXPLODABLE)}; choose of " \
                      f"{', '.join(EXPLODABLE)}"
        if self.interactions is None and self.train is None:
            yield "interactions: missing; set dataset.interactions=<file> (or dataset.train=<file> with split=given)"
        given = [key for key in ("group_train", "group_valid", "group_test") if getattr(self, key) is not None]
        if given and (self.group_interactions is not None or "group_train" not in given):
            yield f"{given[0]}: takes dataset.group_train beside it, and no dataset.group_interactions"
        about = [*given, *(key for key in ("group_interactions", "group_info") if getattr(self, key) is not None)]
        if self.groups is None and about:
            yield f"{about[0]}: needs dataset.groups=<file of members>"
        if self.groups is not None and self.cluster_users.on:
            yield "cluster_users=true: would stand beside the groups of dataset.groups; leave out one of the two"
        if self.groups is not None and self.synthetic_groups:
            yield (f"synthetic_groups={self.synthetic_groups}: would stand beside the groups of dataset.groups; leave "
                   f"out one of the two")
        if self.group_columns and self.group_info is None:
            yield "group_columns: has an effect only with dataset.group_info=<file>"
        if len(self.delimiter) > 1 and self.delimiter != "\\t":
            yield f"delimiter={self.delimiter}: must be one character"
        for key in ("quote", "escape"):
            if len(getattr(self, key)) > 1:
                yield f"{key}={getattr(self, key)}: must be one character, or empty"
        if self.escape and self.escape in (self.quote, self.delimiter):
            yield f"escape={self.escape}: is the quote or the delimiter too; a doubled quote needs no escape"
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
