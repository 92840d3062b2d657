"""LCMD: the farthest sample of the heaviest cluster, for batches that cover what is common first."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.inputs import block_rows, check_pool
from lightning_al.functional.precision import full_precision
from lightning_al.functional.spaces import EuclideanSpace, Features

_CENTRES_AT_ONCE = 512

# The sketch holds a fifth of the columns; with fewer columns than this a pass over all is as quick as one over it.
_COLUMNS_PER_SKETCHED, _FEWEST_COLUMNS = 5, 64
_ROWS_FOR_BASIS, _BASIS_ITERATIONS = 1024, 3
_SLACK_UNITS = 64  # of rounding of the squared norms that a sketched distance may exceed the true one by

# Fetching more than this share of the rows one by one takes longer than a pass over all.
_MOST_FETCHED = 0.25


def lcmd(embeddings: Tensor, query_size: int, labeled_embeddings: Tensor | None = None) -> Tensor:
    r"""Pick, one by one, the farthest sample of the cluster with the largest sum of squared distances.

    Labeled and picked samples are centres :math:`c`; each sample of the pool belongs to the nearest centre, the
    earlier where two are as near. The next pick is

    .. math:: \arg\max_{i \in K^\ast} |z_i - c_{K^\ast}|^2, \quad K^\ast = \arg\max_K \sum_{i \in K} |z_i - c_K|^2

    and becomes a centre. Ties go to the lowest position, also between clusters of the same sum. Samples that differ
    from no centre come last, in order of position.

    The greedy order exactly, mostly in less than a pass over the pool a pick: a sketch of the embeddings, a fifth of
    their size, gives lower bounds of the distances, and only samples that may be nearer to the new centre are compared
    with it. Isotropic noise, which no sketch describes, takes a pass a pick.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``. Without any, the sample nearest the pool's
            mean is picked first; the paper, which always has some, would take the largest norm.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If an embedding is not finite, a shape does not fit, or ``query_size`` is not a positive integer.

    References:
        Holzmüller, Zaverkin, Kästner and Steinwart (JMLR 2023), *A Framework and Benchmark for Deep Batch Active
        Learning for Regression*.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[1.0], [2.0], [2.0], [2.0], [12.5]])
        >>> lcmd(embeddings, query_size=2, labeled_embeddings=torch.tensor([[0.0], [10.0]]))  # sums 13 and 6.25
        tensor([1, 4])
    """
    embeddings, labeled, count = check_pool(embeddings, labeled_embeddings, query_size)
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        picks = _Clusters(EuclideanSpace(embeddings, labeled), len(embeddings)).grow(count)
    return torch.tensor(picks, dtype=torch.int64, device=embeddings.device)


class _Clusters:
    """The pool's samples and their nearest centres: first the labeled, which follow the pool in the space."""

    def __init__(self, space: EuclideanSpace, pool_size: int) -> None:
        self.space = space
        self.sketch = _Sketch(space, pool_size)
        self.distances = torch.full((pool_size,), math.inf, dtype=space.dtype, device=space.device)
        self.owners = torch.zeros(pool_size, dtype=torch.int64, device=space.device)
        self.picks: list[int] = []
        self.pool_slices = [rows for rows in space.slices() if rows.start < pool_size]
        self.num_labeled = len(space) - pool_size
        for rows in self.pool_slices:
            points = space.take(rows)
            for start in range(pool_size, len(space), _CENTRES_AT_ONCE):
                centres = space.take(slice(start, min(start + _CENTRES_AT_ONCE, len(space))))
                nearest = space.squared_distances(points, centres).min(1)
                self._lower(rows, nearest.values, nearest.indices + (start - pool_size))

    def grow(self, count: int) -> list[int]:
        """Return ``count`` picks in the order made."""
        if self.num_labeled == 0:
            self._add(self._nearest_the_mean())
        while len(self.picks) < count:
            pick = self._farthest_of_the_heaviest()
            if pick is None:
                return self.picks + self._rest(count - len(self.picks))
            self._add(pick)
        return self.picks

    def _farthest_of_the_heaviest(self) -> int | None:
        # Summed anew each time: sums that were added to and taken from would never return to 0, nor tie.
        weights = torch.bincount(self.owners, weights=self.distances.double())
        heaviest = weights.max()
        members = (weights == heaviest)[self.owners]
        pick = torch.where(members, self.distances, -1).argmax()
        return int(pick) if heaviest > 0 else None

    def _add(self, pick: int) -> None:
        """Make a sample a centre, and give it the samples that are nearer to it than to theirs."""
        owner = self.num_labeled + len(self.picks)
        centre = self.space.take(torch.tensor([pick], device=self.space.device))
        rivals = self.sketch.rivals(pick, self.distances)
        if rivals is None:
            self._lower(slice(None), self._distances_from(centre), owner)
        else:
            for rows in rivals.split(block_rows(len(self.space.origin), self.space.device)):
                self._lower(rows, self.space.nearest(self.space.take(rows), centre), owner)
        self.distances[pick] = 0
        self.owners[pick] = owner
        self.picks.append(pick)

    def _lower(self, rows: Tensor | slice, distances: Tensor, owners: Tensor | int) -> None:
        nearer = distances < self.distances[rows]
        self.owners[rows] = torch.where(nearer, owners, self.owners[rows])
        self.distances[rows] = torch.where(nearer, distances, self.distances[rows])

    def _nearest_the_mean(self) -> int:
        mean = torch.stack([self.space.take(rows)[0].sum(0) for rows in self.pool_slices]).sum(0, keepdim=True)
        mean /= len(self.distances)
        return int(self._distances_from((mean, mean.square().sum(1))).argmin())

    def _distances_from(self, centre: Features) -> Tensor:
        return torch.cat([self.space.nearest(self.space.take(rows), centre) for rows in self.pool_slices])

    def _rest(self, count: int) -> list[int]:
        free = torch.ones(len(self.distances), dtype=torch.bool)
        free[self.picks] = False
        return [int(position) for position in free.nonzero()[:count, 0]]


class _Sketch:
    """Points of few dimensions that are never farther apart than those they stand for.

    A point keeps its coordinates along the directions in which the pool varies most, and the length of the rest: by
    the triangle inequality the rests of two points are at least as far apart as their lengths.
    """

    def __init__(self, space: EuclideanSpace, pool_size: int) -> None:
        columns = len(space.origin)
        self.points: Tensor | None = None
        if columns < _FEWEST_COLUMNS:
            return
        some = space.take(torch.arange(0, pool_size, max(pool_size // _ROWS_FOR_BASIS, 1), device=space.device))[0]
        some -= some.mean(0)
        basis = some[: columns // _COLUMNS_PER_SKETCHED].t()
        for _ in range(_BASIS_ITERATIONS):  # subspace iteration; any orthonormal basis gives bounds, a good one tight
            basis = some.t() @ (some @ torch.linalg.qr(basis).Q)
        basis = torch.linalg.qr(basis).Q
        self.points = torch.empty(pool_size, basis.shape[1] + 1, dtype=space.dtype, device=space.device)
        self.squared_norms = space.squared_norms[:pool_size] * (_SLACK_UNITS * torch.finfo(space.dtype).eps)  # slack
        for rows in space.slices():
            if rows.start < pool_size:
                points, norms = space.take(rows)
                torch.mm(points, basis, out=self.points[rows, :-1])
                rest = norms - self.points[rows, :-1].square().sum(1)
                self.points[rows, -1] = rest.clamp_(min=0).sqrt_()
                self.squared_norms[rows] -= self.points[rows].square().sum(1)
        self.squared_norms.neg_()

    def rivals(self, pick: int, distances: Tensor) -> Tensor | None:
        """Return the positions that may be nearer to the pick than ``distances``; None: too many to tell."""
        if self.points is None:
            return None
        bounds = torch.addmv(self.squared_norms, self.points, self.points[pick], alpha=-2)
        rivals = (bounds < distances - self.squared_norms[pick]).nonzero()[:, 0]
        return None if len(rivals) > _MOST_FETCHED * len(distances) else rivals
