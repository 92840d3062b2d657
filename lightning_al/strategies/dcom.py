"""DCoM: from density to margin as the pool is covered."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from lightning_al.functional.dcom import adapt_deltas, dcom
from lightning_al.functional.prob_cover import check_delta
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class DCoM(QueryStrategy):
    """Ask by density, as ProbCover, while little is covered by what is labeled, and by margin once most is.

    Each labeled sample keeps a radius of its own, found when its label is new: how far the model's predictions agree
    with it. Time and memory are those of ProbCover.

    Args:
        delta: Radius before there are labels, for embeddings scaled to length 1, above 0. None: that at which 95 % of
            the balls are of one cluster, of as many as there are classes.

    Raises:
        ValueError: ``delta`` is not a positive number.

    References:
        Mishal and Weinshall (2024), *DCoM: Active Learning for All Learners*, arXiv:2407.01804.
    """

    needs = Needs(
        pool=frozenset({"probs", "embeddings"}),
        labeled=frozenset({"probs", "embeddings", "targets", "dataset_indices"}),
    )

    def __init__(self, delta: float | None = None) -> None:
        if delta is not None:
            check_delta(delta)
        self.delta = delta
        self._radii: dict[int, float] = {}

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Adapt the radii of new labels, then pick by density and margin; see `lightning_al.functional.dcom`."""
        embeddings, probs = pool.require("embeddings", self.name), pool.require("probs", self.name)
        if not labeled:
            return dcom(embeddings, probs, query_size, delta=self.delta, generator=generator)
        asked_by = f"the labeled samples of {self.name}"
        known = labeled.require("embeddings", asked_by)
        indices = labeled.require("dataset_indices", asked_by).tolist()
        deltas = adapt_deltas(
            embeddings,
            probs,
            known,
            labeled.require("probs", asked_by),
            labeled.require("targets", asked_by),
            torch.tensor([self._radii.get(index, torch.nan) for index in indices]),
            self.delta,
            generator,
        )
        picks = dcom(embeddings, probs, query_size, known, deltas, generator=generator)
        self._radii = dict(zip(indices, deltas.tolist(), strict=True))
        return picks

    def state_dict(self) -> dict[str, Any]:
        """Return the radii of the labeled samples, by dataset index."""
        return {"radii": dict(self._radii)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` returned.

        Args:
            state: That state.

        Raises:
            ValueError: If it is none of this strategy's.
        """
        if set(state) != {"radii"}:
            raise ValueError(f"Expected a state with the key 'radii' for {self.name}, but got {sorted(state)}.")
        self._radii = {int(index): float(radius) for index, radius in state["radii"].items()}
