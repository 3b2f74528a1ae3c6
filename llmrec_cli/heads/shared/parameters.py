"""What a head's modules learned, to and from the arrays of its state."""

import torch
from torch import nn

from llmrec_cli.data.tensor_reader import TensorReader
from llmrec_cli.errors import ArtifactError
from llmrec_cli.settings.heads.base import HeadSettings


def load_parameters(module: nn.Module, tensors: TensorReader, name: str, kind: str) -> None:
    """Put the tensors `<name>.*` into a module, which says their names, dtypes and shapes; `kind` is the head's.

    Raises ArtifactError for one that is missing, too many, of another dtype or shape, or not finite.
    """
    own, wanted = tensors.inside(f"{name}."), module.state_dict()
    needs = {key: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for key, tensor in wanted.items()}
    problems = [f"{name}.{key} {problem}" for key, need in needs.items() if (problem := own.misfit(key, *need))]
    problems += [f"{name}.{key} is unknown" for key in own.names() if key not in needs]
    if problems:
        raise ArtifactError(f"{tensors.place} does not fit the {kind} head of config.yaml: {'; '.join(problems)}; "
                            f"{tensors.remedy}")
    module.load_state_dict({key: torch.from_numpy(own.take(key, *need)) for key, need in needs.items()})


def require_sizes(settings: HeadSettings, tensors: TensorReader, name: str) -> None:
    """Raise ArtifactError where config.yaml names sizes that no tensor `<name>.*` has.

    Called before a module is built, which would take all memory for a size of billions.
    """
    own = tensors.inside(f"{name}.")
    largest = max((size for key in own.names() for size in own.shape(key)), default=0)
    limits = {"embedding_size": largest, "attention_size": largest, "max_length": largest,
              "num_layers": len(own.names())}
    sizes = {key: getattr(settings, key) for key in limits if hasattr(settings, key)}
    if isinstance(layers := getattr(settings, "layers", None), list):
        limits["layers"], sizes["layers"] = largest, max([0, *layers])
    for key, size in sizes.items():
        if size > limits[key]:
            raise ArtifactError(f"config.yaml: head.{key}={size} does not fit {tensors.place}, whose largest size is "
                                f"{limits[key]}; {tensors.remedy}")
