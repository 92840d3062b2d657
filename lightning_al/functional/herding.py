r"""MaxHerding and Uncertainty Herding: greedy maximisation of a smooth coverage of the pool.

A kernel says how well one sample stands for another; the best of the labeled and picked ones counts. The gain of a
sample only falls as others are picked, so that old gains are upper bounds and only the highest are brought up to date.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.inputs import (
    check_labeled,
    check_matrix,
    check_pool,
    check_probs,
    check_probs_values,
    check_query_size,
    default_generator,
    permutation,
)
from lightning_al.functional.lazy import highest_bounds
from lightning_al.functional.precision import full_precision
from lightning_al.functional.temperature import calibrated_margin, calibration_temperature
from lightning_al.functional.unit_space import UnitSpace

# Beyond so many samples the coverage is a mean over as many of them, drawn at random: its cost grows with N, not N^2.
# More are drawn for large queries, so that there are enough for each pick to cover.
_MOST_COVERED, _COVERED_A_PICK = 10_000, 20

_BANDWIDTH = 1.0  # of MaxHerding, and wherever the labeled samples tell none

# Gains are brought up to date for so many samples at once; their kernel is computed for so many covered ones at once.
_TILE, _BLOCK = 128, 2048

_AT_ONCE = 512


def max_herding(
    embeddings: Tensor,
    query_size: int,
    labeled_embeddings: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Pick, one by one, the sample that adds most to the coverage of the pool.

    .. math:: i^\ast = \arg\max_i \frac{1}{N} \sum_x \max\bigl(k(x, i) - m_x, 0\bigr), \quad
              k(x, i) = e^{-|z_x - z_i|^2}, \quad m_x = \max_{j \in L \cup S} k(x, j)

    with embeddings scaled to length 1 and :math:`m_x = 0` where nothing is labeled. Of samples that add the same up to
    rounding, any may come first. The greedy order exactly; in pools of more than 10,000 samples, and of 20 a pick, the
    sum runs over as many drawn at random.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``.
        generator: Source of that draw, on the CPU. None: one with a fixed seed.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If an embedding is not finite, a shape does not fit, or ``query_size`` is not a positive integer.

    References:
        Bae, Noh and Sutherland (ECCV 2024), *Generalized Coverage for More Robust Low-Budget Active Learning*.

    Example:
        >>> import torch
        >>> angles = torch.tensor([0.0, 0.1, 0.2, 1.5, 1.6, 3.0])
        >>> max_herding(torch.stack([angles.cos(), angles.sin()], 1), query_size=3)
        tensor([2, 4, 5])
    """
    embeddings, labeled, count = check_pool(embeddings, labeled_embeddings, query_size)
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        herd = _Herd(UnitSpace(embeddings, labeled), len(embeddings), count, _BANDWIDTH, default_generator(generator))
        picks = herd.pick([], count, torch.ones_like(herd.best))
    return torch.tensor(picks, dtype=torch.int64, device=embeddings.device)


def uncertainty_herding(
    embeddings: Tensor,
    probs: Tensor,
    query_size: int,
    labeled_embeddings: Tensor | None = None,
    labeled_probs: Tensor | None = None,
    labeled_targets: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Pick, one by one, the sample that adds most to the coverage of what the model is not sure of.

    .. math:: i^\ast = \arg\max_i \frac{1}{N} \sum_x u_x \max\bigl(k(x, i) - m_x, 0\bigr), \quad
              k(x, i) = e^{-|z_x - z_i|^2 / h^2}

    as in `max_herding`, with the uncertainty :math:`u = 1 - (p_1 - p_2)` after calibration by a temperature (see
    `calibration_temperature`), and :math:`h` the least distance between two labeled samples that differ: few labels
    give a wide kernel, and so coverage, many a narrow one, and so margin sampling. Without labels :math:`u = 1` and
    :math:`h = 1`. Once nothing uncertain is left to cover, all samples count alike.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``.
        probs: Class probabilities of the pool ``(N, C)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``.
        labeled_probs: Class probabilities of the labeled samples ``(L, C)``. None: the temperature is 1.
        labeled_targets: Their classes ``(L,)``, integers.
        generator: Source of the draw of what the sum runs over, on the CPU. None: one with a fixed seed.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If a value is not finite or no probability, a shape does not fit, or ``query_size`` is not a
            positive integer.

    References:
        Bae, Sutherland and Oliveira (ICLR 2025), *Uncertainty Herding: One Active Learning Method for All Label
        Budgets*.

    Example:
        >>> import torch
        >>> angles = torch.tensor([0.0, 0.1, 0.2, 1.5, 1.6, 3.0])
        >>> embeddings = torch.stack([angles.cos(), angles.sin()], 1)
        >>> probs = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0.5, 0.5], [0.6, 0.4], [0, 1]])
        >>> uncertainty_herding(embeddings, probs, 2, labeled_embeddings=embeddings[[0, 5]])
        tensor([3, 4])
    """
    embeddings = check_matrix(embeddings, "embeddings", "D")
    probs = check_probs(probs)
    if len(probs) != len(embeddings):
        raise ValueError(f"Expected `probs` to have {len(embeddings)} rows, as `embeddings`, but got {len(probs)}.")
    labeled = check_labeled(labeled_embeddings, embeddings)
    count = check_query_size(query_size, len(embeddings))
    check_probs_values(probs)
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        space = UnitSpace(embeddings, labeled)
        bandwidth = _least_distance(space, len(embeddings))
        herd = _Herd(space, len(embeddings), count, bandwidth, default_generator(generator))
        picks: list[int] = []
        if labeled is not None:
            temperature = 1.0
            if labeled_probs is not None and labeled_targets is not None and len(labeled_probs):
                temperature = calibration_temperature(labeled_probs, labeled_targets)
            weights = calibrated_margin(probs, temperature)[herd.covered].to(space.dtype)
            picks = herd.pick(picks, count, weights)
        picks = herd.pick(picks, count, torch.ones_like(herd.best))
    return torch.tensor(picks, dtype=torch.int64, device=embeddings.device)


class _Herd:
    """The pool's kernel and how well each covered sample is covered so far.

    Args:
        space: The pool's points, and after them the labeled ones.
        pool_size: Number N of points in the pool.
        count: Number of picks to come.
        bandwidth: The kernel's h.
        generator: Source of the draw of covered samples.
    """

    def __init__(
        self, space: UnitSpace, pool_size: int, count: int, bandwidth: float, generator: torch.Generator
    ) -> None:
        self.space, self.pool_size, self.bandwidth = space, pool_size, bandwidth
        self.covered = torch.arange(pool_size, device=space.device)
        most = max(_MOST_COVERED, _COVERED_A_PICK * count)
        if pool_size > most:
            drawn = permutation(pool_size, generator)[:most].long()
            self.covered = drawn.sort().values.to(space.device)
        nearest = space.distances_from_nearest(torch.arange(pool_size, len(space), device=space.device))
        self.best = nearest[self.covered].div_(-(bandwidth**2)).exp_()

    def pick(self, picks: list[int], count: int, weights: Tensor) -> list[int]:
        """Extend picks greedily to ``count``, or to where nothing is gained; with equal weights, to ``count``."""
        picks, alike = list(picks), bool((weights == 1).all())
        bounds = torch.empty(self.pool_size, dtype=self.space.dtype, device=self.space.device)
        for start in range(0, self.pool_size, _AT_ONCE):
            rows = slice(start, min(start + _AT_ONCE, self.pool_size))
            bounds[rows] = self._gains(self.space.take(rows), weights)
        bounds[picks] = -1
        while len(picks) < count:
            tile, ceiling, rival = highest_bounds(bounds, _TILE)
            kernel = torch.cat([self._kernel(self.space.take(tile), columns) for columns in self._blocks()])
            gains = self._weighed(kernel, self.best, weights)
            gains[bounds[tile] < 0] = -1
            positions = tile.tolist()
            while len(picks) < count:
                best = int(gains.argmax())
                gain = float(gains[best])
                if gain < ceiling or (gain == ceiling and positions[best] > rival):
                    break
                if gain <= 0 and not alike:
                    return picks
                picks.append(positions[best])
                torch.maximum(self.best, kernel[:, best], out=self.best)
                taken = gains < 0
                gains = self._weighed(kernel, self.best, weights)
                gains[taken] = -1
                gains[best] = -1
            bounds[tile] = gains
        return picks

    def _gains(self, points: tuple[Tensor, ...], weights: Tensor) -> Tensor:
        """Return what each point would add now, the kernel taken block by block."""
        gains = torch.zeros(len(points[0]), dtype=self.space.dtype, device=self.space.device)
        for columns in self._blocks():
            gains += self._weighed(self._kernel(points, columns), self.best[columns], weights[columns])
        return gains

    def _weighed(self, kernel: Tensor, best: Tensor, weights: Tensor) -> Tensor:
        return weights @ (kernel - best[:, None]).clamp_(min=0)

    def _kernel(self, points: tuple[Tensor, ...], block: slice) -> Tensor:
        """Return the kernel of some of the covered samples and points ``(covered, points)``."""
        rows = block if len(self.covered) == self.pool_size else self.covered[block]
        return self.space.distances_from(points, rows).div_(-(self.bandwidth**2)).exp_()

    def _blocks(self) -> list[slice]:
        total = len(self.covered)
        return [slice(start, min(start + _BLOCK, total)) for start in range(0, total, _BLOCK)]


def _least_distance(space: UnitSpace, pool_size: int) -> float:
    """Return the least distance above 0 between two labeled points, or 1 where there are no two that differ."""
    least = torch.full((), math.inf, dtype=space.dtype, device=space.device)
    for start in range(pool_size, len(space), _AT_ONCE):
        points = space.take(slice(start, min(start + _AT_ONCE, len(space))))
        for other in range(start, len(space), _AT_ONCE):
            squared = space.squared_distances(points, space.take(slice(other, min(other + _AT_ONCE, len(space)))))
            least = torch.minimum(least, squared.masked_fill_(squared <= 0, math.inf).amin())
    return math.sqrt(float(least)) if bool(torch.isfinite(least)) else _BANDWIDTH
