"""Source files of interactions, items, users, groups and knowledge, with format and column mapping."""

import glob
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.texts.templates import columns_of
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.dataset import DatasetSettings, FilesSettings
from llmrec_cli.settings.formats import FormatSettings

_STEP = re.compile(r"([^\[\]]+)((?:\[\])*)")
EACH = ""
"""The step into each entry of an array; all other steps are keys, which are never empty."""


def steps_of(text: str) -> tuple[str, ...]:
    """Return the steps of a path: 'items[].sku' gives ('items', '', 'sku'); a plain name, or no path, gives itself."""
    steps: list[str] = []
    for part in text.split("."):
        match = _STEP.fullmatch(part)
        if match is None:
            return (text,)
        steps += [match[1], *[EACH] * (len(match[2]) // 2)]
    return tuple(steps)


def is_path(text: str) -> bool:
    """Return True if a name may be a path."""
    return len(steps_of(text)) > 1


def arrays_of(steps: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the prefixes of a path that end in the entry of an array."""
    return [steps[:n + 1] for n, step in enumerate(steps) if step == EACH]


def path_text(steps: Sequence[str]) -> str:
    """Return the text of a path from its steps."""
    text = ""
    for step in steps:
        text += "[]" if step == EACH else f".{step}" if text else step
    return text


_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet"}


IDS = ("user_id", "item_id", "group_id", "entity_id", "head", "tail")
OWN = (*IDS, "value", "timestamp", "event", "order")
"""Our columns without which a row is bad. Detected null markers stay in them, so that the reason quotes the marker."""
Record = tuple[int, Sequence[str | None] | str]
"""First line of a row, counted from 1, and its fields, or the reason why it is rejected."""


@dataclass(frozen=True)
class TextFormat:
    """Format of a text file.

    Attributes
    ----------
    delimiter, encoding, quote, escape, skip_rows : as in `settings.formats.FormatSettings`
    decimal_commas : columns whose numbers have a decimal comma
    nulls : column -> texts that mean a missing value; "" for all columns, ids too
    detected : what was detected and is not the usual format, in words
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    quote: str = '"'
    escape: str = ""
    skip_rows: int = 0
    decimal_commas: tuple[str, ...] = ()
    nulls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    detected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes
    ----------
    path : path of the file
    split : split of the file with split=given, else ""
    columns : our name -> the file's name, if they differ; `columns_key` is the name of this setting
    names : column names of a file without a header, or None
    given : what the settings say about the format of a text file; `format_key` is the setting, "" if there is none
    text_format : format of a text file; None until it is detected (`sniffing.with_format`)
    explode : our columns whose arrays turn each entry into a row
    paths : values inside arrays and objects that are also columns, like `shelves[].name`
    separator : separates the entries of an array to explode in a field that is not JSON
    read : reader of a special format; returns the names of the columns and an iterator of the rows
    is_earlier : True for a file made of the earlier data (mode=append), which the user never named
    """

    path: Path
    split: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    columns_key: str = "dataset.columns"
    names: tuple[str, ...] | None = None
    given: FormatSettings = field(default_factory=FormatSettings)
    format_key: str = ""
    text_format: "TextFormat | None" = None
    explode: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    separator: str = ""
    read: "Callable[[Source], tuple[list[str], Iterator[Record]]] | None" = None
    is_earlier: bool = False

    @property
    def compression(self) -> str | None:
        """gzip | zstd | None, by the file name."""
        return _COMPRESSIONS.get(self.path.suffix.lower())

    @property
    def format(self) -> str:
        """delimited | jsonl | parquet, by the file name."""
        return FORMATS.get(self._suffix, "delimited")

    @property
    def encoding(self) -> str:
        """Encoding of a text file; the given one or UTF-8 until its format is detected."""
        return self.text_format.encoding if self.text_format else self.given.encoding or "utf-8"

    @property
    def usual_delimiter(self) -> str:
        """The delimiter that the file name promises, or ""."""
        return {".csv": ",", ".tsv": "\t"}.get(self._suffix, "")

    @property
    def _suffix(self) -> str:
        path = self.path.with_suffix("") if self.compression else self.path
        return path.suffix.lower()


@dataclass(frozen=True)
class Sources:
    """All files of a data set."""

    interactions: list[Source]
    items: list[Source] = field(default_factory=list)
    users: list[Source] = field(default_factory=list)
    members: list[Source] = field(default_factory=list)
    groups: list[Source] = field(default_factory=list)
    group_interactions: list[Source] = field(default_factory=list)
    triples: list[Source] = field(default_factory=list)
    links: list[Source] = field(default_factory=list)
    entities: list[Source] = field(default_factory=list)
    documents: list[Source] = field(default_factory=list)
    terms: str = ""
    """Terms of use, printed when the data was downloaded in this run; else ""."""

    def all(self) -> list[Source]:
        """Return every file."""
        parts = (self.interactions, self.items, self.users, self.members, self.groups, self.group_interactions,
                 self.triples, self.links, self.entities, self.documents)
        return [source for part in parts for source in part]


def file_sources(settings: FilesSettings, split_kind: str, folder: Path) -> Sources:
    """Return the files of `dataset=files`; train, valid and test are used with split=given only."""
    base = Source(Path(), columns=settings.columns, separator=settings.list_separator)
    exploded = replace(base, explode=tuple(settings.explode))

    def of(key: str, split: str = "", header: Sequence[str] = ()) -> list[Source]:
        paths = find(getattr(settings, key), f"dataset.{key}", settings.path, settings.origin)
        # Only files of pairs are exploded; descriptions of items, users and groups have one row each.
        kind = base if key in ("items", "users", "group_info") else exploded
        kind = replace(kind, given=settings.format_of(key), format_key=f"dataset.formats.{key}")
        return [replace(kind, path=p, split=split, names=tuple(header) or None) for p in paths]

    if problems := list(settings.split_problems(split_kind)):
        raise ConfigError(problems)
    splits = [key for key in ("train", "valid", "test") if getattr(settings, key) is not None]
    interactions = ([source for key in splits for source in of(key, key, settings.header)]
                    or of("interactions", header=settings.header))
    divided = [key for key in ("train", "valid", "test") if getattr(settings, f"group_{key}") is not None]
    by_group = [s for key in divided for s in of(f"group_{key}", key)] or of("group_interactions")
    for_items = {**settings.columns, **settings.item_columns}
    # dataset.columns.timestamp is the time of interactions, not of item descriptions.
    for_items = {k: v for k, v in for_items.items() if k != "timestamp" or k in settings.item_columns}
    # dataset.columns.title is the title of items, dataset.columns.timestamp the time of interactions: neither is in a
    # file of users or of groups.
    plain = {k: v for k, v in settings.columns.items() if k not in ("title", "timestamp")}
    for_users, for_groups = plain | settings.user_columns, plain | settings.group_columns
    paths = {kind: tuple(name for name in (*columns_of(text), *attributes) if is_path(name)) for kind, text, attributes
             in (("item", settings.item_text, settings.attributes), ("user", settings.user_text,
                 settings.user_attributes), ("group", settings.group_text, settings.group_attributes))}
    graph = {key: [replace(base, path=source.path, given=settings.format_of(role),
                           format_key=f"dataset.formats.{role}") for source in sources]
             for key, sources in knowledge_sources(settings, settings.path).items()
             for role in [{"triples": "knowledge"}.get(key, key)]}
    return Sources(interactions,
                   [replace(s, columns=for_items, columns_key="dataset.item_columns", paths=paths["item"])
                    for s in of("items", header=settings.item_header)],
                   [replace(s, columns=for_users, columns_key="dataset.user_columns", paths=paths["user"])
                    for s in of("users", header=settings.user_header)],
                   of("groups"),
                   [replace(s, columns=for_groups, columns_key="dataset.group_columns", paths=paths["group"])
                    for s in of("group_info")],
                   by_group, graph["triples"], graph["links"], graph["entities"],
                   graph["documents"])


def knowledge_sources(settings: DatasetSettings, folder: str = "") -> dict[str, list[Source]]:
    """Return the files that any data set may have, {triples, links, entities, documents}."""
    named = {"triples": (settings.knowledge.triples, "dataset.knowledge"), "links": (settings.links, "dataset.links"),
             "entities": (settings.knowledge.entities, "dataset.knowledge.entities"),
             "documents": (settings.documents, "dataset.documents")}
    return {name: [Source(path) for path in find(files, key, folder)] for name, (files, key) in named.items()}


def find(named: str | list[str] | None, key: str, folder: str = "", otherwise: str = "") -> list[Path]:
    """Return the files of a path, a glob or a list of these, relative to `folder`, sorted within a glob.

    An existing path is that file, even with brackets or stars in it. Raises ConfigError for a file named twice, since
    its rows would count twice. `otherwise` is the advice if there is no such file.
    """
    paths: list[Path] = []
    for written in [named] if isinstance(named, str) else named or []:
        name = str(Path(folder, written)) if folder else written
        if Path(name).is_file():
            paths.append(Path(name))
            continue
        if Path(name).is_dir():
            raise ConfigError(f"{key}={name}: is a folder; name its files, for example {name.rstrip('/')}/*.csv")
        matches = sorted(Path(p) for p in glob.glob(name, recursive=True) if Path(p).is_file())
        if not matches and len(written) > 1 and written[0] == written[-1] and written[0] in "'\"":
            raise DataError(f"{key}={written}: no such file; the quotes are part of the name here, so leave them out: "
                            f"{key}={written[1:-1]}")
        if not matches:
            raise DataError(f"{key}={name}: no such file, and no file matches it as a pattern{_meant(name, key)}"
                            f"{otherwise and '; ' + otherwise}")
        paths += matches
    resolved = [p.resolve() for p in paths]
    for path, real in zip(paths, resolved, strict=True):
        if resolved.count(real) > 1:
            raise ConfigError(f"{key}: {path} is named twice, so its rows would count twice; name it once")
    return paths


def _meant(name: str, key: str) -> str:
    """Return what was probably meant by the name of a file that does not exist."""
    if "," in name:
        return f"; several files are a list, {key}=[{name}]"
    folder = Path(name).parent
    names = sorted(file.name for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    return nearest(Path(name).name, names, cutoff=0.7)
