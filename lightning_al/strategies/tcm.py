"""TCM: TypiClust while there are few labels, then Margin."""

from __future__ import annotations

import operator
from typing import Any

from torch import Generator, Tensor

from lightning_al.functional.inputs import check_probs, check_probs_values
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy
from lightning_al.strategies.margin import Margin
from lightning_al.strategies.typiclust import TypiClust


class TCM(QueryStrategy):
    """Ask for typical samples while there are few labels a class, then for low margins.

    TypiClust's cold start without its fall behind Margin later: made for pretrained embeddings, with which the paper
    finds that the switch may come early. Queries go to TypiClust while there are fewer than ``labels_per_class`` labels
    for each class, the initial ones included, and to Margin from then on, for good: that it has switched is saved with
    the run. Cost is that of the one in turn.

    Args:
        labels_per_class: Labels for each class, on average, from which on margins are trusted; at least 1. The default
            is our choice.

    Raises:
        ValueError: If ``labels_per_class`` is not a positive integer.

    References:
        Doucet, Estermann, Aczel and Wattenhofer (ICLR 2024 workshop PML4LRS), *Bridging Diversity and Uncertainty in
        Active Learning with Self-Supervised Pre-Training*.
    """

    needs = Needs(pool=TypiClust.needs.pool | Margin.needs.pool, labeled=TypiClust.needs.labeled)

    def __init__(self, labels_per_class: int = 20) -> None:
        try:
            count = operator.index(labels_per_class)
        except TypeError:
            count = 0
        if isinstance(labels_per_class, bool) or count < 1:
            raise ValueError(f"Expected `labels_per_class` to be a positive integer, but got {labels_per_class!r}.")
        self.labels_per_class = count
        self._switched = False

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick by `TypiClust` or by `Margin`, as the number of labels has it."""
        probs = check_probs(pool.require("probs", self.name))
        pool.require("embeddings", self.name)
        check_probs_values(probs)
        known = len(labeled) if labeled is not None else 0
        switched = self._switched or known >= self.labels_per_class * probs.shape[1]
        stage = Margin() if switched else TypiClust()
        picks = stage.select(pool, query_size, labeled=labeled, generator=generator)
        self._switched = switched
        return picks

    def state_dict(self) -> dict[str, Any]:
        """Return whether margins are trusted by now."""
        return {"switched": self._switched}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` returned.

        Args:
            state: That state.

        Raises:
            ValueError: If the state is not of this strategy.
        """
        if set(state) != {"switched"} or not isinstance(state["switched"], bool):
            raise ValueError(f"Expected a state of {self.name} with a bool `switched`, but got {sorted(state)}.")
        self._switched = state["switched"]
