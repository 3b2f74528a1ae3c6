"""Saving an encoder as a Hugging Face folder, and saving its adapter only.

    adapter.safetensors   the trained weights, by name
    adapter.json          format, peft settings, identity of the base encoder, SHA-256 of the weights
"""

import hashlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from llmrec_cli.atomic_files import whole_folder, write_bytes, write_json
from llmrec_cli.data.manifest import MAPPING, TEXT, integer, is_integer, problems
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.encoders.folder_files import read_json, write_hashes
from llmrec_cli.encoders.hugging_face import quiet
from llmrec_cli.encoders.locate import Source
from llmrec_cli.encoders.modules import ACTIVATIONS, Dense, Modules, Training, card
from llmrec_cli.encoders.peft import merge_adapters
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.pinned import PinnedFolder, retried
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.peft import PeftSettings

_FORMAT = 1
_WEIGHTS, _FACTS = "adapter.safetensors", "adapter.json"
_OF_THE_RUN = ("adapter", "merge", "sampled_tokens", "dropout")
"""Settings that do not affect the names and shapes of the weights."""


def save_adapter(folder: Path, weights: dict[str, np.ndarray], peft: PeftSettings, base: str) -> None:
    """Write an adapter atomically; `base` is the identity of the base encoder."""
    content = save({name: np.ascontiguousarray(array) for name, array in weights.items()})
    with whole_folder(folder) as temporary:
        write_bytes(temporary / _WEIGHTS, content)
        write_json(temporary / _FACTS, {"format": _FORMAT, "base": base, "peft": _shape(peft),
                                        "sha256": hashlib.sha256(content).hexdigest()})


def load_adapter(peft: PeftSettings, base: str) -> TensorReader:
    """Return a reader of the weights in the folder `peft.starting_adapter`.

    Raises ConfigError if there is no such folder, ArtifactError if it is damaged or was trained with another encoder or
    other peft settings.
    """
    folder = Path(peft.starting_adapter)
    if not (folder / _FACTS).is_file():
        raise ConfigError(f"peft.adapter={folder}: has no {_FACTS}; name the `adapter` folder of a finished run")
    return retried(lambda: _load(PinnedFolder(folder, "copy the folder again, or leave out peft.adapter"), peft, base))


def _load(files: PinnedFolder, peft: PeftSettings, base: str) -> TensorReader:
    facts, folder = read_json(files, _FACTS), files.path
    if isinstance(facts, dict) and is_integer(facts.get("format"), _FORMAT + 1):
        raise ArtifactError(f"{folder / _FACTS}: format {facts['format']} is newer than {_FORMAT}, the newest this "
                            f"llmrec reads; upgrade llmrec")
    if wrong := problems(facts, {"format": integer(1), "base": TEXT, "peft": MAPPING, "sha256": TEXT}):
        raise ArtifactError(f"{folder / _FACTS}: is no valid adapter description: {'; '.join(wrong)}; copy the folder "
                            f"again")
    if facts.get("base") != base:
        raise ArtifactError(f"{folder}: was trained on another encoder ({str(facts.get('base'))[:12]}...) than the "
                            f"current one ({base[:12]}...); choose that encoder, or leave out peft.adapter")
    then, now = facts.get("peft") or {}, _shape(peft)
    if changed := [f"peft.{key}={now.get(key)} (the adapter: {then.get(key)})" for key in {**then, **now}
                   if then.get(key) != now.get(key)]:
        raise ArtifactError(f"{folder}: was trained with other settings: {', '.join(changed)}; choose the same, or "
                            f"leave out peft.adapter")
    files.pin({_WEIGHTS: facts.get("sha256")}, _FACTS)
    try:
        return TensorReader(load(files.read(_WEIGHTS)), str(folder / _WEIGHTS), files.remedy)
    except SafetensorError as error:
        raise ArtifactError(f"{folder / _WEIGHTS}: not readable ({error}); copy the folder again") from error


def _shape(peft: PeftSettings) -> dict[str, Any]:
    return {key: value for key, value in to_plain(peft).items() if key not in _OF_THE_RUN}


KINDS = "sentence_transformers.models"


def save_encoder(folder: Path, model: Any, tokenizer: Any, modules: Modules, max_length: int, source: Source | None,
                 training: Training) -> None:
    """Write model (adapters merged, safetensors), tokenizer, modules and a model card to `folder` atomically.

    sentence-transformers gives the same vectors; it cannot load attention pooling.
    """
    with whole_folder(folder) as temporary, quiet():
        plain = merge_adapters(model)
        if not getattr(plain.config, "is_causal", True):
            # For other software: without a mask, only eager attention respects is_causal=False.
            plain.config.attn_implementation = "eager"
        plain.save_pretrained(temporary)
        _with_padding(tokenizer).save_pretrained(temporary)
        listed = [("", f"{KINDS}.Transformer"), _write_pooling(temporary, modules, model.config.hidden_size)]
        listed += [(_write_dense(temporary / f"{n}_Dense", dense), f"{KINDS}.Dense")
                   for n, dense in enumerate(modules.dense, start=2)]
        write_json(temporary / "modules.json", [{"idx": n, "name": str(n), "path": path, "type": kind}
                                                for n, (path, kind) in enumerate(listed)])
        write_json(temporary / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
        if modules.prompts:
            # By default sentence-transformers encodes items.
            default = "item" if "item" in modules.prompts else None
            write_json(temporary / "config_sentence_transformers.json",
                       {"prompts": {"item": "", "query": "", **modules.prompts}, "default_prompt_name": default})
        base, licence = (source.name, source.licence) if source is not None else ("none, random initial weights", "")
        write_hashes(temporary)
        write_bytes(temporary / "README.md", card(plain.config, modules, base, licence, training, max_length).encode())


def _with_padding(tokenizer: Any) -> Any:
    """Return the tokenizer with a padding token, which other software needs; padding is masked, so any token works."""
    if tokenizer.pad_token is not None or tokenizer.eos_token is None:
        return tokenizer
    padded = deepcopy(tokenizer)
    padded.pad_token = tokenizer.eos_token
    return padded


def _write_pooling(folder: Path, modules: Modules, hidden_size: int) -> tuple[str, str]:
    if modules.pooling == "attention":
        assert modules.query_D is not None
        write_bytes(folder / "1_Attention" / "model.safetensors", save({"query": modules.query_D}))
        return "1_Attention", "llmrec_cli.AttentionPooling"
    write_json(folder / "1_Pooling" / "config.json", {
        "word_embedding_dimension": hidden_size,
        "pooling_mode_cls_token": modules.pooling == "cls", "pooling_mode_mean_tokens": modules.pooling == "mean",
        "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False,
        "pooling_mode_weightedmean_tokens": False, "pooling_mode_lasttoken": modules.pooling == "last"})
    return "1_Pooling", f"{KINDS}.Pooling"


def _write_dense(folder: Path, dense: Dense) -> str:
    size_K, size_D = dense.weight_KD.shape
    names = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    write_json(folder / "config.json", {"in_features": size_D, "out_features": size_K,
                                        "bias": dense.bias_K is not None,
                                        "activation_function": names[dense.activation]})
    tensors = {"linear.weight": dense.weight_KD} | ({} if dense.bias_K is None else {"linear.bias": dense.bias_K})
    write_bytes(folder / "model.safetensors", save({name: np.ascontiguousarray(array)
                                                    for name, array in tensors.items()}))
    return folder.name
