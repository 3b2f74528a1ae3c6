"""Encoders inside a model folder, so that it can be copied to another machine."""

import re
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from llmrec_cli.encoders.folder_files import identity, identity_of
from llmrec_cli.encoders.locate import MINILM_SHA256, locate
from llmrec_cli.errors import ArtifactError
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
NEEDED = ("*.safetensors", "*.json", "*.txt", "*.model", "[0-9]*_*")


def bundle(settings: EncoderSettings, folder: Path) -> tuple[EncoderSettings, dict[str, str]]:
    """Copy an encoder's files into the model folder; return settings that name them there, and what each hashes to.

    MiniLM is a package with a known hash and stays where it is. What lsa and tfidf learned is with the head.
    """
    if isinstance(settings, Concat):
        moved = {name: (part, *bundle(part.encoder, folder)) for name, part in settings.parts.items()}
        parts = {name: replace(part, encoder=encoder) for name, (part, encoder, _) in moved.items()}
        return replace(settings, parts=parts), {key: value for *_, found in moved.values()
                                                for key, value in found.items()}
    if isinstance(settings, MiniLM) or (isinstance(settings, Static) and not settings.path):
        return settings, {"minilm": locate(MiniLM()).identity}
    if isinstance(settings, Static):
        place, copied = _copied(HuggingFace(path=settings.path), folder)
        return replace(settings, path=place), {place: copied}
    if isinstance(settings, TransformerSettings):
        place, copied = _copied(settings, folder)
        shared: dict[str, Any] = {item.name: getattr(settings, item.name) for item in fields(TransformerSettings)}
        return HuggingFace(**shared | {"kind": "hf", "path": place}), {place: copied}
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


def check_encoders(folder: Path, manifest: dict[str, Any], remedy: str) -> None:
    """Raise ArtifactError unless the encoders are those that the model's head was trained on top of.

    Adapters and maps fit any encoder of the same shape, and give nonsense on every one but their own. The files must
    have been checked against the manifest already: their hashes are taken from it.
    """
    expected = manifest["encoders"]
    hashes = {Path(name): value for name, value in manifest["files"].items()}
    places = {str(Path(*file.parts[:2])) for file in hashes if len(file.parts) > 2 and file.parts[0] == "encoders"}
    if not isinstance(expected, dict) or places != expected.keys() - {"minilm"}:
        raise ArtifactError(f"{folder / 'manifest.json'}: names other encoders than the model has "
                            f"({', '.join(sorted(places)) or 'none'}); {remedy}")
    found = {place: identity_of({file.relative_to(place): value for file, value in hashes.items()
                                 if file.is_relative_to(place)}) for place in places}
    for place, wanted in expected.items():
        if found.get(place, MINILM_SHA256) != wanted:
            raise ArtifactError(f"{folder / place if place in found else place}: is another encoder than the one that "
                                f"the model was trained with; {remedy}")


def _copied(settings: TransformerSettings, folder: Path) -> tuple[str, str]:
    """Copy the encoder's folder, unless it is there, and return its place in the model folder and its identity."""
    source = locate(settings)
    place = f"encoders/{source.identity[:16]}"
    if not (folder / place).exists():
        (folder / place).mkdir(parents=True)
        for pattern in NEEDED:
            for file in source.folder.glob(pattern):
                for each in file.rglob("*") if file.is_dir() else [file]:
                    if each.is_file():
                        copy = folder / place / each.relative_to(source.folder)
                        copy.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(each, copy)  # The content alone: permissions are this process's, by its umask.
    # Of the copy, which may lack a file that only other software reads.
    return place, identity(folder / place)


def _strange(folder: Path, what: str) -> ArtifactError:
    return ArtifactError(f"{folder / 'config.yaml'}: encoder.{what}: a model's encoder is inside its own folder, "
                         f"encoders/<hash>; the file was edited, train the model again")
