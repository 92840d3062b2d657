"""Entropy sampling."""

from __future__ import annotations

from torch import Tensor

from lightning_al.functional.uncertainty import predictive_entropy
from lightning_al.strategies.base import ScoreStrategy


class Entropy(ScoreStrategy):
    """Ask where the predicted distribution has the highest entropy.

    With many classes it asks where the mass is spread over classes that do not matter, and it can lose to random:
    prefer Margin unless a study of your data says otherwise. One pass over the pool, one number a sample.

    References:
        Shannon (1948), *A Mathematical Theory of Communication*; Settles (2009), *Active Learning Literature Survey*.
    """

    def score(self, probs: Tensor) -> Tensor:
        """Return the entropy in nats; see `lightning_al.functional.predictive_entropy`."""
        return predictive_entropy(probs)
