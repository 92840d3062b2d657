r"""Points and their squared distances, in the two spaces that selections work in.

`EuclideanSpace` holds embeddings; `GradientSpace` holds BADGE's last-layer gradients as two factors, never multiplied
out. Both move the origin near the embeddings' mean before anything is squared: :math:`|x|^2 + |y|^2 - 2 \langle x, y
\rangle` loses its digits far from the origin. What is left below the rounding of that sum counts as 0.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from lightning_al.functional.inputs import BLOCK_ELEMENTS, block_rows, check_finite, compute_dtype
from lightning_al.functional.shard import Features as Features
from lightning_al.functional.shard import Shard

Rows = Tensor | slice
"""Positions of points: an int64 tensor, or a slice within one of the space's parts."""

# Squared distances are resolved to this many units of rounding of the squared norms they are computed from.
_ROUNDING_UNITS = 8

# Rows that the origin is chosen from.
_ROWS_FOR_ORIGIN = 1024

# A pass takes up to thirty operations a block, which cost more than leaving the inner cache does.
_PASS_ELEMENTS = 1 << 19


class Space(Protocol):
    """Points that can be fetched, and compared once fetched: of one process, or of several."""

    device: torch.device
    dtype: torch.dtype

    def __len__(self) -> int:
        """Return the number of points."""

    def take(self, rows: Rows) -> Features:
        """Return the features of some points."""

    def squared_distances(self, points: Features, centres: Features) -> Tensor:
        """Return non-negative squared distances ``(points, centres)``."""

    def nearest(self, points: Features, centres: Features) -> Tensor:
        """Return each point's squared distance from the nearest centre ``(points,)``."""

    def lower_to_nearest(self, bounds: Tensor, centres: Features) -> None:
        """Lower the bounds of the first points to their squared distances from the nearest centre, in place.

        Args:
            bounds: Upper bounds ``(N,)`` of the squared distances of the first N points, which end a part of the space.
            centres: Features of the centres.
        """


class LocalSpace(Space, Protocol):
    """Points of this process, read block by block."""

    @abstractmethod
    def slices(self, elements: int = BLOCK_ELEMENTS) -> list[slice]:
        """Return slices that cover all points in blocks of ``elements`` numbers that `take` accepts."""

    def lower_to_nearest(self, bounds: Tensor, centres: Features) -> None:
        """Lower bounds to the squared distances from the nearest centre; see `Space`."""
        for rows in self.slices(_PASS_ELEMENTS):
            if rows.start >= len(bounds):
                return
            points = self.take(rows)
            step = block_rows(len(points[0]), self.device, _PASS_ELEMENTS)
            for start in range(0, len(centres[0]), step):
                some = tuple(feature[start : start + step] for feature in centres)
                torch.minimum(bounds[rows], self.nearest(points, some), out=bounds[rows])


class EuclideanSpace(LocalSpace):
    """Embeddings under the Euclidean distance, an origin near the mean of the pool.

    Args:
        embeddings: The pool ``(N, D)``, positions ``0`` to ``N - 1``.
        labeled: More points ``(L, D)``, positions ``N`` to ``N + L - 1``.
        shard: Where the embeddings are some of a pool's: the origin is then the same on all processes.

    Raises:
        ValueError: If an embedding is not finite, or too large to be squared.
    """

    def __init__(self, embeddings: Tensor, labeled: Tensor | None = None, shard: Shard | None = None) -> None:
        self.parts = [("embeddings", embeddings)]
        if labeled is not None and len(labeled):
            self.parts.append(("labeled_embeddings", labeled))
        self.device = embeddings.device
        self.dtype = compute_dtype(embeddings.dtype)
        self.starts = [0]
        for _, part in self.parts:
            self.starts.append(self.starts[-1] + len(part))
        self.origin = _origin(embeddings, self.dtype, shard)
        self.squared_norms = self._squared_norms()

    def __len__(self) -> int:
        """Return the number of points of all parts."""
        return self.starts[-1]

    def slices(self, elements: int = BLOCK_ELEMENTS) -> list[slice]:
        """Return slices that cover all points; none crosses from one part into the next."""
        step = block_rows(self.parts[0][1].shape[1], self.device, elements)
        bounds = zip(self.starts, self.starts[1:], strict=False)
        return [slice(i, min(i + step, stop)) for start, stop in bounds for i in range(start, stop, step)]

    def take(self, rows: Rows) -> Features:
        """Return the points relative to the origin ``(M, D)`` and their squared norms ``(M,)``."""
        return self._centred(rows), self.squared_norms[rows]

    def squared_distances(self, points: Features, centres: Features) -> Tensor:
        """Return squared distances ``(points, centres)``, rounding cut to 0."""
        (x, x_norms), (y, y_norms) = points, centres
        # The norms are added to each other first: the distance from i to j is then that from j to i, to the last bit.
        distances = (x_norms[:, None] + y_norms).addmm_(x, y.t(), alpha=-2)
        return _without_rounding(distances, x_norms[:, None])

    def nearest(self, points: Features, centres: Features) -> Tensor:
        """Return each point's squared distance from the nearest centre ``(points,)``, rounding cut to 0."""
        (x, x_norms), (y, y_norms) = points, centres
        if len(y) == 1:
            products = torch.addmv(y_norms.expand(len(x)), x, y[0], alpha=-2)
        else:
            products = torch.addmm(y_norms, x, y.t(), alpha=-2).amin(1)
        return _without_rounding(products.add_(x_norms), x_norms)

    def _centred(self, rows: Rows) -> Tensor:
        if isinstance(rows, slice):
            part = next(i for i, stop in enumerate(self.starts[1:]) if rows.start < stop)
            start = self.starts[part]
            return self.parts[part][1][rows.start - start : rows.stop - start].to(self.dtype) - self.origin
        if len(self.parts) == 1 or len(rows) == 0 or int(rows.max()) < self.starts[1]:
            # A copy, several times as quick as indexing by a tensor.
            return self.parts[0][1].index_select(0, rows).to(self.dtype).sub_(self.origin)
        points = torch.empty(len(rows), len(self.origin), dtype=self.dtype, device=self.device)
        for start, (_, values) in zip(self.starts, self.parts, strict=False):
            inside = ((rows >= start) & (rows < start + len(values))).nonzero()[:, 0]
            points[inside] = values[rows[inside] - start].to(self.dtype)
        return points.sub_(self.origin)

    def _squared_norms(self) -> Tensor:
        norms = torch.empty(len(self), dtype=self.dtype, device=self.device)
        for rows in self.slices():
            norms[rows] = self._centred(rows).square_().sum(1)  # exact on a grid; a norm squared again is not
        if not bool(torch.isfinite(norms.sum())):
            for name, part in self.parts:
                check_finite(part, name)
            raise ValueError(
                f"Expected `embeddings` small enough to be squared in {self.dtype}, but got a squared norm of "
                f"{float(norms.max())}. Divide the embeddings by their largest value."
            )
        return norms


class GradientSpace(LocalSpace):
    r"""The gradients :math:`g = (p - e_{\hat y}) \otimes z` of the last layer, as their factors.

    With :math:`d = p - e_{\hat y}`, :math:`s = |d_i - d_j|^2` and :math:`t = |z_i - z_j|^2`,

    .. math:: 2 |g_i - g_j|^2 = (|d_i|^2 - |d_j|^2) (|z_i|^2 - |z_j|^2) + (|d_i|^2 + |d_j|^2) t
              + s (|z_i|^2 + |z_j|^2) - s t,

    which costs :math:`C + D` a pair in place of :math:`C D`, and holds where the embeddings are far from 0.

    Args:
        probs: Class probabilities ``(N, C)``.
        embeddings: Embeddings ``(N, D)``.
        shard: Where both are some rows of a pool: the origin is then the same on all processes.

    Raises:
        ValueError: If a value is not finite, or too large to be squared.
    """

    def __init__(self, probs: Tensor, embeddings: Tensor, shard: Shard | None = None) -> None:
        self.probs = probs
        self.points = EuclideanSpace(embeddings, shard=shard)
        self.device = embeddings.device
        self.dtype = torch.promote_types(self.points.dtype, compute_dtype(probs.dtype))
        self.predicted = probs.argmax(1)
        self.residual_norms = torch.empty(len(probs), dtype=self.dtype, device=self.device)
        self.embedding_norms = torch.empty_like(self.residual_norms)
        for rows in self.slices(_PASS_ELEMENTS):
            self.residual_norms[rows] = self._residuals(rows).square_().sum(1)
            block = embeddings[rows].to(self.dtype)
            self.embedding_norms[rows] = torch.linalg.vector_norm(block, dim=1).square_()

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.probs)

    @property
    def squared_norms(self) -> Tensor:
        """Squared norms of the gradients ``(N,)``."""
        return self.residual_norms * self.embedding_norms

    def slices(self, elements: int = BLOCK_ELEMENTS) -> list[slice]:
        """Return slices that cover all points."""
        return self.points.slices(elements)

    def take(self, rows: Rows) -> Features:
        """Return residuals, centred embeddings and their squared norms, one row a point."""
        centred, centred_norms = self.points.take(rows)
        return self._residuals(rows), self.residual_norms[rows], centred, centred_norms, self.embedding_norms[rows]

    def squared_distances(self, points: Features, centres: Features) -> Tensor:
        """Return squared distances between gradients ``(points, centres)``, rounding cut to 0."""
        d_i, d_norms_i, z_i, centred_norms_i, z_norms_i = points
        d_j, d_norms_j, z_j, centred_norms_j, z_norms_j = centres
        s = _without_rounding((d_norms_i[:, None] + d_norms_j).addmm_(d_i, d_j.t(), alpha=-2), d_norms_i[:, None])
        t = self.points.squared_distances((z_i, centred_norms_i), (z_j, centred_norms_j)).to(self.dtype)
        total = (z_norms_i[:, None] + z_norms_j).sub_(t).mul_(s)
        total.addcmul_(t, d_norms_i[:, None] + d_norms_j)
        total.addcmul_(d_norms_i[:, None] - d_norms_j, z_norms_i[:, None] - z_norms_j)
        return total.mul_(0.5).clamp_(min=0)

    def nearest(self, points: Features, centres: Features) -> Tensor:
        """Return each gradient's squared distance from the nearest centre ``(points,)``."""
        return self.squared_distances(points, centres).amin(1)

    def _residuals(self, rows: Rows) -> Tensor:
        residuals = self.probs[rows].to(self.dtype, copy=True)
        minus_one = torch.full((len(residuals), 1), -1.0, dtype=self.dtype, device=self.device)
        return residuals.scatter_add_(1, self.predicted[rows][:, None], minus_one)


def _without_rounding(distances: Tensor, norms: Tensor) -> Tensor:
    """Set to 0, in place, what is within the rounding of a sum of norms: there both points have nearly the same."""
    return distances.masked_fill_(distances <= norms * (2 * _ROUNDING_UNITS * torch.finfo(norms.dtype).eps), 0)


def _origin(matrix: Tensor, dtype: torch.dtype, shard: Shard | None) -> Tensor:
    """Return a row near the mean of rows spread over the matrix.

    A row, not the mean: differences from it are exact on a grid of values, so that ties stay ties.
    """
    size = len(matrix) if shard is None else shard.size
    step = max(size // _ROWS_FOR_ORIGIN, 1)
    if size == 0:
        return torch.zeros(matrix.shape[1], dtype=dtype, device=matrix.device)
    if shard is None:
        some = matrix[::step].to(dtype)
    else:
        check_finite(matrix, "embeddings")  # here, not where its rows have reached the others
        spread = torch.arange(0, size, step, device=matrix.device)
        (some,) = shard.take(spread, lambda rows: (matrix[rows].to(dtype),))
    relative = some - some[0]
    nearest = torch.linalg.vector_norm(relative - relative.mean(0), dim=1).argmin()
    return some[nearest].clone()
