"""Loading a Hugging Face model and its tokenizer from a checked folder, offline and without any code of its own."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from llmrec_cli.errors import ArtifactError, ConfigError


def load_model(folder: Path, kind: Any = None, **extra: Any) -> Any:
    """Return the model in `folder` in float32, loaded by the transformers class `kind` (AutoModel when None).

    Raises ArtifactError when the weights are damaged or are not those of the configuration; parameters are never
    left at random values.
    """
    from transformers import AutoConfig, AutoModel

    with quiet(), readable(folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if config.is_encoder_decoder:
        raise ConfigError(f"{folder}: '{config.model_type}' has an encoder and a decoder, which is not supported; "
                          f"choose a model with an encoder alone (BERT, RoBERTa, XLM-R, DistilBERT)")
    if kind is None and _takes_pooler(config):
        # LoRA on all linear layers would wrap the pooler, which has no gradient since nothing here uses it.
        extra["add_pooling_layer"] = False
    with quiet(), readable(folder):
        model, report = (kind or AutoModel).from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            dtype=torch.float32, output_loading_info=True, **extra)
    missing = sorted(report["missing_keys"])
    other_shapes = sorted(str(key) for key in report["mismatched_keys"])
    if kind is None and (missing or other_shapes):
        raise ArtifactError(f"{folder}: the weights are not those of config.json; missing: {missing or 'none'}; of "
                            f"another shape: {other_shapes or 'none'}; copy the whole model folder again")
    return model


def _takes_pooler(config: Any) -> bool:
    from transformers import MODEL_MAPPING

    if type(config) not in MODEL_MAPPING:
        return False
    architecture: Any = MODEL_MAPPING[type(config)]
    return "add_pooling_layer" in inspect.signature(architecture).parameters


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in `folder`. Text that looks like a special token is text: nothing in it is obeyed."""
    from transformers import AutoTokenizer

    with quiet(), readable(folder):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_fast=True,
                                             split_special_tokens=True)


def check_tokenizer(folder: Path, tokenizer: Any, config: Any, max_length: int) -> None:
    """Raise unless the tokenizer's ids are in the model's vocabulary and `max_length` tokens have positions."""
    if len(tokenizer) > config.vocab_size:
        raise ArtifactError(f"{folder}: the tokenizer knows {len(tokenizer)} tokens and the model "
                            f"{config.vocab_size}, so they do not belong together; copy the whole model folder again")
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
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:
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
