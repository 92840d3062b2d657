"""How far each sample is from its nearest neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.inputs import check_matrix, check_query_size
from lightning_al.functional.precision import full_precision
from lightning_al.functional.spaces import EuclideanSpace

# Pairs are compared in square tiles of so many rows.
_TILE = 1024

_ROUNDING_UNITS = 16


def knn_distances(embeddings: Tensor, k: int = 10) -> Tensor:
    """Return each sample's mean Euclidean distance from its ``k`` nearest others.

    Exact, in tiles: each pair is compared once, and beside the embeddings there are ``k`` numbers a sample. Distances
    below 0.2 % of a sample's distance from the pool's mean count as 0 in float32.

    Args:
        embeddings: Embeddings ``(N, D)``.
        k: Number of neighbours, at least 1; all others where there are fewer.

    Returns:
        Distances ``(N,)``, at least 0, float64 for float64 embeddings, else float32; 0 for a single sample.

    Raises:
        ValueError: If an embedding is not finite, or ``k`` is not a positive integer.

    References:
        Ramaswamy, Rastogi and Shim (SIGMOD 2000), *Efficient Algorithms for Mining Outliers from Large Data Sets*;
        Angiulli and Pizzuti (PKDD 2002), *Fast Outlier Detection in High Dimensional Spaces*.

    Example:
        >>> import torch
        >>> knn_distances(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), k=2)
        tensor([1.5000, 1.0000, 1.5000, 7.5000])
    """
    embeddings = check_matrix(embeddings, "embeddings", "D")
    k = check_query_size(k, max(len(embeddings) - 1, 0), "k")
    with full_precision(embeddings.device):
        space = EuclideanSpace(embeddings)
        if k == 0:
            return torch.zeros(len(space), dtype=space.dtype, device=space.device)
        nearest = _nearest(space, k)
        # Of a squared distance that is within the rounding of the norms it comes from, nothing is known.
        rounding = space.squared_norms[:, None] * (_ROUNDING_UNITS * torch.finfo(space.dtype).eps)
        return nearest.masked_fill_(nearest <= rounding, 0).sqrt_().mean(1)


def _nearest(space: EuclideanSpace, k: int) -> Tensor:
    """Return the squared distances from the ``k`` nearest others ``(N, k)``, in no order."""
    nearest = torch.full((len(space), k), math.inf, dtype=space.dtype, device=space.device)
    tiles = [slice(start, min(start + _TILE, len(space))) for start in range(0, len(space), _TILE)]
    for number, rows in enumerate(tiles):
        x, x_norms = space.take(rows)
        for columns in tiles[number:]:
            y, y_norms = (x, x_norms) if columns == rows else space.take(columns)
            squared = torch.addmm(y_norms, x, y.t(), alpha=-2).add_(x_norms[:, None])
            if columns == rows:
                squared.fill_diagonal_(math.inf)
            nearest[rows] = _smallest(torch.cat([nearest[rows], _smallest(squared, k)], 1), k)
            if columns != rows:
                nearest[columns] = _smallest(torch.cat([nearest[columns], _smallest(squared.t(), k)], 1), k)
    return nearest


def _smallest(values: Tensor, k: int) -> Tensor:
    """Return the ``k`` smallest of each row, or all."""
    return values.topk(min(k, values.shape[1]), largest=False, sorted=False).values
