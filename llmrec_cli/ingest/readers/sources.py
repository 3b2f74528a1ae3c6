"""Files of interactions, items, users, groups and knowledge, and the format of each."""

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.texts.templates import columns_of
from llmrec_cli.settings.dataset import DatasetSettings, FilesSettings

_STEP = re.compile(r"([^\[\]]+)((?:\[\])*)")
EACH = ""
"""The step into each entry of an array; all others are keys, which are never empty."""


def steps_of(text: str) -> tuple[str, ...]:
    """Return the steps of a path, 'items[].sku' as ('items', '', 'sku'); of a plain name, and of no path, itself."""
    steps: list[str] = []
    for part in text.split("."):
        found = _STEP.fullmatch(part)
        if found is None:
            return (text,)
        steps += [found[1], *[EACH] * (len(found[2]) // 2)]
    return tuple(steps)


def is_path(text: str) -> bool:
    """Return whether a name may be a path."""
    return len(steps_of(text)) > 1


def arrays_of(steps: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the beginnings of a path that end in the entry of an array."""
    return [steps[:n + 1] for n, step in enumerate(steps) if step == EACH]


def written(steps: Sequence[str]) -> str:
    """Return steps as a path is written."""
    text = ""
    for step in steps:
        text += "[]" if step == EACH else f".{step}" if text else step
    return text


_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet"}


Record = tuple[int, Sequence[str | None] | str]
"""The line a row begins on, counted from 1, and its fields, or why it has none that can be trusted."""


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes
    ----------
    path : where it is
    split : "" or the split that split=given puts it in
    columns : our name -> the file's, for those that differ; `columns_key` is the setting that says so
    names : column names of a file without a header, or None
    encoding, delimiter, quote, escape : as in `settings.dataset.Files`; "" for what the name says
    explode : our columns whose arrays make a row of each entry
    paths : values inside arrays and objects that are columns too, `shelves[].name`
    separator : divides an array to explode in a field that is no JSON
    read : for a format of its own, the function that returns the names of the columns and yields the rows
    """

    path: Path
    split: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    columns_key: str = "dataset.columns"
    names: tuple[str, ...] | None = None
    encoding: str = "utf-8"
    delimiter: str = ""
    quote: str = '"'
    escape: str = ""
    explode: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    separator: str = ""
    read: "Callable[[Source], tuple[list[str], Iterator[Record]]] | None" = None

    @property
    def compression(self) -> str | None:
        """gzip | zstd | None, by the name."""
        return _COMPRESSIONS.get(self.path.suffix.lower())

    @property
    def format(self) -> str:
        """delimited | jsonl | parquet, by the name."""
        return FORMATS.get(self._suffix, "delimited")

    @property
    def named_delimiter(self) -> str:
        """The delimiter that the settings or the name give, or ""."""
        return self.delimiter.replace("\\t", "\t") or {".csv": ",", ".tsv": "\t"}.get(self._suffix, "")

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
    """What its owner asks of whoever uses the data, to be shown when it was fetched now."""

    def all(self) -> list[Source]:
        """Return every file."""
        parts = (self.interactions, self.items, self.users, self.members, self.groups, self.group_interactions,
                 self.triples, self.links, self.entities, self.documents)
        return [source for part in parts for source in part]


def file_sources(settings: FilesSettings, split_kind: str, folder: Path) -> Sources:
    """Return the files that `dataset=files` names; the split decides whether train, valid, test are used."""
    base = Source(Path(), columns=settings.columns, encoding=settings.encoding, delimiter=settings.delimiter,
                  quote=settings.quote, escape=settings.escape, separator=settings.list_separator)
    exploded = replace(base, explode=tuple(settings.explode))

    def of(key: str, split: str = "", header: Sequence[str] = ()) -> list[Source]:
        paths = find(getattr(settings, key), f"dataset.{key}", settings.path, settings.origin)
        # Only rows of pairs are made of arrays: what describes items, users and groups has one row for each.
        kind = base if key in ("items", "users", "group_info") else exploded
        return [replace(kind, path=p, split=split, names=tuple(header) or None) for p in paths]

    given = [key for key in ("train", "valid", "test") if getattr(settings, key) is not None]
    if split_kind == "given":
        if "train" not in given or len(given) < 2 or settings.interactions is not None:
            raise ConfigError("split=given: takes dataset.train with dataset.test or dataset.valid or both, and no "
                              "dataset.interactions; for one file to be divided choose another split")
        interactions = [source for key in given for source in of(key, key, settings.header)]
    else:
        if given:
            raise ConfigError(f"dataset.{given[0]}: has an effect only with split=given, not with split={split_kind}")
        interactions = of("interactions", header=settings.header)
    divided = [key for key in ("train", "valid", "test") if getattr(settings, f"group_{key}") is not None]
    by_group = [s for key in divided for s in of(f"group_{key}", key)] or of("group_interactions")
    for_items = {**settings.columns, **settings.item_columns}
    # dataset.columns.timestamp is about interactions; when an item was described is something else.
    for_items = {k: v for k, v in for_items.items() if k != "timestamp" or k in settings.item_columns}
    # dataset.columns.title is the title of items, dataset.columns.timestamp the time of interactions: neither is in a
    # file of users or of groups.
    plain = {k: v for k, v in settings.columns.items() if k not in ("title", "timestamp")}
    for_users, for_groups = plain | settings.user_columns, plain | settings.group_columns
    paths = {kind: tuple(name for name in (*columns_of(text), *attributes) if is_path(name)) for kind, text, attributes
             in (("item", settings.item_text, settings.attributes), ("user", settings.user_text,
                 settings.user_attributes), ("group", settings.group_text, settings.group_attributes))}
    graph, shared = knowledge_sources(settings, settings.path), replace(base, columns_key="dataset.columns")
    graph = {key: [replace(shared, path=source.path) for source in found] for key, found in graph.items()}
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
    """Return the files that any data set may name, {triples, links, entities, documents}."""
    named = {"triples": (settings.knowledge.triples, "dataset.knowledge"), "links": (settings.links, "dataset.links"),
             "entities": (settings.knowledge.entities, "dataset.knowledge.entities"),
             "documents": (settings.documents, "dataset.documents")}
    return {name: [Source(path) for path in find(files, key, folder)] for name, (files, key) in named.items()}


def find(named: str | list[str] | None, key: str, folder: str = "", otherwise: str = "") -> list[Path]:
    """Return the files that a path, a glob or a list of them names, sorted within a glob; relative to `folder`.

    A name that exists is that file, whatever brackets or stars are in it. Naming a file twice is an error, since its
    rows would count twice. `otherwise` says what to do when there is no such file.
    """
    paths: list[Path] = []
    for name in [named] if isinstance(named, str) else named or []:
        name = str(Path(folder, name)) if folder else name
        if Path(name).is_file():
            paths.append(Path(name))
            continue
        if Path(name).is_dir():
            raise ConfigError(f"{key}={name}: is a folder; name its files, for example {name.rstrip('/')}/*.csv")
        found = sorted(Path(p) for p in glob.glob(name, recursive=True) if Path(p).is_file())
        if not found:
            raise DataError(f"{key}={name}: no such file, and no file matches it as a pattern"
                            f"{otherwise and '; ' + otherwise}")
        paths += found
    resolved = [p.resolve() for p in paths]
    for path, real in zip(paths, resolved, strict=True):
        if resolved.count(real) > 1:
            raise ConfigError(f"{key}: {path} is named twice, so its rows would count twice; name it once")
    return paths
