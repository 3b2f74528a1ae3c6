"""Loading a Hugging Face model and its tokenizer from a checked folder, offline and without custom code."""

import inspect
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from llmrec_cli.atomic_files import temporary_folder, writing
from llmrec_cli.data.tensors import read_torch
from llmrec_cli.encoders.folder_files import read_mapping, shards_of
from llmrec_cli.errors import ArtifactError, ConfigError, LlmrecError, is_out_of_memory
from llmrec_cli.pinned import PinnedFolder

_ENCODERS_OF_TWO = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}
"""Classes of the encoders of encoder-decoder architectures."""
_FEWEST_TOKENS = 0.9
_MOST_PARTS = 100_000
"""Maximum number of layers, heads and the like in a configuration."""


def load_model(files: PinnedFolder, bidirectional: bool = False) -> Any:
    """Return the model in a folder in float32; for an encoder-decoder, its encoder.

    With `bidirectional` a decoder's tokens attend to later tokens too (BehnamGhader et al. 2024, LLM2Vec, without its
    additional training); a folder with `is_causal: false` does so anyway.

    Raises ArtifactError if the weights are damaged or do not match the configuration; parameters are never left at
    random values.
    """
    import transformers

    config = load_config(files)
    if bidirectional:
        if not is_decoder(config):
            raise ConfigError(f"encoder.bidirectional=true: has no effect, since '{config.model_type}' is already "
                              f"bidirectional; leave it out")
        config.is_causal = False
    causal = getattr(config, "is_causal", True)
    if config.model_type in _ENCODERS_OF_TWO:
        kind: Any = getattr(transformers, _ENCODERS_OF_TWO[config.model_type])
    else:
        kind = transformers.AutoModel
    # LoRA on all linear layers would wrap the pooler, which is unused here and would have no gradient.
    extra: dict[str, Any] = {"add_pooling_layer": False} if _takes_pooler(config) else {}
    # Without a mask, as for a batch without padding, only eager attention looks at later tokens.
    extra |= {} if causal else {"attn_implementation": "eager"}
    model, mismatch = _from_pretrained(kind, files, config, **extra)
    mismatch.raise_if_any(files.path)
    if not causal:
        _check_bidirectional(model)
    return model


@torch.no_grad()
def _check_bidirectional(model: Any) -> None:
    """Raise ConfigError unless the first token's state changes with the last token."""
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]])
    first = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
    if torch.allclose(first[0], first[1], atol=1e-6):
        raise ConfigError(f"encoder.bidirectional=true: '{model.config.model_type}' does not support bidirectional "
                          f"attention; leave it out, or choose a Llama, Qwen2, Mistral or GPT-2")


def load_language_model(files: PinnedFolder, seed: int, kind: str) -> tuple[Any, bool]:
    """Return the model in a folder with a language-model head, and True if that head is new.

    `kind` is a class of transformers: AutoModelForMaskedLM or AutoModelForCausalLM. A folder without a head, such as
    MiniLM's, gets one with random weights from `seed`, whose decoder is tied to the token embeddings. The folder must
    have all weights of the encoder itself.
    """
    import transformers

    config = load_config(files)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, mismatch = _from_pretrained(getattr(transformers, kind), files, config)
    body = f"{model.base_model_prefix}."
    replace(mismatch, missing=[key for key in mismatch.missing if key.startswith(body)]).raise_if_any(files.path)
    return model, bool(mismatch.missing)


def load_config(files: PinnedFolder) -> Any:
    """Return the model's configuration; refuse models other than text models and unsupported encoder-decoders."""
    from transformers import AutoConfig

    folder = files.path
    _refuse_endless(files)
    with quiet(), readable(folder), copy_files(files, ["config.json"]) as copy:
        config = AutoConfig.from_pretrained(copy, local_files_only=True, trust_remote_code=False)
    config.name_or_path = str(folder)
    if config.is_encoder_decoder and config.model_type not in _ENCODERS_OF_TWO:
        raise ConfigError(f"{folder}: '{config.model_type}' is an encoder-decoder that is not supported; choose T5, or "
                          f"an encoder-only model (BERT, RoBERTa, XLM-R, DistilBERT)")
    if not isinstance(getattr(config, "hidden_size", None), int) or not isinstance(
            getattr(config, "vocab_size", None), int):
        raise ConfigError(f"{folder}: '{config.model_type}' is no text model, since it has no hidden size or "
                          f"vocabulary of its own; choose a text-only model")
    return config


def _refuse_endless(files: PinnedFolder) -> None:
    """Raise ArtifactError for an absurd number of layers or heads, which would take endless time to build."""
    for key, value in read_mapping(files, "config.json").items():
        if isinstance(value, int) and abs(value) > _MOST_PARTS and re.search("layer|head|block|expert", key):
            raise ArtifactError(f"{files.path / 'config.json'}: {key}={value}: must be at most {_MOST_PARTS}; copy the "
                                f"whole model folder again")


def is_decoder(config: Any) -> bool:
    """Return True if the architecture is a decoder: tokens attend to earlier tokens only."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


@dataclass(frozen=True)
class WeightMismatch:
    """Names of parameters for which a folder's weights do not match its configuration.

    Attributes
    ----------
    missing : parameters of the model without weights
    left_over : weights of additional layers of the model's kind; weights of unused heads and decoders are not listed
    other_shapes : parameters with weights of another shape
    """

    missing: list[str]
    left_over: list[str]
    other_shapes: list[str]

    def raise_if_any(self, folder: Path) -> None:
        """Raise ArtifactError if there is any mismatch."""
        if self.missing or self.left_over or self.other_shapes:
            raise ArtifactError(f"{folder}: the weights do not match config.json; missing: {_some(self.missing)}; of "
                                f"layers that config.json does not have: {_some(self.left_over)}; of another shape: "
                                f"{_some(self.other_shapes)}; copy the whole model folder again")


def _from_pretrained(kind: Any, files: PinnedFolder, config: Any, **extra: Any) -> tuple[Any, WeightMismatch]:
    from transformers.models.auto.auto_factory import _get_model_class

    # Pass weights instead of a path: transformers would open the path again and map the file into memory.
    architecture: Any = _get_model_class(config, kind._model_mapping) if hasattr(kind, "_model_mapping") else kind
    with quiet(), readable(files.path):
        weights = {name: tensor for shard in shards_of(files) for name, tensor in read_torch(files, shard).items()}
        model, report = architecture.from_pretrained(None, config=config, state_dict=weights, dtype=torch.float32,
                                                     output_loading_info=True, **extra)
    model.config.name_or_path = str(files.path)
    prefix = f"{model.base_model_prefix}."

    def place(key: str) -> str:
        return re.sub("[0-9]+", "#", key.removeprefix(prefix))

    own = {place(key) for key in model.state_dict()}
    left_over = sorted(key for key in report["unexpected_keys"] if place(key) in own)
    return model, WeightMismatch(sorted(report["missing_keys"]), left_over, sorted(map(str, report["mismatched_keys"])))


def _some(names: list[str]) -> str:
    first = ", ".join(names[:8])
    return f"{first} and {len(names) - 8} more" if len(names) > 8 else first or "none"


def _takes_pooler(config: Any) -> bool:
    from transformers import MODEL_MAPPING

    if type(config) not in MODEL_MAPPING:
        return False
    architecture: Any = MODEL_MAPPING[type(config)]
    return "add_pooling_layer" in inspect.signature(architecture).parameters


def load_tokenizer(files: PinnedFolder) -> Any:
    """Return the tokenizer in a folder; special tokens written in a text are read as plain text."""
    from transformers import AutoTokenizer

    names = [name for name in files.hashes if "/" not in name and not name.endswith(".safetensors")]
    with quiet(), readable(files.path), copy_files(files, names) as copy:
        tokenizer = AutoTokenizer.from_pretrained(copy, local_files_only=True, trust_remote_code=False, use_fast=True,
                                                  split_special_tokens=True)
    tokenizer.name_or_path = str(files.path)
    return tokenizer


@contextmanager
def copy_files(files: PinnedFolder, names: Iterable[str]) -> Iterator[Path]:
    """Yield a temporary folder with copies of small files, for code that reads by path."""
    with temporary_folder() as folder:
        for name in names:
            content = files.read(name)
            with writing(folder):
                (folder / name).write_bytes(content)
        yield folder


def check_tokenizer(folder: Path, tokenizer: Any, config: Any, max_length: int) -> None:
    """Raise an error if the tokenizer does not fit the model, or if there are fewer than `max_length` positions.

    The model's vocabulary may be slightly larger, since vocabularies are padded, but not smaller. Both must have the
    same padding token. Tokens for beginning and end are not compared: good embedding models differ there on purpose.
    """
    ids = tokenizer.get_vocab().values()
    if not ids or max(ids) >= config.vocab_size or len(ids) < _FEWEST_TOKENS * config.vocab_size:
        raise ArtifactError(f"{folder}: the tokenizer has {len(ids)} tokens (highest id {max(ids, default=0)}) and the "
                            f"model {config.vocab_size}, so they do not belong together; copy the whole model folder "
                            f"again")
    padding = getattr(config, "pad_token_id", None)
    if None not in (padding, tokenizer.pad_token_id) and padding != tokenizer.pad_token_id:
        raise ArtifactError(f"{folder}: the tokenizer pads with token {tokenizer.pad_token_id} "
                            f"('{tokenizer.pad_token}') and the model with {padding}, so they do not belong together; "
                            f"copy the whole model folder again")
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= config.pad_token_id + 1  # their positions count from there
    if positions is not None and max_length > positions:
        raise ConfigError(f"encoder.max_length={max_length}: the model in {folder} has positions for {positions} "
                          f"tokens; choose at most {positions}")


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn errors of transformers about unusable files into an ArtifactError that names the folder."""
    try:
        yield
    except Exception as error:
        # transformers and tokenizers can raise any kind of error for a foreign folder.
        if isinstance(error, LlmrecError) or is_out_of_memory(error):
            raise
        raise ArtifactError(f"{folder}: cannot be loaded as a Hugging Face model ({error}); copy the whole "
                            f"folder again, or choose another encoder") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress transformers' progress bars and warnings in the block."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
