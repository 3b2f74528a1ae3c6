"""Detection of a rerun: the same files with the same settings were prepared already. Imports nothing heavy.

All inputs that determine the output are stored in its manifest. The engine settings (memory, threads, cluster) are not
among them, since they change only the speed; nor are the folders of the run and of the output.

A file counts as unchanged if its path (as given), size and modification time in nanoseconds are. Its content is not
hashed, which would take as long as reading it. So only a file of the same size with a reset modification time goes
unnoticed. Files that llmrec itself fetches, unpacks or rewrites are in a new folder in each run; they are small and
compared by content hash.
"""

import hashlib
import json
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import llmrec_cli
from llmrec_cli import __version__
from llmrec_cli.data.manifest import FORMAT, read_manifest, sha256
from llmrec_cli.errors import ArtifactError, DataError
from llmrec_cli.fetch import cache_folder
from llmrec_cli.ingest.readers.sources import Source, Sources
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.stages import PrepareConfig


def input_signature(cfg: PrepareConfig, sources: Sources, scratch: Path) -> dict[str, Any]:
    """Return all inputs that determine the output, as JSON. Call it before the files are read.

    A file that changes while it is read then has a later modification time than stored here, so the next run notices.
    `scratch` is the folder in which the reader of the data set may have written files of its own.
    """
    ours = (scratch, cache_folder())
    files = {role.name: [_file(source, ours) for source in getattr(sources, role.name)]
             for role in fields(Sources) if isinstance(getattr(sources, role.name), list)}
    inputs = {"llmrec": __version__, "format": FORMAT, "code": code_hash(), "mode": cfg.mode,
             "language": cfg.language,
             "dataset": to_plain(cfg.dataset), "split": to_plain(cfg.split),
             "files": {role: of_role for role, of_role in files.items() if of_role}}
    plain: dict[str, Any] = json.loads(json.dumps(inputs))
    return plain


def _file(source: Source, ours: tuple[Path, ...]) -> dict[str, Any]:
    """Return path, size and modification time of a file; of our own files the path and the content hash."""
    try:
        for folder in ours:
            if source.path.is_relative_to(folder):
                return {"path": str(source.path.relative_to(folder)), "sha256": sha256(source.path)}
        status = source.path.stat()
    except OSError as error:
        raise DataError(f"{source.path}: cannot be read ({error.strerror}); repair it or name another file") from error
    return {"path": str(source.path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def code_hash() -> str:
    """Return a hash of the source code of `prepare`, which developers change between two versions."""
    package = Path(llmrec_cli.__file__).parent
    digest = hashlib.sha256()
    page = sorted([*package.glob("report/audit*"), *package.glob("language/*.py")])
    for file in [*sorted(package.glob("ingest/**/*.py")), *page, package / "stages" / "prepare.py"]:
        digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def read_unchanged(output: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of the prepared data in `output` if it is intact and was made from `inputs`, else None.

    Warns on stderr if data made from `inputs` is damaged, so that it is prepared again.
    """
    file = output / "manifest.json"
    if not file.is_file():
        return None
    try:
        manifest = json.loads(file.read_text("utf-8"))
        # Compared as text, since the order of a mapping is the order of attributes in the output.
        if not isinstance(manifest, dict) or json.dumps(manifest.get("inputs")) != json.dumps(inputs):
            return None
        return read_manifest(output)
    except (ArtifactError, OSError, ValueError) as error:
        problem = str(error).partition("; run `llmrec prepare`")[0]
        if not isinstance(error, ArtifactError):
            problem = f"{file}: cannot be read ({problem})"
        _print(f"{problem}; the data is prepared again")
        return None


def print_unchanged(output: Path) -> None:
    """Print to stderr that the prepared data in `output` is up to date."""
    split_by_time = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((output / "manifest.json").stat().st_mtime))
    _print(f"{output} is up to date: files and settings have not changed since {split_by_time}; force=true prepares it "
           "again")


def _print(sentence: str) -> None:
    # Not `row_accounting.print_sentence`: importing rich and pyarrow takes longer than the whole check.
    print("".join(c if c.isprintable() else repr(c)[1:-1] for c in sentence), file=sys.stderr)
