"""The wrapper: what it takes from the strategy within, and what it changes."""

from __future__ import annotations

import pytest
import torch

from lightning_al.functional.stochastic import stochastic_top_k
from lightning_al.functional.uncertainty import margin
from lightning_al.strategies.bald import BALD
from lightning_al.strategies.base import Outputs
from lightning_al.strategies.margin import Margin
from lightning_al.strategies.stochastic import Stochastic


class Counted(Margin):
    """Remembers how often it scored."""

    count = 0

    def score(self, probs):
        self.count += 1
        return super().score(probs)

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


@pytest.mark.parametrize("kind", ["power", "softmax", "softrank"])
def test_draws_by_the_scores_of_the_strategy_within(kind):
    probs = torch.rand(80, 4).softmax(1)
    strategy = Stochastic("Margin", kind, beta=2.0)
    assert torch.equal(strategy.score(probs), margin(probs))
    picks = strategy.select(Outputs(probs=probs), 9, generator=torch.Generator().manual_seed(4))
    expected = stochastic_top_k(margin(probs), 9, kind, 2.0, torch.Generator().manual_seed(4))
    assert torch.equal(picks, expected)
    assert not torch.equal(picks, Margin().select(Outputs(probs=probs), 9))


def test_reads_what_the_strategy_within_reads():
    assert Stochastic("Margin").needs.pool == {"probs"}
    assert Stochastic(BALD()).needs.pool == {"samples"}
    assert Stochastic().needs == BALD().needs
    assert Stochastic(Margin(aggregate="max")).aggregate == "max"
    samples = torch.rand(50, 6, 3).softmax(2)
    assert len(set(Stochastic().select(Outputs(samples=samples), 20).tolist())) == 20


def test_keeps_the_state_of_the_strategy_within():
    strategy, other = Stochastic(Counted()), Stochastic(Counted())
    strategy.score(torch.full((2, 2), 0.5))
    other.load_state_dict(strategy.state_dict())
    assert other.strategy.count == 1
    with pytest.raises(ValueError, match="Expected no state for Margin, but got the keys"):
        Stochastic("Margin").load_state_dict({"stray": 1})


def test_names_what_it_was_given():
    assert repr(Stochastic("Margin", beta=0.5)) == "Stochastic(strategy=Margin(), kind='power', beta=0.5)"


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"scores each sample on its own, but got BADGE\(\), which picks batches"):
        Stochastic("BADGE")
    with pytest.raises(ValueError, match="Did you mean 'Margin'"):
        Stochastic("margin")
    with pytest.raises(ValueError, match="`kind` to be"):
        Stochastic("Margin", kind="gibbs")
    with pytest.raises(ValueError, match="`beta` to be a positive number, but got 0"):
        Stochastic("Margin", beta=0)
