"""manifest.json of prepared data: what is in it, how it was divided, and how to tell that it is whole."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec_cli.data.manifest import FORMAT, sha256
from llmrec_cli.ingest.interactions.duplicates import policy_of
from llmrec_cli.ingest.output.account import Account
from llmrec_cli.ingest.texts.entities import Described, texts_of
from llmrec_cli.ingest.texts.telling import TextRules
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.dataset import DatasetSettings
from llmrec_cli.settings.split import SplitSettings


def describe_split(settings: SplitSettings, cutoff: dict[str, int]) -> dict[str, Any]:
    """Return the split's settings, with `cutoff` {valid, test: first moment held out} where time decides."""
    return {**to_plain(settings), **({"cutoff": cutoff} if cutoff else {})}


def describe_texts(settings: DatasetSettings, described: Mapping[str, Described],
                   rules: Mapping[str, TextRules]) -> dict[str, Any]:
    """Return how texts and attributes were made, so that items and users that come later get theirs the same way.

    `described` and `rules`, which have the classes of numbers, are by kind: item, user, and group where there are any.
    """
    shared = {"list_separator": settings.list_separator, "max_length": settings.max_text_length,
              "strip_html": settings.strip_html}
    found = {}
    for kind, about in described.items():
        template, attributes, _ = texts_of(settings, kind)
        edges = {name: list(ends) for name, ends in rules[kind].edges.items()}
        found[kind] = {"template": template, "attributes": dict(attributes), "columns": dict(about.aliases),
                       "names": list(about.names), "edges": edges, **shared}
    return found


def value_kind(settings: DatasetSettings) -> str:
    """Return what the values of interactions are, `event_weight`, `strength` or `rating`: see `data.training_data`.

    As dataset.values says. With auto, values that had to reach a dataset.min_value above 0, or that say likes from
    dislikes, are ratings. Sums of duplicates are strengths whatever they have to reach, and so are values that nothing
    is said of.
    """
    if settings.values != "auto":
        return settings.values
    if settings.event_weights:
        return "event_weight"
    thresholded = (settings.min_value or 0) > 0 or settings.feedback == "explicit"
    return "rating" if thresholded and settings.duplicates != "sum" else "strength"


def manifest_of(settings: DatasetSettings, content: list[str], split: dict[str, Any], texts: dict[str, Any], unit: str,
                account: Account, has_values: bool) -> dict[str, Any]:
    """Return the manifest, but for `files`, the hashes of the files.

    `has_values` says whether the files have a column of values; without one every row has the value 1.

    The fingerprint is made of `content`, the hashes of what is in the interactions, items and users: not of the
    rejects, which name files and lines, nor of Parquet's bytes, which change with its version.
    """
    fingerprint = hashlib.sha256("\n".join([str(FORMAT), *content]).encode()).hexdigest()
    newest = account.counts.pop("newest", 0)
    return {"format": FORMAT, "name": settings.name, "fingerprint": fingerprint, "counts": account.counts,
            "split": split, "texts": texts, "timestamp_unit": unit, "values": value_kind(settings),
            "has_values": has_values, "duplicates": policy_of(settings),
            "data_cutoff": newest if unit else None, "warnings": account.warnings, "notes": account.notes}


def with_files(manifest: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the manifest with the hashes of all files in `folder`."""
    return {**manifest, "files": {file.name: sha256(file) for file in sorted(folder.iterdir())}}
