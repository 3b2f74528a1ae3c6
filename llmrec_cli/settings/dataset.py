"""Data sets: input files of interactions, items and users, and the filters on their rows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings, Settings, nearest
from llmrec_cli.settings.cluster_users import ClusterUsersSettings
from llmrec_cli.settings.formats import FormatSettings
from llmrec_cli.settings.time_format import format_problems

COLUMNS = ("user_id", "item_id", "value", "timestamp", "event", "title", "group_id", "head", "relation", "tail",
           "entity_id", "text", "order")
EXPLODABLE = ("item_id", "user_id", "value", "timestamp", "event", "order", "group_id", "entity_id")
FILE_KEYS = ("interactions", "items", "users", "train", "valid", "test", "groups", "group_info", "group_interactions",
             "group_train", "group_valid", "group_test", "knowledge", "entities", "links", "documents")
"""Roles of input files: the settings that name them (entities: dataset.knowledge.entities)."""
DUPLICATES = ("keep_last", "keep_first", "sum", "max", "error")
VALUES = ("strength", "rating")
VALUE_KINDS = ("event_weight", *VALUES)
"""Kinds of values, as named in manifests."""
SYNTHETIC_GROUPS = ("random", "similar")
"""Values of the setting `synthetic_groups`."""
_ATTRIBUTE_TYPES = ("category", "list", "number", "text", "image")


@dataclass
class KnowledgeSettings(Settings):
    """A knowledge graph: triples, and the links between entities and items."""

    shorthand: ClassVar[str] = "triples"
    """dataset.knowledge=<file> means dataset.knowledge.triples=<file>."""
    triples: str | list[str] | None = None
    """File(s) with head, relation and tail."""
    entities: str | list[str] | None = None
    """File(s) with entity_id and any columns, for example names of the entities."""
    link_on: list[str] = field(default_factory=list)
    """Item columns that link items to entities if there is no dataset.links, for example [title,year]: an item is
    linked to the only entity that is equal in all these columns (letter case and punctuation are ignored). An entity's
    values come from knowledge.entities, else from the tail of its triple whose relation has the column's name."""
    relations: dict[str, str] = field(default_factory=dict)
    """Item column -> relation or column of knowledge.entities with the same meaning, if the names differ: {year:
    film.release_year}."""

    def problems(self) -> Iterator[str]:
        if self.triples is None and (self.entities is not None or self.link_on or self.relations):
            yield "triples: missing; set dataset.knowledge=<file> with head, relation and tail"


@dataclass
class DatasetSettings(OptionSettings):
    """Settings of every data set; `implementation` is a function (settings, split kind, scratch folder) -> Sources."""

    kind: str = ""
    """The option's name; choose with dataset=<name>."""
    own_knowledge: ClassVar[bool] = False
    """True if the data set has its own triples, used when dataset.links is set and dataset.knowledge is not."""
    name: str = "data"
    """Name of the prepared data: letters, digits, '_', '-' and '.'; not `latest`, the link to the newest data."""
    item_text: str = ""
    """Template of an item's text from its columns, for example '{title} ({year})'; empty joins all columns."""
    user_text: str = ""
    """Template of a user's text from the user's columns, for example '{occupation}, {age}'; {history} stands for the
    titles of the training history, oldest first. Empty: users have no text."""
    history_titles: int = 20
    """Number of newest titles in {history}, at least 1."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Item columns that are attributes and their types: column -> category | list | number | text | image, for example
    {genres: list, year: number}. A number is binned into ten quantiles of the training items. text and image are
    checked and stored, but models do not use them."""
    user_attributes: dict[str, str] = field(default_factory=dict)
    """User columns that are attributes and their types, as in dataset.attributes."""
    group_text: str = ""
    """Template of a group's text from the columns of dataset.group_info; empty joins all of them."""
    group_attributes: dict[str, str] = field(default_factory=dict)
    """Group columns that are attributes and their types, as in dataset.attributes."""
    list_separator: str = "|"
    """Separates the values of a list attribute; a JSON array needs none."""
    max_text_length: int = 20000
    """Characters after which a text is cut, at least 1. Encoders usually read less: encoder.max_length tokens."""
    strip_html: bool = True
    """Remove HTML tags and decode HTML entities in titles, texts and attributes."""
    feedback: str = "implicit"
    """implicit | explicit: meaning of values. implicit: strength of interest (clicks, counts, dwell time). explicit: an
    opinion (ratings); values below dataset.min_value are dislikes, stored in negatives.parquet."""
    values: str = "auto"
    """auto | strength | rating: kind of the values. Strengths, such as counts, amounts and durations, are weights in
    training by default; ratings are not (head.weight changes this). auto: rating if min_value is above 0 or
    feedback=explicit, else strength; always strength with duplicates=sum; event weights if event_weights is set."""
    event_weights: dict[str, float] = field(default_factory=dict)
    """Weight of each event in the column `event`, for example {view: 1, buy: 5}; the value is multiplied by it. A
    weight of 0 drops these events, even rows without an item. A row with an event that is not listed is rejected."""
    min_value: float | None = None
    """Smallest value of an interaction, after duplicates are merged; interactions below are dropped. For example 4
    keeps ratings of 4 and 5. null keeps positive values only: values of 0 and below, such as returned goods and
    unopened items, show no interest. 0 keeps zeros too."""
    max_negative_value: float | None = None
    """With feedback=explicit: largest value of a dislike, below min_value; values in between count as neither. null:
    all values below min_value are dislikes."""
    min_user_interactions: int = 0
    """Minimum number of interactions of a user; users with fewer are dropped. This is repeated together with
    min_item_interactions until all users and items have enough. 0 keeps all users, also those without interactions."""
    min_item_interactions: int = 0
    """Minimum number of interactions of an item; items with fewer are dropped from the catalogue. 0 keeps all items,
    also those without interactions."""
    drop_users: list[str] = field(default_factory=list)
    """User ids to drop, for example [guest,nan]: placeholders shared by many people."""
    drop_items: list[str] = field(default_factory=list)
    """Item ids to drop, for example placeholders."""
    newest: str | None = None
    """Newest time of an interaction, written like the timestamps or as 2024-05-31 (including this day). Later
    interactions, for example from a wrong clock, are dropped. null keeps all."""
    oldest: str | None = None
    """Oldest time of an interaction, written like `newest`. Earlier interactions are dropped. null keeps all."""
    duplicates: str = "auto"
    """auto | keep_last | keep_first | sum | max | error: rule for several interactions of one user with one item.
    keep_last and keep_first order the rows by timestamp, then dataset.columns.order, then a salted hash of the row,
    never by the order in the file. max keeps the row with the largest value, the earliest if several have it. sum adds
    up the values and takes the last timestamp. error stops the run. auto: keep_last without event_weights; with them
    max, or sum if a weight is negative."""
    timestamp_unit: str = "auto"
    """auto | s | ms | us | ns | iso | excel | order: unit of timestamps. s, ms, us, ns: seconds, milliseconds,
    microseconds or nanoseconds since 1970. iso: ISO 8601. excel: days since 1899-12-30, as in spreadsheets. order:
    whole numbers that grow with time but have no unit. auto detects the unit."""
    equal_times: str = "hash"
    """hash | file: order of a user's interactions of the same time. hash: a salted hash of user and item, so that the
    split does not depend on the order of the file. file: the order of the rows in the files, and of the files as given;
    choose it for files in the order of the events whose clock is coarse. Not with mode=append."""
    timestamp_format: str = ""
    """Pattern of other timestamps, for example '%d/%m/%Y %H:%M', with strptime's %Y %y %m %d %H %I %p %M %S %f %b %a %z
    %Z. Times are UTC if the pattern has no zone. Empty: timestamps are read by dataset.timestamp_unit."""
    max_reject_share: float = 0.001
    """Largest share of rejected rows in a file, 0 to 1; with more the run stops."""
    knowledge: KnowledgeSettings = field(default_factory=KnowledgeSettings)
    """File(s) with head, relation and tail: triples of a knowledge graph about the items. dataset.links or
    dataset.knowledge.link_on links items to entities."""
    synthetic_groups: str = ""
    """random | similar: build groups of users for a demonstration, at random or from users with similar histories.
    Empty: only the groups in the files, if any."""
    num_groups: int = 500
    """Number of synthetic groups, at least 1."""
    group_size: list[int] = field(default_factory=lambda: [2, 8])
    """Minimum and maximum size of a synthetic group, at least 2; sizes are drawn uniformly between them."""
    group_share: float = 0.5
    """Share of a synthetic group's members (at least two members) that must have an item for the group to have it,
    above 0 to 1."""
    group_seed: int = 42
    """Seed of the synthetic groups."""
    cluster_users: ClusterUsersSettings = field(default_factory=ClusterUsersSettings)
    """true: build groups by clustering similar users, for data without groups."""
    links: str | list[str] | None = None
    """File(s) with item_id and entity_id: the entity of the knowledge graph for each item."""
    documents: str | list[str] | None = None
    """File(s) with text and item_id or entity_id: any number of documents per item, in any language. Documents about an
    entity are assigned to items through the links."""
    audit: str = "warn"
    """warn | strict: effect of warnings of the data audit. warn prints them, strict stops the run, except for warnings
    that data without a fault may have: unknown items, rejected times, texts in a script that encoder=minilm does not
    know."""

    def problems(self) -> Iterator[str]:
        if not self.name or not all(c.isalnum() or c in "_-." for c in self.name) or self.name.startswith("."):
            yield f"name={self.name}: use letters, digits, '_', '-' and '.', not starting with '.'"
        if self.name == "latest":
            yield "name=latest: reserved for the link to the newest prepared data; choose another name"
        yield from self.check("min_user_interactions", "min_item_interactions", least=0)
        yield from self.check("max_text_length", "history_titles", least=1)
        yield from self.check("max_reject_share", least=0, most=1)
        yield from self.check("duplicates", among=("auto", *DUPLICATES))
        yield from self.check("timestamp_unit", among=("auto", "s", "ms", "us", "ns", "iso", "excel", "order"))
        if self.timestamp_format:
            if self.timestamp_unit != "auto":
                yield (f"timestamp_format={self.timestamp_format}: cannot be combined with timestamp_unit="
                       f"{self.timestamp_unit}; leave out one of the two")
            yield from format_problems(self.timestamp_format)
        yield from self.check("equal_times", among=("hash", "file"))
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
            yield "knowledge.link_on: has no effect with dataset.links; leave out one of the two"
        yield from (f"knowledge.{problem}" for problem in self.knowledge.problems())
        yield from self._problems_of_synthetic_groups()
        yield from (f"cluster_users.{problem}" for problem in self.cluster_users.problems())
        if self.cluster_users.on and self.synthetic_groups:
            yield (f"cluster_users=true: cannot be combined with dataset.synthetic_groups={self.synthetic_groups}; "
                   f"leave out one of the two")
        if not self.list_separator:
            yield "list_separator=: must be at least one character"
        for key in ("item_text", "user_text", "group_text"):
            if brace := re.search(r"[{}]", re.sub(r"\{\{|\}\}|\{[^{}]*\}", "", getattr(self, key))):
                yield (f"{key}={getattr(self, key)}: unbalanced '{brace[0]}'; write a column as {{name}}, and a "
                       f"literal brace twice")
        for key in ("attributes", "user_attributes", "group_attributes"):
            for column, type_name in getattr(self, key).items():
                if type_name not in _ATTRIBUTE_TYPES:
                    yield f"{key}.{column}={type_name}: choose one of {', '.join(_ATTRIBUTE_TYPES)}"

    def split_problems(self, split_kind: str) -> Iterator[str]:
        """Yield the problems of the files with split=<split_kind>, with the keys of the command line."""
        return iter(())

    def problems_of_made_groups(self, group_split: str, mode: str) -> Iterator[str]:
        """Yield the problems of groups made of users with split.group and mode, with the keys of the command line."""
        if not self.synthetic_group_rule:
            return
        making, groups = "dataset.cluster_users=true clusters all users anew", "clusters of users"
        if not self.cluster_users.on:
            making = f"dataset.synthetic_groups={self.synthetic_groups} makes groups from all users and interactions"
            groups = "synthetic groups"
        if mode == "append":
            yield f"mode=append: {making}, so the groups would change each time; prepare all files with mode=new"
        if group_split:
            yield (f"split.group={group_split}: has no effect on {groups}, whose interactions are split like their "
                   f"members'; remove the setting")

    @property
    def time_unit(self) -> str:
        """Format of timestamps in the settings: a unit, a pattern, or auto."""
        return self.timestamp_format or self.timestamp_unit

    @property
    def synthetic_group_rule(self) -> str:
        """Rule that builds synthetic groups from users, for the manifest; "" if there are none."""
        return "clusters" if self.cluster_users.on else self.synthetic_groups

    def _problems_of_synthetic_groups(self) -> Iterator[str]:
        unchanged = DatasetSettings()
        yield from self.check("num_groups", least=1)
        yield from self.check("group_share", above=0, most=1)
        yield from self.check("group_seed", least=0)
        if not self.synthetic_groups:
            yield from (f"{key}: has an effect only with dataset.synthetic_groups=random|similar" for key in
                        ("num_groups", "group_size", "group_share", "group_seed")
                        if getattr(self, key) != getattr(unchanged, key))
            return
        yield from self.check("synthetic_groups", among=SYNTHETIC_GROUPS)
        if len(self.group_size) != 2 or not 2 <= self.group_size[0] <= self.group_size[1]:
            yield f"group_size={self.group_size}: must be the fewest and the most members, [2,8], at least 2"


@dataclass
class FilesSettings(DatasetSettings, FormatSettings):
    """Your own CSV, TSV, JSONL and Parquet files, plain, .gz or .zst: a file, a list of files or a glob."""

    kind: str = "files"
    implementation: ClassVar[str] = "llmrec_cli.ingest.readers.sources.file_sources"
    path: str = ""
    """Folder for relative file names; empty for the current folder."""
    origin: str = ""
    """Source and licence of the files, printed if they are missing."""
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
    """File(s) with group_id and user_id: a row for each member of a group."""
    group_info: str | list[str] | None = None
    """File(s) with group_id and any columns: names, texts and attributes of groups."""
    group_interactions: str | list[str] | None = None
    """File(s) with group_id, item_id and optionally value and timestamp; split.group divides them."""
    group_train: str | list[str] | None = None
    """If the files already divide the groups' interactions: training interactions of groups."""
    group_valid: str | list[str] | None = None
    """If the files already divide the groups' interactions: validation interactions of groups."""
    group_test: str | list[str] | None = None
    """If the files already divide the groups' interactions: test interactions of groups."""
    columns: dict[str, str] = field(default_factory=dict)
    """Names of the columns in your files, for example {item_id: sku}; they apply to all files. Columns: user_id,
    item_id, value, timestamp, event, order, title, group_id, head, relation, tail, entity_id and text (of
    dataset.documents). order is a column of whole numbers that orders interactions of equal time, or all interactions
    without timestamps; it is used only if it is set here. A path such as user.id reads a value inside an object;
    items[].sku makes a row of each entry of an array."""
    explode: list[str] = field(default_factory=list)
    """Columns (by llmrec's names) of interactions, groups and links that hold arrays; each entry becomes a row.
    [item_id,value] reads two arrays in parallel. In CSV an array is JSON, or its entries are separated by
    list_separator."""
    header: list[str] = field(default_factory=list)
    """Column names of interaction files without a header; empty if they have one."""
    item_header: list[str] = field(default_factory=list)
    """Column names of dataset.items if the files have no header."""
    user_header: list[str] = field(default_factory=list)
    """Column names of dataset.users if the files have no header."""
    item_columns: dict[str, str] = field(default_factory=dict)
    """Names that item_id, title and timestamp (time of an item's description) have in dataset.items, if they differ
    from dataset.columns."""
    user_columns: dict[str, str] = field(default_factory=dict)
    """Names that user_id and title have in dataset.users, if they differ from dataset.columns."""
    group_columns: dict[str, str] = field(default_factory=dict)
    """Names that group_id and title have in dataset.group_info, if they differ from dataset.columns."""
    formats: dict[str, FormatSettings] = field(default_factory=dict)
    """Formats of the files of single settings, over dataset.delimiter, dataset.encoding and the others, which hold for
    all files: {items: {delimiter: ';', encoding: windows-1252, skip_rows: 2}}. Keys: interactions, items, users, train,
    groups, ..., the settings that name files."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        allowed = {"columns": COLUMNS, "item_columns": ("item_id", "title", "timestamp"),
                   "user_columns": ("user_id", "title"), "group_columns": ("group_id", "title")}
        for key, names in allowed.items():
            for name in getattr(self, key):
                if name not in names:
                    yield f"{key}.{name}: no such column{nearest(name, names)}; choose among {', '.join(names)}"
        for name in self.explode:
            if name not in EXPLODABLE:
                yield f"explode={name}: no such column{nearest(name, EXPLODABLE)}; choose among " \
                      f"{', '.join(EXPLODABLE)}"
        if self.interactions is None and self.train is None:
            yield "interactions: missing; set dataset.interactions=<file> (or dataset.train=<file> with split=given)"
        divided = [key for key in ("group_train", "group_valid", "group_test") if getattr(self, key) is not None]
        if divided and (self.group_interactions is not None or "group_train" not in divided):
            yield f"{divided[0]}: needs dataset.group_train, and no dataset.group_interactions"
        group_keys = [*divided,
                      *(key for key in ("group_interactions", "group_info") if getattr(self, key) is not None)]
        if self.groups is None and group_keys:
            yield f"{group_keys[0]}: needs dataset.groups=<file of members>"
        if self.groups is not None and self.cluster_users.on:
            yield "cluster_users=true: cannot be combined with dataset.groups; leave out one of the two"
        if self.groups is not None and self.synthetic_groups:
            yield (f"synthetic_groups={self.synthetic_groups}: cannot be combined with dataset.groups; leave out one "
                   f"of the two")
        if self.group_columns and self.group_info is None:
            yield "group_columns: has an effect only with dataset.group_info=<file>"
        yield from FormatSettings.problems(self)
        for role in self.formats:
            if role not in FILE_KEYS:
                yield f"formats.{role}: no such files{nearest(role, FILE_KEYS)}; choose among {', '.join(FILE_KEYS)}"
            elif not self.names_files(role):
                yield f"formats.{role}: has no effect without dataset.{role}=<file>"

    def split_problems(self, split_kind: str) -> Iterator[str]:
        named = [key for key in ("train", "valid", "test") if getattr(self, key) is not None]
        if split_kind != "given":
            if named:
                yield f"dataset.{named[0]}: has an effect only with split=given, not with split={split_kind}"
        elif "train" not in named or len(named) < 2 or self.interactions is not None:
            yield ("split=given: needs dataset.train and dataset.test or dataset.valid (or both), without "
                   "dataset.interactions; to split a single file choose another split")

    def format_of(self, role: str) -> FormatSettings:
        """Return the format that the settings give to the files of a role, one of FILE_KEYS."""
        return self.formats.get(role, FormatSettings()).over(self)

    def names_files(self, role: str) -> bool:
        """Return True if the settings name files of a role."""
        if role in ("knowledge", "entities"):
            return (self.knowledge.triples if role == "knowledge" else self.knowledge.entities) is not None
        return getattr(self, role) is not None
