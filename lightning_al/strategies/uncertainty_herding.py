"""UHerding: cover what the model is not sure of."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.herding import uncertainty_herding
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class UHerding(QueryStrategy):
    """Ask for the samples that stand for most of what the model is not sure of.

    Uncertainty Herding is MaxHerding while there are few labels and turns into Margin as there are many: its kernel
    shrinks with the distance between labeled samples. The paper finds the temperature on labels held out from a
    training of its own; here it is found on the labeled samples, on which a model that has learned them by heart looks
    calibrated. Time and memory are those of MaxHerding.

    References:
        Bae, Sutherland and Oliveira (ICLR 2025), *Uncertainty Herding: One Active Learning Method for All Label
        Budgets*.
    """

    needs = Needs(pool=frozenset({"probs", "embeddings"}), labeled=frozenset({"probs", "embeddings", "targets"}))

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick by greedy coverage of uncertainty; see `lightning_al.functional.uncertainty_herding`."""
        embeddings, probs = pool.require("embeddings", self.name), pool.require("probs", self.name)
        known, known_probs = self.read_labeled(labeled, "embeddings"), self.read_labeled(labeled, "probs")
        classes = self.read_labeled(labeled, "targets")
        return uncertainty_herding(embeddings, probs, query_size, known, known_probs, classes, generator)
