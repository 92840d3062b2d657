"""k-means by Lloyd's algorithm from k-means++ seeds, and the query that labels what is nearest each centroid."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_al.functional.d2_sampling import sample_by_squared_distance
from lightning_al.functional.inputs import check_matrix, check_query_size, default_generator, fill_at_random, uniform
from lightning_al.functional.precision import full_precision
from lightning_al.functional.spaces import EuclideanSpace

_MAX_ITERATIONS = 20
_TOLERANCE = 1e-4  # of the points' variance: a smaller movement of all centroids together ends the iteration


class Clusters(NamedTuple):
    """A partition of the points of a space.

    Args:
        labels: The cluster of each point ``(N,)``, int64.
        centroids: The clusters' means ``(K, D)``, relative to the space's origin.
    """

    labels: Tensor
    centroids: Tensor


def k_means(embeddings: Tensor, query_size: int, generator: torch.Generator | None = None) -> Tensor:
    """Cut the pool into ``query_size`` clusters and pick the sample nearest each centroid.

    A sample that is nearest to two centroids is picked once; the other centroid takes the nearest that is free. Where
    there are fewer distinct samples than clusters, the rest is drawn uniformly.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        generator: Source of random numbers, on the CPU. None: one with a fixed seed.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order of the clusters' seeds.

    Raises:
        ValueError: If an embedding is not finite, or ``query_size`` is not a positive integer.

    References:
        Lloyd (1982), *Least Squares Quantization in PCM*; Arthur and Vassilvitskii (2007), *k-means++: The Advantages
        of Careful Seeding*; Zhdanov (2019), *Diverse Mini-Batch Active Learning*.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[0.0], [1.0], [2.0], [50.0], [51.0], [52.0]])
        >>> k_means(embeddings, query_size=2).sort().values
        tensor([1, 4])
    """
    embeddings = check_matrix(embeddings, "embeddings", "D")
    count = check_query_size(query_size, len(embeddings))
    generator = default_generator(generator)
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        space = EuclideanSpace(embeddings)
        picks = nearest_unique(space, cluster(space, count, generator).centroids)
    return fill_at_random(picks, count, len(space), generator).to(embeddings.device)


def cluster(space: EuclideanSpace, num_clusters: int, generator: torch.Generator) -> Clusters:
    """Cluster the points of a space.

    Args:
        space: The points.
        num_clusters: Number of clusters, at most the number of points.
        generator: Source of random numbers.

    Returns:
        The clusters: ``num_clusters``, or as many as there are distinct points.
    """
    return lloyd(space, k_means_plus_plus(space, num_clusters, generator))


def k_means_plus_plus(space: EuclideanSpace, num_clusters: int, generator: torch.Generator) -> list[int]:
    """Draw seeds: the first uniformly, each next one in proportion to its squared distance from those before.

    Args:
        space: The points.
        num_clusters: Number of seeds.
        generator: Source of random numbers.

    Returns:
        Unique positions in the order drawn, fewer than ``num_clusters`` where there are fewer distinct points.
    """
    first = min(int(uniform(1, generator) * len(space)), len(space) - 1)
    return sample_by_squared_distance(space, num_clusters, first, generator)


def lloyd(space: EuclideanSpace, seeds: list[int], max_iterations: int = _MAX_ITERATIONS) -> Clusters:
    """Assign points to the nearest centroid and move centroids to their points' mean, until they rest.

    A cluster that loses all its points starts again at the point that is farthest from its centroid.

    Args:
        space: The points.
        seeds: Positions of the first centroids.
        max_iterations: Number of passes over the points at most, at least 1.

    Returns:
        The clusters.
    """
    centroids, _ = space.take(torch.tensor(seeds, dtype=torch.int64, device=space.device))
    labels = torch.empty(len(space), dtype=torch.int64, device=space.device)
    distances = torch.empty(len(space), dtype=space.dtype, device=space.device)
    tolerance = _TOLERANCE * float(space.squared_norms.mean()) / centroids.shape[1]
    for _ in range(max_iterations):
        sums = torch.zeros_like(centroids)
        norms = centroids.square().sum(1)
        for rows in space.slices():
            points, squared_norms = space.take(rows)
            nearest = torch.addmm(norms, points, centroids.t(), alpha=-2).min(1)
            labels[rows] = nearest.indices
            torch.add(nearest.values, squared_norms, out=distances[rows])
            sums.index_add_(0, nearest.indices, points)
        sizes = labels.bincount(minlength=len(centroids))
        moved = sums.div_(sizes.clamp(min=1)[:, None])
        empty = (sizes == 0).nonzero()[:, 0]
        if len(empty):
            moved[empty], _ = space.take(distances.topk(len(empty)).indices)
        movement = float((moved - centroids).square_().sum())
        centroids = moved
        if movement <= tolerance:
            break
    return Clusters(labels, centroids)


def nearest_unique(space: EuclideanSpace, centroids: Tensor) -> list[int]:
    """Return for each centroid, in order, the nearest point that no centroid before it has taken."""
    nearest = _nearest_points(space, centroids, 1)[:, 0].tolist()
    picks: dict[int, int] = {}  # position -> centroid
    late = [centroid for centroid, position in enumerate(nearest) if picks.setdefault(position, centroid) != centroid]
    if late:
        taken = torch.tensor(list(picks), dtype=torch.int64, device=space.device)
        # The c-th of them finds a free one among its c nearest free points, whatever the others took.
        candidates = _nearest_points(space, centroids[late], len(late), taken)
        for centroid, row in zip(late, candidates.tolist(), strict=True):
            picks[next(position for position in row if position not in picks)] = centroid
    return sorted(picks, key=picks.__getitem__)


def _nearest_points(space: EuclideanSpace, centroids: Tensor, count: int, taken: Tensor | None = None) -> Tensor:
    """Return the ``count`` points nearest each centroid ``(K, count)``, nearest first, leaving out those taken."""
    norms = centroids.square().sum(1)
    best = torch.full((len(centroids), count), math.inf, dtype=space.dtype, device=space.device)
    positions = torch.full((len(centroids), count), -1, dtype=torch.int64, device=space.device)
    for rows in space.slices():
        block_distances = space.squared_distances(space.take(rows), (centroids, norms)).t()
        if taken is not None:
            inside = taken[(taken >= rows.start) & (taken < rows.stop)] - rows.start
            block_distances[:, inside] = math.inf
        kept = block_distances.topk(min(count, block_distances.shape[1]), dim=1, largest=False)
        best, order = torch.cat([best, kept.values], 1).topk(count, dim=1, largest=False)
        positions = torch.cat([positions, kept.indices + rows.start], 1).gather(1, order)
    return positions
