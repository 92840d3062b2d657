"""Greedy posterior variance: the most uncertain values of a linear model, known before any label."""

from __future__ import annotations

import math

from torch import Generator, Tensor

from lightning_al.functional.posterior_variance import posterior_variance
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class PosteriorVariance(QueryStrategy):
    """Ask for what a linear model on the embeddings is least sure of, each pick given those before it.

    For regression, where a network tells no uncertainty of its own. Variance is largest at the edge of the data, so
    that outliers come early; LCMD, which follows the density, had the lower error over public benchmarks. Time is a
    product of the pool with a D x D matrix and much less than a pass a pick; memory is a few numbers a sample.

    Args:
        noise: Standard deviation of a label's noise, relative to the spread of the model's predictions, above 0.

    Raises:
        ValueError: If ``noise`` is not above 0.

    References:
        Seo, Wallat, Graepel and Obermayer (2000), *Gaussian Process Regression: Active Data Selection and Test Point
        Rejection*; Holzmüller, Zaverkin, Kästner and Steinwart (JMLR 2023), *A Framework and Benchmark for Deep Batch
        Active Learning for Regression*.
    """

    needs = Needs(pool=frozenset({"embeddings"}), labeled=frozenset({"embeddings"}))

    def __init__(self, noise: float = 0.1) -> None:
        if isinstance(noise, bool) or not 0 < noise < math.inf:
            raise ValueError(f"Expected `noise` to be a number above 0, but got {noise!r}.")
        self.noise = noise

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick the largest conditional variances; see `lightning_al.functional.posterior_variance`."""
        known = self.read_labeled(labeled, "embeddings")
        return posterior_variance(pool.require("embeddings", self.name), query_size, known, self.noise)
