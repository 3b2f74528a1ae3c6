"""What a head's modules learned, to and from the arrays of its state."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from llmrec_cli.errors import ArtifactError


def load_parameters(module: nn.Module, state: Mapping[str, np.ndarray], name: str, kind: str) -> None:
    """Put the arrays `<name>.*` of a head's state into its module; `kind` is the head's.

    Raises ArtifactError for one that is missing, too many or of another shape.
    """
    own = {key.removeprefix(f"{name}."): torch.from_numpy(value) for key, value in state.items()
           if key.startswith(f"{name}.")}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise ArtifactError(f"model.safetensors does not fit the {kind} head of config.yaml: {error}; train the "
                            f"model again") from error
