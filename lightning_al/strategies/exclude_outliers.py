"""A strategy that does not get to see the outliers."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lightning_al.functional.inputs import check_query_size, default_generator
from lightning_al.functional.outliers import knn_distances
from lightning_al.functional.top_k import top_k
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy, get_strategy
from lightning_al.strategies.wrapper import Wrapper, select_within


class ExcludeOutliers(Wrapper):
    """Leave out the samples that are farthest from their neighbours, and let a strategy pick among the others.

    For pools with broken or foreign samples, which CoreSet and uncertainty ask for first. Rare classes look like
    outliers too: with few samples of a class, leave it off. Fewer are left out where the query needs them. Time is a
    comparison of all pairs of samples; memory is a copy of what is left of the pool.

    Args:
        strategy: The strategy that picks, or its name.
        share: Share of the pool that is left out, at least 0 and below 1.
        neighbours: How many nearest neighbours the mean distance is taken from.

    Raises:
        ValueError: There is no such strategy, ``share`` is out of range, or ``neighbours`` is not a positive integer.

    References:
        Ramaswamy, Rastogi and Shim (SIGMOD 2000), *Efficient Algorithms for Mining Outliers from Large Data Sets*;
        Sener and Savarese (ICLR 2018), *Active Learning for Convolutional Neural Networks: A Core-Set Approach*.
    """

    def __init__(self, strategy: QueryStrategy | str = "CoreSet", share: float = 0.05, neighbours: int = 10) -> None:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise ValueError(f"Expected `share` to be a share of the pool in [0, 1), but got {share!r}.")
        self.strategy, self.share = get_strategy(strategy), share
        self.neighbours = check_query_size(neighbours, 1 << 62, "neighbours")
        super().__init__({"strategy": self.strategy}, Needs(pool=frozenset({"embeddings"})))

    def select(
        self,
        pool: Outputs,
        query_size: int,
        *,
        labeled: Outputs | None = None,
        target: Outputs | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Pick among all but the outliers; see `QueryStrategy.select`."""
        embeddings = pool.require("embeddings", self.name)
        count = check_query_size(query_size, len(embeddings))
        kept = torch.arange(len(embeddings), device=embeddings.device)
        left_out = min(int(self.share * len(embeddings)), len(embeddings) - count)
        if left_out:
            # The least distances are kept, the lowest positions where they tie.
            kept = top_k(-knn_distances(embeddings, self.neighbours), len(embeddings) - left_out).sort().values
        generator = default_generator(generator)
        return select_within(
            self.strategy, pool, kept, max(count, 1), labeled=labeled, target=target, generator=generator
        )
