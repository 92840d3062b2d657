"""Scores of how unsure one model is of each sample, from its class probabilities.

All are blocked: beside the ``(N,)`` result they keep a buffer that fits the cache, never a second ``N x C``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_al.functional.inputs import blocks, check_probs, check_range, compute_dtype
from lightning_al.functional.samples import p_log_p

# Up to here a tournament over columns beats a reduction along short rows.
_TOURNAMENT_CLASSES = 32

# A block takes few operations: starting one costs more than leaving the inner cache does.
_BLOCK_ELEMENTS = 1 << 19

BlockScore = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""A block ``(n, C)`` and a scratch block to scores ``(n,)``, and the block's smallest and largest value.

What is known of a row saves a pass: where a row's highest is needed, it is found first and tells the block's.
"""


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
    return _blockwise(probs, _block_doubt)


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


def _blockwise(probs: Tensor, score: BlockScore) -> Tensor:
    """Score block by block in at least float32, with one scratch block, and check that the input was probabilities."""
    probs = check_probs(probs)
    dtype = compute_dtype(probs.dtype)
    scores = torch.empty(len(probs), dtype=probs.dtype, device=probs.device)
    scratch: Tensor | None = None
    lows, highs = [], []
    for start, block in blocks(probs, _BLOCK_ELEMENTS):
        if scratch is None:
            scratch = torch.empty_like(block, dtype=dtype, memory_format=torch.contiguous_format)
        scores[start : start + len(block)], low, high = score(block.to(dtype), scratch[: len(block)])
        lows.append(low)
        highs.append(high)
    check_range(probs, lows, highs)
    return scores


def _block_doubt(block: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if not _short_rows(block):
        highest = block.amax(1)
    else:
        columns = scratch.view(block.shape[1], -1).copy_(block.t())
        highest = columns[0]
        for column in columns[1:]:
            torch.maximum(highest, column, out=highest)
    return 1 - highest, block.amin(), highest.amax()


def _block_margin(block: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if _short_rows(block):
        columns = scratch.view(block.shape[1], -1).copy_(block.t())
        first, second = columns[0], torch.zeros_like(columns[0])
        lesser = torch.empty_like(second)
        for column in columns[1:]:
            torch.minimum(first, column, out=lesser)
            torch.maximum(second, lesser, out=second)
            torch.maximum(first, column, out=first)
        return 1 - (first - second), block.amin(), first.amax()
    # The second highest is the highest once those equal to the highest are moved below 0, unless there are two of them.
    first = block.amax(1)
    is_first = torch.eq(block, first[:, None], out=scratch)
    several = torch.mv(is_first, torch.ones_like(block[0])) > 1
    second = is_first.mul_(-2).add_(block).amax(1)
    return 1 - (first - torch.where(several, first, second)), block.amin(), first.amax()


def _block_entropy(block: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # No matrix product: its rounding depends on where in the block a row stands, and a query must not depend on the
    # batch size.
    low, high = torch.aminmax(block)
    if not _short_rows(block):
        negative = p_log_p(block, scratch).sum(1)
    else:
        columns = scratch.view(block.shape[1], -1).copy_(block.t())
        negative, terms = torch.zeros_like(columns[0]), torch.empty_like(columns[0])
        for column in columns:
            negative.add_(p_log_p(column, terms))
    return torch.sub(0, negative).clamp_(min=0), low, high  # a certain row gives 0, not -0


def _short_rows(block: Tensor) -> bool:
    return block.shape[1] <= _TOURNAMENT_CLASSES
