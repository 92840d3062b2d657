"""Vote entropy."""

from __future__ import annotations

from torch import Tensor

from lightning_al.functional.committee import vote_entropy
from lightning_al.strategies.base import Needs, ScoreStrategy


class VoteEntropy(ScoreStrategy):
    """Ask where the votes of several draws of the model are spread most evenly over classes.

    Query by committee for members that only vote; where they give probabilities, BALD reads more of them and ties less
    often. It reads dropout draws or an ensemble. One pass over the pool, one number a sample.

    References:
        Dagan and Engelson (ICML 1995), *Committee-Based Sampling for Training Probabilistic Classifiers*.
    """

    needs = Needs(pool=frozenset({"samples"}))

    def score(self, probs: Tensor) -> Tensor:
        """Return the entropy of the votes; see `lightning_al.functional.vote_entropy`."""
        return vote_entropy(probs)
