"""LCMD: largest cluster, maximum distance."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.lcmd import lcmd
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class LCMD(QueryStrategy):
    """Ask for the farthest sample of the heaviest cluster around what is labeled: dense regions first, then the rest.

    The default for regression, where it had the lowest mean error over 15 tabular data sets; it reads no
    probabilities, so that it serves classification as well. It chases outliers less than CoreSet. Time is up to a
    pass over the pool a pick, a few times less where embeddings are correlated; memory is a tenth of the embeddings.

    References:
        Holzmüller, Zaverkin, Kästner and Steinwart (JMLR 2023), *A Framework and Benchmark for Deep Batch Active
        Learning for Regression*.
    """

    needs = Needs(pool=frozenset({"embeddings"}), labeled=frozenset({"embeddings"}))

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick the farthest sample of the heaviest cluster; see `lightning_al.functional.lcmd`."""
        known = self.read_labeled(labeled, "embeddings")
        return lcmd(pool.require("embeddings", self.name), query_size, known)
