"""The k highest scores, exactly, with ties broken in a way that can be repeated."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_al.functional.inputs import blocks, check_finite, check_query_size, permutation

# The highest scores are looked for by the maxima of groups of at most so many, at least four groups a pick.
_GROUP, _GROUPS_A_PICK = 64, 4


def top_k(scores: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """Return the positions of the ``k`` highest scores, the highest first.

    ``torch.topk`` breaks ties in no promised order; here they go by a permutation drawn from ``generator``, or to the
    lowest position without one. Beside the result it keeps one block of the scores, and the positions that tie with
    the last pick.

    Args:
        scores: Scores ``(N,)``, higher is picked first.
        k: Number of positions, at least 1. More than ``N`` gives all ``N``.
        generator: Source of the permutation that breaks ties.

    Returns:
        Positions ``(min(k, N),)``, int64, in descending order of score.

    Raises:
        ValueError: If a score is not finite, ``scores`` is not one-dimensional or ``k`` is not positive.

    Example:
        >>> import torch
        >>> top_k(torch.tensor([0.2, 0.9, 0.5, 0.9]), k=3)
        tensor([1, 3, 2])
    """
    if not isinstance(scores, Tensor) or scores.ndim != 1:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"Expected `scores` to be a tensor of shape (N,), but got {got}.")
    scores = scores.detach()
    count = check_query_size(k, len(scores), "k")
    check_finite(scores, "scores")
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    above, tied = _above_and_tied(scores, count)
    # Ties within the picks are permuted as those at the threshold are: a stable sort keeps the drawn order.
    if generator is not None:
        above = above[permutation(len(above), generator).to(above.device)]
        tied = tied[permutation(len(tied), generator)[: count - len(above)].to(tied.device)]
    order = torch.argsort(scores[above], descending=True, stable=True)
    return torch.cat([above[order], tied[: count - len(above)]]).long()


def _above_and_tied(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the positions above and at the k-th highest score, ascending.

    At least k scores reach the k-th highest of the groups' maxima, and only k - 1 groups hold a higher one: few scores
    are left to be ranked. ``torch.topk`` would keep 16 bytes a row for the whole pool.
    """
    group = max(min(_GROUP, len(scores) // (_GROUPS_A_PICK * k)), 1)
    groups = scores[: len(scores) // group * group].view(-1, group)
    bound = groups.amax(1).topk(k).values[-1]
    above = _positions(scores, lambda block: block > bound)
    if len(above) < k:
        return above, _positions(scores, lambda block: block == bound)
    rivals = scores[above]
    kth = rivals.topk(k).values[-1]
    return above[rivals > kth], above[rivals == kth]


def _positions(scores: Tensor, wanted: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the positions of the wanted scores, ascending, in int32 where that holds them."""
    dtype = torch.int32 if len(scores) < 2**31 else torch.int64
    return torch.cat([(wanted(block).nonzero()[:, 0] + start).to(dtype) for start, block in blocks(scores)])
