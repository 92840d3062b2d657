"""From the scores of a sample's several predictions to the sample's: of labels, pixels, boxes or tokens."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

Aggregate = Literal["mean", "max", "sum"] | float
"""``"mean"``, ``"max"`` or ``"sum"``; a share in (0, 1): the mean over that share of the highest."""


def check_aggregate(how: Aggregate) -> None:
    """Raise unless it is a way to aggregate.

    Args:
        how: The way.

    Raises:
        ValueError: It is none.
    """
    share = isinstance(how, float) and 0 < how < 1
    if not share and how not in ("mean", "max", "sum"):
        raise ValueError(
            f"Expected `aggregate` to be 'mean', 'max', 'sum', or a share in (0, 1) of the highest, but got {how!r}."
        )


def aggregate(scores: Tensor, how: Aggregate) -> Tensor:
    """Make one score a sample of the scores of its parts; a sample without parts gets 0.

    Args:
        scores: Scores ``(N, U)`` of U parts of each sample.
        how: ``"mean"``, so that a long sample is not asked for its length; ``"max"``; ``"sum"``; or a share q in
            (0, 1): the mean of the ``ceil(q U)`` highest, for samples of which most is plain, as background is.

    Returns:
        Scores ``(N,)``.

    Raises:
        ValueError: ``how`` is none of these.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[0.0, 0.2, 0.4, 1.0]])
        >>> [round(float(aggregate(scores, how)), 2) for how in ("mean", "max", "sum", 0.5)]
        [0.4, 1.0, 1.6, 0.7]
        >>> aggregate(torch.empty(2, 0), "mean")
        tensor([0., 0.])
    """
    check_aggregate(how)
    parts = scores.shape[1]
    if parts == 0:
        return scores.new_zeros(len(scores))
    if how == "sum":
        return scores.sum(1)
    if how == "max":
        return scores.amax(1)
    if how == "mean":
        return scores.mean(1)
    highest = math.ceil(how * parts)
    return scores.topk(highest, dim=1, sorted=False).values.mean(1)
