"""Rules for the manifest: how the files of interactions, items and users were read."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrec_cli.data.file_rules import ROLES, FileRules
from llmrec_cli.ingest.contents import Preparation
from llmrec_cli.ingest.readers.sources import Source, Sources, is_path
from llmrec_cli.ingest.readers.staging import StagedFiles
from llmrec_cli.settings.formats import FormatSettings


def file_rules(run: Preparation, sources: Sources) -> dict[str, Any]:
    """Return the rules of each role for the manifest; with mode=append, roles without new files keep theirs.

    `sources` are the files of this run, without the earlier data.
    """
    staged = {"interactions": run.interactions, "items": run.entities["item"], "users": run.entities["user"]}
    entries = dict(run.earlier.manifest.get("file_rules") or {}) if run.earlier else {}
    time = "" if run.cfg.dataset.time_unit == "auto" else run.cfg.dataset.time_unit
    for role in ROLES:
        rules = _rules_of(staged[role], {source.path for source in getattr(sources, role)})
        if rules is not None:
            entries[role] = replace(rules, time=time if role == "interactions" else "").to_dict()
    return entries


def _rules_of(staged: StagedFiles | None, paths: Collection[Path]) -> FileRules | None:
    """Return the rules of the first of the files; None without a file, or with a reader of a special format."""
    files = [(source, names) for source, names in zip(staged.sources, staged.columns, strict=True)
             if source.path in paths and source.read is None] if staged else []
    if not files:
        return None
    source, _ = files[0]
    all_columns = dict.fromkeys(name for _, names in files for name in names if name)
    columns = {ours: theirs for ours, theirs in source.columns.items() if ours != theirs}
    nulls = {name: texts for name, texts in source.text_format.nulls.items() if name} if source.text_format else {}
    separator = source.separator if source.explode or any(map(is_path, columns.values())) else ""
    return FileRules(columns, source.names or (), tuple(all_columns), source.explode, separator, _format_of(source),
                     nulls)


def _format_of(source: Source) -> FormatSettings:
    """Return the format in which a file was read. Lines before the header are left to detection unless given."""
    detected, given = source.text_format, source.given
    if detected is None:
        return given
    # Without a setting, another encoding than a later file's would be an error, and UTF-8 is detected surely.
    encoding = given.encoding or ("" if detected.encoding == "utf-8" else detected.encoding)
    if source.format != "delimited":
        return FormatSettings(encoding=encoding, null=given.null)
    delimiter = "" if detected.delimiter == source.usual_delimiter else detected.delimiter
    return replace(given, encoding=encoding, delimiter=delimiter, escape=detected.escape,
                   quote=given.quote if detected.quote == '"' else detected.quote,
                   decimal=given.decimal or ("," if detected.decimal_commas else ""))
