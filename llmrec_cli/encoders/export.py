"""Encoders inside a model folder, so that it can be copied to another machine."""

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
_NEEDED = ("*.safetensors", "*.json", "*.txt", "*.model", "[0-9]*_*/*")


def identities(settings: EncoderSettings) -> dict[str, str]:
    """Return what `bundle` returns of the files: the identity of each encoder by its place in a model folder."""
    return bundle(settings, None)[1]


def bundle(settings: EncoderSettings, folder: Path | None) -> tuple[EncoderSettings, dict[str, str]]:
    """Copy an encoder's files into the model folder; return settings that name them there, and what each hashes to.

    Without a folder nothing is copied. MiniLM is a package with a known hash and stays where it is. What lsa and tfidf
    learned is with the head.
    """
    return encoder_class(settings).bundle(settings, folder)


def resolved(settings: EncoderSettings, folder: Path) -> EncoderSettings:
    """Return the settings of a saved model with the encoder's path in the model folder, and nowhere else."""
    return encoder_class(settings).resolved(settings, folder)


def inside(folder: Path, path: str) -> str:
    """Return the place of an encoder in a model folder; raise ArtifactError for a path that leads elsewhere."""
    if not _INSIDE.fullmatch(path):
        raise strange(folder, f"path={path}")
    return str(folder / path)


def check_encoders(folder: Path, manifest: dict[str, Any], remedy: str) -> None:
    """Raise ArtifactError unless the encoders are those that the model's head was trained on top of.

    Adapters and maps fit any encoder of the same shape, and give nonsense on every one but their own. The files must
    have been checked against the manifest already: their hashes are taken from it.
    """
    expected = manifest["encoders"]
    hashes = manifest["files"]
    places = {"/".join(name.split("/")[:2]) for name in hashes if re.match("encoders/[^/]+/", name)}
    if not isinstance(expected, dict) or places != expected.keys() - {"minilm"}:
        raise ArtifactError(f"{folder / 'manifest.json'}: names other encoders than the model has "
                            f"({', '.join(sorted(places)) or 'none'}); {remedy}")
    found = {place: identity_of({name.removeprefix(f"{place}/"): value for name, value in hashes.items()
                                 if name.startswith(f"{place}/")}) for place in places}
    for place, wanted in expected.items():
        if found.get(place, MINILM_SHA256) != wanted:
            raise ArtifactError(f"{folder / place if place in found else place}: is another encoder than the one that "
                                f"the model was trained with; {remedy}")


def copy_encoder(settings: TransformerSettings, folder: Path | None) -> tuple[str, str]:
    """Copy the encoder's folder, unless it is there, and return its place in the model folder and its identity."""
    files = locate(settings).files
    needed = {name: value for name, value in files.hashes.items() if any(fnmatch(name, each) for each in _NEEDED)}
    # Of the copy, which may lack a file that only other software reads.
    found = identity_of(needed)
    place = f"encoders/{found[:16]}"
    if folder is not None and not (folder / place).exists():
        for name in needed:
            _copy(files, name, folder / place / name)
    return place, found


def _copy(files: PinnedFolder, name: str, target: Path) -> None:
    """Copy a file of an open folder, whatever has its name by now, a block at a time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.file(name) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    if sha256(target) != files.hashes[name]:
        raise ArtifactError(f"{files.path / name}: changed while it was copied; {files.remedy}")


def strange(folder: Path, what: str) -> ArtifactError:
    """Return the error for a setting of a saved model that no model is saved with."""
    return ArtifactError(f"{folder / 'config.yaml'}: encoder.{what}: a model's encoder is inside its own folder, "
                         f"encoders/<hash>; the file was edited, train the model again")
