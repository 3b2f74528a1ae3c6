"""Checkpoints: all that is needed to go on as if nothing had happened, as safetensors and JSON.

    checkpoints/step-000123/    state.safetensors, progress.json, manifest.json (SHA-256 of both)

A folder appears whole or not at all, and one without a manifest is no checkpoint. Only parameters that are trained are
in it: the others come from where they came from at first.
"""

import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from llmrec_cli.data.manifest import check_files, sha256
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.run_dir import whole_folder, write_json

FORMAT = 1
KEPT = 2
STATE, PROGRESS, MANIFEST = "state.safetensors", "progress.json", "manifest.json"


@dataclass
class Progress:
    """How far training has come.

    Attributes
    ----------
    step : optimiser steps taken
    epoch : epoch under way, from 0
    position : batches of that epoch already trained on
    epoch_loss : sum of the losses of those batches
    losses, values : mean training loss and validation value of each finished epoch
    best_epoch : epochs trained when the validation value was best; 0 before the first validation
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    epoch_loss: float = 0.0
    losses: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    best_epoch: int = 0


Best = dict[str, torch.Tensor]


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of the model that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def kept_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the model's persistent buffers, by name: what it remembers beside its parameters."""
    persistent = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in persistent}


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: Best, progress: Progress,
                    plan: dict[str, Any]) -> None:
    """Write a checkpoint under `folder` and remove all but the newest ones.

    `plan` is what must be the same when training goes on: settings, seed, lengths.
    """
    parameters = trained_parameters(model)
    tensors = {f"model/{name}": p.detach() for name, p in parameters.items()}
    tensors |= {f"buffer/{name}": t for name, t in kept_buffers(model).items()}
    tensors |= {f"best/{name}": t for name, t in best.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value
    tensors |= _random_states(next(iter(parameters.values())).device)
    with whole_folder(folder / f"step-{progress.step:06d}") as temporary:
        save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, temporary / STATE)
        write_json(temporary / PROGRESS, {"progress": asdict(progress), "plan": plan})
        write_json(temporary / MANIFEST, {
            "format": FORMAT, "files": {name: sha256(temporary / name) for name in (STATE, PROGRESS)}})
    for old in checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer,
                    plan: dict[str, Any]) -> tuple[Progress, Best]:
    """Put model, optimiser and random states back to the newest complete checkpoint under `folder`.

    Returns a fresh Progress when there is none: the run was interrupted before its first. Raises ArtifactError when the
    newest is damaged or belongs to another model, ConfigError when it was made under another plan.
    """
    found = checkpoints(folder)
    if not found:
        return Progress(), {}
    path = found[-1]
    remedy = f"remove {path} to go on from the one before, or start anew without resume="
    check_files(path, _files(path / MANIFEST, remedy), remedy)
    content = _read(path / PROGRESS)
    _check_plan(path, content["plan"], plan)
    tensors = load_file(path / STATE)
    parameters = trained_parameters(model)
    buffers = kept_buffers(model)
    _check_names(path, {n.partition("/")[2]: t for n, t in tensors.items() if n.startswith(("model/", "buffer/"))},
                 {**parameters, **buffers})
    best: Best = {}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"model/{name}"])
            if f"best/{name}" in tensors:
                best[name] = tensors[f"best/{name}"].to(parameter.device)
            state = {key: tensors[f"optimizer/{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                     if f"optimizer/{key}/{name}" in tensors}
            if state:
                optimizer.state[parameter] = {key: t.to(parameter.device) for key, t in state.items()}
        for name, buffer in buffers.items():
            buffer.copy_(tensors[f"buffer/{name}"])
    _set_random_states(tensors, next(iter(parameters.values())).device)
    return Progress(**content["progress"]), best


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints under `folder`: those of another run, or of one that has ended."""
    for path in folder.glob("step-*"):
        shutil.rmtree(path)


def checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints under `folder`, oldest first, by their number of steps."""
    found = [(int(match[1]), path) for path in folder.glob("step-*")
             if (match := re.fullmatch(r"step-(\d+)", path.name)) and (path / MANIFEST).is_file()]
    return [path for _, path in sorted(found)]


def _random_states(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"random/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["random/cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_states(tensors: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(tensors["random/cpu"])
    if device.type == "cuda" and "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"], device)


def _files(manifest: Path, remedy: str) -> dict[str, str]:
    content = _read(manifest)
    if not isinstance(content, dict) or set(content.get("files", ())) != {STATE, PROGRESS}:
        raise ArtifactError(f"{manifest}: names no checkpoint's files, so it is damaged; {remedy}")
    if content.get("format") != FORMAT:
        raise ArtifactError(f"{manifest}: format {content.get('format')} is not {FORMAT}, the one this llmrec reads; "
                            f"upgrade llmrec, or {remedy}")
    files: dict[str, str] = content["files"]
    return files


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: not readable ({error}); remove {file.parent} to go on from the checkpoint before "
                            f"it, or start anew without resume=") from error
    return content


def _check_plan(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [f"{key}={now.get(key)}: the interrupted run had {then.get(key)}, and going on with another would give "
               f"neither's result; set {key}={then.get(key)} or start anew without resume= ({path})"
               for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    if changed:
        raise ConfigError(changed)


def _check_names(path: Path, saved: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> None:
    missing, unknown = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    shapes = sorted(n for n in own.keys() & saved.keys() if own[n].shape != saved[n].shape)
    if missing or unknown or shapes:
        raise ArtifactError(f"{path}: belongs to another model; missing: {missing or 'none'}; unknown: "
                            f"{unknown or 'none'}; of another shape: {shapes or 'none'}; start anew without resume=")
