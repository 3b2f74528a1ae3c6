"""The manifest of prepared data: that it is readable, of a format we know, and that its files are what it says.

Apart from `data.prepared`, so that whoever asks only this waits for no numpy and no pyarrow.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec_cli.data.manifest_checks import PREPARED, is_inside, is_integer, problems
from llmrec_cli.data.plain_json import parse_json
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.folders import restore

FORMAT = 2
"""2: a user's interactions of equal time are in the order of a salted hash; in 1 they were in that of the item ids."""

REMEDY = "run `llmrec prepare` again"


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of prepared data after checking its format and its files' hashes."""
    restore(path)
    if not path.is_dir():
        raise ConfigError(f"prepared={path}: no such folder; run `llmrec prepare` first or name another")
    file = path / "manifest.json"
    try:
        manifest = parse_json(regular_bytes(path, "manifest.json", REMEDY), file, REMEDY)
    except OSError as error:
        raise ArtifactError(f"{file}: not readable ({error}); {REMEDY}") from error
    if isinstance(manifest, dict) and is_integer(manifest.get("format"), FORMAT + 1):
        raise ArtifactError(f"{file}: format {manifest['format']} is newer than {FORMAT}, the newest this llmrec reads"
                            f"; upgrade llmrec or prepare the data again")
    if wrong := problems(manifest, PREPARED):
        raise ArtifactError(f"{file}: is no manifest of prepared data: {'; '.join(wrong)}; {REMEDY}")
    check_files(path, manifest["files"], REMEDY)
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
        require_regular(folder, name, remedy)
        if sha256(file) != expected:
            raise ArtifactError(f"{file}: its SHA-256 is not the one in manifest.json, so it is damaged or was edited; "
                                f"{remedy}")


def require_regular(folder: Path, name: str, remedy: str) -> None:
    """Raise ArtifactError unless `name` is a regular file of the folder: no link, no pipe that would be waited for."""
    if not is_inside(name):
        raise ArtifactError(f"{folder}: {name!r} is no file of the folder; {remedy}")
    place = folder
    for part in Path(name).parts:
        place /= part
        try:
            mode = os.lstat(place).st_mode
        except OSError as error:
            raise ArtifactError(f"{folder / name}: missing; {remedy}") from error
        if not (stat.S_ISREG(mode) if place == folder / name else stat.S_ISDIR(mode)):
            raise ArtifactError(f"{place}: is a link or no regular file, which is never read; copy the file itself "
                                f"into the folder, or {remedy}")


def regular_bytes(folder: Path, name: str, remedy: str) -> bytes:
    """Return the content of a regular file of the folder."""
    require_regular(folder, name, remedy)
    return (folder / name).read_bytes()


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
