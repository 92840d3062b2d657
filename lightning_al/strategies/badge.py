"""BADGE: k-means++ on last-layer gradients."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.badge import badge
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class BADGE(QueryStrategy):
    """Ask for samples that are uncertain and differ from each other: k-means++ on the gradients of the last layer.

    On a par with Margin over public benchmarks, and the safer choice for large batches on redundant data. Time is a
    few passes over the pool; memory is a few numbers a sample beside probabilities and embeddings. On several devices
    each keeps those of its own share of the pool.

    References:
        Ash, Zhang, Krishnamurthy, Langford and Agarwal (ICLR 2020), *Deep Batch Active Learning by Diverse, Uncertain
        Gradient Lower Bounds*.
    """

    needs = Needs(pool=frozenset({"probs", "embeddings"}))
    sharded = True

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick by k-means++ among the gradients; see `lightning_al.functional.badge`."""
        probs, embeddings = pool.require("probs", self.name), pool.require("embeddings", self.name)
        return badge(probs, embeddings, query_size, generator, pool.shard)
