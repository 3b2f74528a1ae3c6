"""Pooling, dense maps and prompts of an encoder's folder in sentence-transformers' layout, and its model card.

    modules.json                            list of modules: Transformer, Pooling, then Dense and Normalize
    1_Pooling/config.json                   mean, cls or last token
    1_Attention/model.safetensors           our own attention pooling, which sentence-transformers refuses to load
    2_Dense/config.json, model.safetensors  a linear map of the vector, with an activation
    config_sentence_transformers.json       prompts

`Normalize` is ignored, since the heads normalise vectors.

Shapes: D hidden size, K size of a vector.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from safetensors import SafetensorError

from llmrec_cli.data.tensors import read_torch
from llmrec_cli.encoders.folder_files import read_json, read_mapping
from llmrec_cli.errors import ArtifactError
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.settings.encoder import TransformerSettings

_POOLINGS = ("mean", "cls", "last", "attention")
_SENTENCE_TRANSFORMERS_NAMES = {"mean": "mean", "cls": "cls", "lasttoken": "last", "attention": "attention"}
_LEGACY_NAMES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "last"}
ACTIVATIONS = {"torch.nn.modules.linear.Identity": "identity", "torch.nn.modules.activation.Tanh": "tanh",
               "torch.nn.modules.activation.ReLU": "relu", "torch.nn.modules.activation.GELU": "gelu"}
_PROMPTS = "config_sentence_transformers.json"
_PROMPT_NAMES = {"item": ("item", "document", "passage"), "query": ("query",)}


@dataclass(frozen=True)
class Dense:
    """A linear map of the pooled vector.

    Attributes
    ----------
    weight_KD : float32
    bias_K : float32, or None
    activation : identity | tanh | relu | gelu
    """

    weight_KD: np.ndarray
    bias_K: np.ndarray | None
    activation: str


@dataclass(frozen=True)
class Modules:
    """Pooling and linear maps from the last hidden states to a vector, and prompts.

    Attributes
    ----------
    pooling : mean | cls | last | attention; empty if the folder has no setting
    query_D : the learned query of attention pooling, or None if it has not been learned
    dense : linear maps, applied in order
    prompts : text put before texts of each kind: item, query
    """

    pooling: str = "mean"
    query_D: np.ndarray | None = None
    dense: tuple[Dense, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)

    def with_settings(self, settings: TransformerSettings, is_decoder: bool) -> "Modules":
        """Return the modules with the settings taking precedence over the folder."""
        pooling = settings.pooling if settings.pooling != "auto" else self.pooling or ("last" if is_decoder else "mean")
        overrides = {"item": settings.item_prompt, "query": settings.query_prompt}
        prompts = {kind: text if text is not None else self.prompts.get(kind, "") for kind, text in overrides.items()}
        return replace(self, pooling=pooling, prompts={kind: text for kind, text in prompts.items() if text},
                       query_D=self.query_D if pooling == "attention" else None)


def read_modules(files: PinnedFolder) -> Modules:
    """Return the modules of an encoder's folder; raise ArtifactError for unsupported modules."""
    places = _places(files)
    pooling, query_D, dense = "", None, []
    for kind, place in places:
        if kind == "Pooling":
            pooling = _pooling(files, f"{place}/config.json")
        elif kind == "AttentionPooling":
            pooling, query_D = "attention", _tensors(files, f"{place}/model.safetensors", "query")["query"]
        elif kind == "Dense":
            dense.append(_dense(files, place))
    return Modules(pooling, query_D, tuple(dense), _prompts(files))


def _places(files: PinnedFolder) -> list[tuple[str, str]]:
    """Return kind and folder of the modules after the transformer."""
    file = files.path / "modules.json"
    if "modules.json" not in files:
        return [("Pooling", "1_Pooling")] if "1_Pooling/config.json" in files else []
    content = read_json(files, "modules.json")
    try:
        named = [(str(entry["type"]).rpartition(".")[2], str(entry["path"])) for entry in content]
    except (TypeError, KeyError) as error:
        raise ArtifactError(f"{file}: is no list of modules with type and path; copy the model again") from error
    kinds = [kind for kind, _ in named]
    supported = ("Transformer", "Pooling", "AttentionPooling", "Dense", "Normalize")
    if unsupported := [kind for kind in kinds if kind not in supported]:
        raise ArtifactError(f"{file}: the module {unsupported[0]} is not supported; choose a model with "
                            f"{', '.join(supported)}")
    pooled = [kind for kind in kinds if kind not in ("Dense", "Normalize")]
    if kinds[:1] != ["Transformer"] or len(pooled) != 2 or kinds[1] != pooled[1]:
        raise ArtifactError(f"{file}: {' + '.join(kinds) or 'nothing'} is not supported; choose a model with a "
                            f"Transformer, then one Pooling")
    if outside := [place for _, place in named if place and ("/" in place or "\\" in place or place.startswith("."))]:
        raise ArtifactError(f"{file}: the path '{outside[0]}' is not a direct subfolder of the model; copy it again")
    return [(kind, place) for kind, place in named[1:] if kind != "Normalize"]


def _pooling(files: PinnedFolder, name: str) -> str:
    content, file = read_mapping(files, name), files.path / name
    if "pooling_mode" in content:
        value = content["pooling_mode"]
        modes = [str(mode) for mode in value] if isinstance(value, list) else [str(value)]
        poolings = [_SENTENCE_TRANSFORMERS_NAMES.get(mode, mode) for mode in modes]
    else:
        poolings = [_LEGACY_NAMES.get(key, key) for key, value in content.items()
                    if key.startswith("pooling_mode_") and value]
    if len(poolings) != 1 or poolings[0] not in _POOLINGS:
        raise ArtifactError(f"{file}: pooling {' + '.join(map(str, poolings)) or 'none'} is not supported; choose a "
                            f"model with one of {', '.join(_POOLINGS)}")
    return str(poolings[0])


def _dense(files: PinnedFolder, place: str) -> Dense:
    content = read_mapping(files, f"{place}/config.json")
    activation = str(content.get("activation_function"))
    supported = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding",
                 "use_residual": False}
    unsupported = [f"{key}={content[key]}" for key, value in supported.items()
                   if content.get(key, value) not in (value, None)]
    if activation not in ACTIVATIONS or unsupported:
        what = unsupported[0] if unsupported else f"activation {activation}"
        raise ArtifactError(f"{files.path / place / 'config.json'}: {what} is not supported; choose a model with one "
                            f"of {', '.join(sorted(ACTIVATIONS.values()))}")
    name = f"{place}/model.safetensors"
    tensors = _tensors(files, name, "linear.weight")
    weight_KD, bias_K = tensors["linear.weight"], tensors.get("linear.bias")
    if weight_KD.ndim != 2 or (bias_K is not None and bias_K.shape != weight_KD.shape[:1]):
        raise ArtifactError(f"{files.path / name}: linear.weight and linear.bias have shapes that are no linear map; "
                            f"copy the model again")
    return Dense(weight_KD, bias_K, ACTIVATIONS[activation])


def _prompts(files: PinnedFolder) -> dict[str, str]:
    content = read_mapping(files, _PROMPTS).get("prompts") or {} if _PROMPTS in files else {}
    if not isinstance(content, dict):
        raise ArtifactError(f"{files.path / _PROMPTS}: prompts is no mapping of names to texts; copy the model again")
    prompts: dict[str, str] = {}
    for kind, names in _PROMPT_NAMES.items():
        texts = [content[name] for name in names if content.get(name)]
        if texts:
            prompts[kind] = str(texts[0])
    return prompts


def _tensors(files: PinnedFolder, name: str, needed: str) -> dict[str, Any]:
    file = files.path / name
    try:
        tensors = read_torch(files, name)
    except SafetensorError as error:
        raise ArtifactError(f"{file}: not readable ({error}); copy the model again") from error
    if needed not in tensors:
        raise ArtifactError(f"{file}: no tensor '{needed}'; copy the model again")
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise ArtifactError(f"{file}: {key}: has values that are not finite floating point numbers; copy the model "
                                f"again")
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


@dataclass(frozen=True)
class Training:
    """Training of an encoder since it was loaded, for its model card.

    Attributes
    ----------
    objective : name of the training objective, such as mlm; empty if the encoder was not trained
    trained_on : description of the texts, such as `1,682 item texts of movielens_100k`
    """

    objective: str = ""
    trained_on: str = ""


def licence_of(files: PinnedFolder) -> str:
    """Return the licence that the README.md of a model folder gives in its front matter, or an empty string."""
    if "README.md" not in files:
        return ""
    text = files.read("README.md").decode("utf-8", "replace")[:20000]
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    match = re.search(r"^license:\s*([\w.+-]+)\s*$", front[1], re.MULTILINE) if front else None
    return match[1] if match else ""


def card(config: Any, modules: Modules, base: str, licence: str, training: Training, max_length: int) -> str:
    """Return the text of a model card, with front matter that hubs read."""
    loader = {"t5": "AutoModelForTextEncoding", "mt5": "AutoModelForTextEncoding",
              "umt5": "AutoModelForTextEncoding"}.get(config.model_type, "AutoModel")
    front = ["library_name: sentence-transformers", "pipeline_tag: sentence-similarity"]
    front += [f"license: {licence}"] if licence else []
    lines = ["---", *front, "---", "", "# Text encoder of a recommender", "",
             f"- Architecture: {config.model_type}, hidden size {config.hidden_size}",
             f"- Base: {base}",
             f"- Trained: {training.objective or 'no further training'}"
             f"{f', on {training.trained_on}' if training.trained_on else ''}",
             f"- Licence: {licence or 'unknown: the folder of the base model has none'}",
             f"- Pooling: {modules.pooling}{', then ' if modules.dense else ''}"
             f"{', '.join(f'a linear map to {len(dense.weight_KD)} dimensions' for dense in modules.dense)}",
             f"- Text length: at most {max_length} tokens"]
    # As JSON, so that a prompt cannot be read as part of the card.
    lines += [f"- Prompt for texts of the kind {kind}: {json.dumps(text, ensure_ascii=False)}"
              for kind, text in sorted(modules.prompts.items())]
    if not getattr(config, "is_causal", True):
        lines.append("- Bidirectional attention (`is_causal: false` in config.json, with eager attention)")
    if modules.pooling == "attention":
        return "\n".join([*lines, "", "## Loading", "", "Its pooling has learned weights that sentence-transformers "
                          "does not support; `llmrec ... encoder=hf encoder.path=<this folder>` loads the complete "
                          "encoder. The transformer alone:", "", "```python", f"from transformers import {loader}",
                          f'model = {loader}.from_pretrained("<this folder>")', "```", ""])
    return "\n".join([*lines, "", "## Loading", "", "```python",
                      "from sentence_transformers import SentenceTransformer",
                      'model = SentenceTransformer("<this folder>")', "", f"from transformers import {loader}",
                      f'model = {loader}.from_pretrained("<this folder>")  # without pooling', "```", ""])
