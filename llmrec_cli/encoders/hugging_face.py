"""Loading a Hugging Face model and its tokenizer from a checked folder, offline and without any code of its own."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from llmrec_cli.errors import ArtifactError, ConfigError


def load_model(folder: Path) -> Any:
    """Return the model in `folder` in float32.

    Raises ArtifactError when the weights are damaged or are not those of the configuration; parameters are never
    left at random values.
    """
    from transformers import AutoModel

    config = load_config(folder)
    # LoRA on all linear layers would wrap the pooler, which has no gradient since nothing here uses it.
    extra = {"add_pooling_layer": False} if _takes_pooler(config) else {}
    model, missing, other_shapes = _from_pretrained(AutoModel, folder, config, **extra)
    _refuse_strangers(folder, missing, other_shapes)
    return model


def load_language_model(folder: Path, seed: int, kind: str) -> tuple[Any, bool]:
    """Return the model in `folder` with a head for tokens, and whether that head is new.

    `kind` is a class of transformers: AutoModelForMaskedLM or AutoModelForCausalLM. A folder without the head, like
    MiniLM's, gets one with random weights from `seed`, its decoder tied to the token embeddings. The encoder's own
    weights must all be there.
    """
    import transformers

    config = load_config(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, missing, other_shapes = _from_pretrained(getattr(transformers, kind), folder, config)
    body = f"{model.base_model_prefix}."
    _refuse_strangers(folder, [key for key in missing if key.startswith(body)], other_shapes)
    return model, bool(missing)


def load_config(folder: Path) -> Any:
    """Return the model's configuration; refuse architectures with a decoder beside the encoder."""
    from transformers import AutoConfig

    with quiet(), readable(folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if config.is_encoder_decoder:
        raise ConfigError(f"{folder}: '{config.model_type}' has an encoder and a decoder, which is not supported; "
                          f"choose a model with an encoder alone (BERT, RoBERTa, XLM-R, DistilBERT)")
    return config


def _from_pretrained(kind: Any, folder: Path, config: Any, **extra: Any) -> tuple[Any, list[str], list[str]]:
    """Return the model and the names of the parameters that are missing and that have another shape."""
    with quiet(), readable(folder):
        model, report = kind.from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            dtype=torch.float32, output_loading_info=True, **extra)
    return model, sorted(report["missing_keys"]), sorted(str(key) for key in report["mismatched_keys"])


def _refuse_strangers(folder: Path, missing: list[str], other_shapes: list[str]) -> None:
    if missing or other_shapes:
        raise ArtifactError(f"{folder}: the weights are not those of config.json; missing: {missing or 'none'}; of "
                            f"another shape: {other_shapes or 'none'}; copy the whole model folder again")


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
