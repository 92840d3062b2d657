"""The checks and defaults that every function of this package shares, so that they read and fail alike."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import SupportsIndex

import torch
from torch import Tensor

# A block of a pool is worked on while it is in the cache (CPU) or large enough to fill the device.
BLOCK_ELEMENTS = 1 << 17
_DEVICE_BLOCK_ELEMENTS = 1 << 24

_DEFAULT_SEED = 0


def check_query_size(query_size: SupportsIndex, pool_size: int, name: str = "query_size") -> int:
    """Return how many rows to pick: ``min(query_size, pool_size)``.

    Args:
        query_size: Number of picks asked for, at least 1.
        pool_size: Number of rows there are.
        name: The argument's name, for the message.

    Returns:
        The number of picks to make.

    Raises:
        ValueError: If ``query_size`` is not a positive integer.
    """
    try:
        count = operator.index(query_size)
    except TypeError:
        count = 0
    if isinstance(query_size, bool) or count < 1:
        raise ValueError(f"Expected `{name}` to be a positive integer, but got {query_size!r}.")
    return min(count, pool_size)


def check_matrix(matrix: Tensor, name: str, columns: str) -> Tensor:
    """Return the matrix without its graph, after checking that it is one.

    Args:
        matrix: A floating-point tensor ``(N, columns)``.
        name: The argument's name, for the message.
        columns: The letter of the second dimension, for the message.

    Returns:
        The same tensor, detached.

    Raises:
        ValueError: If the tensor is not two-dimensional, holds integers or has no column.
    """
    if not isinstance(matrix, Tensor) or not matrix.is_floating_point():
        got = matrix.dtype if isinstance(matrix, Tensor) else type(matrix).__name__
        raise ValueError(f"Expected `{name}` to be a floating-point tensor, but got {got}.")
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"Expected `{name}` to be of shape (N, {columns}), but got {tuple(matrix.shape)}.")
    return matrix.detach()


def check_probs(probs: Tensor) -> Tensor:
    """Return the probabilities without their graph, after checking their shape and type.

    Args:
        probs: Class probabilities ``(N, C)``.

    Returns:
        The same tensor, detached.

    Raises:
        ValueError: If they are no floating-point matrix.
    """
    return check_matrix(probs, "probs", "C")


def check_range(probs: Tensor, lows: list[Tensor], highs: list[Tensor], name: str = "probs") -> None:
    """Raise unless all probabilities are finite and in [0, 1], given the extremes of each block.

    Args:
        probs: Class probabilities ``(N, ...)``, searched for the first bad row only when there is one.
        lows: The smallest value of each block, NaN where a block holds one.
        highs: The largest value of each block, likewise.
        name: The argument's name, for the message.

    Raises:
        ValueError: Naming the first position that holds NaN, an infinity or a value outside [0, 1].
    """
    if not lows:
        return
    tolerance = 1e-3  # a softmax in half precision may exceed 1 by its rounding
    low, high = float(torch.stack(lows).amin()), float(torch.stack(highs).amax())
    if low >= 0.0 and high <= 1.0 + tolerance:
        return
    rows = probs.flatten(1)
    check_finite(rows, name)
    for start, block in blocks(rows):
        bad = ((block < 0) | (block > 1.0 + tolerance)).any(1).nonzero()
        if len(bad):
            row = int(bad[0])
            raise ValueError(
                f"Expected `{name}` to be probabilities in [0, 1], but got {block[row].tolist()[:8]} at position "
                f"{start + row}. If these are logits, pass `logits.softmax(-1)`."
            )


def check_probs_values(probs: Tensor) -> None:
    """Raise unless all probabilities are finite and in [0, 1].

    Args:
        probs: Class probabilities ``(N, C)``.

    Raises:
        ValueError: Naming the first position that holds NaN, an infinity or a value outside [0, 1].
    """
    extremes = [torch.aminmax(block) for _, block in blocks(probs)]
    check_range(probs, [low for low, _ in extremes], [high for _, high in extremes])


def check_finite(values: Tensor, name: str) -> None:
    """Raise if any value is NaN or infinite.

    Args:
        values: A tensor ``(N,)`` or ``(N, D)``.
        name: The argument's name, for the message.

    Raises:
        ValueError: Naming the first position that holds one.
    """
    for start, block in blocks(values):
        low, high = torch.aminmax(block)  # NaN if there is one; a mask of the block would take several passes
        if math.isfinite(float(low)) and math.isfinite(float(high)):
            continue
        finite = torch.isfinite(block)
        row = int((finite if finite.ndim == 1 else finite.all(1)).logical_not().nonzero()[0])
        value = float(block[row].reshape(-1)[finite[row].reshape(-1).logical_not()][0])
        raise ValueError(
            f"Expected `{name}` to be finite, but got {value} at position {start + row}. Check the model's outputs "
            "for this sample: a diverged loss or a division by zero gives such values."
        )


def blocks(values: Tensor, elements: int = BLOCK_ELEMENTS) -> Iterator[tuple[int, Tensor]]:
    """Cut a tensor along its first dimension into views that fit the cache.

    Args:
        values: A tensor ``(N, ...)``.
        elements: How many elements a block holds on a CPU.

    Yields:
        The position of the first row and the view of the rows from there.
    """
    columns = values.shape[1] if values.ndim > 1 else 1
    step = block_rows(columns, values.device, elements)
    for start in range(0, len(values), step):
        yield start, values[start : start + step]


def block_rows(columns: int, device: torch.device, elements: int = BLOCK_ELEMENTS) -> int:
    """Return how many rows of ``columns`` elements make one block on this device, of ``elements`` where it is a CPU."""
    return max(64, (elements if device.type == "cpu" else _DEVICE_BLOCK_ELEMENTS) // max(columns, 1))


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type sums are taken in: float64 stays, everything else is float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def default_generator(generator: torch.Generator | None) -> torch.Generator:
    """Return the generator, or a fresh one with a fixed seed: the global one is never touched."""
    return torch.Generator().manual_seed(_DEFAULT_SEED) if generator is None else generator


def uniform(count: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` float64 numbers in [0, 1) on the generator's device."""
    return torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)


def permutation(count: int, generator: torch.Generator) -> Tensor:
    """Draw a permutation of ``count`` positions on the generator's device, in int32 where that holds them."""
    dtype = torch.int32 if count < 2**31 else torch.int64
    return torch.randperm(count, generator=generator, device=generator.device, dtype=dtype)


def check_labeled(labeled: Tensor | None, embeddings: Tensor) -> Tensor | None:
    """Return the labeled embeddings without their graph, or None where there are none.

    Args:
        labeled: Embeddings ``(L, D)`` of the labeled samples, or None.
        embeddings: Embeddings ``(N, D)`` of the pool.

    Returns:
        The same tensor, detached, or None.

    Raises:
        ValueError: If they are no floating-point matrix of the pool's width.
    """
    if labeled is None or len(labeled) == 0:
        return None
    labeled = check_matrix(labeled, "labeled_embeddings", "D")
    if labeled.shape[1] != embeddings.shape[1]:
        raise ValueError(
            f"Expected `labeled_embeddings` to have the pool's {embeddings.shape[1]} columns, "
            f"but got {labeled.shape[1]}."
        )
    return labeled


def check_pool(
    embeddings: Tensor, labeled: Tensor | None, query_size: SupportsIndex
) -> tuple[Tensor, Tensor | None, int]:
    """Check what most selections are given, but for whether the values are finite.

    Args:
        embeddings: Embeddings ``(N, D)`` of the pool.
        labeled: Embeddings ``(L, D)`` of the labeled samples, or None.
        query_size: Number of picks asked for.

    Returns:
        The embeddings without their graph, those of the labeled samples or None where there are none, and how many
        picks to make.

    Raises:
        ValueError: If a shape or a type does not fit, or ``query_size`` is not a positive integer.
    """
    embeddings = check_matrix(embeddings, "embeddings", "D")
    return embeddings, check_labeled(labeled, embeddings), check_query_size(query_size, len(embeddings))


def fill_at_random(picks: list[int], count: int, pool_size: int, generator: torch.Generator) -> Tensor:
    """Extend picks to ``count`` by positions drawn uniformly from the rest.

    Args:
        picks: Unique positions.
        count: Number of positions wanted, at most ``pool_size``.
        pool_size: Number of positions there are.
        generator: Source of random numbers; not touched when nothing is missing.

    Returns:
        Unique positions ``(count,)``, int64.
    """
    picked = torch.tensor(picks, dtype=torch.int64)
    if len(picks) >= count:
        return picked[:count]
    free = torch.ones(pool_size, dtype=torch.bool)
    free[picked] = False
    rest = free.nonzero()[:, 0]
    chosen = permutation(len(rest), generator)[: count - len(picks)].to(rest.device)
    return torch.cat([picked, rest[chosen]])
