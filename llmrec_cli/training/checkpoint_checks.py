"""Checks of a checkpoint against the model that resumes from it."""

from collections.abc import Mapping
from pathlib import Path

import torch

from llmrec_cli.data.manifest_checks import Fact, is_integer, is_number, optional, problems
from llmrec_cli.errors import ArtifactError

MOMENTS = ("exp_avg", "exp_avg_sq")
COUNT = Fact("an integer of at least 0", is_integer)
SMALL = Fact("an integer from 0 to 1048576", lambda v: is_integer(v, 0, 2**20))
PARTS = Fact("an integer from 1 to 1048576", lambda v: is_integer(v, 1, 2**20))
NUMBERS = Fact("a list of numbers", lambda v: isinstance(v, list) and all(map(is_number, v)))
PROGRESS = {"step": COUNT, "epoch": COUNT, "position": COUNT, "epoch_loss": Fact("a number", is_number),
            "losses": NUMBERS, "values": NUMBERS, "best_epoch": COUNT, "parts": optional(PARTS),
            "shrunk": optional(SMALL)}


def check_progress(place: Path, content: object, remedy: str) -> None:
    """Raise ArtifactError unless progress.json holds a plan and how far training has come."""
    wrong = problems(content, {"plan": Fact("a mapping", lambda v: isinstance(v, dict)),
                               "progress": Fact("a mapping", lambda v: isinstance(v, dict))})
    if not wrong and isinstance(content, dict):
        progress = content["progress"]
        wrong = problems(progress, PROGRESS) + [f"{key} is unknown" for key in progress if key not in PROGRESS]
    if wrong:
        raise ArtifactError(f"{place}: is not the progress of training: {'; '.join(wrong)}; {remedy}")


def check_tensors(place: Path, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.Tensor],
                  buffers: Mapping[str, torch.Tensor], remedy: str) -> None:
    """Raise ArtifactError unless each tensor is one that a checkpoint of this model has; names are checked apart."""
    def refuse(name: str, problem: str) -> None:
        raise ArtifactError(f"{place}: {name}: {problem}; {remedy}")

    single = torch.zeros((), dtype=torch.float32)
    wanted = {f"buffer/{name}": buffer for name, buffer in buffers.items()}
    for name, parameter in parameters.items():
        wanted |= {f"{part}/{name}": parameter for part in ("model", "best", "average")}
        wanted |= {f"optimizer/{key}/{name}": parameter for key in MOMENTS} | {f"optimizer/step/{name}": single}
        moments = sum(f"optimizer/{key}/{name}" in tensors for key in ("step", *MOMENTS))
        if moments not in (0, 3):
            refuse(f"optimizer/*/{name}", f"has {moments} of the 3 tensors of its optimiser state")
    for part in ("best", "average"):
        found = sum(f"{part}/{name}" in tensors for name in parameters)
        if found not in (0, len(parameters)):
            refuse(f"{part}/*", f"has {found} of the {len(parameters)} parameters")
    for name, tensor in tensors.items():
        if name.startswith("random/"):
            continue
        own = wanted.get(name)
        if own is None:
            refuse(name, "is unknown")
        elif (tensor.dtype, tensor.shape) != (own.dtype, own.shape):
            refuse(name, f"is {tensor.dtype} {list(tensor.shape)} instead of {own.dtype} {list(own.shape)}")
        elif tensor.is_floating_point() and not name.startswith("buffer/") and not torch.isfinite(tensor).all():
            refuse(name, "has numbers that are not finite")
