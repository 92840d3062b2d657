"""Greedy posterior variance: what a linear model on the embeddings is least sure of, pick after pick."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.inputs import blocks, check_finite, check_pool
from lightning_al.functional.lazy import highest_bounds
from lightning_al.functional.precision import full_precision

# How many rows are brought up to date at once, and after how many picks all are.
_TILE = 512
_DIRECTIONS = 512


def posterior_variance(
    embeddings: Tensor, query_size: int, labeled_embeddings: Tensor | None = None, noise: float = 0.1
) -> Tensor:
    r"""Pick, one by one, the sample whose value is least certain given all that are labeled or picked.

    The model is a Gaussian process with the linear kernel :math:`k(x, y) = \langle z_x, z_y \rangle / s`, which is
    ridge regression on the embeddings, observed with a noise of standard deviation :math:`\sigma`. The next pick is

    .. math:: \arg\max_i k(i, i) - k(i, A) \bigl(k(A, A) + \sigma^2 I\bigr)^{-1} k(A, i), \quad A = L \cup S

    The picks are the pivots of a Cholesky factorisation, and greedily maximise the determinant of :math:`k(S, S) +
    \sigma^2 I`. The scale :math:`s` is the mean squared norm of the labeled embeddings (the pool's where none are), so
    that the unit of the embeddings does not matter and ``noise`` is relative to the spread of the model's predictions.
    Embeddings are not centred: the origin is where the last layer predicts its bias alone, and what all samples share
    is one direction that the first labels explain.

    Variances only fall, so that old ones are upper bounds: the greedy order exactly, in less than a pass over the pool
    a pick. Everything is float64 inside. Ties go to the lowest position.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``.
        noise: Standard deviation of a label's noise in units of the model's predictions, above 0.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If an embedding is not finite, a shape does not fit, ``query_size`` is not a positive integer or
            ``noise`` is not above 0.

    References:
        Seo, Wallat, Graepel and Obermayer (2000), *Gaussian Process Regression: Active Data Selection and Test Point
        Rejection*; Holzmüller, Zaverkin, Kästner and Steinwart (JMLR 2023), *A Framework and Benchmark for Deep Batch
        Active Learning for Regression*, whose MaxDet in TP mode this is.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[2.0, 0.0], [1.9, 0.1], [0.0, 1.0]])
        >>> posterior_variance(embeddings, query_size=2)  # the second is all but known once the first is
        tensor([0, 2])
    """
    embeddings, labeled, count = check_pool(embeddings, labeled_embeddings, query_size)
    if isinstance(noise, bool) or not 0 < noise < math.inf:
        raise ValueError(f"Expected `noise` to be a number above 0, but got {noise!r}.")
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        norms = _squared_norms(embeddings, "embeddings")
        scale = float(norms.mean())
        if labeled is not None:
            scale = float(_squared_norms(labeled, "labeled_embeddings").mean()) or scale
        unit = math.sqrt(scale) or 1.0
        covariance = _posterior(labeled, unit, noise, embeddings)
        # Before there are labels a variance is a squared norm, which saves a product with the identity.
        variances = norms / unit**2 if labeled is None else _variances(embeddings, unit, covariance)
        picks = _pick_greedily(embeddings, unit, noise, variances, covariance, count)
    return torch.tensor(picks, dtype=torch.int64, device=embeddings.device)


def _squared_norms(matrix: Tensor, name: str) -> Tensor:
    check_finite(matrix, name)
    return torch.cat([block.double().square().sum(1) for _, block in blocks(matrix)])


def _posterior(labeled: Tensor | None, unit: float, noise: float, pool: Tensor) -> Tensor:
    """Return the covariance ``(D, D)`` of the model's weights, the identity before there are labels."""
    precision = torch.eye(pool.shape[1], dtype=torch.float64, device=pool.device)
    if labeled is None:
        return precision
    for _, block in blocks(labeled):
        rows = block.double() / (unit * noise)
        precision.addmm_(rows.t(), rows)
    return torch.cholesky_inverse(torch.linalg.cholesky(precision))


def _variances(pool: Tensor, unit: float, covariance: Tensor) -> Tensor:
    scaled = (block.double() / unit for _, block in blocks(pool))
    return torch.cat([(rows @ covariance).mul_(rows).sum(1) for rows in scaled])


def _pick_greedily(
    pool: Tensor, unit: float, noise: float, variances: Tensor, covariance: Tensor, count: int
) -> list[int]:
    """Return the picks; ``variances`` are given the labeled samples, and lowered by the picks where that is needed.

    A pick's direction :math:`v` lowers the variance of a sample by :math:`(z^T v)^2`.
    """
    picks: list[int] = []
    directions = torch.empty(min(count, _DIRECTIONS), pool.shape[1], dtype=torch.float64, device=pool.device)
    kept = 0
    met = torch.zeros(len(pool), dtype=torch.int64, device=pool.device)
    # Compared in float32: there what is equal but for the order of its sums ties. -1 for what is picked.
    bounds = variances.clamp(min=0).float()
    while len(picks) < count:
        if kept == _DIRECTIONS:
            variances, kept = _variances(pool, unit, covariance), 0
            met.zero_()
        tile, ceiling, rival = highest_bounds(bounds, _TILE)
        rows = pool[tile].double().div_(unit)
        first = int(met[tile].amin())
        missed = torch.arange(first, kept, device=pool.device) >= met[tile][:, None]
        current = variances[tile] - (rows @ directions[first:kept].t()).square_().mul_(missed).sum(1)
        free, positions = bounds[tile] >= 0, tile.tolist()
        while True:
            ranked = torch.where(free, current.clamp(min=0).float(), -1)
            best = int(ranked.argmax())
            highest = float(ranked[best])
            # A row outside the tile may still be the highest, or tie with a lower position.
            if highest < ceiling or (highest == ceiling and positions[best] > rival):
                break
            if len(picks) == count or kept == _DIRECTIONS:
                break
            direction = covariance @ rows[best]
            direction /= (noise**2 + current[best].clamp(min=0)).sqrt()
            covariance.addr_(direction, direction, alpha=-1)
            current -= (rows @ direction).square_()
            directions[kept] = direction
            kept += 1
            picks.append(positions[best])
            free[best] = False
        variances[tile], bounds[tile], met[tile] = current, ranked, kept
    return picks
