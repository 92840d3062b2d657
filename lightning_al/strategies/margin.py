"""Margin sampling."""

from __future__ import annotations

from torch import Tensor

from lightning_al.functional.uncertainty import margin
from lightning_al.strategies.base import ScoreStrategy


class Margin(ScoreStrategy):
    """Ask where the two most likely classes are closest: the highest ``1 - (p1 - p2)``.

    The default: over public benchmarks it has the best mean rank, and it seldom loses to random. One pass over the
    pool, one number a sample. A batch may hold near-duplicates; for large batches on redundant data consider BADGE.

    References:
        Scheffer, Decomain and Wrobel (IDA 2001), *Active Hidden Markov Models for Information Extraction*.
    """

    def score(self, probs: Tensor) -> Tensor:
        """Return ``1 - (p1 - p2)``; see `lightning_al.functional.margin`."""
        return margin(probs)
