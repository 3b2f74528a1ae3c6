"""The README.md of a saved encoder: what it is, what it was trained on, how to load it."""

import json
import re
from dataclasses import dataclass
from typing import Any

from llmrec_cli.encoders.modules import Modules
from llmrec_cli.pinned import PinnedFolder


@dataclass(frozen=True)
class Training:
    """What was done to an encoder since it was loaded.

    Attributes
    ----------
    objective : the settings' name of what it was trained to do, such as mlm; empty when it was only saved
    trained_on : a sentence on the texts, such as `1,682 item texts of movielens_100k`
    """

    objective: str = ""
    trained_on: str = ""


def licence_of(files: PinnedFolder) -> str:
    """Return the licence that the README.md of a model folder gives in its front matter, or an empty string."""
    if "README.md" not in files:
        return ""
    text = files.read("README.md").decode("utf-8", "replace")[:20000]
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:\s*([\w.+-]+)\s*$", front[1], re.MULTILINE) if front else None
    return found[1] if found else ""


def card(config: Any, modules: Modules, base: str, licence: str, training: Training, max_length: int) -> str:
    """Return the text of a model card, with front matter that hubs read."""
    loader = {"t5": "AutoModelForTextEncoding", "mt5": "AutoModelForTextEncoding",
              "umt5": "AutoModelForTextEncoding"}.get(config.model_type, "AutoModel")
    front = ["library_name: sentence-transformers", "pipeline_tag: sentence-similarity"]
    front += [f"license: {licence}"] if licence else []
    lines = ["---", *front, "---", "", "# Text encoder of a recommender", "",
             f"- Architecture: {config.model_type}, hidden size {config.hidden_size}",
             f"- Base: {base}",
             f"- Trained: {training.objective or 'not since it was loaded'}"
             f"{f', on {training.trained_on}' if training.trained_on else ''}",
             f"- Licence: {licence or 'not known: the folder of the base model gave none'}",
             f"- Pooling: {modules.pooling}{', then ' if modules.dense else ''}"
             f"{', '.join(f'a linear map to {len(dense.weight_KD)} dimensions' for dense in modules.dense)}",
             f"- Tokens of a text: at most {max_length}"]
    # As JSON, so that a prompt cannot be read as part of the card.
    lines += [f"- Put before a text of the kind {kind}: {json.dumps(text, ensure_ascii=False)}"
              for kind, text in sorted(modules.prompts.items())]
    if not getattr(config, "is_causal", True):
        lines.append("- Every token sees those after it too (`is_causal: false` in config.json, with eager attention)")
    if modules.pooling == "attention":
        return "\n".join([*lines, "", "## Loading", "", "Its pooling has learned weights that sentence-transformers "
                          "does not know; `llmrec ... encoder=hf encoder.path=<this folder>` loads it whole, and the "
                          "transformer alone:", "", "```python", f"from transformers import {loader}",
                          f'model = {loader}.from_pretrained("<this folder>")', "```", ""])
    return "\n".join([*lines, "", "## Loading", "", "```python",
                      "from sentence_transformers import SentenceTransformer",
                      'model = SentenceTransformer("<this folder>")', "", f"from transformers import {loader}",
                      f'model = {loader}.from_pretrained("<this folder>")  # without pooling', "```", ""])
