"""Checkpoints: the complete state for an exact resume, as safetensors and JSON.

    checkpoints/step-000123/    state.safetensors, progress.json, manifest.json (SHA-256 of both)

A checkpoint folder is published atomically; a folder without a manifest is no checkpoint. It has the trained parameters
only: frozen ones are loaded from their original files.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from llmrec_cli.atomic_files import clear_leftovers, whole_folder, writing
from llmrec_cli.data.manifest import Fact, is_integer, is_number, optional, parse_json, problems, sha256
from llmrec_cli.data.tensors import read_torch
from llmrec_cli.errors import ArtifactError, ConfigError, ResourceError
from llmrec_cli.pinned import PinnedFolder, retried
from llmrec_cli.training.precision import PRECISIONS

_MOMENTS = ("exp_avg", "exp_avg_sq")
_COUNT = Fact("an integer of at least 0", is_integer)
_SMALL = Fact("an integer from 0 to 1048576", lambda v: is_integer(v, 0, 2**20))
_PARTS = Fact("an integer from 1 to 1048576", lambda v: is_integer(v, 1, 2**20))
_PRECISION = Fact("float32, bfloat16 or empty", lambda v: v in ("", *PRECISIONS))
NUMBERS = Fact("a list of numbers", lambda v: isinstance(v, list) and all(map(is_number, v)))
_FACTS = {"step": _COUNT, "epoch": _COUNT, "position": _COUNT, "epoch_loss": Fact("a number", is_number),
          "losses": NUMBERS, "values": NUMBERS, "best_epoch": _COUNT, "parts": optional(_PARTS),
          "shrunk": optional(_SMALL), "precision": optional(_PRECISION)}


def check_progress(place: Path, content: object, remedy: str) -> None:
    """Raise ArtifactError unless progress.json has a valid plan and progress."""
    wrong = problems(content, {"plan": Fact("a mapping", lambda v: isinstance(v, dict)),
                               "progress": Fact("a mapping", lambda v: isinstance(v, dict))})
    if not wrong and isinstance(content, dict):
        progress = content["progress"]
        wrong = problems(progress, _FACTS) + [f"{key} is unknown" for key in progress if key not in _FACTS]
    if wrong:
        raise ArtifactError(f"{place}: is no valid training progress: {'; '.join(wrong)}; {remedy}")


def check_tensors(place: Path, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.Tensor],
                  buffers: Mapping[str, torch.Tensor], remedy: str) -> None:
    """Raise ArtifactError unless each tensor fits a checkpoint of this model; `_check_names` checks for missing ones.
    """
    def refuse(name: str, problem: str) -> None:
        raise ArtifactError(f"{place}: {name}: {problem}; {remedy}")

    single = torch.zeros((), dtype=torch.float32)
    expected = {f"buffer/{name}": buffer for name, buffer in buffers.items()}
    for name, parameter in parameters.items():
        expected |= {f"{part}/{name}": parameter for part in ("model", "best", "average")}
        expected |= {f"optimizer/{key}/{name}": parameter for key in _MOMENTS} | {f"optimizer/step/{name}": single}
        moments = sum(f"optimizer/{key}/{name}" in tensors for key in ("step", *_MOMENTS))
        if moments not in (0, 3):
            refuse(f"optimizer/*/{name}", f"has {moments} of the 3 tensors of its optimiser state")
    for part in ("best", "average"):
        number = sum(f"{part}/{name}" in tensors for name in parameters)
        if number not in (0, len(parameters)):
            refuse(f"{part}/*", f"has {number} of the {len(parameters)} parameters")
    for name, tensor in tensors.items():
        if name.startswith("random/"):
            continue
        own = expected.get(name)
        if own is None:
            refuse(name, "is unknown")
        elif (tensor.dtype, tensor.shape) != (own.dtype, own.shape):
            refuse(name, f"is {tensor.dtype} {list(tensor.shape)} instead of {own.dtype} {list(own.shape)}")
        elif tensor.is_floating_point() and not name.startswith("buffer/") and not torch.isfinite(tensor).all():
            refuse(name, "has non-finite numbers")


_FORMAT = 2
_ADDED = {1: {"optim.accumulate": 1, "optim.schedule": "linear", "optim.layer_decay": 1.0, "optim.ema": 0.0,
              "optim.precision": "float32"}}
"""Plan entries that earlier formats lack, with the values that were in effect."""
_NUM_CHECKPOINTS = 2
_STATE, _PROGRESS, _MANIFEST = "state.safetensors", "progress.json", "manifest.json"


@dataclass
class Progress:
    """Progress of training.

    Attributes
    ----------
    step : optimiser steps taken
    epoch : current epoch, from 0
    position : batches of the current epoch already trained on
    epoch_loss : sum of the losses of those batches
    losses, values : mean training loss and validation value of each finished epoch
    best_epoch : epochs trained when the validation value was best; 0 before the first validation
    parts : parts that each step is split into, more than 1 after memory ran out
    shrunk : times that the model's memory use was reduced (see `Gradients.shrink`)
    precision : precision that optim.precision=auto has chosen; "" before, and with a given one
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    epoch_loss: float = 0.0
    losses: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    best_epoch: int = 0
    parts: int = 1
    shrunk: int = 0
    precision: str = ""


@dataclass
class Weights:
    """Copies of the trained parameters, by name.

    Attributes
    ----------
    best : weights of the best epoch, empty before the first validation
    average : moving average of the weights, empty without optim.ema
    """

    best: dict[str, torch.Tensor] = field(default_factory=dict)
    average: dict[str, torch.Tensor] = field(default_factory=dict)


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of the model that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def persistent_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the model's persistent buffers, by name."""
    persistent = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in persistent}


def checkpoint_size(model: nn.Module, num_copies: int) -> int:
    """Return the bytes of a checkpoint: parameters, two moments and `num_copies` copies of each, and buffers."""
    parameters = sum(p.numel() * p.element_size() for p in trained_parameters(model).values())
    return (3 + num_copies) * parameters + sum(b.numel() * b.element_size() for b in persistent_buffers(model).values())


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, weights: Weights,
                    progress: Progress, plan: dict[str, Any]) -> None:
    """Write a checkpoint under `folder` and remove all but the newest checkpoints.

    `plan` has the values that a resumed run must share: settings, seed, lengths.
    """
    parameters = trained_parameters(model)
    tensors = {f"model/{name}": p.detach() for name, p in parameters.items()}
    tensors |= {f"buffer/{name}": t for name, t in persistent_buffers(model).items()}
    tensors |= {f"best/{name}": t for name, t in weights.best.items()}
    tensors |= {f"average/{name}": t for name, t in weights.average.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value
    tensors |= random_states(next(iter(parameters.values())).device)
    with whole_folder(folder / f"step-{progress.step:06d}") as temporary:
        try:
            save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, temporary / _STATE)
        except SafetensorError as error:
            raise ResourceError(f"{folder}: a checkpoint cannot be written ({error}); free space or choose "
                                f"another place") from error
        _write(temporary / _PROGRESS, {"progress": asdict(progress), "plan": plan})
        _write(temporary / _MANIFEST, {
            "format": _FORMAT, "files": {name: sha256(temporary / name) for name in (_STATE, _PROGRESS)}})
    for old in checkpoints(folder)[:-_NUM_CHECKPOINTS]:
        _remove(old)


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, weights: Weights,
                    plan: dict[str, Any]) -> Progress:
    """Restore model, optimiser, `weights` and random states from the newest complete checkpoint under `folder`.

    Returns a fresh Progress without any checkpoint: the run was interrupted before its first one. Raises ArtifactError
    if the checkpoint is damaged or belongs to another model, ConfigError if it has another plan.
    """
    paths = checkpoints(folder)
    if not paths:
        return Progress()
    path = paths[-1]
    remedy = f"remove {path} to resume from the previous checkpoint, or start a new run without resume="
    content, tensors = retried(lambda: _content(PinnedFolder(path, remedy), plan))
    parameters = trained_parameters(model)
    buffers = persistent_buffers(model)
    _check_names(path, {n.partition("/")[2]: t for n, t in tensors.items() if n.startswith(("model/", "buffer/"))},
                 {**parameters, **buffers})
    check_tensors(path / _STATE, tensors, parameters, buffers, remedy)
    # First, since they can still be refused.
    _take_random_states(tensors, next(iter(parameters.values())).device, path / _STATE, remedy)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"model/{name}"])
            for key, copies in (("best", weights.best), ("average", weights.average)):
                if f"{key}/{name}" in tensors:
                    copies[name] = tensors[f"{key}/{name}"].to(parameter.device)
            state = {key: tensors[f"optimizer/{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                     if f"optimizer/{key}/{name}" in tensors}
            if state:
                optimizer.state[parameter] = {key: t.to(parameter.device) for key, t in state.items()}
        for name, buffer in buffers.items():
            buffer.copy_(tensors[f"buffer/{name}"])
    return Progress(**content["progress"])


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints under `folder`."""
    for path in sorted(folder.glob("step-*")):
        _remove(path)


def remove_leftovers(folder: Path) -> None:
    """Remove the files of incomplete or outdated checkpoints that a killed run left under `folder`."""
    whole = checkpoints(folder)
    for old in whole[:-_NUM_CHECKPOINTS]:
        _remove(old)
    # Names of checkpoints and of their temporary folders, such as .step-000012.abcdefgh.new.
    names = {re.match(r"\.?(step-\d+)", path.name) for path in folder.glob("*step-*")}
    for name in sorted({match[1] for match in names if match}):
        clear_leftovers(folder / name)
        if folder / name not in whole:
            shutil.rmtree(folder / name, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints under `folder`, oldest first, by their number of steps."""
    steps = [(int(match[1]), path) for path in folder.glob("step-*")
             if (match := re.fullmatch(r"step-(\d+)", path.name)) and (path / _MANIFEST).is_file()]
    return [path for _, path in sorted(steps)]


def _remove(path: Path) -> None:
    """Remove a checkpoint, its manifest first, so that a half-removed folder no longer counts as a checkpoint."""
    with writing(path):
        (path / _MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)


def random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of torch's random streams, by name."""
    states = {"random/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["random/cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(tensors: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore torch's random streams from `random_states`."""
    torch.set_rng_state(tensors["random/cpu"])
    if device.type == "cuda" and "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"], device)


def _take_random_states(tensors: dict[str, torch.Tensor], device: torch.device, place: Path, remedy: str) -> None:
    try:
        set_random_states(tensors, device)
    except (KeyError, RuntimeError, TypeError) as error:
        raise ArtifactError(f"{place}: random/*: is no state of torch's random streams ({error}); {remedy}") from error


def _write(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file; the caller flushes and renames the folder as a whole."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def _content(files: PinnedFolder, plan: dict[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return progress.json and the tensors of a checkpoint; both are checked, also against `plan`."""
    written, hashes = _manifest(files)
    files.pin(hashes)
    if extra := sorted({*files.names()} - {_STATE, _PROGRESS, _MANIFEST}):
        raise ArtifactError(f"{files.path}: unexpected files {', '.join(extra)}; {files.remedy}")
    content = _read(files, _PROGRESS)
    files.check_rest()
    check_progress(files.path / _PROGRESS, content, files.remedy)
    _check_plan(files.path, _ADDED.get(written, {}) | content["plan"], plan)
    try:
        return content, read_torch(files, _STATE)
    except SafetensorError as error:
        raise ArtifactError(f"{files.path / _STATE}: not readable ({error}); {files.remedy}") from error


def _manifest(files: PinnedFolder) -> tuple[int, dict[str, str]]:
    """Return the format of a checkpoint, and the SHA-256 of its files by name."""
    content, manifest = _read(files, _MANIFEST), files.path / _MANIFEST
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict) or \
            set(content["files"]) != {_STATE, _PROGRESS}:
        raise ArtifactError(f"{manifest}: does not list the files of a checkpoint, so it is damaged; {files.remedy}")
    written = content.get("format")
    if not is_integer(written) or written not in {_FORMAT, *_ADDED}:
        raise ArtifactError(f"{manifest}: format {written} is not supported by this version of llmrec (at most "
                            f"{_FORMAT}); upgrade llmrec, or {files.remedy}")
    return written, content["files"]


def _read(files: PinnedFolder, name: str) -> dict[str, Any]:
    content: dict[str, Any] = parse_json(files.read(name), files.path / name, files.remedy)
    return content


def _check_plan(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [f"{key}={now.get(key)}: the interrupted run had {then.get(key)}, and a resumed run must use the same "
               f"value; set {key}={then.get(key)} or start a new run without resume= ({path})"
               for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    if changed:
        raise ConfigError(changed)


def _check_names(path: Path, saved: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> None:
    missing, unknown = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    shapes = sorted(n for n in own.keys() & saved.keys() if own[n].shape != saved[n].shape)
    if missing or unknown or shapes:
        raise ArtifactError(f"{path}: belongs to another model; missing: {missing or 'none'}; unknown: "
                            f"{unknown or 'none'}; of another shape: {shapes or 'none'}; start a new run without "
                            f"resume=")
