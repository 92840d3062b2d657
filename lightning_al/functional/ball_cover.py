"""Balls of one radius about the points of a pool, and how much each of them would newly cover.

The graph of all pairs within the radius is never stored: it has hundreds of edges a point. Each point keeps the number
of points it would newly cover. What a pick covers is subtracted from the others' numbers, which takes one comparison
for each pair of a covered point and its rivals: over all picks no more than the graph has pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_al.functional.unit_space import UnitSpace

Features = tuple[Tensor, ...]

# Pairs are compared in tiles of so many rows and columns.
_TILE = 512


class BallCover:
    """What the balls about the pool's points would newly cover, exact after every pick.

    Args:
        space: The pool's points, and after them the labeled ones.
        pool_size: Number N of points in the pool.
        radius: Radius of a new ball; a ball holds what is nearer than that.
        labeled_radii: Radii ``(L,)`` of the balls about the labeled points.
    """

    def __init__(self, space: UnitSpace, pool_size: int, radius: float, labeled_radii: Tensor) -> None:
        self.space, self.radius = space, radius
        self.uncovered = uncovered_by(space, pool_size, labeled_radii)
        self.gains = self._count_all() if bool(self.uncovered.all()) else self._count_uncovered()

    def pick(self, position: int) -> None:
        """Cover what is in a point's ball; the point itself gains nothing any more, and -1 marks it as taken."""
        centre = self.space.take(slice(position, position + 1))
        squared = torch.cat([self.space.distances_from(centre, rows)[:, 0] for rows in _tiles(len(self.gains))])
        newly = self.uncovered & (squared < self.radius**2)
        self.uncovered &= ~newly
        # Only balls whose centre is within two radii reach what this one covers; a little more, for the rounding.
        rivals = ((self.gains > 0) & (squared < 4.01 * self.radius**2)).nonzero()[:, 0]
        self._subtract(rivals, newly.nonzero()[:, 0])
        self.gains[position] = -1

    def _count_all(self) -> Tensor:
        """Count for each point those in its ball: every pair is looked at once, for both of its points."""
        count = len(self.uncovered)
        gains = torch.zeros(count, dtype=torch.int64, device=self.space.device)
        for rows in _tiles(count):
            points = self.space.take(rows)
            for columns in _tiles(count):
                if columns.start < rows.start:
                    continue
                inside = _inside(points, self.space.take(columns), self.radius)
                gains[rows] += inside.sum(1).long()
                if columns.start > rows.start:
                    gains[columns] += inside.sum(0).long()
        return gains

    def _count_uncovered(self) -> Tensor:
        count = len(self.uncovered)
        gains = torch.zeros(count, dtype=torch.int64, device=self.space.device)
        uncovered = self.uncovered.nonzero()[:, 0]
        for rows in _tiles(count):
            gains[rows] = self._count(self.space.take(rows), uncovered)
        return gains

    def _subtract(self, rivals: Tensor, covered: Tensor) -> None:
        for some in rivals.split(_TILE):
            self.gains[some] -= self._count(self.space.take(some), covered)

    def _count(self, points: Features, others: Tensor) -> Tensor:
        """Return how many of the others are in each point's ball."""
        counts = torch.zeros(len(points[0]), dtype=torch.int64, device=self.space.device)
        for some in others.split(_TILE):
            counts += _inside(points, self.space.take(some), self.radius).sum(1).long()
        return counts


def uncovered_by(space: UnitSpace, pool_size: int, labeled_radii: Tensor) -> Tensor:
    """Return which points of the pool are in no ball about a labeled point.

    Args:
        space: The pool's points, and after them the labeled ones.
        pool_size: Number N of points in the pool.
        labeled_radii: Radii ``(L,)`` of the balls about the labeled points.

    Returns:
        A mask ``(N,)``.
    """
    uncovered = torch.ones(pool_size, dtype=torch.bool, device=space.device)
    for start in range(0, len(labeled_radii), _TILE):
        radii = labeled_radii[start : start + _TILE].to(space.device, space.dtype)
        balls = space.take(slice(pool_size + start, pool_size + start + len(radii)))
        for rows in _tiles(pool_size):
            uncovered[rows] &= _inside(space.take(rows), balls, radii).amax(1) == 0
    return uncovered


def _inside(points: Features, centres: Features, radii: float | Tensor) -> Tensor:
    """Return 1 where a point is in a centre's ball, else 0, of the points' dtype ``(points, centres)``."""
    (x, x_norms), (y, y_norms) = points, centres
    # |x - y|^2 < r^2, rearranged so that one product and one comparison do.
    products = torch.addmm((radii**2 - y_norms) / 2, x, y.t())
    return products.gt_(x_norms[:, None] / 2)


def _tiles(count: int) -> list[slice]:
    return [slice(start, min(start + _TILE, count)) for start in range(0, count, _TILE)]
