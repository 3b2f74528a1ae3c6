"""The check whether the same files with the same settings were prepared already. Imports nothing heavy.

What decides the output is noted in its manifest. The engine does not: with its memory, threads and cluster it decides
how fast the output is there, never what is in it. Nor does where the run or the output is written.

A file is the same when its path (as it was given), size and time of change in nanoseconds are. Its content is not
hashed: that would take as long as reading it, and what escapes is only a file that was replaced by one of the same
size whose time was set back to the old one's. Files that are fetched, unpacked or rewritten by us, in a folder that is
another one in each run, are small and are known by their content.
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
from llmrec_cli.ingest.presets.fetch import cache_folder
from llmrec_cli.ingest.readers.sources import Source, Sources
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.stages import PrepareConfig


def signature(cfg: PrepareConfig, sources: Sources, scratch: Path) -> dict[str, Any]:
    """Return all that decides the output, as JSON: to be asked for before the files are read.

    A file that changes while it is read then has another time than the one noted here, and the next run sees it.
    `scratch` is the folder that the reader of the data set may have put files of its own into.
    """
    ours = (scratch, cache_folder())
    files = {role.name: [_file(source, ours) for source in getattr(sources, role.name)]
             for role in fields(Sources) if isinstance(getattr(sources, role.name), list)}
    found = {"llmrec": __version__, "format": FORMAT, "code": code(), "mode": cfg.mode,
             "dataset": to_plain(cfg.dataset), "split": to_plain(cfg.split),
             "files": {role: of_role for role, of_role in files.items() if of_role}}
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _file(source: Source, ours: tuple[Path, ...]) -> dict[str, Any]:
    """Return what tells one state of a file from another."""
    try:
        for folder in ours:
            if source.path.is_relative_to(folder):
                return {"path": str(source.path.relative_to(folder)), "sha256": sha256(source.path)}
        status = source.path.stat()
    except OSError as error:
        raise DataError(f"{source.path}: cannot be read ({error.strerror}); repair it or name another file") from error
    return {"path": str(source.path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def code() -> str:
    """Return a hash of the code that prepares: between two versions it changes, for those who work on it."""
    package = Path(llmrec_cli.__file__).parent
    digest = hashlib.sha256()
    page = sorted(package.glob("report/audit*"))
    for file in [*sorted(package.glob("ingest/**/*.py")), *page, package / "stages" / "prepare.py"]:
        digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def unchanged(output: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of the prepared data in `output` if it was made from `inputs` and is whole, else None.

    Data that was made from `inputs` but is not whole any more is spoken of on stderr: it will be made again.
    """
    file = output / "manifest.json"
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text("utf-8"))
        # As text, for the order of a mapping is the order of attributes in the output.
        if not isinstance(found, dict) or json.dumps(found.get("inputs")) != json.dumps(inputs):
            return None
        return read_manifest(output)
    except (ArtifactError, OSError, ValueError) as error:
        problem = str(error).partition("; run `llmrec prepare`")[0]
        if not isinstance(error, ArtifactError):
            problem = f"{file}: not readable ({problem})"
        _say(f"{problem}: the data is prepared again")
        return None


def say_unchanged(output: Path) -> None:
    """Say on stderr that the prepared data in `output` stays as it is."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((output / "manifest.json").stat().st_mtime))
    _say(f"nothing has changed since {since}: {output} stays; force=true prepares it anyway")


def _say(sentence: str) -> None:
    # Not `account.tell`: rich and pyarrow take longer to import than all that is done here.
    print("".join(c if c.isprintable() else repr(c)[1:-1] for c in sentence), file=sys.stderr)
