"""Quotas for classes that have few labels, whatever the strategy."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lightning_al.functional.inputs import check_probs, check_probs_values, check_query_size, default_generator
from lightning_al.functional.quotas import level_turns
from lightning_al.functional.targets import check_targets
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy, get_strategy
from lightning_al.strategies.wrapper import Wrapper, select_within


class ClassBalanced(Wrapper):
    """Share a query among predicted classes so that labels become as level as they can; another strategy picks within.

    Each pick goes to the class that has the fewest labels, the query's picks so far counted by their predicted class,
    while samples predicted as that class are left. For classes of very different sizes, and a model that predicts the
    rare ones at all. Time and memory are the other strategy's, once a class on the samples predicted as it.

    Args:
        strategy: The strategy that picks within a class, or its name.

    Raises:
        ValueError: There is no such ``strategy``.
    """

    def __init__(self, strategy: QueryStrategy | str = "Margin") -> None:
        self.strategy = get_strategy(strategy)
        own = Needs(pool=frozenset({"probs"}), labeled=frozenset({"targets"}))
        super().__init__({"strategy": self.strategy}, own)

    def select(
        self,
        pool: Outputs,
        query_size: int,
        *,
        labeled: Outputs | None = None,
        target: Outputs | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Pick for the class with the fewest labels, turn by turn; see `QueryStrategy.select`."""
        probs = check_probs(pool.require("probs", self.name))
        count = check_query_size(query_size, len(probs))
        check_probs_values(probs)
        classes = probs.shape[1]
        counts = [0] * classes
        if labeled:
            known = labeled.require("targets", f"the labeled samples of {self.name}")
            counts = check_targets(known, len(labeled), classes).bincount(minlength=classes).tolist()
        predicted = probs.argmax(1)
        turns = level_turns(counts, predicted.bincount(minlength=classes).tolist(), count)
        generator = default_generator(generator)
        picks = torch.empty(count, dtype=torch.int64, device=probs.device)
        turn_of = torch.tensor(turns, dtype=torch.int64, device=probs.device)
        for name in sorted(set(turns)):
            mine = (turn_of == name).nonzero()[:, 0]
            members = (predicted == name).nonzero()[:, 0]
            picks[mine] = select_within(
                self.strategy, pool, members, len(mine), labeled=labeled, target=target, generator=generator
            )
        return picks
