"""GALAXY: where a class's labels change, for rare classes."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.galaxy import galaxy
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class GALAXY(QueryStrategy):
    """Ask, class after class, halfway between the labeled samples of the class and those of others.

    Made for classes of very different sizes, where the samples a model is least sure of are mostly of the large ones:
    in LabelBench's results its mean rank is 2.9, behind Margin (1.9) and BADGE (2.0) over all data sets, and it asks
    for more of the rare classes. Small queries suit it, since within one the answers are guessed. Time is a sort of the
    pool a pick; memory is a few numbers a sample.

    References:
        Zhang, Katz-Samuels and Nowak (ICML 2022), *GALAXY: Graph-based Active Learning at the Extreme*.
    """

    needs = Needs(pool=frozenset({"probs"}), labeled=frozenset({"probs", "targets"}))

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick by bisection between labels; see `lightning_al.functional.galaxy`."""
        probs = pool.require("probs", self.name)
        known, classes = self.read_labeled(labeled, "probs"), self.read_labeled(labeled, "targets")
        return galaxy(probs, query_size, known, classes, generator)
