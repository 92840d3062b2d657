"""A cheap score first, a costly strategy on what it leaves."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.inputs import check_query_size, default_generator
from lightning_al.strategies.base import (
    Needs,
    Outputs,
    QueryStrategy,
    ScoreStrategy,
    get_score_strategy,
    get_strategy,
)
from lightning_al.strategies.wrapper import Wrapper, select_within


class Prefilter(Wrapper):
    """Keep the samples that one strategy scores highest, and let another pick among them.

    Uncertainty first, then diversity: Margin before KMeans is the diverse mini-batch of Zhdanov (without his weights).
    It also makes a costly strategy cheap on a large pool. Time is the score's on all of the pool and the strategy's on
    ``factor`` samples a pick; memory is a copy of those.

    Args:
        score: The strategy that scores each sample on its own, or its name.
        strategy: The strategy that picks among those kept, or its name.
        factor: How many samples are kept for each that is picked, at least 1.

    Raises:
        ValueError: There is no such strategy, ``score`` picks batches as a whole, or ``factor`` is not a positive
            integer.

    References:
        Zhdanov (2019), *Diverse Mini-Batch Active Learning*.
    """

    def __init__(
        self, score: ScoreStrategy | str = "Margin", strategy: QueryStrategy | str = "KMeans", factor: int = 10
    ) -> None:
        self.score, self.strategy = get_score_strategy(score, "score"), get_strategy(strategy)
        self.factor = check_query_size(factor, 1 << 62, "factor")
        super().__init__({"score": self.score, "strategy": self.strategy}, Needs())

    def select(
        self,
        pool: Outputs,
        query_size: int,
        *,
        labeled: Outputs | None = None,
        target: Outputs | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Pick among the highest scores; see `QueryStrategy.select`."""
        count = check_query_size(query_size, 1 << 62)
        generator = default_generator(generator)
        kept = self.score.select(pool, self.factor * count, labeled=labeled, generator=generator).sort().values
        return select_within(self.strategy, pool, kept, count, labeled=labeled, target=target, generator=generator)
