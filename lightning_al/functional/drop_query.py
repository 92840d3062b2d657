"""DropQuery: samples whose prediction does not survive dropout, spread over their directions."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_al.functional.directions import spread_over
from lightning_al.functional.heads import Head, predicted_classes
from lightning_al.functional.inputs import (
    blocks,
    check_finite,
    check_matrix,
    check_query_size,
    compute_dtype,
    default_generator,
)
from lightning_al.functional.precision import full_precision

# The paper's dropout of 0.75: a feature is kept if two fair bits are both 0. One byte has the bits of all three passes.
_PASSES = (0b000011, 0b001100, 0b110000)
_SCALE = 4.0

_CANDIDATES_A_PICK = 25  # fewer candidates lower the number of flips asked for


def drop_query(embeddings: Tensor, head: Head, query_size: int, generator: torch.Generator | None = None) -> Tensor:
    """Pick among samples whose prediction flips when features are dropped, one nearest each of B centroids.

    Three times, each feature is dropped with probability 0.75 (the others are multiplied by 4) and the head predicts
    again. Candidates are the samples whose prediction flips in at least two of the passes; in one where that leaves
    fewer than 25 a pick. They are cut into ``query_size`` clusters by k-means, scaled to length 1, and the one nearest
    each centroid is picked. Where there are fewer candidates than picks, the rest is drawn uniformly.

    Args:
        embeddings: What the last layer sees ``(N, D)``.
        head: The last layer, ``(M, D)`` to logits ``(M, C)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        generator: Source of random numbers, on the CPU. None: one with a fixed seed.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order of the clusters' seeds.

    Raises:
        ValueError: If an embedding or a logit is not finite, a shape does not fit, or ``query_size`` is not a positive
            integer.

    References:
        Gupte, Aklilu, Nirschl and Yeung-Levy (TMLR 2024), *Revisiting Active Learning in the Era of Vision Foundation
        Models*.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[1.0] * 32, [2.0] * 32, [1.0] * 17 + [-1.0] * 15])
        >>> head = lambda z: torch.stack([z.sum(1), -z.sum(1)], dim=1)
        >>> drop_query(embeddings, head, query_size=1)  # no dropout changes the sign of the others' sums
        tensor([2])
    """
    embeddings = check_matrix(embeddings, "embeddings", "D")
    count = check_query_size(query_size, len(embeddings))
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    check_finite(embeddings, "embeddings")
    generator = default_generator(generator)
    with full_precision(embeddings.device):
        flips = _flips(embeddings, head, generator)
        least = len(_PASSES) // 2 + 1
        while least > 1 and int((flips >= least).sum()) < _CANDIDATES_A_PICK * count:
            least -= 1
        return spread_over(embeddings, (flips >= least).nonzero()[:, 0], count, generator)


def _flips(embeddings: Tensor, head: Head, generator: torch.Generator) -> Tensor:
    """Return in how many of the passes each sample's prediction differs from that without dropout ``(N,)``."""
    flips = torch.zeros(len(embeddings), dtype=torch.int8, device=embeddings.device)
    columns = embeddings.shape[1]
    for start, block in blocks(embeddings):
        points = block.to(compute_dtype(block.dtype))
        positions = torch.arange(start, start + len(block), device=block.device)
        classes = predicted_classes(head, points, positions)
        drawn = torch.empty(len(block), -(-columns // 8), dtype=torch.int64, device=generator.device)
        bits = drawn.random_(-(2**63), None, generator=generator).view(torch.uint8)[:, :columns].to(block.device)
        scaled = points * _SCALE
        for pair in _PASSES:
            thinned = scaled.masked_fill(bits.bitwise_and(pair).bool(), 0)
            flips[positions] += predicted_classes(head, thinned, positions) != classes
    return flips
