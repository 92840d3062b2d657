"""KMeans: one sample a cluster."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.k_means import k_means
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class KMeans(QueryStrategy):
    """Ask for the sample nearest each centroid of as many clusters as labels are wanted.

    Diverse and representative, blind to what the model knows: use it for the first labels, or with large batches.
    Time is up to 20 passes of a product of the pool with the centroids; memory is a few numbers a sample beside the
    embeddings.

    References:
        Zhdanov (2019), *Diverse Mini-Batch Active Learning*.
    """

    needs = Needs(pool=frozenset({"embeddings"}))

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick what is nearest each centroid; see `lightning_al.functional.k_means`."""
        return k_means(pool.require("embeddings", self.name), query_size, generator)
