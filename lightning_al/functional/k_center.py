"""Greedy k-center: cover the pool so that no sample is far from a labeled one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.inputs import check_labeled, check_matrix, check_query_size
from lightning_al.functional.precision import full_precision
from lightning_al.functional.spaces import EuclideanSpace, Features, lower_to_nearest

# How many rows are brought up to date at once; it grows where few of them can be picked, and shrinks where many can.
_TILE, _SMALLEST_TILE, _LARGEST_TILE = 512, 256, 8192
_FEW_PICKS, _MANY_PICKS = 8, 64

_LABELED_AT_ONCE = 512


def k_center_greedy(embeddings: Tensor, query_size: int, labeled_embeddings: Tensor | None = None) -> Tensor:
    r"""Pick, one by one, the sample farthest from all that are labeled or picked.

    .. math:: i^\ast = \arg\max_i \min_{j \in L \cup S} |z_i - z_j|_2

    The greedy order exactly, in less than a pass over the pool a pick: distances to the nearest centre only fall, so
    that old ones are upper bounds, and only the rows with the largest need to be brought up to date. Ties go to the
    lowest position. Distances below 0.2 % of a sample's distance from the pool's mean count as 0 in float32.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``. Without any, the sample nearest the pool's
            mean is picked first.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If an embedding is not finite, a shape does not fit, or ``query_size`` is not a positive integer.

    References:
        Gonzalez (1985), *Clustering to Minimize the Maximum Intercluster Distance*; Sener and Savarese (ICLR 2018),
        *Active Learning for Convolutional Neural Networks: A Core-Set Approach*.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[0.0], [1.0], [4.0], [10.0]])
        >>> k_center_greedy(embeddings, query_size=3, labeled_embeddings=torch.tensor([[0.5]]))
        tensor([3, 2, 0])
    """
    embeddings = check_matrix(embeddings, "embeddings", "D")
    labeled = check_labeled(labeled_embeddings, embeddings)
    count = check_query_size(query_size, len(embeddings))
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        picks = _greedy(EuclideanSpace(embeddings, labeled), len(embeddings), count)
    return torch.tensor(picks, dtype=torch.int64, device=embeddings.device)


def _greedy(space: EuclideanSpace, pool_size: int, count: int) -> list[int]:
    """Start from the labeled samples, which follow the pool in the space, or from the mean; then pick greedily."""
    bounds = torch.full((pool_size,), math.inf, dtype=space.dtype, device=space.device)
    picks: list[int] = []
    if len(space) == pool_size:
        picks.append(_nearest_the_mean(space))
        lower_to_nearest(space, bounds, space.take(slice(picks[0], picks[0] + 1)))
        bounds[picks[0]] = -1
    for start in range(pool_size, len(space), _LABELED_AT_ONCE):
        lower_to_nearest(space, bounds, space.take(slice(start, min(start + _LABELED_AT_ONCE, len(space)))))
    _pick_greedily(space, bounds, picks, count)
    return picks


def _nearest_the_mean(space: EuclideanSpace) -> int:
    mean = torch.stack([space.take(rows)[0].sum(0) for rows in space.slices()]).sum(0, keepdim=True) / len(space)
    distances = torch.full((len(space),), math.inf, dtype=space.dtype, device=space.device)
    lower_to_nearest(space, distances, (mean, mean.square().sum(1)))
    return int(distances.argmin())


def _pick_greedily(space: EuclideanSpace, bounds: Tensor, picks: list[int], count: int) -> None:
    """Extend the picks to ``count``; ``bounds`` are upper bounds of the squared distances, -1 for what is picked."""
    caught_up = torch.full((len(bounds),), len(picks), dtype=torch.int32, device=space.device)
    size = _TILE
    while len(picks) < count:
        tile, ceiling, rival = _highest(bounds, size)
        points = space.take(tile)
        nearest = bounds[tile]
        _catch_up(space, points, nearest, caught_up[tile], picks)
        positions, before = tile.tolist(), len(picks)
        while len(picks) < count:
            best = int(nearest.argmax())
            distance = float(nearest[best])
            # A row outside the tile may still be the farthest, or tie with a lower position.
            if distance < ceiling or (distance == ceiling and positions[best] > rival):
                break
            picks.append(positions[best])
            centre = tuple(feature[best : best + 1] for feature in points)
            torch.minimum(nearest, space.nearest(points, centre), out=nearest)
            nearest[best] = -1
        bounds[tile] = nearest
        caught_up[tile] = len(picks)
        picked = len(picks) - before
        if picked < _FEW_PICKS:
            size = min(2 * size, _LARGEST_TILE)
        elif picked > _MANY_PICKS:
            size = max(size // 2, _SMALLEST_TILE)


def _highest(bounds: Tensor, size: int) -> tuple[Tensor, float, int]:
    """Return the rows with the highest bounds, ascending, the lowest positions where bounds tie.

    Returns:
        The positions, the highest bound a row outside may have, and the lowest position outside that has it.
    """
    if size >= len(bounds):
        return torch.arange(len(bounds), device=bounds.device), -math.inf, len(bounds)
    ceiling = bounds.topk(size, sorted=True).values[-1]
    above = (bounds > ceiling).nonzero()[:, 0]
    tied = (bounds == ceiling).nonzero()[:, 0]
    room = size - len(above)
    rival = int(tied[room]) if len(tied) > room else len(bounds)
    return torch.cat([above, tied[:room]]).sort().values, float(ceiling), rival


def _catch_up(
    space: EuclideanSpace, points: Features, nearest: Tensor, caught_up: Tensor, picks: list[int], groups: int = 4
) -> None:
    """Lower ``nearest``, in place, by the picks that each row has not met yet; rows go in groups of similar age."""
    order = caught_up.argsort()
    for group in order.tensor_split(groups):
        if len(group) == 0:
            continue
        met = int(caught_up[group[0]])
        if met == len(picks):
            return
        centres = space.take(torch.tensor(picks[met:], device=space.device))
        some = tuple(feature[group] for feature in points)
        nearest[group] = torch.minimum(nearest[group], space.nearest(some, centres))
