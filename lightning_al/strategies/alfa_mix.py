"""ALFA-Mix: predictions that change when another class is mixed in, spread out."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.alfa_mix import alfa_mix
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy
from lightning_al.strategies.heads import require_head


class ALFAMix(QueryStrategy):
    """Ask for samples whose prediction flips when features of a class's mean are mixed in, one from each cluster.

    Its authors found it ahead of BADGE and CoreSet with few labels and pretrained features. Only the head runs again:
    time is up to six runs of it for each class that has labels, and a k-means on the candidates, so that it is slow for
    hundreds of classes; memory is a few numbers a sample and a mean for each class.

    References:
        Parvaneh, Abbasnejad, Teney, Haffari, van den Hengel and Shi (CVPR 2022), *Active Learning by Feature Mixing*.
    """

    needs = Needs(pool=frozenset({"embeddings", "head"}), labeled=frozenset({"embeddings", "targets"}))

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick among predictions that flip; see `lightning_al.functional.alfa_mix`."""
        embeddings, head = pool.require("embeddings", self.name), require_head(pool, self.name)
        known, classes = self.read_labeled(labeled, "embeddings"), self.read_labeled(labeled, "targets")
        return alfa_mix(embeddings, head, query_size, known, classes, generator)
