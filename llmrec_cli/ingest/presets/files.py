"""Shared functions for published data sets: finding their files, and splitting lines at a separator."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llmrec_cli.data import reject_reasons as reasons
from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.sources import Record, Source, Sources, knowledge_sources
from llmrec_cli.settings.dataset import DatasetSettings


def find_files(folder: str, names: tuple[str, ...], otherwise: str) -> list[Path]:
    """Return the paths of `names` in the folder dataset.path; raises ConfigError for the first missing file.

    `otherwise` ends the message: which folder to name, where to get it and under which terms.
    """
    paths = [Path(folder, name) for name in names]
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"dataset.path={folder}: has no file {path.name}; {otherwise}")
    return paths


def refuse_given(split_kind: str, because: str) -> None:
    """Raise ConfigError for split=given with data that is published without a split."""
    if split_kind == "given":
        raise ConfigError(f"split=given: {because}; choose another split, or name the files of a published split with "
                          f"dataset=files")


def split_lines(source: Source, separator: str | None, num_fields: int, skip: int = 0) -> Iterator[Record]:
    """Yield the lines of a file split at `separator` (None: white space), or the reason if a line has too few fields.

    Quotes have no meaning. Blank lines and the first `skip` lines are left out.
    """
    for number, line in enumerate(lines(source), start=1):
        if number <= skip or not line.strip():
            continue
        fields = line.rstrip("\r\n").split(separator)
        yield number, fields if len(fields) == num_fields else reasons.FIELDS_OF_FILE.format(
            num=len(fields), file=source.path.name, width=num_fields)


def with_knowledge(sources: Sources, settings: DatasetSettings) -> Sources:
    """Return `sources` with the files of triples, links, entities and documents in the settings, if any."""
    knowledge = knowledge_sources(settings)
    return replace(sources, triples=knowledge["triples"], links=knowledge["links"], entities=knowledge["entities"],
                   documents=knowledge["documents"])
