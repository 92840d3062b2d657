"""What samples cost: read and checked, summed over what was answered, and weighed against scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_al.pool import Pool
from lightning_al.stopping.budget import ROUNDING

CostOf = Callable[[int], float]
"""From a dataset index to the cost of its label."""


class Costs:
    """The cost of each sample of a pool, and how much of it may be spent.

    Whoever looks at a sample is paid: labeled and rejected ones cost alike, the first labels too; pending ones cost
    once they are answered.

    Args:
        each: Cost of each sample ``(N,)``, float64, finite and at least 0.
        most: What all of them may cost together; None for any amount.

    Example:
        >>> pool = Pool(5)
        >>> pool.label([0, 1])
        >>> pool.reject([2])
        >>> costs = Costs(torch.tensor([1.0, 2.0, 0.5, 4.0, 1.5]), most=6.0)
        >>> costs.spent(pool), costs.left(pool), costs.affordable(pool.unlabeled, pool).tolist()
        (3.5, 2.5, [4])
    """

    def __init__(self, each: Tensor, most: float | None = None) -> None:
        self.each, self.most = each, most

    def of(self, indices: Tensor) -> Tensor:
        """The costs of the samples at some dataset indices, one each."""
        return self.each[indices.long()]

    def spent(self, pool: Pool) -> float:
        """What the answers so far have cost."""
        return math.fsum(self.of(torch.cat([pool.labeled, pool.rejected])).tolist())

    def left(self, pool: Pool) -> float:
        """What may still be spent; infinite without a limit."""
        return math.inf if self.most is None else self.most - self.spent(pool)

    def affordable(self, indices: Tensor, pool: Pool, asked: Tensor | None = None) -> Tensor:
        """Those of some dataset indices that what is left pays for, one at a time.

        Args:
            indices: Dataset indices ``(N,)``.
            pool: What is spent already.
            asked: Dataset indices that are asked for too, and paid first.
        """
        return indices if self.most is None else indices[self.of(indices) <= self._purse(pool, asked)]

    def payable(self, picked: Tensor, pool: Pool, asked: Tensor | None = None) -> Tensor:
        """Positions of the picks that what is left pays for together.

        They are gone through in the order picked: one that is too dear is left out, and a later one may still fit.

        Args:
            picked: Dataset indices ``(B,)``.
            pool: What is spent already.
            asked: Dataset indices that are asked for too, and paid first.

        Returns:
            Positions in ``picked``, ascending, int64.
        """
        left, kept = self._purse(pool, asked), []
        for position, cost in enumerate(self.of(picked).tolist()):
            if cost <= left:
                left -= cost
                kept.append(position)
        return torch.tensor(kept, dtype=torch.int64)

    def _purse(self, pool: Pool, asked: Tensor | None) -> float:
        """What is left for more samples, and a little more: a budget of 0.3 pays for three samples at 0.1."""
        reserved = 0.0 if asked is None else math.fsum(self.of(asked).tolist())
        return self.left(pool) - reserved + ROUNDING * (self.most or 0.0)


def read_costs(cost: Any, size: int) -> Tensor:
    """The cost of each sample, as the user gave it.

    Args:
        cost: A number for all samples; a list, tensor or array of one each; or a callable of the dataset index.
        size: Number of samples N.

    Returns:
        Costs ``(N,)``, float64 on the CPU; of a number, one value in memory.

    Raises:
        ValueError: It is none of these, of another length, or holds a value that is negative or not finite.

    Example:
        >>> read_costs(2, 3).tolist(), read_costs([1, 0.5, 0], 3).tolist(), read_costs(lambda i: i + 1, 3).tolist()
        ([2.0, 2.0, 2.0], [1.0, 0.5, 0.0], [1.0, 2.0, 3.0])
    """
    if callable(cost):
        return cost_values([_called(cost, index) for index in range(size)])
    values = cost_values(cost)
    if values.ndim == 1 and len(values) != size:
        raise ValueError(
            f"Expected `cost` to have one value for each of the {size} samples of the training set, but got "
            f"{len(values)}."
        )
    return values.expand(size)


def cost_values(cost: Any) -> Tensor:
    """A number ``()`` or a column ``(N,)`` of costs in float64; errors as those of `read_costs`."""
    wanted = "Expected `cost` to be a number, a list or tensor of one a sample, or a callable of the dataset index"
    if isinstance(cost, (bool, str, bytes)) or cost is None:
        raise ValueError(f"{wanted}, but got {cost!r}.")
    plain = cost.detach().cpu() if isinstance(cost, Tensor) else cost
    try:
        values = torch.tensor(np.asarray(plain, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{wanted}, but got what holds no numbers: {error}.") from None
    if values.ndim > 1:
        raise ValueError(f"{wanted}, but got values of shape {(*values.shape,)}.")
    wrong = (~(values.isfinite() & (values >= 0))).nonzero()
    if len(wrong):
        where = "" if values.ndim == 0 else f" for dataset index {int(wrong[0])}"
        value = float(values[tuple(wrong[0])])
        raise ValueError(f"Expected `cost` to be finite and at least 0, but got {value}{where}.")
    return values


def _called(cost: CostOf, index: int) -> float:
    value: Any = cost(index)
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"Expected `cost` to return a number, but got {value!r} for dataset index {index}.")
    return value


def value_per_cost(scores: Tensor, costs: Tensor) -> Tensor:
    """Scores divided by costs, so that the highest give most for the money.

    Scores may be negative or have any zero point, and a quotient needs values from 0 on: a sample's value is its score
    less the lowest of the pool, which for entropies, margins and the like, whose lowest is near 0, is the score itself.
    Where all scores are equal each sample is worth the same, and the cheapest come first. Costs count as multiples of
    their mean, so that their unit does not matter. Where all costs are equal the scores stay as they are: the same
    samples are picked as without costs.

    Args:
        scores: Scores of the candidates ``(N,)``, higher is better.
        costs: Their costs ``(N,)``, above 0.

    Returns:
        Value per cost ``(N,)``, on the device of the scores, or the scores.

    References:
        The benefit-cost ratio of Tomanek and Hahn (NAACL workshop on active learning, 2010), *A Comparison of Models
        for Cost-Sensitive Active Learning*; the return on investment of Haertel, Seppi, Ringger and Carroll (NIPS
        workshop on cost-sensitive learning, 2008), *Return on Investment for Active Learning*.

    Example:
        >>> value_per_cost(torch.tensor([-0.5, 0.5, 1.5]), torch.tensor([1.0, 2.0, 6.0])).tolist()  # mean cost 3
        [0.0, 1.5, 1.0]
    """
    if not len(costs) or bool((costs == costs[0]).all()):
        return scores
    values = scores - scores.min()
    if not bool(values.any()):
        values = torch.ones_like(values)
    return values / (costs / costs.mean()).to(values)
