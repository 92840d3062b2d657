"""FLQMI: samples like those of rare classes."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.flqmi import check_eta, flqmi
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class FLQMI(QueryStrategy):
    """Ask for samples like those of a target set, which holds a few of each rare class, and cover all of it.

    For finding more of classes that have few samples, where its authors report up to 18 % more accuracy than with other
    strategies. It looks at the target set alone, not at what the model is unsure of. Here the likeness is that of
    embeddings; theirs is that of gradients. Time is a product of the pool with the targets, and that of a part of it
    with each few picks; memory is one number a sample.

    Args:
        eta: How much likeness to the nearest target counts against covering all targets, 0 or more.

    Raises:
        ValueError: ``eta`` is no number of 0 or more.

    References:
        Kothawade, Beck, Killamsetty and Iyer (NeurIPS 2021), *SIMILAR: Submodular Information Measures Based Active
        Learning in Realistic Scenarios*.
    """

    needs = Needs(pool=frozenset({"embeddings"}), target=frozenset({"embeddings"}))
    own_target = True

    def __init__(self, eta: float = 1.0) -> None:
        check_eta(eta)
        self.eta = eta

    def select(
        self,
        pool: Outputs,
        query_size: int,
        *,
        labeled: Outputs | None = None,
        target: Outputs | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Pick greedily; see `QueryStrategy.select`.

        ``target`` are samples of the classes sought; without any it raises. ``labeled`` and ``generator`` are not read.
        """
        embeddings = pool.require("embeddings", self.name)
        if not target:
            raise ValueError(
                f"Expected `target` to hold samples of the rare classes for {self.name}, but got none. Give the "
                "datamodule a `target_dataset()` of them."
            )
        return flqmi(embeddings, target.require("embeddings", f"the targets of {self.name}"), query_size, self.eta)
