"""Random sampling: the control that every other strategy is measured against."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.inputs import check_query_size, default_generator, permutation
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class Random(QueryStrategy):
    """Pick uniformly at random, without replacement.

    Use it as the control, and where nothing better is shown to pay. It needs no forward pass; time and memory are one
    permutation of the pool (4 bytes a sample).
    """

    needs = Needs()

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick pool positions at random; see `QueryStrategy.select`."""
        count = check_query_size(query_size, len(pool))
        return permutation(len(pool), default_generator(generator))[:count].long()
