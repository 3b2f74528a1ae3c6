"""The clock of short measurements of training steps."""

import time

import torch


def work_seconds(device: torch.device) -> float:
    """Return a time in seconds that grows with the work of this process: CPU time, or on a GPU the time on the wall
    after its queue is empty."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.monotonic()
    return time.process_time()
