"""Greedy k-center: cover the pool so that no sample is far from a labeled one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.inputs import check_labeled, check_matrix, check_query_size
from lightning_al.functional.lazy import highest_bounds
from lightning_al.functional.precision import full_precision
from lightning_al.functional.shard import Features, Shard
from lightning_al.functional.sharded_space import ShardedSpace
from lightning_al.functional.spaces import EuclideanSpace, Space

# How many rows are brought up to date at once; it grows where few of them can be picked, and shrinks where many can.
_TILE, _SMALLEST_TILE, _LARGEST_TILE = 512, 256, 8192
_FEW_PICKS, _MANY_PICKS = 8, 64

_LABELED_AT_ONCE = 512

# Distances from the mean that differ by so many units of rounding tie.
_ROUNDING_UNITS = 32


def k_center_greedy(
    embeddings: Tensor, query_size: int, labeled_embeddings: Tensor | None = None, shard: Shard | None = None
) -> Tensor:
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
        shard: Where the pool is spread over processes: then ``embeddings`` are this one's rows, which it keeps, and
            all processes call this at the same time, with the same labeled samples. Beside its rows each holds a few
            numbers a sample of the pool, the picks and at most 8192 more rows at a time. Distances may differ from
            those in one process by the rounding of a sum, and picks where they tie within it.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If an embedding is not finite, a shape does not fit, or ``query_size`` is not a positive integer.
        ActiveLearningError: If another process of the shard failed, or picks something else.

    References:
        Gonzalez (1985), *Clustering to Minimize the Maximum Intercluster Distance*; Sener and Savarese (ICLR 2018),
        *Active Learning for Convolutional Neural Networks: A Core-Set Approach*.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[0.0], [1.0], [4.0], [10.0]])
        >>> k_center_greedy(embeddings, query_size=3, labeled_embeddings=torch.tensor([[0.5]]))
        tensor([3, 2, 0])
    """
    if shard is None:
        return _k_center(embeddings, query_size, labeled_embeddings, None)
    return shard.together(lambda: _k_center(embeddings, query_size, labeled_embeddings, shard))


def _k_center(embeddings: Tensor, query_size: int, labeled: Tensor | None, shard: Shard | None) -> Tensor:
    embeddings = check_matrix(embeddings, "embeddings", "D")
    labeled = check_labeled(labeled, embeddings)
    pool_size = len(embeddings) if shard is None else shard.check_rows(embeddings, "embeddings")
    count = check_query_size(query_size, pool_size)
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        local = EuclideanSpace(embeddings, labeled, shard)
        space: Space = local if shard is None else ShardedSpace(local, shard)
        bounds = torch.full((pool_size,), math.inf, dtype=space.dtype, device=space.device)
        picks: list[int] = []
        if labeled is None:
            picks.append(_nearest_the_mean(space, _mean(local, shard), pool_size))
            space.lower_to_nearest(bounds, space.take(torch.tensor(picks, device=space.device)))
            bounds[picks] = -1
        for start in range(pool_size, len(space), _LABELED_AT_ONCE):
            known = space.take(slice(start, min(start + _LABELED_AT_ONCE, len(space))))
            space.lower_to_nearest(bounds, known)
        _pick_greedily(space, bounds, picks, count)
    return torch.tensor(picks, dtype=torch.int64, device=embeddings.device)


def _mean(local: EuclideanSpace, shard: Shard | None) -> Tensor:
    """Return the mean of the pool ``(1, D)``, relative to the origin."""
    total = torch.zeros_like(local.origin)
    for rows in local.slices():
        total += local.take(rows)[0].sum(0)
    if shard is None:
        return total[None] / len(local)
    return shard.exchange(total).sum(0, keepdim=True) / shard.size


def _nearest_the_mean(space: Space, mean: Tensor, pool_size: int) -> int:
    """Return the sample nearest the mean, the lowest position where rounding leaves that open."""
    squared_norm = mean.square().sum(1)
    distances = torch.full((pool_size,), math.inf, dtype=space.dtype, device=space.device)
    space.lower_to_nearest(distances, (mean, squared_norm))
    least = distances.min()
    rounding = _ROUNDING_UNITS * torch.finfo(space.dtype).eps * (squared_norm + least)
    return int((distances <= least + rounding).nonzero()[0])


def _pick_greedily(space: Space, bounds: Tensor, picks: list[int], count: int) -> None:
    """Extend the picks to ``count``; ``bounds`` are upper bounds of the squared distances, -1 for what is picked."""
    start = len(picks)
    caught_up = torch.zeros(len(bounds), dtype=torch.int32, device=space.device)
    centres: Features = ()  # those of the picks made here
    size = _TILE
    while len(picks) < count:
        tile, ceiling, rival = highest_bounds(bounds, size)
        points = space.take(tile)
        nearest = bounds[tile]
        centres = centres or tuple(feature.new_empty(count - start, *feature.shape[1:]) for feature in points)
        before = len(picks) - start
        _catch_up(space, points, nearest, caught_up[tile], tuple(feature[:before] for feature in centres))
        positions, chosen = tile.tolist(), []
        while len(picks) < count:
            distances = nearest.cpu().numpy()  # on a CPU a view, whose elements are read much quicker
            best = int(distances.argmax())
            distance = float(distances[best])
            # A row outside the tile may still be the farthest, or tie with a lower position.
            if distance < ceiling or (distance == ceiling and positions[best] > rival):
                break
            picks.append(positions[best])
            chosen.append(best)
            centre = tuple(feature[best : best + 1] for feature in points)
            torch.minimum(nearest, space.nearest(points, centre), out=nearest)
            nearest[best] = -1
        bounds[tile] = nearest
        caught_up[tile] = before + len(chosen)
        for kept, feature in zip(centres, points, strict=True):
            kept[before : before + len(chosen)] = feature[chosen]
        if len(chosen) < _FEW_PICKS:
            size = min(2 * size, _LARGEST_TILE)
        elif len(chosen) > _MANY_PICKS:
            size = max(size // 2, _SMALLEST_TILE)


def _catch_up(
    space: Space, points: Features, nearest: Tensor, caught_up: Tensor, centres: Features, groups: int = 4
) -> None:
    """Lower ``nearest``, in place, by the centres that each row has not met yet; rows go in groups of similar age."""
    order = caught_up.argsort()
    for group in order.tensor_split(groups):
        if len(group) == 0:
            continue
        met = int(caught_up[group[0]])
        if met == len(centres[0]):
            return
        some = tuple(feature[group] for feature in points)
        unmet = tuple(feature[met:] for feature in centres)
        nearest[group] = torch.minimum(nearest[group], space.nearest(some, unmet))
