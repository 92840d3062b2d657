"""The most memory that a fit's process, or its device, held at once."""

from __future__ import annotations

import sys

import torch


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory held so far, in MB: the device's where it is a GPU, else the process's; 0 on Windows."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 1e6
    if sys.platform == "win32":
        return 0.0
    import resource  # not on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
