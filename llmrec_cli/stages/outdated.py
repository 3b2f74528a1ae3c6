"""Prepared data of an earlier format: it is read, and its faults are stated."""

import sys
from collections.abc import Mapping
from typing import Any

from llmrec_cli.data.manifest import outdated
from llmrec_cli.run_dir import RunDir


def warn_outdated(manifest: Mapping[str, Any], run_dir: RunDir) -> None:
    """Print and log a warning when the data was prepared in an earlier format."""
    if text := outdated(manifest):
        run_dir.log("warning", text=text)
        print(f"warning: {text.encode('unicode_escape').decode()}", file=sys.stderr)
