"""Content of manifest.json of prepared data, with the rules that made texts and values."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec_cli.data.manifest import FORMAT, sha256
from llmrec_cli.ingest.interactions.filters import policy_of
from llmrec_cli.ingest.interactions.order import Ties
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.texts.catalogue import Descriptions, texts_of
from llmrec_cli.ingest.texts.text_rendering import TextRules
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.dataset import DatasetSettings
from llmrec_cli.settings.stages import PrepareConfig


def describe_texts(settings: DatasetSettings, described: Mapping[str, Descriptions],
                   rules: Mapping[str, TextRules]) -> dict[str, Any]:
    """Return the rules of texts and attributes, so that later items and users get theirs in the same way.

    `described` and `rules` (with fitted number classes) are by kind: item, user, and group if there are groups.
    """
    shared = {"list_separator": settings.list_separator, "max_length": settings.max_text_length,
              "strip_html": settings.strip_html}
    texts = {}
    for kind, about in described.items():
        template, attributes, _ = texts_of(settings, kind)
        edges = {name: list(ends) for name, ends in rules[kind].edges.items()}
        texts[kind] = {"template": template, "attributes": dict(attributes), "columns": dict(about.aliases),
                       "names": list(about.names), "edges": edges, **shared}
    return texts


def value_kind(settings: DatasetSettings) -> str:
    """Return the kind of the interactions' values: `event_weight`, `strength` or `rating` (see `data.training_data`).

    dataset.values decides. With auto, values are ratings if dataset.min_value is above 0 or feedback is explicit,
    unless duplicates are summed. All other values are strengths.
    """
    if settings.values != "auto":
        return settings.values
    if settings.event_weights:
        return "event_weight"
    thresholded = (settings.min_value or 0) > 0 or settings.feedback == "explicit"
    return "rating" if thresholded and settings.duplicates != "sum" else "strength"


def manifest_of(cfg: PrepareConfig, content: list[str], cutoff: dict[str, int], described: Mapping[str, Descriptions],
                rules: Mapping[str, TextRules], unit: str, account: Account, has_values: bool,
                ties: Sequence[Ties]) -> dict[str, Any]:
    """Return the manifest without `files`, the hashes of the files.

    `cutoff` is {valid, test: first held-out time} of a temporal split. `has_values` is True if the files have a column
    of values; without it every row has the value 1.

    The fingerprint is made of `content`, the content hashes of interactions, items and users. It leaves out the
    rejects, which name files and lines, and the bytes of Parquet, which change with its version.
    """
    fingerprint = hashlib.sha256("\n".join([str(FORMAT), *content]).encode()).hexdigest()
    settings, newest = cfg.dataset, account.counts.pop("newest", 0)
    return {"format": FORMAT, "name": settings.name, "fingerprint": fingerprint, "counts": account.counts,
            "split": {**to_plain(cfg.split), **({"cutoff": cutoff} if cutoff else {})},
            "texts": describe_texts(settings, described, rules), "timestamp_unit": unit, "values": value_kind(settings),
            "has_values": has_values, "duplicates": policy_of(settings),
            "data_cutoff": newest if unit else None, "warnings": account.warnings, "notes": account.notes,
            **({"formats": account.formats} if account.formats else {}),
            "ties": {f"{one.whose}s": one.to_dict() for one in ties},
            **({"groups": {"synthetic": settings.synthetic_group_rule}} if settings.synthetic_group_rule else {})}


def with_files(manifest: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the manifest with the hashes of all files in `folder`."""
    return {**manifest, "files": {file.name: sha256(file) for file in sorted(folder.iterdir())}}
