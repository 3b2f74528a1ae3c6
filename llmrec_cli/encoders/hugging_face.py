"""Loading a Hugging Face model and its tokenizer from a checked folder, offline and without any code of its own."""

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
"""The encoders of architectures that have a decoder too."""
_FEWEST_TOKENS = 0.9
_MOST_PARTS = 100_000
"""Layers, heads and sizes of layers, at most."""


def load_model(files: PinnedFolder, bidirectional: bool = False) -> Any:
    """Return the model in a folder in float32; of an encoder-decoder its encoder.

    With `bidirectional` a decoder's tokens see those after them too (BehnamGhader et al. 2024, LLM2Vec, without its
    training for that); a folder that says so itself needs no telling.

    Raises ArtifactError when the weights are damaged or are not those of the configuration; parameters are never
    left at random values.
    """
    import transformers

    config = load_config(files)
    if bidirectional:
        if not is_decoder(config):
            raise ConfigError(f"encoder.bidirectional=true: has no effect, since '{config.model_type}' sees both sides "
                              f"of a token already; leave it out")
        config.is_causal = False
    causal = getattr(config, "is_causal", True)
    if config.model_type in _ENCODERS_OF_TWO:
        kind: Any = getattr(transformers, _ENCODERS_OF_TWO[config.model_type])
    else:
        kind = transformers.AutoModel
    # LoRA on all linear layers would wrap the pooler, which has no gradient since nothing here uses it.
    extra: dict[str, Any] = {"add_pooling_layer": False} if _takes_pooler(config) else {}
    # Attention without a mask, as a batch without padding has, looks back only, unless it is eager.
    extra |= {} if causal else {"attn_implementation": "eager"}
    model, strangers = _from_pretrained(kind, files, config, **extra)
    strangers.refuse(files.path)
    if not causal:
        _check_bidirectional(model)
    return model


@torch.no_grad()
def _check_bidirectional(model: Any) -> None:
    """Raise ConfigError unless the first token's state changes with the last token."""
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]])
    first = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
    if torch.allclose(first[0], first[1], atol=1e-6):
        raise ConfigError(f"encoder.bidirectional=true: '{model.config.model_type}' cannot be told to see both sides "
                          f"of a token; leave it out, or choose a Llama, Qwen2, Mistral or GPT-2")


def load_language_model(files: PinnedFolder, seed: int, kind: str) -> tuple[Any, bool]:
    """Return the model in a folder with a head for tokens, and whether that head is new.

    `kind` is a class of transformers: AutoModelForMaskedLM or AutoModelForCausalLM. A folder without the head, like
    MiniLM's, gets one with random weights from `seed`, its decoder tied to the token embeddings. The encoder's own
    weights must all be there.
    """
    import transformers

    config = load_config(files)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, strangers = _from_pretrained(getattr(transformers, kind), files, config)
    body = f"{model.base_model_prefix}."
    replace(strangers, missing=[key for key in strangers.missing if key.startswith(body)]).refuse(files.path)
    return model, bool(strangers.missing)


def load_config(files: PinnedFolder) -> Any:
    """Return the model's configuration; refuse what is no text model, and decoders without which an encoder is not."""
    from transformers import AutoConfig

    folder = files.path
    _refuse_endless(files)
    with quiet(), readable(folder), copied(files, ["config.json"]) as copy:
        config = AutoConfig.from_pretrained(copy, local_files_only=True, trust_remote_code=False)
    config.name_or_path = str(folder)
    if config.is_encoder_decoder and config.model_type not in _ENCODERS_OF_TWO:
        raise ConfigError(f"{folder}: '{config.model_type}' has an encoder and a decoder, which is not supported; "
                          f"choose T5's, or a model with an encoder alone (BERT, RoBERTa, XLM-R, DistilBERT)")
    if not isinstance(getattr(config, "hidden_size", None), int) or not isinstance(
            getattr(config, "vocab_size", None), int):
        raise ConfigError(f"{folder}: '{config.model_type}' is no text model, since it has no hidden size or "
                          f"vocabulary of its own; choose one that reads text alone")
    return config


def _refuse_endless(files: PinnedFolder) -> None:
    """Raise ArtifactError for a number of layers, heads or the like that would be built one by one without an end."""
    for key, value in read_mapping(files, "config.json").items():
        if isinstance(value, int) and abs(value) > _MOST_PARTS and re.search("layer|head|block|expert", key):
            raise ArtifactError(f"{files.path / 'config.json'}: {key}={value}: is beyond {_MOST_PARTS}; copy the whole "
                                f"model folder again")


def is_decoder(config: Any) -> bool:
    """Return whether a token of the model sees those before it alone, by its architecture."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


@dataclass(frozen=True)
class Strangers:
    """The names of parameters in which a folder's weights and its configuration differ.

    Attributes
    ----------
    missing : the model's, without weights
    left_over : weights of layers that are like the model's but that it does not have; heads and decoders that are not
        asked for are no strangers
    other_shapes : those of another shape
    """

    missing: list[str]
    left_over: list[str]
    other_shapes: list[str]

    def refuse(self, folder: Path) -> None:
        """Raise ArtifactError unless there are none."""
        if self.missing or self.left_over or self.other_shapes:
            raise ArtifactError(f"{folder}: the weights are not those of config.json; missing: "
                                f"{_some(self.missing)}; of layers there are none of: {_some(self.left_over)}; of "
                                f"another shape: {_some(self.other_shapes)}; copy the whole model folder again")


def _from_pretrained(kind: Any, files: PinnedFolder, config: Any, **extra: Any) -> tuple[Any, Strangers]:
    from transformers.models.auto.auto_factory import _get_model_class

    # Weights are given and not named: transformers would open the path again, and map the file into memory.
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
    return model, Strangers(sorted(report["missing_keys"]), left_over, sorted(map(str, report["mismatched_keys"])))


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown or "none"


def _takes_pooler(config: Any) -> bool:
    from transformers import MODEL_MAPPING

    if type(config) not in MODEL_MAPPING:
        return False
    architecture: Any = MODEL_MAPPING[type(config)]
    return "add_pooling_layer" in inspect.signature(architecture).parameters


def load_tokenizer(files: PinnedFolder) -> Any:
    """Return the tokenizer in a folder. Text that looks like a special token is text: nothing in it is obeyed."""
    from transformers import AutoTokenizer

    names = [name for name in files.hashes if "/" not in name and not name.endswith(".safetensors")]
    with quiet(), readable(files.path), copied(files, names) as copy:
        tokenizer = AutoTokenizer.from_pretrained(copy, local_files_only=True, trust_remote_code=False, use_fast=True,
                                                  split_special_tokens=True)
    tokenizer.name_or_path = str(files.path)
    return tokenizer


@contextmanager
def copied(files: PinnedFolder, names: Iterable[str]) -> Iterator[Path]:
    """Yield a temporary folder with copies of small files, for code that reads by path."""
    with temporary_folder() as folder:
        for name in names:
            content = files.read(name)
            with writing(folder):
                (folder / name).write_bytes(content)
        yield folder


def check_tokenizer(folder: Path, tokenizer: Any, config: Any, max_length: int) -> None:
    """Raise unless the tokenizer is the model's, as far as can be seen, and `max_length` tokens have positions.

    The model may have room for a few tokens more, since vocabularies are padded, but not for fewer; and both must pad
    with the same token. Ends and beginnings are not compared: good embedding models differ there on purpose.
    """
    ids = tokenizer.get_vocab().values()
    if not ids or max(ids) >= config.vocab_size or len(ids) < _FEWEST_TOKENS * config.vocab_size:
        raise ArtifactError(f"{folder}: the tokenizer knows {len(ids)} tokens, the last {max(ids, default=0)}, and the "
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
    """Turn what transformers says about files it cannot use into an ArtifactError that names the folder."""
    try:
        yield
    except Exception as error:
        # What a folder of somebody else's makes transformers and tokenizers raise can be any kind of error.
        if isinstance(error, LlmrecError) or is_out_of_memory(error):
            raise
        raise ArtifactError(f"{folder}: cannot be loaded as a Hugging Face model ({error}); copy the whole "
                            f"folder again, or choose another encoder") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the terminal for a while."""
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
