"""What may be spent: labels, or what they cost."""

from __future__ import annotations

import math

from lightning_al.stopping.rule import History, StoppingRule, is_number

ROUNDING = 1e-9
"""Share of a budget that is no more than the rounding of sums of costs."""


class Budget(StoppingRule):
    """Ends the run once its labels, or what they cost, are spent, whichever comes first.

    The last query takes what is left: as many labels, or the samples that the rest of the money pays for. With
    ``cost`` the run ends too once no unlabeled sample is that cheap. The first labels count, rejected samples cost.

    Args:
        labels: How many labels in all; None for any number.
        cost: What they may cost in all, in the unit of ``ActiveLearning(cost=...)``; None for any amount.

    Raises:
        ValueError: Neither is given, or one is not positive.

    Example:
        >>> rule = Budget(labels=100, cost=50.0)
        >>> rule.reason_to_stop([{"labeled": 40, "cost": 31.5, "metrics": {}}])
        >>> rule.reason_to_stop([{"labeled": 60, "cost": 50.0, "metrics": {}}])
        'the budget of 50 is spent (cost 50).'
    """

    def __init__(self, labels: int | None = None, cost: float | None = None) -> None:
        if labels is None and cost is None:
            raise ValueError("Expected Budget to have a limit, but got none: say `labels=1000`, or `cost=500.0`.")
        if labels is not None and (isinstance(labels, bool) or not isinstance(labels, int) or labels < 1):
            raise ValueError(f"Expected `labels` to be a positive whole number, but got {labels!r}.")
        if cost is not None and (not is_number(cost) or not 0 < cost < math.inf):
            raise ValueError(f"Expected `cost` to be a positive number, but got {cost!r}.")
        self.labels, self.cost = labels, cost

    @property
    def most_labels(self) -> int | None:
        """See :attr:`StoppingRule.most_labels`."""
        return self.labels

    @property
    def most_cost(self) -> float | None:
        """See :attr:`StoppingRule.most_cost`."""
        return self.cost

    @property
    def needs_cost(self) -> bool:
        """See :attr:`StoppingRule.needs_cost`."""
        return self.cost is not None

    def reason_to_stop(self, history: History) -> str | None:
        """See :meth:`StoppingRule.reason_to_stop`."""
        if not history:
            return None
        row = history[-1]
        if self.labels is not None and row["labeled"] >= self.labels:
            return labels_spent(self.labels)
        if self.cost is not None and row["cost"] >= self.cost * (1 - ROUNDING):
            return cost_spent(self.cost, row["cost"])
        return None


def labels_spent(budget: int) -> str:
    """The reason to stop where all labels are spent."""
    return f"the budget of {budget} labels is spent."


def cost_spent(budget: float, spent: float) -> str:
    """The reason to stop where all money is spent."""
    return f"the budget of {budget:,.6g} is spent (cost {spent:,.6g})."
