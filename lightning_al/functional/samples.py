"""What all functions of several draws of a model share: checks of ``(N, K, C)``, and a pass that keeps one block.

A block is worked on as ``(K, C, n)``: each operation then runs along n samples, however few draws or classes there are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_al.functional.inputs import block_rows, check_range, compute_dtype

BlockScore = Callable[[Tensor, Tensor], Tensor]
"""A block ``(K, C, n)`` and a scratch block of its shape, both free to be overwritten, to scores ``(n,)``."""

# A block takes some thirty operations, which cost more than leaving the inner cache does; 4 MB with the scratch.
_BLOCK_ELEMENTS = 1 << 19


def check_samples(probs: Tensor, name: str = "probs") -> Tensor:
    """Return the probabilities without their graph, after checking their shape and type.

    Args:
        probs: Class probabilities of K draws of the model ``(N, K, C)``.
        name: The argument's name, for the message.

    Returns:
        The same tensor, detached.

    Raises:
        ValueError: If they are no floating-point tensor of three dimensions, or there is no draw or no class.
    """
    if not isinstance(probs, Tensor) or not probs.is_floating_point():
        got = probs.dtype if isinstance(probs, Tensor) else type(probs).__name__
        raise ValueError(f"Expected `{name}` to be a floating-point tensor, but got {got}.")
    if probs.ndim != 3 or 0 in probs.shape[1:]:
        fix = f" For a single draw, pass `{name}[:, None]`." if probs.ndim == 2 else ""
        raise ValueError(
            f"Expected `{name}` to be of shape (N, K, C), K draws of the model for each sample, but got "
            f"{tuple(probs.shape)}.{fix}"
        )
    return probs.detach()


def score_samples(probs: Tensor, score: BlockScore, name: str = "probs") -> Tensor:
    """Score samples block by block in at least float32, and check that the input was probabilities.

    Args:
        probs: Class probabilities of K draws ``(N, K, C)``, checked by `check_samples`.
        score: What to compute of a block. It must treat each sample alike wherever in a block it stands: a query may
            not depend on the batch size.
        name: The argument's name, for the message.

    Returns:
        Scores ``(N,)`` in float32, or in float64 where ``probs`` are.

    Raises:
        ValueError: Naming the first position that holds NaN, an infinity or a value outside [0, 1].
    """
    dtype = compute_dtype(probs.dtype)
    draws, classes = probs.shape[1:]
    step = block_rows(draws * classes, probs.device, _BLOCK_ELEMENTS)
    step = max(min(step, len(probs)), 1)
    scores = torch.empty(len(probs), dtype=dtype, device=probs.device)
    buffers = torch.empty(2, step * draws * classes, dtype=dtype, device=probs.device)
    lows, highs = [], []
    for start in range(0, len(probs), step):
        block = probs[start : start + step]
        low, high = torch.aminmax(block)  # NaN if there is one
        lows.append(low)
        highs.append(high)
        values, scratch = buffers[:, : block.numel()].view(2, draws, classes, len(block))
        values.view(draws * classes, -1).copy_(block.flatten(1).t())
        scores[start : start + step] = score(values, scratch)
    check_range(probs, lows, highs, name)
    return scores


def sum_rows(values: Tensor, out: Tensor) -> Tensor:
    """Sum over the first dimension by halves.

    The order of the additions is the same for every column, which ``Tensor.sum`` does not promise.

    Args:
        values: A tensor ``(R, ...)``, R at least 1.
        out: A tensor of its shape to sum in, overwritten; ``values`` itself where that may be.

    Returns:
        The sums, a view of the first row of ``out``.
    """
    rows = len(values)
    if rows == 1:
        return out.copy_(values)[0]
    while rows > 1:
        half = (rows + 1) // 2
        torch.add(values[: rows - half], values[half:rows], out=out[: rows - half])
        if values is not out:
            out[rows - half : half] = values[rows - half : half]
        values, rows = out, half
    return values[0]


def p_log_p(probs: Tensor, out: Tensor) -> Tensor:
    """Return ``p log p``, which is 0 where ``p`` is.

    Args:
        probs: Probabilities, in at least float32.
        out: A tensor of their shape; overwritten.

    Returns:
        ``out``.
    """
    smallest = torch.finfo(probs.dtype).tiny  # a subnormal offset in place of the clamp is three times slower
    if float(probs.amin()) < smallest:
        return torch.clamp(probs, min=smallest, out=out).log_().mul_(probs)
    return torch.log(probs, out=out).mul_(probs)  # without the clamp, a pass that few softmaxes need


def entropy(probs: Tensor, scratch: Tensor) -> Tensor:
    """Return ``-sum p log p`` over the first dimension, 0 log 0 being 0.

    Args:
        probs: Probabilities ``(R, n)``.
        scratch: A tensor of their shape; overwritten.

    Returns:
        Entropies ``(n,)`` in nats, at least 0.
    """
    terms = p_log_p(probs, scratch)
    return torch.sub(0, sum_rows(terms, terms)).clamp_(min=0)


def mean_draw(block: Tensor, scratch: Tensor) -> Tensor:
    """Return the mean over draws ``(C, n)`` of a block, as a view of the scratch block."""
    return sum_rows(block, scratch).div_(len(block))


def total_entropy(block: Tensor, scratch: Tensor) -> Tensor:
    """Return the entropy of the mean over draws, ``H[P]``, of each sample of a block."""
    mean = mean_draw(block, scratch)
    return entropy(mean, torch.empty_like(mean))


def expected_entropy(block: Tensor, scratch: Tensor) -> Tensor:
    """Return the mean over draws of the entropy, ``E_k H[p_k]``, of each sample of a block."""
    return entropy(block.flatten(0, 1), scratch.flatten(0, 1)).div_(len(block))


def information(block: Tensor, scratch: Tensor) -> Tensor:
    """Return the mutual information of label and draw, of each sample of a block; rounding never makes it negative."""
    return (total_entropy(block, scratch) - expected_entropy(block, scratch)).clamp_(min=0)
