"""The manifest of prepared data: that it is readable, of a format we know, and that its files are what it says.

Apart from `data.prepared`, so that whoever asks only this waits for no numpy and no pyarrow.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec_cli.data.manifest_checks import PREPARED, is_integer, problems
from llmrec_cli.data.plain_json import parse_json
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.folders import restore
from llmrec_cli.pinned import PinnedFolder, retried

FORMAT = 2
"""2: a user's interactions of equal time are in the order of a salted hash; in 1 they were in that of the item ids."""

REMEDY = "run `llmrec prepare` again"


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of prepared data after checking its format and its files' hashes."""
    def read() -> dict[str, Any]:
        files, manifest = open_prepared(path)
        files.check_rest()
        return manifest

    return retried(read)


def open_prepared(path: Path) -> tuple[PinnedFolder, dict[str, Any]]:
    """Return the folder of prepared data with all its files open, and its manifest, of a format that we know."""
    restore(path)
    if not path.is_dir():
        raise ConfigError(f"prepared={path}: no such folder; run `llmrec prepare` first or name another")
    files, file = PinnedFolder(path, REMEDY), path / "manifest.json"
    manifest = parse_json(files.read("manifest.json"), file, REMEDY)
    if isinstance(manifest, dict) and is_integer(manifest.get("format"), FORMAT + 1):
        raise ArtifactError(f"{file}: format {manifest['format']} is newer than {FORMAT}, the newest this llmrec reads"
                            f"; upgrade llmrec or prepare the data again")
    if wrong := problems(manifest, PREPARED):
        raise ArtifactError(f"{file}: is no manifest of prepared data: {'; '.join(wrong)}; {REMEDY}")
    files.pin(manifest["files"])
    return files, manifest


def outdated(manifest: Mapping[str, Any]) -> str:
    """Return a warning for data that an earlier version prepared; "" for data of this format."""
    if manifest.get("format", 0) >= FORMAT:
        return ""
    return (f"prepared data '{manifest.get('name')}' has format {manifest.get('format', 0)}, in which interactions of "
            f"equal time are ordered by item id; models can learn this order, so metrics may be too high; run `llmrec "
            f"prepare` again")


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
