"""MaxHerding: cover the pool smoothly."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.herding import max_herding
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class MaxHerding(QueryStrategy):
    """Ask for the samples that stand for most of the pool: greedy coverage under a Gaussian kernel.

    For the cold start, like TypiClust and ProbCover, without clusters and without a radius to choose. Later it falls
    behind Margin and BADGE: see UHerding. Time is some comparisons of all samples with 10,000 of them, or with 20 a
    pick; memory is the kernel of 128 samples.

    References:
        Bae, Noh and Sutherland (ECCV 2024), *Generalized Coverage for More Robust Low-Budget Active Learning*.
    """

    needs = Needs(pool=frozenset({"embeddings"}), labeled=frozenset({"embeddings"}))

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick by greedy coverage; see `lightning_al.functional.max_herding`."""
        known = self.read_labeled(labeled, "embeddings")
        return max_herding(pool.require("embeddings", self.name), query_size, known, generator)
