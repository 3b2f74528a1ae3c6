"""Writing an encoder as a Hugging Face folder that sentence-transformers loads too."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from llmrec_cli.encoders.folder_files import write_hashes
from llmrec_cli.encoders.hugging_face import quiet
from llmrec_cli.encoders.locate import Source
from llmrec_cli.encoders.model_card import Training, card
from llmrec_cli.encoders.modules import ACTIVATIONS, Dense, Modules
from llmrec_cli.encoders.peft import merged
from llmrec_cli.run_dir import whole_folder, write_bytes, write_json

KINDS = "sentence_transformers.models"


def save_encoder(folder: Path, model: Any, tokenizer: Any, modules: Modules, max_length: int, source: Source | None,
                 training: Training) -> None:
    """Write model (adapters merged, safetensors), tokenizer, modules and a model card to `folder`, whole or not at all.

    sentence-transformers gives the same vectors, save where pooling is attention: that it refuses to load.
    """
    with whole_folder(folder) as temporary, quiet():
        plain = merged(model)
        if not getattr(plain.config, "is_causal", True):
            # Others than we load it too, and attention without a mask would look back only, whatever is_causal says.
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
            # Without being told, sentence-transformers encodes items.
            default = "item" if "item" in modules.prompts else None
            write_json(temporary / "config_sentence_transformers.json",
                       {"prompts": {"item": "", "query": "", **modules.prompts}, "default_prompt_name": default})
        base, licence = (source.name, source.licence) if source is not None else ("none, it began at random", "")
        write_hashes(temporary)
        write_bytes(temporary / "README.md", card(plain.config, modules, base, licence, training, max_length).encode())


def _with_padding(tokenizer: Any) -> Any:
    """Return the tokenizer with a token to pad with, which others than we need; it is masked, so any will do."""
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
