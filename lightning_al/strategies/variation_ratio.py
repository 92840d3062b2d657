"""Variation ratio."""

from __future__ import annotations

from torch import Tensor

from lightning_al.functional.aggregation import Aggregate
from lightning_al.functional.committee import VariationKind, check_variation_kind, variation_ratio
from lightning_al.strategies.base import Needs, ScoreStrategy


class VariationRatio(ScoreStrategy):
    """Ask where most draws of the model vote against the class with the most votes.

    It reads dropout draws or an ensemble and asks as LeastConfidence does; the draws' number bounds how finely it tells
    samples apart. In published comparisons it is on a par with BALD. One pass over the pool, one number a sample.

    Args:
        kind: ``"votes"``: one minus the largest share of votes. ``"mean"``: one minus the largest mean probability,
            which seldom ties.
        aggregate: How the scores of a sample's parts become the sample's; see `ScoreStrategy`.

    Raises:
        ValueError: ``kind`` or ``aggregate`` is none of those.

    References:
        Freeman (1965), *Elementary Applied Statistics*; Gal, Islam and Ghahramani (ICML 2017), *Deep Bayesian Active
        Learning with Image Data*.
    """

    needs = Needs(pool=frozenset({"samples"}))

    def __init__(self, kind: VariationKind = "votes", aggregate: Aggregate | None = None) -> None:
        super().__init__(aggregate)
        check_variation_kind(kind)
        self.kind = kind

    def score(self, probs: Tensor) -> Tensor:
        """Return the variation ratio; see `lightning_al.functional.variation_ratio`."""
        return variation_ratio(probs, kind=self.kind)
