"""Checked files of a transformer: those of an encoder option (`sources.py`), or their copy in a model folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from llmrec_cli.encoders.folder_files import COPY_AGAIN, identity, open_encoder_folder
from llmrec_cli.encoders.modules import Modules, licence_of, read_modules
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.encoder import EncoderSettings

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of MiniLM's weights, which come from a package and are the only weights not copied into model folders."""


@dataclass(frozen=True)
class Source:
    """A checked encoder folder.

    Attributes
    ----------
    files : the opened Hugging Face folder with config.json, safetensors and tokenizer
    identity : SHA-256 of MiniLM's weights, or over the weights, configuration and tokenizer of any other folder
    modules : the folder's pooling, linear maps and prompts
    name : display name
    licence : the licence in the folder's README.md; empty if there is none
    """

    files: PinnedFolder
    identity: str
    modules: Modules
    name: str
    licence: str

    @property
    def folder(self) -> Path:
        """The path of the files, for messages."""
        return self.files.path


def locate(settings: EncoderSettings, folder: Path | None = None) -> Source:
    """Return the files of the encoder that `settings` names; `folder`, if given, has a copy of them.

    Raises ConfigError if there is no such encoder, and ArtifactError if its files cannot be used.
    """
    if not settings.has_layers:
        raise ConfigError(f"encoder={settings.kind}: has no transformer that could be trained; choose encoder=minilm, "
                          f"e5, hf or pretrained")
    option = implementation_of(settings)
    path = option.find(settings) if folder is None else folder
    files = open_encoder_folder(path, COPY_AGAIN if folder is not None else option.remedy(settings, path))
    checked = option.checked_identity(files) if folder is None else folder_identity(files)
    return Source(files, checked, read_modules(files), option.name_of(settings, path), licence_of(files))


def folder_identity(files: PinnedFolder) -> str:
    """Return the identity of any folder but MiniLM's; inside a saved model it must match the folder's name.

    A saved model opens its encoder when it is first needed; by then another model may have been published in its place.
    """
    actual, place = identity(files), files.place
    if re.fullmatch("[0-9a-f]{16}", place.name) and place.parent.name == "encoders" and place.name != actual[:16]:
        raise ArtifactError(f"{files.path}: the files do not match the hash in the folder's name, so the model was "
                            f"replaced while in use, or it is damaged; run the command again, or copy the model again")
    return actual
