"""What was trained of an encoder, on its own: a few megabytes beside an encoder of hundreds.

    adapter.safetensors   the trained weights, by name
    adapter.json          format, the peft settings, what they were trained on top of, SHA-256 of the weights
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from llmrec_cli.data.manifest_checks import MAPPING, TEXT, integer, is_integer, problems
from llmrec_cli.data.tensor_reader import TensorReader
from llmrec_cli.encoders.folder_files import read_json
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.pinned import PinnedFolder, retried
from llmrec_cli.run_dir import whole_folder, write_bytes, write_json
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.peft import PeftSettings

FORMAT = 1
WEIGHTS, FACTS = "adapter.safetensors", "adapter.json"
OF_THE_RUN = ("adapter", "merge", "sampled_tokens", "dropout")
"""Settings that change nothing about which weights there are."""


def save_adapter(folder: Path, weights: dict[str, np.ndarray], peft: PeftSettings, base: str) -> None:
    """Write an adapter whole or not at all; `base` is the identity of the encoder under it."""
    content = save({name: np.ascontiguousarray(array) for name, array in weights.items()})
    with whole_folder(folder) as temporary:
        write_bytes(temporary / WEIGHTS, content)
        write_json(temporary / FACTS, {"format": FORMAT, "base": base, "peft": _shape(peft),
                                       "sha256": hashlib.sha256(content).hexdigest()})


def load_adapter(peft: PeftSettings, base: str) -> TensorReader:
    """Return the weights in the folder `peft.starting_adapter`, to be taken one by one.

    Raises ConfigError when there is no such folder, ArtifactError when it is damaged, of another encoder, or of other
    peft settings.
    """
    folder = Path(peft.starting_adapter)
    if not (folder / FACTS).is_file():
        raise ConfigError(f"peft.adapter={folder}: has no {FACTS}; name the `adapter` folder of a finished run")
    return retried(lambda: _load(PinnedFolder(folder, "copy the folder again, or leave out peft.adapter"), peft, base))


def _load(files: PinnedFolder, peft: PeftSettings, base: str) -> TensorReader:
    facts, folder = read_json(files, FACTS), files.path
    if isinstance(facts, dict) and is_integer(facts.get("format"), FORMAT + 1):
        raise ArtifactError(f"{folder / FACTS}: format {facts['format']} is newer than {FORMAT}, the newest this "
                            f"llmrec reads; upgrade llmrec")
    if wrong := problems(facts, {"format": integer(1), "base": TEXT, "peft": MAPPING, "sha256": TEXT}):
        raise ArtifactError(f"{folder / FACTS}: says nothing of an adapter: {'; '.join(wrong)}; copy the folder again")
    if facts.get("base") != base:
        raise ArtifactError(f"{folder}: was trained on another encoder ({str(facts.get('base'))[:12]}...) than the one "
                            f"chosen ({base[:12]}...); choose that encoder, or leave out peft.adapter")
    then, now = facts.get("peft") or {}, _shape(peft)
    if changed := [f"peft.{key}={now.get(key)} (the adapter: {then.get(key)})" for key in {**then, **now}
                   if then.get(key) != now.get(key)]:
        raise ArtifactError(f"{folder}: was trained with other settings: {', '.join(changed)}; choose the same, or "
                            f"leave out peft.adapter")
    files.pin({WEIGHTS: facts.get("sha256")}, FACTS)
    try:
        return TensorReader(load(files.read(WEIGHTS)), str(folder / WEIGHTS), files.remedy)
    except SafetensorError as error:
        raise ArtifactError(f"{folder / WEIGHTS}: not readable ({error}); copy the folder again") from error


def _shape(peft: PeftSettings) -> dict[str, Any]:
    return {key: value for key, value in to_plain(peft).items() if key not in OF_THE_RUN}
