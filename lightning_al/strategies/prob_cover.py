"""ProbCover: cover as much of the pool as possible."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.prob_cover import check_delta, prob_cover
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class ProbCover(QueryStrategy):
    """Ask for the samples whose balls cover most of what is not covered yet.

    Made for the cold start: good embeddings (a pretrained model) and few labels. What it picks depends much on the
    radius, which by default is taken from clusters, as many as there are classes among the labels, or as the samples
    asked for while there are fewer than two. MaxHerding does without. Time is at most two comparisons of all pairs of
    samples; memory is a few numbers a sample, never the graph of pairs.

    Args:
        delta: Radius of a ball about an embedding scaled to length 1, above 0. None: that at which 95 % of the balls
            are of one cluster.

    Raises:
        ValueError: ``delta`` is not a positive number.

    References:
        Yehuda, Dekel, Hacohen and Weinshall (NeurIPS 2022), *Active Learning Through a Covering Lens*.
    """

    needs = Needs(pool=frozenset({"embeddings"}), labeled=frozenset({"embeddings", "targets"}))

    def __init__(self, delta: float | None = None) -> None:
        if delta is not None:
            check_delta(delta)
        self.delta = delta

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick by greedy coverage; see `lightning_al.functional.prob_cover`."""
        known, targets = self.read_labeled(labeled, "embeddings"), self.read_labeled(labeled, "targets")
        # values, or several labels a sample, are no classes to look for
        classes = 0 if targets is None or targets.is_floating_point() or targets.ndim > 1 else len(targets.unique())
        num_classes = classes if classes > 1 else None
        return prob_cover(pool.require("embeddings", self.name), query_size, known, self.delta, generator, num_classes)
