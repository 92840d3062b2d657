"""BAIT: Fisher information of the last layer."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.bait import bait
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class BAIT(QueryStrategy):
    """Ask for the batch whose labels tell most of what the predictions of all samples depend on.

    It weighs uncertainty and the whole data set's geometry at once; the paper and its fast binary form, which this is,
    report it above BADGE and Margin on image data. Time is two passes over the pool a pick and some products with a
    D x D matrix, which makes it the slowest strategy on embeddings here; memory is a few numbers a sample beside
    probabilities and embeddings, and D x D.

    References:
        Ash, Goel, Krishnamurthy and Kakade (NeurIPS 2021), *Gone Fishing: Neural Active Learning with Fisher
        Embeddings*; Huseljic, Hahn, Herde, Rauch and Sick (ECML PKDD 2024), *Fast Fishing: Approximating BAIT for
        Efficient and Scalable Deep Active Image Classification*.
    """

    needs = Needs(pool=frozenset({"probs", "embeddings"}), labeled=frozenset({"probs", "embeddings"}))

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick by Fisher information; see `lightning_al.functional.bait`."""
        probs, embeddings = pool.require("probs", self.name), pool.require("embeddings", self.name)
        known_probs, known = self.read_labeled(labeled, "probs"), self.read_labeled(labeled, "embeddings")
        return bait(probs, embeddings, query_size, known_probs, known)
