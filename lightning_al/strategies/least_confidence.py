"""Least confidence sampling."""

from __future__ import annotations

from torch import Tensor

from lightning_al.functional.uncertainty import least_confidence
from lightning_al.strategies.base import ScoreStrategy


class LeastConfidence(ScoreStrategy):
    """Ask where the most likely class is least likely: the highest ``1 - p1``.

    Nearly as good as Margin on most data, and the same on two classes. One pass over the pool, one number a sample.

    References:
        Lewis and Gale (SIGIR 1994), *A Sequential Algorithm for Training Text Classifiers*.
    """

    def score(self, probs: Tensor) -> Tensor:
        """Return ``1 - p1``; see `lightning_al.functional.least_confidence`."""
        return least_confidence(probs)
