"""Scores of how unsure one model is of each sample, from its class probabilities.

All are blocked: beside the ``(N,)`` result they keep a buffer that fits the cache, never a second ``N x C``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_al.functional.inputs import blocks, check_probs, check_range, compute_dtype

# Up to here a tournament over columns beats a reduction along short rows.
_TOURNAMENT_CLASSES = 32


def least_confidence(probs: Tensor) -> Tensor:
    r"""Return one minus the probability of the most likely class, :math:`1 - p_1`.

    Args:
        probs: Class probabilities ``(N, C)``.

    Returns:
        Scores ``(N,)`` in :math:`[0, 1 - 1/C]`, of the dtype of ``probs``; higher is less sure.

    Raises:
        ValueError: If ``probs`` is not a floating-point ``(N, C)``, or holds a value that is no probability.

    References:
        Lewis and Gale (1994), *A Sequential Algorithm for Training Text Classifiers*.

    Example:
        >>> import torch
        >>> least_confidence(torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]))
        tensor([0.5000, 0.0000])
    """
    return _blockwise(probs, lambda block, scratch: 1 - _block_confidence(block, scratch))


def margin(probs: Tensor) -> Tensor:
    r"""Return one minus the lead of the most likely class over the second, :math:`1 - (p_1 - p_2)`.

    With a single class the second probability counts as 0.

    Args:
        probs: Class probabilities ``(N, C)``.

    Returns:
        Scores ``(N,)`` in [0, 1], of the dtype of ``probs``; higher is less sure.

    Raises:
        ValueError: If ``probs`` is not a floating-point ``(N, C)``, or holds a value that is no probability.

    References:
        Scheffer, Decomain and Wrobel (2001), *Active Hidden Markov Models for Information Extraction*.

    Example:
        >>> import torch
        >>> margin(torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]))
        tensor([0.7500, 0.0000, 1.0000])
    """
    return _blockwise(probs, _block_margin)


def predictive_entropy(probs: Tensor) -> Tensor:
    r"""Return the entropy of the predicted distribution in nats, :math:`-\sum_c p_c \log p_c`.

    A probability of 0 contributes 0.

    Args:
        probs: Class probabilities ``(N, C)``.

    Returns:
        Scores ``(N,)`` in :math:`[0, \log C]`, of the dtype of ``probs``; higher is less sure.

    Raises:
        ValueError: If ``probs`` is not a floating-point ``(N, C)``, or holds a value that is no probability.

    References:
        Shannon (1948), *A Mathematical Theory of Communication*.

    Example:
        >>> import torch
        >>> predictive_entropy(torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]))
        tensor([1.0397, 0.0000])
    """
    return _blockwise(probs, _block_entropy)


def _blockwise(probs: Tensor, score: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Score block by block in at least float32, with one scratch block, and check that the input was probabilities."""
    probs = check_probs(probs)
    dtype = compute_dtype(probs.dtype)
    scores = torch.empty(len(probs), dtype=probs.dtype, device=probs.device)
    scratch: Tensor | None = None
    lows, highs = [], []
    for start, block in blocks(probs):
        if scratch is None:
            scratch = torch.empty_like(block, dtype=dtype, memory_format=torch.contiguous_format)
        low, high = torch.aminmax(block)  # NaN if there is one
        lows.append(low)
        highs.append(high)
        scores[start : start + len(block)] = score(block.to(dtype), scratch[: len(block)])
    check_range(probs, lows, highs)
    return scores


def _block_confidence(block: Tensor, scratch: Tensor) -> Tensor:
    if not _short_rows(block):
        return block.amax(1)
    columns = scratch.view(block.shape[1], -1).copy_(block.t())
    highest = columns[0]
    for column in columns[1:]:
        torch.maximum(highest, column, out=highest)
    return highest


def _block_margin(block: Tensor, scratch: Tensor) -> Tensor:
    if _short_rows(block):
        columns = scratch.view(block.shape[1], -1).copy_(block.t())
        first, second = columns[0], torch.zeros_like(columns[0])
        lesser = torch.empty_like(second)
        for column in columns[1:]:
            torch.minimum(first, column, out=lesser)
            torch.maximum(second, lesser, out=second)
            torch.maximum(first, column, out=first)
        return 1 - (first - second)
    # The second highest is the highest once those equal to the highest are moved below 0, unless there are two of them.
    first = block.amax(1)
    is_first = torch.eq(block, first[:, None], out=scratch)
    several = torch.mv(is_first, torch.ones_like(block[0])) > 1
    second = is_first.mul_(-2).add_(block).amax(1)
    return 1 - (first - torch.where(several, first, second))


def _short_rows(block: Tensor) -> bool:
    return block.shape[1] <= _TOURNAMENT_CLASSES


def _block_entropy(block: Tensor, scratch: Tensor) -> Tensor:
    # 0 log 0 is 0; a subnormal offset in place of the clamp is three times slower. No matrix product: its rounding
    # depends on where in the block a row stands, and a query must not depend on the batch size.
    smallest = torch.finfo(block.dtype).tiny
    if not _short_rows(block):
        negative = torch.clamp(block, min=smallest, out=scratch).log_().mul_(block).sum(1)
    else:
        columns = scratch.view(block.shape[1], -1).copy_(block.t())
        negative, log = torch.zeros_like(columns[0]), torch.empty_like(columns[0])
        for column in columns:
            torch.clamp(column, min=smallest, out=log).log_()
            negative.addcmul_(log, column)
    return torch.sub(0, negative).clamp_(min=0)  # a certain row gives 0, not -0
