"""Selection of the device; never a device other than the requested one."""

import os

import torch

from llmrec_cli.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`; raise ConfigError if it does not exist.

    Each process started by torchrun on a machine gets a GPU of its own.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and name != "cpu" and torch.cuda.is_available():
        return _own_gpu(name, int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise ConfigError(f"device={name}: torch {torch.__version__} finds no usable GPU; choose device=cpu, or "
                              f"install a torch built for CUDA")
        number = int(name.partition(":")[2] or 0)
        if number >= torch.cuda.device_count():
            raise ConfigError(f"device={name}: no such GPU; there are {torch.cuda.device_count()}, numbered from 0")
    return torch.device(name)


def _own_gpu(name: str, local_rank: int, num_processes: int) -> torch.device:
    if name.startswith("cuda:") and num_processes > 1:
        raise ConfigError(f"device={name}: is a single GPU, but each of the {num_processes} processes needs its own; "
                          f"choose device=cuda")
    if num_processes > torch.cuda.device_count():
        raise ConfigError(f"device={name}: {num_processes} processes but {torch.cuda.device_count()} GPUs; start as "
                          f"many processes as there are GPUs (torchrun --nproc_per_node), or choose device=cpu")
    device = torch.device(name if name.startswith("cuda:") else f"cuda:{local_rank}")
    torch.cuda.set_device(device)
    return device
