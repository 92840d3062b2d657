"""CAL: contrastive active learning."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.cal import cal
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class CAL(QueryStrategy):
    """Ask where the prediction differs most from those of the ten labeled samples nearest in embedding space.

    Made for fine-tuned language models, where the paper has it on a par with entropy or better; near-duplicates may
    fill a batch. Before there are labels it asks for the highest entropy. Time is a product of the pool with the
    labeled samples; memory is ten neighbours a sample.

    References:
        Margatina, Vernikos, Barrault and Aletras (EMNLP 2021), *Active Learning by Acquiring Contrastive Examples*.
    """

    needs = Needs(pool=frozenset({"probs", "embeddings"}), labeled=frozenset({"probs", "embeddings"}))

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick the most contrastive samples; see `lightning_al.functional.cal`."""
        probs, embeddings = pool.require("probs", self.name), pool.require("embeddings", self.name)
        known_probs, known = self.read_labeled(labeled, "probs"), self.read_labeled(labeled, "embeddings")
        return cal(probs, embeddings, query_size, known_probs, known, generator=generator)
