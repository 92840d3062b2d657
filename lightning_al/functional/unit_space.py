"""Points on the unit sphere: embeddings divided by their length, never copied as a whole."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.inputs import blocks
from lightning_al.functional.spaces import EuclideanSpace, Rows

# Distances are resolved to so many units of rounding of the squared norms they come from.
_ROUNDING_UNITS = 16

_AT_ONCE = 512


class UnitSpace(EuclideanSpace):
    """Embeddings of length 1 under the Euclidean distance, which is then between 0 and 2.

    An embedding of zeros stays at the sphere's centre. Rows are scaled when they are fetched: beside the embeddings
    there are two numbers a point.

    Args:
        embeddings: The pool ``(N, D)``, positions ``0`` to ``N - 1``.
        labeled: More points ``(L, D)``, positions ``N`` to ``N + L - 1``.

    Raises:
        ValueError: If an embedding is not finite, or too large to be squared.
    """

    def __init__(self, embeddings: Tensor, labeled: Tensor | None = None) -> None:
        self.scales: Tensor | None = None
        super().__init__(embeddings, labeled)
        length = torch.linalg.vector_norm(self.origin)
        self.shift = self.origin / length if bool(length > 0) else self.origin
        self.origin = torch.zeros_like(self.shift)
        lengths = [
            torch.linalg.vector_norm(block.to(self.dtype), dim=1) for _, part in self.parts for _, block in blocks(part)
        ]
        self.scales = torch.cat(lengths).reciprocal_().nan_to_num_(posinf=0.0)
        self.squared_norms = self._squared_norms()

    def distances_from(self, centres: tuple[Tensor, ...], rows: Rows) -> Tensor:
        """Return squared distances of points of the pool from a few centres ``(M, centres)``.

        The pool is read as it is, without a scaled copy: for few centres that is most of the cost.

        Args:
            centres: Features of the centres.
            rows: Positions in the pool.
        """
        assert self.scales is not None
        y, y_norms = centres
        products = self.parts[0][1][rows].to(self.dtype) @ y.t()
        products.mul_(self.scales[rows][:, None]).sub_(self.shift @ y.t() + y_norms / 2)
        # A point is as near to itself as can be, whatever the rounding of its distance.
        norms = self.squared_norms[rows] * (1 - _ROUNDING_UNITS * torch.finfo(self.dtype).eps)
        return torch.add(norms[:, None], products, alpha=-2).clamp_(min=0)

    def distances_from_nearest(self, centres: Tensor) -> Tensor:
        """Return squared distances of the pool's points from the nearest of some points ``(N,)``.

        Args:
            centres: Positions of those points, labeled ones too; without any, distances are infinite.
        """
        nearest = torch.full((len(self.parts[0][1]),), math.inf, dtype=self.dtype, device=self.device)
        for first in range(0, len(centres), _AT_ONCE):
            features = self.take(centres[first : first + _AT_ONCE])
            for start in range(0, len(nearest), _AT_ONCE):
                rows = slice(start, min(start + _AT_ONCE, len(nearest)))
                nearest[rows] = torch.minimum(nearest[rows], self.distances_from(features, rows).amin(1))
        return nearest

    def _centred(self, rows: Rows) -> Tensor:
        points = super()._centred(rows)
        return points if self.scales is None else points.mul_(self.scales[rows][:, None]).sub_(self.shift)
