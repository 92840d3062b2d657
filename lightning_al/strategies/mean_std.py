"""Mean standard deviation."""

from __future__ import annotations

from torch import Tensor

from lightning_al.functional.committee import mean_std
from lightning_al.strategies.base import Needs, ScoreStrategy


class MeanStd(ScoreStrategy):
    """Ask where the probabilities of several draws of the model spread most.

    It reads dropout draws or an ensemble. In the comparison by Gal and others it fell behind BALD and the variation
    ratio, which are as cheap: prefer those. One pass over the pool, one number a sample.

    References:
        Kampffmeyer, Salberg and Jenssen (CVPR Workshops 2016), *Semantic Segmentation of Small Objects and Modeling of
        Uncertainty in Urban Remote Sensing Images Using Deep Convolutional Neural Networks*; Gal, Islam and Ghahramani
        (ICML 2017), *Deep Bayesian Active Learning with Image Data*.
    """

    needs = Needs(pool=frozenset({"samples"}))

    def score(self, probs: Tensor) -> Tensor:
        """Return the mean standard deviation; see `lightning_al.functional.mean_std`."""
        return mean_std(probs)
