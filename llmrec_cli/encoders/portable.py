"""Encoders inside a model folder, so that it can be copied to another machine."""

import re
import shutil
from dataclasses import fields, replace
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Any

from llmrec_cli.data.manifest import sha256
from llmrec_cli.encoders.locate import locate
from llmrec_cli.errors import ArtifactError
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.settings.encoder import (
    Concat,
    EncoderSettings,
    HuggingFace,
    MiniLM,
    Pretrained,
    Scratch,
    Static,
    TransformerSettings,
)

INSIDE = re.compile(r"encoders/[0-9a-f]{16}")
NEEDED = ("*.safetensors", "*.json", "*.txt", "*.model", "[0-9]*_*/*")


def identities(settings: EncoderSettings) -> dict[str, str]:
    """Return what `bundle` returns of the files: the identity of each encoder by its place in a model folder."""
    return bundle(settings, None)[1]


def bundle(settings: EncoderSettings, folder: Path | None) -> tuple[EncoderSettings, dict[str, str]]:
    """Copy an encoder's files into the model folder; return settings that name them there, and what each hashes to.

    Without a folder nothing is copied. MiniLM is a package with a known hash and stays where it is. What lsa and tfidf
    learned is with the head.
    """
    if isinstance(settings, Concat):
        moved = {name: (part, *bundle(part.encoder, folder)) for name, part in settings.parts.items()}
        parts = {name: replace(part, encoder=encoder) for name, (part, encoder, _) in moved.items()}
        return replace(settings, parts=parts), {key: value for *_, found in moved.values()
                                                for key, value in found.items()}
    if isinstance(settings, MiniLM) or (isinstance(settings, Static) and not settings.path):
        return settings, {"minilm": locate(MiniLM()).identity}
    if isinstance(settings, Static):
        place, identity = _copied(HuggingFace(path=settings.path), folder)
        return replace(settings, path=place), {place: identity}
    if isinstance(settings, TransformerSettings):
        place, identity = _copied(settings, folder)
        shared: dict[str, Any] = {item.name: getattr(settings, item.name) for item in fields(TransformerSettings)}
        return HuggingFace(**shared | {"kind": "hf", "path": place}), {place: identity}
    return settings, {}


def resolved(settings: EncoderSettings, folder: Path) -> EncoderSettings:
    """Return the settings of a saved model with the encoder's path in the model folder, and nowhere else."""
    if isinstance(settings, Concat):
        return replace(settings, parts={name: replace(part, encoder=resolved(part.encoder, folder))
                                        for name, part in settings.parts.items()})
    if isinstance(settings, (Pretrained, Scratch)):
        raise _strange(folder, f"kind={settings.kind}")
    if isinstance(settings, HuggingFace) or (isinstance(settings, Static) and settings.path):
        if not INSIDE.fullmatch(settings.path) or (isinstance(settings, HuggingFace) and settings.allow_download):
            raise _strange(folder, f"path={settings.path}")
        return replace(settings, path=str(folder / settings.path))
    return settings


def _copied(settings: TransformerSettings, folder: Path | None) -> tuple[str, str]:
    """Copy the encoder's folder, unless it is there, and return its place in the model folder and its identity."""
    source = locate(settings)
    place = f"encoders/{source.identity[:16]}"
    if folder is not None and not (folder / place).exists():
        for name in source.files.hashes:
            if any(fnmatch(name, pattern) for pattern in NEEDED):
                _copy(source.files, name, folder / place / name)
    return place, source.identity


def _copy(files: PinnedFolder, name: str, target: Path) -> None:
    """Copy a file of an open folder, whatever has its name by now, a block at a time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.file(name) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    if sha256(target) != files.hashes[name]:
        raise ArtifactError(f"{files.path / name}: changed while it was copied; {files.remedy}")


def _strange(folder: Path, what: str) -> ArtifactError:
    return ArtifactError(f"{folder / 'config.yaml'}: encoder.{what}: a model's encoder is inside its own folder, "
                         f"encoders/<hash>; the file was edited, train the model again")
