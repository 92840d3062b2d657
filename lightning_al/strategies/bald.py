"""BALD."""

from __future__ import annotations

from torch import Tensor

from lightning_al.functional.committee import mutual_information
from lightning_al.strategies.base import Needs, ScoreStrategy


class BALD(ScoreStrategy):
    """Ask where draws of the model disagree, each sure of itself: the mutual information of label and model.

    It passes over samples that are unsure because they are noisy. It reads dropout draws or an ensemble. Its batches
    hold near-duplicates, and over public benchmarks it ranks behind Margin: wrap it in Stochastic, or take BatchBALD
    for small batches. One pass over the pool, one number a sample.

    References:
        Houlsby, Huszar, Ghahramani and Lengyel (2011), *Bayesian Active Learning for Classification and Preference
        Learning*; Gal, Islam and Ghahramani (ICML 2017), *Deep Bayesian Active Learning with Image Data*.
    """

    needs = Needs(pool=frozenset({"samples"}))

    def score(self, probs: Tensor) -> Tensor:
        """Return the mutual information in nats; see `lightning_al.functional.mutual_information`."""
        return mutual_information(probs)
