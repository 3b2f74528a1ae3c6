"""Files of published data sets: the folder that must hold them, and lines cut at a separator."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.sources import Record, Source, Sources, knowledge_sources
from llmrec_cli.settings.dataset import DatasetSettings


def files_in(folder: str, names: tuple[str, ...], otherwise: str) -> list[Path]:
    """Return the paths of `names` in the folder that dataset.path names, or raise ConfigError for the first missing.

    `otherwise` says which folder is meant, where to get it and under which terms.
    """
    paths = [Path(folder, name) for name in names]
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"dataset.path={folder}: has no file {path.name}; {otherwise}")
    return paths


def refuse_given(split_kind: str, because: str) -> None:
    """Raise ConfigError for split=given with data that nobody has divided yet."""
    if split_kind == "given":
        raise ConfigError(f"split=given: {because}; choose another split, or name the files of a published split with "
                          f"dataset=files")


def cut(source: Source, separator: str | None, num_fields: int, skip: int = 0) -> Iterator[Record]:
    """Yield the lines of a file cut at `separator` (None: at white space), or why one has not `num_fields` fields.

    Nothing is quoted. Blank lines and the first `skip` lines are left out.
    """
    for number, line in enumerate(lines(source), start=1):
        if number <= skip or not line.strip():
            continue
        fields = line.rstrip("\r\n").split(separator)
        yield number, fields if len(fields) == num_fields else (f"{len(fields)} fields where {source.path.name} has "
                                                                f"{num_fields}")


def with_knowledge(sources: Sources, settings: DatasetSettings) -> Sources:
    """Return `sources` with the files of triples, links, entities and documents that the settings name, if any."""
    found = knowledge_sources(settings)
    return replace(sources, triples=found["triples"], links=found["links"], entities=found["entities"],
                   documents=found["documents"])
