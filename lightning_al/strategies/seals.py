"""SEALS: another strategy on the neighbours of what is labeled."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lightning_al.functional.inputs import check_query_size, default_generator, fill_at_random
from lightning_al.functional.neighbours import neighbours as neighbours_of
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy, get_strategy
from lightning_al.strategies.wrapper import Wrapper, select_within


class SEALS(Wrapper):
    """Let another strategy pick among the unlabeled samples nearest the labeled ones.

    For rare classes in large pools: its authors lost little against the same strategies on all of the pool while they
    looked at 1 % of it. Before there are labels the strategy sees all of the pool; where there are fewer candidates
    than picks, the rest is drawn uniformly. Time is a product of the pool with the labeled samples beside the other
    strategy's, on fewer samples; memory is an eighth of the pool's embeddings and a copy of the candidates.

    Args:
        strategy: The strategy that picks, or its name.
        neighbours: How many nearest unlabeled samples of each labeled one are candidates, at least 1.

    Raises:
        ValueError: There is no such ``strategy``, or ``neighbours`` is not a positive integer.

    References:
        Coleman, Chou, Katz-Samuels, Culatana, Bailis, Berg, Nowak, Sumbaly, Zaharia and Yalniz (AAAI 2022),
        *Similarity Search for Efficient Active Learning and Search of Rare Concepts*.
    """

    def __init__(self, strategy: QueryStrategy | str = "Margin", neighbours: int = 100) -> None:
        self.strategy = get_strategy(strategy)
        self.neighbours = check_query_size(neighbours, 1 << 62, "neighbours")
        own = frozenset({"embeddings"})
        super().__init__({"strategy": self.strategy}, Needs(pool=own, labeled=own))

    def select(
        self,
        pool: Outputs,
        query_size: int,
        *,
        labeled: Outputs | None = None,
        target: Outputs | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Pick among the neighbours of the labeled; see `QueryStrategy.select`, and `functional.neighbours`."""
        embeddings = pool.require("embeddings", self.name)
        count = check_query_size(query_size, len(embeddings))
        generator = default_generator(generator)
        if labeled:
            known = labeled.require("embeddings", f"the labeled samples of {self.name}")
            candidates = neighbours_of(embeddings, known, self.neighbours)
        else:
            candidates = torch.arange(len(embeddings), device=embeddings.device)
        picks = select_within(
            self.strategy, pool, candidates, query_size, labeled=labeled, target=target, generator=generator
        )
        return picks if len(picks) == count else fill_at_random(picks.tolist(), count, len(embeddings), generator)
