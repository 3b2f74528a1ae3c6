"""manifest.json of prepared data, and the check whether the same files with the same settings were prepared already.

What decides the output is noted in its manifest. The engine does not: with its memory, threads and cluster it decides
how fast the output is there, never what is in it. Nor does where the run or the output is written.

A file is the same when its path (as it was given), size and time of change in nanoseconds are. Its content is not
hashed: that would take as long as reading it, and what escapes is only a file that was replaced by one of the same
size whose time was set back to the old one's. Files that are fetched, unpacked or rewritten by us, in a folder that is
another one in each run, are small and are known by their content.
"""

import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import llmrec_cli
from llmrec_cli import __version__
from llmrec_cli.data.manifest import FORMAT, read_manifest, sha256
from llmrec_cli.errors import ArtifactError, DataError
from llmrec_cli.ingest.interactions.filters import policy_of
from llmrec_cli.ingest.interactions.order import Ties
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.presets.files import cache_folder
from llmrec_cli.ingest.readers.sources import Source, Sources
from llmrec_cli.ingest.texts.catalogue import Described, texts_of
from llmrec_cli.ingest.texts.text_rendering import TextRules
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.dataset import DatasetSettings
from llmrec_cli.settings.stages import PrepareConfig


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


def manifest_of(cfg: PrepareConfig, content: list[str], cutoff: dict[str, int], described: Mapping[str, Described],
                rules: Mapping[str, TextRules], unit: str, account: Account, has_values: bool,
                ties: Sequence[Ties]) -> dict[str, Any]:
    """Return the manifest, but for `files`, the hashes of the files.

    `cutoff` is {valid, test: first moment held out} where time decides; `has_values` says whether the files have a
    column of values; without one every row has the value 1.

    The fingerprint is made of `content`, the hashes of what is in the interactions, items and users: not of the
    rejects, which name files and lines, nor of Parquet's bytes, which change with its version.
    """
    fingerprint = hashlib.sha256("\n".join([str(FORMAT), *content]).encode()).hexdigest()
    settings, newest = cfg.dataset, account.counts.pop("newest", 0)
    return {"format": FORMAT, "name": settings.name, "fingerprint": fingerprint, "counts": account.counts,
            "split": {**to_plain(cfg.split), **({"cutoff": cutoff} if cutoff else {})},
            "texts": describe_texts(settings, described, rules), "timestamp_unit": unit, "values": value_kind(settings),
            "has_values": has_values, "duplicates": policy_of(settings),
            "data_cutoff": newest if unit else None, "warnings": account.warnings, "notes": account.notes,
            "ties": {f"{one.whose}s": one.described() for one in ties},
            **({"groups": {"synthetic": settings.made_groups}} if settings.made_groups else {})}


def with_files(manifest: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the manifest with the hashes of all files in `folder`."""
    return {**manifest, "files": {file.name: sha256(file) for file in sorted(folder.iterdir())}}


def signature(cfg: PrepareConfig, sources: Sources, scratch: Path) -> dict[str, Any]:
    """Return all that decides the output, as JSON: to be asked for before the files are read.

    A file that changes while it is read then has another time than the one noted here, and the next run sees it.
    `scratch` is the folder that the reader of the data set may have put files of its own into.
    """
    ours = (scratch, cache_folder())
    files = {role.name: [_file(source, ours) for source in getattr(sources, role.name)]
             for role in fields(Sources) if isinstance(getattr(sources, role.name), list)}
    found = {"llmrec": __version__, "format": FORMAT, "code": code(), "mode": cfg.mode,
             "dataset": to_plain(cfg.dataset), "split": to_plain(cfg.split),
             "files": {role: of_role for role, of_role in files.items() if of_role}}
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _file(source: Source, ours: tuple[Path, ...]) -> dict[str, Any]:
    """Return what tells one state of a file from another."""
    try:
        for folder in ours:
            if source.path.is_relative_to(folder):
                return {"path": str(source.path.relative_to(folder)), "sha256": sha256(source.path)}
        status = source.path.stat()
    except OSError as error:
        raise DataError(f"{source.path}: cannot be read ({error.strerror}); repair it or name another file") from error
    return {"path": str(source.path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def code() -> str:
    """Return a hash of the code that prepares: between two versions it changes, for those who work on it."""
    package = Path(llmrec_cli.__file__).parent
    digest = hashlib.sha256()
    page = sorted(package.glob("report/audit*"))
    for file in [*sorted(package.glob("ingest/**/*.py")), *page, package / "stages" / "prepare.py"]:
        digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def unchanged(output: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of the prepared data in `output` if it was made from `inputs` and is whole, else None.

    Data that was made from `inputs` but is not whole any more is spoken of on stderr: it will be made again.
    """
    file = output / "manifest.json"
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text("utf-8"))
        # As text, for the order of a mapping is the order of attributes in the output.
        if not isinstance(found, dict) or json.dumps(found.get("inputs")) != json.dumps(inputs):
            return None
        return read_manifest(output)
    except (ArtifactError, OSError, ValueError) as error:
        problem = str(error).partition("; run `llmrec prepare`")[0]
        if not isinstance(error, ArtifactError):
            problem = f"{file}: not readable ({problem})"
        _say(f"{problem}: the data is prepared again")
        return None


def say_unchanged(output: Path) -> None:
    """Say on stderr that the prepared data in `output` stays as it is."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((output / "manifest.json").stat().st_mtime))
    _say(f"nothing has changed since {since}: {output} stays; force=true prepares it anyway")


def _say(sentence: str) -> None:
    # Not `account.tell`: rich and pyarrow take longer to import than all that is done here.
    print("".join(c if c.isprintable() else repr(c)[1:-1] for c in sentence), file=sys.stderr)
