"""FALCUN: uncertain samples first, then ever more diverse ones, by probabilities alone."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_al.functional.inputs import (
    blocks,
    check_probs,
    check_query_size,
    compute_dtype,
    default_generator,
    uniform,
)
from lightning_al.functional.uncertainty import margin

_GAMMA = 10  # the paper's exponent: the higher, the closer to always taking the highest


def falcun(probs: Tensor, query_size: int, generator: torch.Generator | None = None) -> Tensor:
    r"""Draw samples one by one by how unsure they are and how far from those drawn.

    With :math:`u_i = 1 - (p_1 - p_2)` and distances that start there, a sample is drawn in proportion to

    .. math:: \Bigl(\frac{d_i - \min_j d_j}{\max_j d_j - \min_j d_j} + u_i\Bigr)^{10}, \qquad
              d_i \leftarrow \min(d_i, |p_i - p_\text{drawn}|_1),

    the extremes taken over the samples that are left. Where all distances are equal the fraction is 0; where all
    weights are 0 the draw is uniform.

    Args:
        probs: Class probabilities ``(N, C)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        generator: Source of random numbers, on the CPU. None: one with a fixed seed.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If a value is not finite or no probability, or ``query_size`` is not a positive integer.

    References:
        Gilhuber, Beer, Ma and Seidl (ECML PKDD 2024), *FALCUN: A Simple and Efficient Deep Active Learning Strategy*.

    Example:
        >>> import torch
        >>> probs = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5]])
        >>> falcun(probs, query_size=2).sort().values  # never the first; hardly ever the two that are alike
        tensor([2, 3])
    """
    probs = check_probs(probs)
    count = check_query_size(query_size, len(probs))
    unsure = margin(probs).double()
    distances, left = unsure.clone(), torch.ones_like(unsure, dtype=torch.bool)
    numbers = uniform(count, default_generator(generator)).to(probs.device)
    picks = torch.empty(count, dtype=torch.int64, device=probs.device)
    for turn in range(count):
        picks[turn : turn + 1] = pick = _draw(_weights(distances, unsure, left), numbers[turn : turn + 1])
        left[pick] = False
        if turn + 1 < count:
            _lower(distances, probs, probs[pick])
    return picks


def _weights(distances: Tensor, unsure: Tensor, left: Tensor) -> Tensor:
    """Return what the samples are drawn in proportion to ``(N,)``, 0 for those drawn before."""
    lowest = distances.masked_fill(~left, torch.inf).amin()
    spread = distances.masked_fill(~left, -torch.inf).amax() - lowest
    weights = (distances - lowest).div_(spread.masked_fill(spread == 0, 1)).add_(unsure).pow_(_GAMMA).mul_(left)
    return torch.where(weights.amax() > 0, weights, left.double())


def _draw(weights: Tensor, number: Tensor) -> Tensor:
    """Return the position ``(1,)`` that a uniform number ``(1,)`` falls on, its weight above 0."""
    cumulative = weights.cumsum(0)
    total = cumulative[-1:]
    # A product that is rounded up to the total would fall behind the last position.
    target = torch.minimum(number * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True)


def _lower(distances: Tensor, probs: Tensor, drawn: Tensor) -> None:
    """Lower the distances, in place, to those from a sample just drawn ``(1, C)``."""
    dtype = compute_dtype(probs.dtype)
    for start, block in blocks(probs):
        some = distances[start : start + len(block)]
        torch.minimum(some, (block.to(dtype) - drawn.to(dtype)).abs_().sum(1).to(some.dtype), out=some)
