"""Encoders inside a model folder, so that it can be copied to another machine."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

from llmrec_cli.encoders.locate import locate
from llmrec_cli.errors import ArtifactError
from llmrec_cli.settings.encoder import EncoderSettings, HuggingFace, MiniLM

INSIDE = re.compile(r"encoders/[0-9a-f]{16}")
NEEDED = ("*.safetensors", "*.json", "*.txt", "*.model", "1_Pooling")


def bundle(settings: EncoderSettings, folder: Path) -> tuple[EncoderSettings, str]:
    """Copy an encoder into the model folder and return settings that name it there, and its identity.

    MiniLM is a package with a known hash and stays where it is.
    """
    source = locate(settings)
    if isinstance(settings, MiniLM):
        return settings, source.identity
    place = f"encoders/{source.identity[:16]}"
    if not (folder / place).exists():
        (folder / place).mkdir(parents=True)
        for pattern in NEEDED:
            for file in source.folder.glob(pattern):
                copy = shutil.copytree if file.is_dir() else shutil.copy2
                copy(file, folder / place / file.name)
    moved = HuggingFace(path=place, max_length=settings.max_length, batch_tokens=settings.batch_tokens)
    return moved, source.identity


def resolved(settings: EncoderSettings, folder: Path) -> EncoderSettings:
    """Return the settings of a saved model with the encoder's path in the model folder, and nowhere else."""
    if not isinstance(settings, HuggingFace):
        return settings
    if not INSIDE.fullmatch(settings.path) or settings.allow_download:
        raise ArtifactError(f"{folder / 'config.yaml'}: encoder.path={settings.path}: a model's encoder is inside its "
                            f"own folder, encoders/<hash>; the file was edited, train the model again")
    return replace(settings, path=str(folder / settings.path))
