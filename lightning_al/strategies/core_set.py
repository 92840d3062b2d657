"""CoreSet: greedy k-center on embeddings."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.k_center import k_center_greedy
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class CoreSet(QueryStrategy):
    """Ask for what is farthest from all that is labeled: greedy k-center, exactly.

    It looks at embeddings only, so that outliers come first, and in public benchmarks it is often no better than
    random: use it on clean data, with few classes, for coverage. Time is a few passes over the pool and its labeled
    part, not one a pick; memory is a few numbers a sample beside the embeddings and
    a copy of those picked. On several devices each keeps the embeddings of its own share of the pool.

    References:
        Sener and Savarese (ICLR 2018), *Active Learning for Convolutional Neural Networks: A Core-Set Approach*.
    """

    needs = Needs(pool=frozenset({"embeddings"}), labeled=frozenset({"embeddings"}))
    sharded = True

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick the farthest samples; see `lightning_al.functional.k_center_greedy`."""
        known = self.read_labeled(labeled, "embeddings")
        return k_center_greedy(pool.require("embeddings", self.name), query_size, known, pool.shard)
