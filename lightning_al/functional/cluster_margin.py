"""Cluster-Margin: uncertain samples from as many clusters as there are, the smallest first."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from torch import Tensor

from lightning_al.functional.inputs import (
    check_finite,
    check_matrix,
    check_probs,
    check_query_size,
    default_generator,
    permutation,
)
from lightning_al.functional.k_means import cluster
from lightning_al.functional.precision import full_precision
from lightning_al.functional.spaces import EuclideanSpace
from lightning_al.functional.top_k import top_k
from lightning_al.functional.uncertainty import margin

# Our choice: the mean size of the clusters of more than one sample.
_MEAN_SIZE = 10

# Distances among so many samples are held at once; larger pools are cut into cells of about half as many first.
_MOST_SAMPLES = 1024

_NO_MERGES = np.empty((0, 4))


def cluster_margin(
    probs: Tensor,
    clusters: Tensor,
    query_size: int,
    candidates: float = 10.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pick from the samples of the lowest margin, taking turns among their clusters, the smallest first.

    The ``candidates * query_size`` samples of the lowest margin are grouped by cluster. Groups take turns in ascending
    order of their size, and each gives one sample at random until it has none left: small groups give all they have,
    large ones what is missing, so that no region fills the batch. Equally large groups go in random order.

    Args:
        probs: Class probabilities ``(N, C)``.
        clusters: The cluster of each sample ``(N,)``, any integers; see `agglomerate`.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        candidates: Samples of low margin for each one to pick, at least 1.
        generator: Source of random numbers, on the CPU. None: one with a fixed seed.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If a value is no probability, a shape does not fit, ``query_size`` is not a positive integer or
            ``candidates`` is below 1.

    References:
        Citovsky, DeSalvo, Gentile, Karydas, Rajagopalan, Rostamizadeh and Kumar (NeurIPS 2021), *Batch Active Learning
        at Scale*.

    Example:
        >>> import torch
        >>> probs = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.6, 0.4], [0.9, 0.1]])
        >>> cluster_margin(probs, torch.tensor([7, 7, 3, 5]), query_size=1, candidates=3)
        tensor([2])
    """
    probs = check_probs(probs)
    if not isinstance(clusters, Tensor) or clusters.is_floating_point() or clusters.shape != (len(probs),):
        got = f"{clusters.dtype} {tuple(clusters.shape)}" if isinstance(clusters, Tensor) else type(clusters).__name__
        raise ValueError(f"Expected `clusters` to be an integer for each of {len(probs)} `probs`, but got {got}.")
    count = check_query_size(query_size, len(probs))
    if isinstance(candidates, bool) or not 1 <= candidates < math.inf:
        raise ValueError(f"Expected `candidates` to be a number of at least 1, but got {candidates!r}.")
    generator = default_generator(generator)
    scores = margin(probs)
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=probs.device)
    least = top_k(scores, math.ceil(candidates * count), generator).cpu()
    least = least[permutation(len(least), generator).cpu()]
    groups = torch.unique(clusters.cpu()[least], return_inverse=True)[1]
    return least[_turns(groups)[:count]].to(probs.device)


def _turns(groups: Tensor) -> Tensor:
    """Return positions in the order of a round robin among groups, the smallest first, each in its own order."""
    sizes = groups.bincount()
    members = groups.argsort(stable=True)
    starts = sizes.cumsum(0) - sizes
    turns = torch.empty_like(groups)
    turns[members] = torch.arange(len(groups)) - starts.repeat_interleave(sizes)
    by_first = members[starts].argsort()
    ranks = torch.empty_like(sizes)
    ranks[by_first[sizes[by_first].argsort(stable=True)]] = torch.arange(len(sizes))
    return (turns * len(sizes) + ranks[groups]).argsort()


def agglomerate(embeddings: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Cluster samples bottom up by average linkage, until clusters hold ten on average, singletons left out.

    The two clusters with the least mean distance between their samples are merged, again and again, up to a threshold
    of that distance: the least from which on clusters of more than one sample have a mean size of 10 or more. Up to
    1024 samples this is exact. More are cut into cells of some 512 by k-means first, which no cluster crosses; one
    threshold holds for all. Time and memory are then linear in the number of samples.

    Args:
        embeddings: Embeddings ``(N, D)``.
        generator: Source of random numbers for k-means, on the CPU. None: one with a fixed seed.

    Returns:
        The cluster of each sample ``(N,)``, int64, numbered from 0 in order of their first samples, on the CPU.

    Raises:
        ValueError: If an embedding is not finite or a shape does not fit.

    Example:
        >>> import torch
        >>> agglomerate(torch.cat([torch.zeros(12, 1), torch.tensor([[50.0]]), torch.ones(12, 1)]))[[0, 11, 12, 13]]
        tensor([0, 0, 1, 2])
    """
    embeddings = check_matrix(embeddings, "embeddings", "D")
    check_finite(embeddings, "embeddings")
    with full_precision(embeddings.device):
        cells = _cells(embeddings, torch.arange(len(embeddings)), default_generator(generator))
        merges = [_merges(embeddings, members) for members in cells]
    return torch.from_numpy(_cut(np.concatenate([_NO_MERGES, *merges]), len(embeddings)))


def _cells(embeddings: Tensor, members: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Cut the members into groups of near samples, none above the limit."""
    if len(members) <= _MOST_SAMPLES:
        if len(members):
            yield members
        return
    whole = len(members) == len(embeddings)
    some = embeddings if whole else embeddings[members.to(embeddings.device)]
    labels = cluster(EuclideanSpace(some), math.ceil(2 * len(members) / _MOST_SAMPLES), generator).labels.cpu()
    parts = members[labels.argsort(stable=True)].split(labels.bincount().tolist())
    if max(len(part) for part in parts) == len(members):  # all samples are the same
        yield from members.split(_MOST_SAMPLES)
        return
    for part in parts:
        yield from _cells(embeddings, part, generator)


def _merges(embeddings: Tensor, members: Tensor) -> NDArray[np.float64]:
    """Return the merges of a cell ``(M - 1, 4)``.

    Of each: a sample of either cluster, how many of the two are single samples, and their distance.
    """
    if len(members) == 1:
        return _NO_MERGES
    space = EuclideanSpace(embeddings[members.to(embeddings.device)])
    everyone = space.take(slice(0, len(members)))
    distances = space.squared_distances(everyone, everyone).sqrt_().fill_diagonal_(0).double().cpu().numpy()
    tree = linkage(squareform(distances, checks=False), "average")
    children = tree[:, :2].astype(np.int64)
    samples = np.concatenate([members.numpy(), np.empty(len(tree), dtype=np.int64)])
    for step, (left, _) in enumerate(children):
        samples[len(members) + step] = samples[left]
    singles = (children < len(members)).sum(1)
    return np.column_stack([samples[children], singles, tree[:, 2]])


def _cut(merges: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Carry out the merges up to the threshold from which on clusters are large enough."""
    left, right, singles, distances = merges[merges[:, 3].argsort(kind="stable")].T
    # A merge of two samples founds a cluster, that of a sample and a cluster none, that of two clusters ends one.
    mean_sizes = singles.cumsum() / (singles - 1).cumsum()
    last_of_distance = np.flatnonzero(np.append(np.diff(distances) > 0, len(distances) > 0))
    short = np.flatnonzero(mean_sizes[last_of_distance] < _MEAN_SIZE)
    threshold = min(short[-1] + 1, len(last_of_distance) - 1) if len(short) else 0
    carried = last_of_distance[threshold] + 1 if len(distances) else 0
    edges = coo_array((np.ones(carried), (left[:carried].astype(int), right[:carried].astype(int))), (size, size))
    labels: NDArray[np.int64] = connected_components(edges, directed=False)[1].astype(np.int64)
    return labels
