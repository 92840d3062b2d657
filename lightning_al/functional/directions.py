"""Rows as unit vectors, and a choice among some rows of a pool that spreads over their directions."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_al.functional.inputs import compute_dtype, fill_at_random
from lightning_al.functional.k_means import cluster, nearest_unique
from lightning_al.functional.spaces import EuclideanSpace, Rows

# Rows that the origin is chosen from.
_ROWS_FOR_ORIGIN = 1024


def unit_rows(matrix: Tensor) -> Tensor:
    """Return the rows scaled to length 1; a row of zeros stays.

    The largest element is divided out first, so that no length overflows or vanishes when it is squared.

    Args:
        matrix: Finite values ``(M, D)``.

    Returns:
        A new tensor ``(M, D)``, in float64 if the matrix is, else in float32.

    Example:
        >>> import torch
        >>> unit_rows(torch.tensor([[3e30, 4e30], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    matrix = matrix.to(compute_dtype(matrix.dtype))
    scaled = matrix / matrix.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(matrix.dtype).tiny)
    return torch.nn.functional.normalize(scaled, dim=1, out=scaled)


class CandidateDirections(EuclideanSpace):
    """Some rows of a pool, scaled to length 1 when they are fetched: no copy of them is kept.

    Args:
        embeddings: The pool ``(N, D)``, finite.
        candidates: Positions ``(M,)`` in the pool, at least one; the space numbers its points ``0`` to ``M - 1``.
    """

    def __init__(self, embeddings: Tensor, candidates: Tensor) -> None:
        self.parts = [("embeddings", embeddings)]
        self.candidates = candidates
        self.starts = [0, len(candidates)]
        self.device = embeddings.device
        self.dtype = compute_dtype(embeddings.dtype)
        some = unit_rows(embeddings[candidates[:: max(len(candidates) // _ROWS_FOR_ORIGIN, 1)]])
        self.origin = some[(some - some.mean(0)).square_().sum(1).argmin()]
        self.squared_norms = self._squared_norms()

    def _centred(self, rows: Rows) -> Tensor:
        return unit_rows(self.parts[0][1][self.candidates[rows]]).sub_(self.origin)


def spread_over(embeddings: Tensor, candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Pick ``count`` samples: by k-means on the candidates' directions, or all candidates and others at random.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``, finite.
        candidates: Positions ``(M,)`` in the pool, ascending.
        count: Number of samples to pick, at most ``N``.
        generator: Source of random numbers.

    Returns:
        Unique pool positions ``(count,)``, int64: the candidates nearest the centroids, or, where there are no more
        candidates than picks, all of them first.
    """
    if len(candidates) <= count:
        picks = fill_at_random(candidates.tolist(), count, len(embeddings), generator)
        return picks.to(embeddings.device)
    space = CandidateDirections(embeddings, candidates)
    chosen = nearest_unique(space, cluster(space, count, generator).centroids)
    return candidates[fill_at_random(chosen, count, len(space), generator).to(candidates.device)]
