"""Copies of encoders inside a model folder, so that the folder can be moved to another machine."""

import re
import shutil
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Any

from llmrec_cli.data.manifest import sha256
from llmrec_cli.encoders.base import encoder_class
from llmrec_cli.encoders.folder_files import identity_of
from llmrec_cli.encoders.locate import MINILM_SHA256, locate
from llmrec_cli.errors import ArtifactError
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.settings.encoder import EncoderSettings, TransformerSettings

_INSIDE = re.compile(r"encoders/[0-9a-f]{16}")
_NEEDED = ("*.safetensors", "*.json", "*.txt", "*.model", "[0-9]*_*/*", "README.md")
"""Patterns of the files to copy: those that are read, and the model card, since the licence stays with the weights."""


def identities(settings: EncoderSettings) -> dict[str, str]:
    """Return the identity of each encoder by its place in a model folder, without copying."""
    return bundle(settings, None)[1]


def bundle(settings: EncoderSettings, folder: Path | None) -> tuple[EncoderSettings, dict[str, str]]:
    """Copy an encoder's files into the model folder; return settings with the new paths, and identities by place.

    Without a folder nothing is copied. MiniLM is a package with a known hash and is not copied. The learned state of
    lsa and tfidf is stored with the head.
    """
    return encoder_class(settings).bundle(settings, folder)


def resolved(settings: EncoderSettings, folder: Path) -> EncoderSettings:
    """Return the settings of a saved model with the encoder's path in the model folder; refuse other paths."""
    return encoder_class(settings).resolved(settings, folder)


def inside(folder: Path, path: str) -> str:
    """Return the path of an encoder in a model folder; raise ArtifactError for a path outside of it."""
    if not _INSIDE.fullmatch(path):
        raise outside_error(folder, f"path={path}")
    return str(folder / path)


def check_encoders(folder: Path, manifest: dict[str, Any], remedy: str) -> None:
    """Raise ArtifactError unless the model folder has the encoders that the head was trained with.

    Adapters and maps load with any encoder of the same shape, but give nonsense with another one. The files must have
    been checked against the manifest before, since their hashes are taken from it.
    """
    expected = manifest["encoders"]
    hashes = manifest["files"]
    places = {"/".join(name.split("/")[:2]) for name in hashes if re.match("encoders/[^/]+/", name)}
    if not isinstance(expected, dict) or places != expected.keys() - {"minilm"}:
        raise ArtifactError(f"{folder / 'manifest.json'}: lists other encoders than the model folder has "
                            f"({', '.join(sorted(places)) or 'none'}); {remedy}")
    actual = {place: identity_of({name.removeprefix(f"{place}/"): value for name, value in hashes.items()
                                  if name.startswith(f"{place}/")}) for place in places}
    for place, identity in expected.items():
        if actual.get(place, MINILM_SHA256) != identity:
            raise ArtifactError(f"{folder / place if place in actual else place}: is not the encoder that the model "
                                f"was trained with; {remedy}")


def copy_encoder(settings: TransformerSettings, folder: Path | None) -> tuple[str, str]:
    """Copy the encoder's folder, unless it exists already; return its place in the model folder and its identity."""
    files = locate(settings).files
    needed = {name: value for name, value in files.hashes.items() if any(fnmatch(name, each) for each in _NEEDED)}
    # The identity of the copy, which may lack files that only other software reads.
    identity = identity_of(needed)
    place = f"encoders/{identity[:16]}"
    if folder is not None and not (folder / place).exists():
        for name in needed:
            _copy(files, name, folder / place / name)
    return place, identity


def _copy(files: PinnedFolder, name: str, target: Path) -> None:
    """Copy a file of an open folder in blocks, even if its name means another file by now."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.file(name) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    if sha256(target) != files.hashes[name]:
        raise ArtifactError(f"{files.path / name}: changed while it was copied; {files.remedy}")


def outside_error(folder: Path, setting: str) -> ArtifactError:
    """Return the error for a saved model whose settings name an encoder outside its folder."""
    return ArtifactError(f"{folder / 'config.yaml'}: encoder.{setting}: the encoder of a saved model must be inside "
                         f"its folder, encoders/<hash>; the file was edited, train the model again")
