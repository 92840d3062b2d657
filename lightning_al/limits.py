"""How far a run goes: what ends it, how much each query asks, and how many rounds are left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lightning_al.costs import Costs, read_costs
from lightning_al.dataset import count_of
from lightning_al.pool import Pool
from lightning_al.predictions import ONE_DISTRIBUTION
from lightning_al.stopping.budget import ROUNDING, cost_spent, labels_spent
from lightning_al.strategies.base import ScoreStrategy

if TYPE_CHECKING:
    from lightning_al.callback import ActiveLearning
    from lightning_al.datamodule import ActiveLearningDataModule


@dataclass(frozen=True)
class Limits:
    """The numbers that the user set.

    Args:
        rounds: How many fits in all; None for any number.
        budget: How many labels in all; None for any number.
        query_size: Labels asked for in a round: a count, or a share of the pool in (0, 1).
        costs: What samples cost, and how much of it may be spent; None where they have no cost.

    Example:
        >>> pool = Pool(1000)
        >>> pool.label(range(60))
        >>> limits = Limits(rounds=10, budget=100, query_size=0.03)
        >>> limits.next_query_size(pool), limits.rounds_left(2, labeled=60, size=1000), limits.reason_to_stop(9, pool)
        (30, 2, 'all 10 rounds are done.')
    """

    rounds: int | None
    budget: int | None
    query_size: int | float
    costs: Costs | None = None

    def reason_to_stop(self, round: int, pool: Pool) -> str | None:
        """Why no round follows this one; None where one does."""
        if self.rounds is not None and round + 1 >= self.rounds:
            return f"all {self.rounds} rounds are done."
        if self.budget is not None and len(pool.labeled) >= self.budget:
            return labels_spent(self.budget)
        if pool.num_unlabeled == 0:
            return f"the pool is empty ({len(pool.pending)} pending)." if len(pool.pending) else "the pool is empty."
        return None if self.costs is None else _reason_of_cost(self.costs, pool)

    def next_query_size(self, pool: Pool) -> int:
        """How many samples the next query asks for: what is left where that is less."""
        size = min(self._query_size(pool.size), pool.num_unlabeled)
        return size if self.budget is None else min(size, self.budget - len(pool.labeled))

    def rounds_left(self, round: int, labeled: int, size: int) -> int:
        """How many rounds follow one with ``labeled`` of ``size`` samples, at most; 0 where that is not known.

        A budget in cost is left out: what a strategy will pick, and so what it will cost, is not known.
        """
        left = []
        if self.rounds is not None:
            left.append(self.rounds - 1 - round)
        if self.budget is not None:
            left.append(-(-(self.budget - labeled) // self._query_size(size)))
        return min(left, default=0)

    def _query_size(self, size: int) -> int:
        return count_of(self.query_size, size, "query_size", least=1)


def _reason_of_cost(costs: Costs, pool: Pool) -> str | None:
    """Why what may be spent ends the run."""
    if costs.most is None:
        return None
    spent = costs.spent(pool)
    if spent >= costs.most * (1 - ROUNDING):
        return cost_spent(costs.most, spent)
    unlabeled = pool.candidates()
    if not len(costs.affordable(unlabeled, pool)):
        cheapest = float(costs.of(unlabeled).min())
        return (
            f"what is left of the budget of {costs.most:,.6g} (cost {spent:,.6g}) pays for no unlabeled sample: the "
            f"cheapest costs {cheapest:,.6g}."
        )
    return None


def limits_of(callback: ActiveLearning, datamodule: ActiveLearningDataModule) -> Limits:
    """The limits of a run, the stopping rules' included.

    Raises:
        MisconfigurationException: A rule needs what the run does not have, or the first labels are beyond its limit.
        ValueError: ``cost`` does not fit the pool, or a cost is 0 that scores would be divided by.
    """
    rule, initial = callback.rule, datamodule.initial_count()
    most_labels, most_cost = (None, None) if rule is None else (rule.most_labels, rule.most_cost)
    if rule is not None and rule.needs_cost and callback.cost is None:
        raise MisconfigurationException(
            "A stopping rule counts costs, and samples have none: say ActiveLearning(cost=...), one number for all or "
            "one a sample; or count labels, Budget(labels=...)."
        )
    if rule is not None and rule.needs_predictions and callback.outputs not in ONE_DISTRIBUTION:
        raise MisconfigurationException(
            f"A stopping rule compares the classes that samples are predicted, and with outputs={callback.outputs!r} a "
            "sample has no single class. Take another rule, MarginalValue or TargetMetric."
        )
    if most_labels is not None and most_labels < initial:
        raise MisconfigurationException(
            f"The stopping rule's {most_labels} labels are below the {initial} initial ones, which count too: raise it."
        )
    budget = min((each for each in (callback.budget, most_labels) if each is not None), default=None)
    costs = None if callback.cost is None else Costs(read_costs(callback.cost, datamodule.pool.size), most_cost)
    if costs is not None:
        _check_costs(costs, callback, datamodule.pool)
    return Limits(callback.rounds, budget, callback.query_size, costs)


def _check_costs(costs: Costs, callback: ActiveLearning, pool: Pool) -> None:
    first = callback.initial_strategy
    pool = pool if first is None else Pool(pool.size)
    asked = pool.candidates()
    of_asked = costs.of(asked)
    asking = [strategy for strategy in (first, callback.strategy) if strategy is not None]
    dividing = next((strategy.name for strategy in asking if isinstance(strategy, ScoreStrategy)), None)
    free = (of_asked == 0).nonzero().flatten()
    if dividing is not None and len(free):
        raise ValueError(
            f"Expected the cost of a sample to be above 0, but got 0 for dataset index {int(asked[free[0]])}: "
            f"{dividing}'s scores are divided by it. Give a small cost in its place."
        )
    if costs.most is not None and costs.spent(pool) > costs.most * (1 + ROUNDING):
        raise MisconfigurationException(
            f"The {len(pool.labeled)} initial labels cost {costs.spent(pool):,.6g}, which is above the budget of "
            f"{costs.most:,.6g}: raise it, or label fewer, `initial=`."
        )
    if costs.most is not None and first is not None and not len(costs.affordable(asked, pool)):
        raise MisconfigurationException(
            f"The budget of {costs.most:,.6g} pays for no sample: the cheapest costs {float(of_asked.min()):,.6g}."
        )
    ignoring = sorted({strategy.name for strategy in asking if not isinstance(strategy, ScoreStrategy)})
    if ignoring:
        rank_zero_info(f"{' and '.join(ignoring)} will not look at costs when picking; they are counted all the same.")
