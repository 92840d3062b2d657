"""Distances are taken in full float32, whatever precision the training around them chose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switch autocast and reduced-precision matrix products off, and back to what they were.

    In bfloat16 or TF32 a sample's distance from itself is far from 0, and selections pick it again and again.

    Args:
        device: Where the products are taken.

    Yields:
        Nothing.
    """
    before = torch.get_float32_matmul_precision()
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        if before != "highest":
            torch.set_float32_matmul_precision(before)
