"""A transformer's files, checked: those of an encoder option (`sources.py`), or a copy of them in a model folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from llmrec_cli.encoders.folder_files import identity, open_encoder_folder
from llmrec_cli.encoders.modules import Modules, licence_of, read_modules
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.encoder import EncoderSettings

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of MiniLM's weights, which are of a package and the only ones that no model folder has a copy of."""


@dataclass(frozen=True)
class Source:
    """An encoder's folder, checked.

    Attributes
    ----------
    files : a Hugging Face folder with config.json, safetensors and tokenizer, open
    identity : SHA-256 of MiniLM's weights, or over the weights, configuration and tokenizer of any other folder
    modules : what the folder says of pooling, maps behind it and prompts
    name : what people call it
    licence : as the folder's README.md has it; empty where it has none
    """

    files: PinnedFolder
    identity: str
    modules: Modules
    name: str
    licence: str

    @property
    def folder(self) -> Path:
        """The place of the files, for messages."""
        return self.files.path


def locate(settings: EncoderSettings, folder: Path | None = None) -> Source:
    """Return where the encoder that `settings` names is; `folder`, when given, is where it was copied to.

    Raises ConfigError when there is no such encoder and ArtifactError when its files cannot be used.
    """
    if not settings.has_layers:
        raise ConfigError(f"encoder={settings.kind}: has no transformer that could be trained; choose encoder=minilm, "
                          f"hf or pretrained")
    option = implementation_of(settings)
    found = option.find(settings) if folder is None else folder
    files = open_encoder_folder(found)
    checked = option.checked_identity(files) if folder is None else folder_identity(files)
    return Source(files, checked, read_modules(files), option.name_of(settings, found), licence_of(files))


def folder_identity(files: PinnedFolder) -> str:
    """Return the identity of any folder but MiniLM's; one inside a saved model must be the one that it is named after.

    A saved model opens its encoder when it is first needed, and by then another model may have its name.
    """
    found, place = identity(files), files.place
    if re.fullmatch("[0-9a-f]{16}", place.name) and place.parent.name == "encoders" and place.name != found[:16]:
        raise ArtifactError(f"{files.path}: is not the encoder that its name says, so the model was replaced while it "
                            f"was used, or it is damaged; run the command again, or copy the model again")
    return found
