"""Which device to compute on; never another than the one asked for."""

import torch

from llmrec_cli.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` means; raise ConfigError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise ConfigError(f"device={name}: no GPU that torch {torch.__version__} can use; choose device=cpu, or "
                              f"install a torch built for CUDA")
        number = int(name.partition(":")[2] or 0)
        if number >= torch.cuda.device_count():
            raise ConfigError(f"device={name}: there are {torch.cuda.device_count()} GPUs, counted from 0")
    return torch.device(name)
