"""manifest.json of prepared data: what is in it, how it was divided, and how to tell that it is whole."""

import hashlib
from pathlib import Path
from typing import Any

from ibis.expr.types import Table

from llmrec_cli.data.prepared import FORMAT, sha256
from llmrec_cli.ingest.account import Account
from llmrec_cli.ingest.entities import Described
from llmrec_cli.ingest.splits import cutoffs
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.dataset import DatasetSettings
from llmrec_cli.settings.split import SplitSettings


def describe_split(rows: Table, settings: SplitSettings) -> dict[str, Any]:
    """Return the split's settings, with `cutoff` {valid, test: first timestamp held out} where time decides."""
    found = cutoffs(rows, settings)
    return {**to_plain(settings), **({"cutoff": found} if found else {})}


def describe_texts(settings: DatasetSettings, items: Described, users: Described) -> dict[str, Any]:
    """Return how texts and attributes were made, so that items and users that come later get theirs the same way."""
    shared = {"list_separator": settings.list_separator, "max_length": settings.max_text_length}
    return {"item": {"template": settings.item_text, "attributes": dict(settings.attributes),
                     "columns": dict(items.aliases), **shared},
            "user": {"template": settings.user_text, "attributes": dict(settings.user_attributes),
                     "columns": dict(users.aliases), **shared}}


def manifest_of(folder: Path, name: str, content: list[str], split: dict[str, Any], texts: dict[str, Any], unit: str,
                account: Account) -> dict[str, Any]:
    """Return the manifest of the files in `folder`.

    The fingerprint is made of `content`, the hashes of what is in the interactions, items and users: not of the
    rejects, which name files and lines, nor of Parquet's bytes, which change with its version.
    """
    fingerprint = hashlib.sha256("\n".join([str(FORMAT), *content]).encode()).hexdigest()
    newest = account.counts.pop("newest", 0)
    return {"format": FORMAT, "name": name, "fingerprint": fingerprint, "counts": account.counts, "split": split,
            "texts": texts, "timestamp_unit": unit, "data_cutoff": newest if unit else None,
            "notes": account.notes,
            "files": {file.name: sha256(file) for file in sorted(folder.iterdir())}}
