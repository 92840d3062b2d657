"""The highest scores, perturbed: batches that repeat themselves less, at the price of one random number a sample."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from lightning_al.functional.inputs import check_finite, check_query_size, default_generator, uniform
from lightning_al.functional.top_k import top_k

StochasticKind = Literal["power", "softmax", "softrank"]


def check_stochastic(kind: StochasticKind, beta: float) -> None:
    """Raise unless it is a law to draw by.

    Args:
        kind: The law.
        beta: How strongly it follows the scores.

    Raises:
        ValueError: There is no such law, or ``beta`` is not positive and finite.
    """
    if kind not in ("power", "softmax", "softrank"):
        raise ValueError(f"Expected `kind` to be 'power', 'softmax' or 'softrank', but got {kind!r}.")
    number = isinstance(beta, (int, float)) and not isinstance(beta, bool)
    if not number or not 0 < beta < math.inf:
        raise ValueError(f"Expected `beta` to be a positive number, but got {beta!r}. Without noise, take `top_k`.")


def stochastic_top_k(
    scores: Tensor,
    k: int,
    kind: StochasticKind,
    beta: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw positions without replacement, one after the other in proportion to weights that grow with the scores.

    The weight is :math:`s^\beta` (``"power"``), :math:`e^{\beta s}` (``"softmax"``) or :math:`r^{-\beta}`
    (``"softrank"``) with :math:`r` the rank, 1 the highest. The law is that of sequential sampling; it is had in one
    pass as the ``k`` highest of log weight plus Gumbel noise. A small ``beta`` tends to uniform sampling, a large one
    to the ``k`` highest.

    Under ``"power"`` a score of 0 is drawn only when no positive one is left, then uniformly. Ranks of equal scores go
    by chance.

    Args:
        scores: Scores ``(N,)``; not negative for ``"power"``.
        k: Number of positions, at least 1. More than ``N`` gives all ``N``.
        kind: How scores become weights.
        beta: How strongly the draw follows the scores, positive.
        generator: Source of random numbers, on the CPU. None: one with a fixed seed.

    Returns:
        Unique positions ``(min(k, N),)``, int64, in the order drawn.

    Raises:
        ValueError: If a score is not finite, or negative for ``"power"``, ``scores`` is not one-dimensional, ``k`` or
            ``beta`` is not positive, or there is no such ``kind``.

    References:
        Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal (TMLR 2023), *Stochastic Batch Acquisition: A
        Simple Baseline for Deep Active Learning*; Kool, van Hoof and Welling (ICML 2019), *Stochastic Beams and Where
        to Find Them*.

    Example:
        >>> import torch
        >>> stochastic_top_k(torch.tensor([0.0, 0.3, 0.0, 0.0]), k=1, kind="power")
        tensor([1])
    """
    check_stochastic(kind, beta)
    if not isinstance(scores, Tensor) or scores.ndim != 1:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"Expected `scores` to be a tensor of shape (N,), but got {got}.")
    if check_query_size(k, len(scores), "k") == 0:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    check_finite(scores, "scores")
    generator = default_generator(generator)
    keys = _log_weights(scores.detach().double(), kind, beta, generator)
    # Uniform numbers may be 0; the clamp keeps the noise finite.
    noise = uniform(len(keys), generator).clamp_(min=torch.finfo(torch.float64).tiny).log_().neg_().log_().neg_()
    keys += noise.to(keys.device)
    weightless = torch.isneginf(keys)
    lowest = torch.where(weightless, math.inf, keys).amin().clamp(max=0)  # 0 where none has a weight
    return top_k(keys.masked_fill_(weightless, lowest - 1), k, generator)


def _log_weights(scores: Tensor, kind: StochasticKind, beta: float, generator: torch.Generator) -> Tensor:
    if kind == "softmax":
        return (scores - scores.max()).mul_(beta)
    if kind == "softrank":
        order = top_k(scores, len(scores), generator)
        ranks = torch.empty_like(scores)
        ranks[order] = torch.arange(1, len(scores) + 1, dtype=scores.dtype, device=scores.device)
        return ranks.log_().mul_(-beta)
    negative = (scores < 0).nonzero()
    if len(negative):
        position = int(negative[0])
        raise ValueError(
            f"Expected `scores` not to be negative for kind='power', but got {float(scores[position])} at position "
            f"{position}. Take kind='softrank', which reads their order alone, or 'softmax'."
        )
    return scores.log().mul_(beta)
