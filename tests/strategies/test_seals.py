"""SEALS: another strategy on the neighbours of the labeled alone."""

from __future__ import annotations

import pytest
import torch

from lightning_al.strategies import BADGE, CoreSet, Margin, Random
from lightning_al.strategies.base import Outputs, QueryStrategy
from lightning_al.strategies.seals import SEALS


def outputs(rows: int, seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    return Outputs(
        probs=torch.randn(rows, 3, generator=generator).softmax(1),
        embeddings=torch.randn(rows, 4, generator=generator),
        dataset_indices=torch.arange(rows),
    )


@pytest.mark.parametrize("inner", [Margin(), CoreSet(), BADGE(), Random(), "Margin"])
def test_picks_what_the_strategy_picks_among_the_neighbours(inner):
    pool, labeled = outputs(80, 0), outputs(3, 1)
    near = sorted(
        {
            int(i)
            for row in labeled.embeddings.double()
            for i in (pool.embeddings.double() - row).norm(dim=1).argsort()[:8]
        }
    )
    picks = SEALS(inner, neighbours=8).select(pool, 6, labeled=labeled, generator=torch.Generator().manual_seed(4))
    few = Outputs(probs=pool.probs[near], embeddings=pool.embeddings[near], dataset_indices=pool.dataset_indices[near])
    strategy = Margin() if isinstance(inner, str) else inner
    expected = strategy.select(few, 6, labeled=labeled, generator=torch.Generator().manual_seed(4))
    assert picks.tolist() == [near[i] for i in expected.tolist()]


def test_fills_at_random_where_there_are_fewer_candidates():
    pool, labeled = outputs(80, 0), outputs(1, 1)
    near = (pool.embeddings - labeled.embeddings).norm(dim=1).argsort()[:5].tolist()
    first, second = (
        SEALS(neighbours=5).select(pool, 20, labeled=labeled, generator=torch.Generator().manual_seed(seed)).tolist()
        for seed in (0, 1)
    )
    assert set(first[:5]) == set(second[:5]) == set(near)
    assert first[5:] != second[5:]
    assert len(set(first)) == len(set(second)) == 20


@pytest.mark.parametrize("labeled", [None, Outputs()])
def test_without_labels_the_strategy_sees_the_pool(labeled):
    pool = outputs(80, 0)
    picks = SEALS("Margin", neighbours=2).select(pool, 9, labeled=labeled, generator=torch.Generator())
    assert torch.equal(picks, Margin().select(pool, 9, generator=torch.Generator()))


def test_needs_and_names_what_is_within():
    seals = SEALS(BADGE())
    assert seals.needs.pool == {"probs", "embeddings"}
    assert seals.needs.labeled == {"embeddings"}
    assert seals.name == "SEALS(BADGE)"
    assert repr(seals) == "SEALS(strategy=BADGE(), neighbours=100)"
    assert repr(SEALS(SEALS("Random", 7))) == "SEALS(strategy=SEALS(strategy=Random(), neighbours=7), neighbours=100)"
    assert SEALS("Random").needs.pool == {"embeddings"}


class Counting(QueryStrategy):
    """Remembers how often it was asked, and what it was handed."""

    def __init__(self) -> None:
        self.needs = Margin.needs
        self._asked = 0

    def select(self, pool, query_size, *, labeled=None, generator=None):
        self._asked += 1
        return torch.arange(min(query_size, len(pool)))

    def state_dict(self):
        return {"asked": self._asked}

    def load_state_dict(self, state):
        self._asked = state["asked"]


def test_hands_states_through():
    one, other = SEALS(Counting()), SEALS(Counting())
    one.select(outputs(9, 0), 2)
    other.load_state_dict(one.state_dict())
    assert other.strategy.state_dict() == {"asked": 1}
    with pytest.raises(ValueError, match=r"for SEALS\(Counting\) with the keys \['strategy'\], but got \['stray'\]"):
        other.load_state_dict({"stray": 1})


@pytest.mark.parametrize("neighbours", [0, -1, 2.5, "3", True])
def test_wrong_arguments_are_refused(neighbours):
    with pytest.raises(ValueError, match="`neighbours` to be a positive integer, but got"):
        SEALS(neighbours=neighbours)
    with pytest.raises(ValueError, match=r"but got 'Nargin'\. Did you mean 'Margin'"):
        SEALS("Nargin")
