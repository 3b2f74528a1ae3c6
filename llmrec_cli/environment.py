"""Environment of a run: versions of packages, commit of the checkout, hardware."""

import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any


def environment() -> dict[str, Any]:
    """Return versions, commit and hardware; never environment variables, which may contain secrets."""
    packages = ("llmrec-cli", "torch", "transformers", "peft", "numpy", "scipy", "pandas", "pyarrow", "duckdb")
    versions = {}
    for name in packages:
        # Queried one by one: listing all installed packages takes a third of the time of an empty run.
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"python": sys.version.split()[0], "platform": platform.platform(), "machine": platform.machine(),
            "cores": os.cpu_count(), "packages": versions, "commit": commit()}


def commit() -> str | None:
    """Return the commit of the checkout of llmrec; None if it was installed from a wheel or git is missing."""
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
