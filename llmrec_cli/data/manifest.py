"""The manifest of prepared data: that it is readable, of a format we know, and that its files are what it says.

Apart from `data.prepared`, so that whoever asks only this waits for no numpy and no pyarrow.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.folders import restore

FORMAT = 2
"""2: a user's interactions of equal time are in the order of a salted hash; in 1 they were in that of the item ids."""


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of prepared data after checking its format and its files' hashes."""
    restore(path)
    if not path.is_dir():
        raise ConfigError(f"prepared={path}: no such folder; run `llmrec prepare` first or name another")
    file = path / "manifest.json"
    try:
        manifest = json.loads(file.read_text("utf-8"))
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            raise ValueError("it is no manifest")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: not readable ({error}); run `llmrec prepare` again") from error
    if manifest.get("format", 0) > FORMAT:
        raise ArtifactError(f"{file}: format {manifest['format']} is newer than {FORMAT}, the newest this llmrec reads"
                            f"; upgrade llmrec or prepare the data again")
    check_files(path, manifest["files"], "run `llmrec prepare` again")
    return manifest


def outdated(manifest: Mapping[str, Any]) -> str:
    """Return a warning for data that an earlier version prepared; "" for data of this format."""
    if manifest.get("format", 0) >= FORMAT:
        return ""
    return (f"prepared data '{manifest.get('name')}' has format {manifest.get('format', 0)}, in which interactions of "
            f"equal time are ordered by item id; models can learn this order, so metrics may be too high; run `llmrec "
            f"prepare` again")


def check_files(folder: Path, files: dict[str, str], remedy: str) -> None:
    """Raise ArtifactError unless each of `files` {relative name: sha256} is in `folder`, byte for byte."""
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            raise ArtifactError(f"{file}: missing; {remedy}")
        if sha256(file) != expected:
            raise ArtifactError(f"{file}: its SHA-256 is not the one in manifest.json, so it is damaged or was edited; "
                                f"{remedy}")


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
