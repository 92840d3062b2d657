"""How far a run goes: what ends it, how much each query asks, and how many rounds are left."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_al.dataset import count_of
from lightning_al.pool import Pool


@dataclass(frozen=True)
class Limits:
    """The numbers that the user set.

    Args:
        rounds: How many fits in all; None for any number.
        budget: How many labels in all; None for any number.
        query_size: Labels asked for in a round: a count, or a share of the pool in (0, 1).

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

    def reason_to_stop(self, round: int, pool: Pool) -> str | None:
        """Why no round follows this one; None where one does."""
        if self.rounds is not None and round + 1 >= self.rounds:
            return f"all {self.rounds} rounds are done."
        if self.budget is not None and len(pool.labeled) >= self.budget:
            return f"the budget of {self.budget} labels is spent."
        if pool.num_unlabeled == 0:
            return f"the pool is empty ({len(pool.pending)} pending)." if len(pool.pending) else "the pool is empty."
        return None

    def next_query_size(self, pool: Pool) -> int:
        """How many samples the next query asks for: what is left where that is less."""
        size = min(self._query_size(pool.size), pool.num_unlabeled)
        return size if self.budget is None else min(size, self.budget - len(pool.labeled))

    def rounds_left(self, round: int, labeled: int, size: int) -> int:
        """How many rounds follow one with ``labeled`` of ``size`` samples, at most; 0 where that is not known."""
        left = []
        if self.rounds is not None:
            left.append(self.rounds - 1 - round)
        if self.budget is not None:
            left.append(-(-(self.budget - labeled) // self._query_size(size)))
        return min(left, default=0)

    def _query_size(self, size: int) -> int:
        return count_of(self.query_size, size, "query_size", least=1)
