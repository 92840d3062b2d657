"""Several strategies, each with its share of a query."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from lightning_al.functional.inputs import check_query_size, default_generator
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy, get_strategy
from lightning_al.strategies.wrapper import Wrapper, select_within


class Mixture(Wrapper):
    """Share a query among several strategies; each picks from what those before it left.

    Where no one strategy is known to suit, or to keep a part of the labels random beside a strategy's. Time and memory
    are those of the strategies together, and from the second on a copy of the pool's outputs.

    Args:
        strategies: The strategies, or their names, in the order they pick.
        shares: The share of the query that each picks, above 0, together 1; None: the same for each. A pick that no
            share covers whole goes to the largest remainder, of equal ones to the first.

    Raises:
        ValueError: There is no strategy or no such one, or ``shares`` are not one for each, above 0, together 1.
    """

    def __init__(
        self,
        strategies: Sequence[QueryStrategy | str] = ("Margin", "Random"),
        shares: Sequence[float] | None = None,
    ) -> None:
        if isinstance(strategies, str) or len(strategies) == 0:
            raise ValueError(f"Expected `strategies` to be a list of one strategy or more, but got {strategies!r}.")
        self.strategies = [get_strategy(strategy) for strategy in strategies]
        if shares is not None and not (
            len(shares) == len(strategies) and min(shares) > 0 and math.isclose(sum(shares), 1, abs_tol=1e-6)
        ):
            raise ValueError(
                f"Expected `shares` to be {len(strategies)} numbers above 0 that sum to 1, one for each strategy, but "
                f"got {shares!r}."
            )
        self.shares = None if shares is None else list(shares)
        super().__init__({str(number): strategy for number, strategy in enumerate(self.strategies)}, Needs())

    def select(
        self,
        pool: Outputs,
        query_size: int,
        *,
        labeled: Outputs | None = None,
        target: Outputs | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Let each strategy pick its share; see `QueryStrategy.select`."""
        count = check_query_size(query_size, len(pool))
        generator = default_generator(generator)
        picks: list[Tensor] = []
        left = torch.ones(len(pool), dtype=torch.bool)
        for strategy, size in zip(self.strategies, self._sizes(count), strict=True):
            if size == 0:
                continue
            rest = left.nonzero()[:, 0]
            chosen = select_within(strategy, pool, rest, size, labeled=labeled, target=target, generator=generator)
            picks.append(chosen)
            left[chosen] = False
        return torch.cat(picks) if picks else left.nonzero()[:, 0]

    def _sizes(self, count: int) -> list[int]:
        """Return how many samples each strategy picks, by the largest remainders."""
        shares = self.shares or [1 / len(self.strategies)] * len(self.strategies)
        exact = [share * count for share in shares]
        sizes = [math.floor(size + 1e-9) for size in exact]  # three tenths of ten are 3, whatever the rounding
        by_remainder = sorted(range(len(exact)), key=lambda i: (round(sizes[i] - exact[i], 9), i))
        for i in by_remainder[: count - sum(sizes)]:
            sizes[i] += 1
        return sizes
