"""TypiClust: the most typical sample of each cluster, for when there are few labels."""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from lightning_al.functional.inputs import block_rows, check_pool, default_generator
from lightning_al.functional.k_means import Clusters, cluster
from lightning_al.functional.precision import full_precision
from lightning_al.functional.spaces import EuclideanSpace

# The paper's constants.
_MAX_CLUSTERS = 500
_SMALL_CLUSTER = 5  # clusters of up to this many come last
_NEIGHBOURS = 20


def typiclust(
    embeddings: Tensor,
    query_size: int,
    labeled_embeddings: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Pick the most typical sample from each of the largest clusters that have the fewest labels.

    All samples are cut into :math:`\min(L + B, 500)` clusters by k-means. Clusters take turns, those with the fewest
    labels first, then the largest; each gives its unlabeled sample of the highest typicality

    .. math:: \Bigl(\frac{1}{k} \sum_{j \in kNN(i)} |z_i - z_j|_2\Bigr)^{-1}, \quad k = \min(20, \lfloor n / 2 \rfloor)

    among its :math:`n` unlabeled ones. Clusters of five or fewer are left out while others have samples to give.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``.
        generator: Source of random numbers, on the CPU. None: one with a fixed seed.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If an embedding is not finite, a shape does not fit, or ``query_size`` is not a positive integer.

    References:
        Hacohen, Dekel and Weinshall (ICML 2022), *Active Learning on a Budget: Opposite Strategies Suit High and Low
        Budgets*.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[1.0, 0], [-1, 0], [0, 0], [0, 1], [0, -1], [9, 9]])
        >>> typiclust(embeddings, query_size=1)
        tensor([2])
    """
    embeddings, labeled, count = check_pool(embeddings, labeled_embeddings, query_size)
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        space = EuclideanSpace(embeddings, labeled)
        num_clusters = min(len(space) - len(embeddings) + count, _MAX_CLUSTERS, len(space))
        clusters = cluster(space, num_clusters, default_generator(generator))
        members = _pool_members(clusters, len(embeddings))
        turns = _turns(clusters, members, len(embeddings), count)
        shares = Counter(turns)
        picks = {name: iter(_most_typical(space, members[name], share)) for name, share in shares.items()}
    return torch.tensor([next(picks[name]) for name in turns], dtype=torch.int64, device=embeddings.device)


def _pool_members(clusters: Clusters, pool_size: int) -> list[Tensor]:
    """Return the pool positions in each cluster, ascending."""
    labels = clusters.labels[:pool_size]
    sizes = labels.bincount(minlength=len(clusters.centroids))
    return list(torch.split(labels.argsort(stable=True), sizes.tolist()))


def _turns(clusters: Clusters, members: list[Tensor], pool_size: int, count: int) -> list[int]:
    """Return which cluster gives each pick: round robin, the fewest labels first, then the largest.

    Small clusters take turns once all others are spent, so that there are always enough.
    """
    sizes = clusters.labels.bincount(minlength=len(members)).tolist()
    labels = clusters.labels[pool_size:].bincount(minlength=len(members)).tolist()
    order = sorted(range(len(members)), key=lambda name: (labels[name], -sizes[name]))
    left = [len(positions) for positions in members]
    turns: list[int] = []
    for small in (False, True):
        waiting = [name for name in order if (sizes[name] <= _SMALL_CLUSTER) is small]
        while waiting and len(turns) < count:
            waiting = [name for name in waiting if left[name] > 0]
            turns.extend(waiting)
            for name in waiting:
                left[name] -= 1
    return turns[:count]


def _most_typical(space: EuclideanSpace, members: Tensor, count: int) -> list[int]:
    """Return the ``count`` most typical members, each among those left by the ones before it."""
    distances, neighbours = _neighbours(space, members, _NEIGHBOURS + count - 1)
    picks: list[int] = []
    left = torch.ones(len(members), dtype=torch.bool, device=space.device)
    for _ in range(count):
        k = max(min(_NEIGHBOURS, (len(members) - len(picks)) // 2), 1)
        # Neighbours come nearest first, enough of them that k are left after all picks: the first k left count.
        alive = left[neighbours]
        counted = alive & (alive.cumsum(1) <= k)
        mean = (distances * counted).sum(1)
        best = int(mean.masked_fill_(left.logical_not(), math.inf).argmin())
        left[best] = False
        picks.append(int(members[best]))
    return picks


def _neighbours(space: EuclideanSpace, members: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return distances to the nearest other members and their numbers ``(M, min(count, M - 1))``, nearest first."""
    everyone = space.take(members)
    count = min(count, len(members) - 1)
    step = block_rows(len(members), space.device)
    distances, numbers = [], []
    for start in range(0, len(members), step):
        block = tuple(feature[start : start + step] for feature in everyone)
        squared = space.squared_distances(block, everyone)
        squared.diagonal(start).fill_(math.inf)
        nearest = squared.topk(count, dim=1, largest=False, sorted=True)
        distances.append(nearest.values.sqrt_())
        numbers.append(nearest.indices)
    return torch.cat(distances), torch.cat(numbers)
