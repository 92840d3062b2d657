"""A strategy that does not get to see the same sample twice."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lightning_al.functional.duplicates import near_duplicates
from lightning_al.functional.inputs import check_query_size, default_generator
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy, get_strategy
from lightning_al.strategies.wrapper import Wrapper, select_within


class ExcludeDuplicates(Wrapper):
    """Leave out samples that are next to the same as labeled or other ones, and let a strategy pick among the rest.

    For pools from video or scraped pages: one uncertain scene would fill a query. Of several such samples the first
    stays. Fewer are left out where the query needs them. Time is a comparison of all pairs of samples; memory is a copy
    of what is left of the pool.

    Args:
        strategy: The strategy that picks, or its name.
        share: How near, as a share of the median distance between nearest samples; directions of embeddings count.

    Raises:
        ValueError: There is no such strategy, or ``share`` is negative.
    """

    def __init__(self, strategy: QueryStrategy | str = "Margin", share: float = 0.05) -> None:
        if isinstance(share, bool) or not isinstance(share, int | float) or not share >= 0:
            raise ValueError(f"Expected `share` to be at least 0, but got {share!r}.")
        self.strategy, self.share = get_strategy(strategy), share
        embeddings = frozenset({"embeddings"})
        super().__init__({"strategy": self.strategy}, Needs(pool=embeddings, labeled=embeddings))

    def select(
        self,
        pool: Outputs,
        query_size: int,
        *,
        labeled: Outputs | None = None,
        target: Outputs | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Pick among all but the duplicates; see `QueryStrategy.select`."""
        embeddings = pool.require("embeddings", self.name)
        count = check_query_size(query_size, len(embeddings))
        known = self.read_labeled(labeled, "embeddings")
        duplicate = near_duplicates(embeddings, known, self.share)
        kept, others = (~duplicate).nonzero()[:, 0], duplicate.nonzero()[:, 0]
        if len(kept) < count:
            kept = torch.cat([kept, others[: count - len(kept)]]).sort().values
        generator = default_generator(generator)
        return select_within(
            self.strategy, pool, kept, max(count, 1), labeled=labeled, target=target, generator=generator
        )
