"""TypiClust: typical samples first."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.typiclust import typiclust
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class TypiClust(QueryStrategy):
    """Ask for the most typical sample of each large cluster that has few labels.

    Made for the cold start: good embeddings (a pretrained model) and few labels, up to some tens a class. Later it
    falls behind Margin and BADGE. Time is up to 20 passes of a product of all samples with at most 500 centroids, and
    distances within clusters; memory is a few numbers a sample and one cluster's neighbours.

    References:
        Hacohen, Dekel and Weinshall (ICML 2022), *Active Learning on a Budget: Opposite Strategies Suit High and Low
        Budgets*.
    """

    needs = Needs(pool=frozenset({"embeddings"}), labeled=frozenset({"embeddings"}))

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick the most typical sample of each cluster; see `lightning_al.functional.typiclust`."""
        known = self.read_labeled(labeled, "embeddings")
        return typiclust(pool.require("embeddings", self.name), query_size, known, generator)
