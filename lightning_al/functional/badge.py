"""BADGE: diverse and uncertain at once, by k-means++ on the gradients of the last layer."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_al.functional.d2_sampling import sample_by_squared_distance
from lightning_al.functional.inputs import (
    check_matrix,
    check_probs,
    check_probs_values,
    check_query_size,
    default_generator,
    fill_at_random,
)
from lightning_al.functional.precision import full_precision
from lightning_al.functional.shard import Shard
from lightning_al.functional.sharded_space import ShardedSpace
from lightning_al.functional.spaces import GradientSpace, Space


def badge(
    probs: Tensor,
    embeddings: Tensor,
    query_size: int,
    generator: torch.Generator | None = None,
    shard: Shard | None = None,
) -> Tensor:
    r"""Pick by k-means++ among the gradients :math:`g_i = (p_i - e_{\hat y_i}) \otimes z_i`.

    The first pick has the largest gradient; each next one is drawn in proportion to :math:`\min_{j \in S} |g_i -
    g_j|^2`. The law is that of the paper; the gradients are never multiplied out: distances come from their factors.
    When no gradient differs from those picked, the rest is drawn uniformly.

    Args:
        probs: Class probabilities ``(N, C)``.
        embeddings: What the last layer sees ``(N, D)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        generator: Source of random numbers, on the CPU. None: one with a fixed seed.
        shard: Where the pool is spread over processes: then ``probs`` and ``embeddings`` are this one's rows, which it
            keeps, and all processes call this at the same time, with generators of the same state. Beside its rows each
            holds a few numbers a sample of the pool, the picks since the last pass over it and at most 2047 more rows
            at a time. Distances may differ from those in one process by the rounding of a sum, and with them, rarely,
            a draw.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If a value is not finite or no probability, a shape does not fit, or ``query_size`` is not a
            positive integer.
        ActiveLearningError: If another process of the shard failed, or picks something else.

    References:
        Ash, Zhang, Krishnamurthy, Langford and Agarwal (ICLR 2020), *Deep Batch Active Learning by Diverse, Uncertain
        Gradient Lower Bounds*.

    Example:
        >>> import torch
        >>> probs = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
        >>> embeddings = torch.tensor([[1.0], [2.0], [2.0]])
        >>> badge(probs, embeddings, query_size=2)  # the largest, then the only one that differs from it
        tensor([1, 0])
    """
    if shard is None:
        return _badge(probs, embeddings, query_size, generator, None)
    return shard.together(lambda: _badge(probs, embeddings, query_size, generator, shard))


def _badge(
    probs: Tensor, embeddings: Tensor, query_size: int, generator: torch.Generator | None, shard: Shard | None
) -> Tensor:
    probs = check_probs(probs)
    embeddings = check_matrix(embeddings, "embeddings", "D")
    if len(probs) != len(embeddings):
        raise ValueError(f"Expected a row of `embeddings` for each of {len(probs)} `probs`, but got {len(embeddings)}.")
    pool_size = len(probs) if shard is None else shard.check_rows(probs, "probs")
    count = check_query_size(query_size, pool_size)
    check_probs_values(probs)
    generator = default_generator(generator)
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        local = GradientSpace(probs, embeddings, shard)
        norms = local.squared_norms if shard is None else shard.join(local.squared_norms)
        space: Space = local if shard is None else ShardedSpace(local, shard)
        picks = sample_by_squared_distance(space, count, int(norms.argmax()), generator)
    return fill_at_random(picks, count, pool_size, generator).to(embeddings.device)
