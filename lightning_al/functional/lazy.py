"""Lazy greedy selection: what only falls need not be computed anew, while an old value bounds it from above."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def highest_bounds(bounds: Tensor, size: int) -> tuple[Tensor, float, int]:
    """Return the rows with the highest bounds, ascending, the lowest positions where bounds tie.

    Args:
        bounds: Upper bounds ``(N,)``.
        size: Number of rows wanted; all where there are fewer.

    Returns:
        The positions, the highest bound a row outside may have, and the lowest position outside that has it.
    """
    if size >= len(bounds):
        return torch.arange(len(bounds), device=bounds.device), -math.inf, len(bounds)
    values, order = bounds.topk(size + 1)
    ceiling = values[-1]
    above = order[values > ceiling]
    tied = (bounds == ceiling).nonzero()[:, 0]
    room = size - len(above)
    return torch.cat([above, tied[:room]]).sort().values, float(ceiling), int(tied[room])
