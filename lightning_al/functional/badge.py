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
from lightning_al.functional.spaces import GradientSpace


def badge(probs: Tensor, embeddings: Tensor, query_size: int, generator: torch.Generator | None = None) -> Tensor:
    r"""Pick by k-means++ among the gradients :math:`g_i = (p_i - e_{\hat y_i}) \otimes z_i`.

    The first pick has the largest gradient; each next one is drawn in proportion to :math:`\min_{j \in S} |g_i -
    g_j|^2`. The law is that of the paper; the gradients are never multiplied out: distances come from their factors.
    When no gradient differs from those picked, the rest is drawn uniformly.

    Args:
        probs: Class probabilities ``(N, C)``.
        embeddings: What the last layer sees ``(N, D)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        generator: Source of random numbers, on the CPU. None: one with a fixed seed.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If a value is not finite or no probability, a shape does not fit, or ``query_size`` is not a
            positive integer.

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
    probs = check_probs(probs)
    embeddings = check_matrix(embeddings, "embeddings", "D")
    if len(probs) != len(embeddings):
        raise ValueError(f"Expected a row of `embeddings` for each of {len(probs)} `probs`, but got {len(embeddings)}.")
    count = check_query_size(query_size, len(probs))
    check_probs_values(probs)
    generator = default_generator(generator)
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        space = GradientSpace(probs, embeddings)
        picks = sample_by_squared_distance(space, count, int(space.squared_norms.argmax()), generator)
    return fill_at_random(picks, count, len(probs), generator).to(embeddings.device)
