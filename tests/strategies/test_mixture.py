"""Mixture: shares, and picks from what is left."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_al.strategies import CoreSet, Entropy, Margin, Random
from lightning_al.strategies.base import Outputs
from lightning_al.strategies.mixture import Mixture


def outputs(rows: int, seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    return Outputs(
        probs=torch.randn(rows, 3, generator=generator).softmax(1),
        embeddings=torch.randn(rows, 4, generator=generator),
        dataset_indices=torch.arange(rows),
    )


def test_each_strategy_picks_from_what_the_earlier_left():
    pool, labeled = outputs(50, 0), outputs(4, 1)
    picks = Mixture(["Margin", CoreSet(), Entropy()], [0.5, 0.2, 0.3]).select(pool, 10, labeled=labeled).tolist()
    assert set(picks[:5]) == set(Margin().score(pool.probs).topk(5).indices.tolist())
    rest = [i for i in range(50) if i not in picks[:5]]
    expected = CoreSet().select(Outputs(embeddings=pool.embeddings[rest]), 2, labeled=labeled)
    assert picks[5:7] == [rest[i] for i in expected.tolist()]
    rest = [i for i in rest if i not in picks[5:7]]
    assert picks[7:] == [rest[i] for i in Entropy().score(pool.probs[rest]).topk(3).indices.tolist()]


@pytest.mark.parametrize(
    ("shares", "query_size", "sizes"),
    [
        (None, 10, [4, 3, 3]),
        (None, 1, [1, 0, 0]),
        ([0.7, 0.2, 0.1], 10, [7, 2, 1]),
        ([0.1, 0.2, 0.7], 10, [1, 2, 7]),
        ([0.25, 0.5, 0.25], 2, [1, 1, 0]),
        ([0.1, 0.1, 0.8], 4, [1, 0, 3]),
        ([0.29, 0.01, 0.7], 100, [29, 1, 70]),
    ],
)
def test_shares_by_hand(shares, query_size, sizes):
    assert Mixture(["Random"] * 3, shares)._sizes(query_size) == sizes


@given(weights=st.lists(st.integers(1, 99), min_size=1, max_size=6), query_size=st.integers(0, 500))
def test_every_strategy_gets_its_share_to_less_than_one_pick(weights, query_size):
    shares = [weight / sum(weights) for weight in weights]
    sizes = Mixture(["Random"] * len(shares), shares)._sizes(query_size)
    assert sum(sizes) == query_size
    assert all(abs(size - share * query_size) < 1 + 1e-6 for size, share in zip(sizes, shares, strict=True))


@pytest.mark.parametrize("query_size", [1, 2, 39, 40, 99])
def test_never_picks_twice_to_the_last_sample(query_size):
    picks = Mixture(["Margin", "Random", "CoreSet"]).select(outputs(40, 0), query_size).tolist()
    assert len(set(picks)) == len(picks) == min(query_size, 40)
    assert Mixture().select(outputs(0, 0), 3).tolist() == []


def test_needs_names_and_refusals():
    mixture = Mixture([Margin(), CoreSet()], (0.5, 0.5))
    assert mixture.needs.pool == {"probs", "embeddings"}
    assert mixture.needs.labeled == {"embeddings"}
    assert mixture.name == "Mixture(Margin, CoreSet)"
    assert repr(mixture) == "Mixture(strategies=[Margin(), CoreSet()], shares=[0.5, 0.5])"
    assert repr(Mixture([Random()])) == "Mixture(strategies=[Random()])"
    assert mixture.state_dict() == {"0": {}, "1": {}}
    for shares in ([1.0], [0.5, 0.6], [1.5, -0.5], [1.0, 0.0], [float("nan"), 1.0]):
        with pytest.raises(ValueError, match="`shares` to be 2 numbers above 0 that sum to 1"):
            Mixture(["Margin", "Random"], shares)
    for strategies in ([], "Margin"):
        with pytest.raises(ValueError, match="`strategies` to be a list of one strategy or more, but got"):
            Mixture(strategies)
