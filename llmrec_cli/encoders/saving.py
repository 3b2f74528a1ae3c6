"""Writing an encoder as a Hugging Face folder that sentence-transformers loads too."""

from pathlib import Path
from typing import Any

from llmrec_cli.encoders.adapt import merged
from llmrec_cli.encoders.hugging_face import quiet
from llmrec_cli.run_dir import whole_folder, write_json


def save_encoder(folder: Path, model: Any, tokenizer: Any, pooling: str, max_length: int) -> None:
    """Write model (adapters merged, safetensors), tokenizer and pooling to `folder`, whole or not at all."""
    with whole_folder(folder) as temporary, quiet():
        merged(model).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_json(temporary / "modules.json", [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])
        write_json(temporary / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
        write_json(temporary / "1_Pooling" / "config.json", {
            "word_embedding_dimension": model.config.hidden_size,
            "pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean",
            "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False})
