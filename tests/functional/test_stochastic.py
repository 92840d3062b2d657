"""Stochastic top-k: its law against sequential sampling written out, and scores without a weight."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.functional.stochastic import stochastic_top_k
from lightning_al.functional.top_k import top_k
from tests._helpers import reference
from tests._helpers.probes import LargestAllocation

SCORES = [0.9, 0.05, 0.3, 0.6, 0.25]


def weights(scores: list[float], kind: str, beta: float) -> list[float]:
    if kind == "power":
        return [score**beta for score in scores]
    if kind == "softmax":
        return [math.exp(beta * score) for score in scores]
    return [(1 + sum(other > score for other in scores)) ** -beta for score in scores]


def law(chances: list[float], count: int) -> dict[tuple[int, ...], float]:
    """Return the probability of every order of ``count`` positions drawn one by one without replacement."""
    found = {}
    for order in permutations(range(len(chances)), count):
        left, chance = sum(chances), 1.0
        for position in order:
            chance *= chances[position] / left
            left -= chances[position]
        found[order] = chance
    return found


@pytest.mark.parametrize("kind", ["power", "softmax", "softrank"])
@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_draws_follow_the_law_of_sampling_without_replacement(kind, beta):
    expected = law(weights(SCORES, kind, beta), 3)
    assert sum(expected.values()) == pytest.approx(1)
    generator = torch.Generator().manual_seed(1)
    scores = torch.tensor(SCORES)
    drawn = [tuple(stochastic_top_k(scores, 3, kind, beta, generator).tolist()) for _ in range(1500)]
    distance, noise = reference.total_variation(expected, drawn)
    assert distance < 1.35 * noise
    uniform, _ = reference.total_variation(law([1.0] * 5, 3), drawn)
    assert uniform > 1.5 * distance  # the test tells the laws apart


def test_zero_scores_come_last_and_uniformly():
    scores = torch.tensor([0.0, 1e-40, 0.0, 0.7, 0.0])
    generator = torch.Generator().manual_seed(0)
    drawn = [stochastic_top_k(scores, 5, "power", 1.0, generator).tolist() for _ in range(900)]
    assert all(set(picks[:2]) == {1, 3} for picks in drawn)
    rest = Counter(tuple(picks[2:]) for picks in drawn)
    assert len(rest) == 6
    assert max(rest.values()) < 900 / 6 * 1.25
    assert min(rest.values()) > 900 / 6 * 0.75


@pytest.mark.parametrize("kind", ["power", "softmax", "softrank"])
def test_equal_scores_are_drawn_uniformly(kind):
    for value in (0.0, 0.4):
        generator = torch.Generator().manual_seed(2)
        scores = torch.full((4,), value)
        drawn = [tuple(stochastic_top_k(scores, 2, kind, 1.0, generator).tolist()) for _ in range(1500)]
        distance, noise = reference.total_variation(law([1.0] * 4, 2), drawn)
        assert distance < 1.6 * noise


@pytest.mark.parametrize("kind", ["power", "softmax", "softrank"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_large_beta_takes_the_highest(kind, dtype):
    scores = (1 + torch.randperm(100, generator=torch.Generator().manual_seed(0))).to(dtype)
    assert stochastic_top_k(scores, 20, kind, 1e5).tolist() == top_k(scores, 20).tolist()


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 1e-30, 0.5, 0.5, 300.0]), min_size=1, max_size=40),
    k=st.integers(1, 50),
    kind=st.sampled_from(["power", "softmax", "softrank"]),
    beta=st.sampled_from([0.01, 1.0, 50.0]),
)
def test_positions_are_unique_and_repeat_with_the_seed(scores, k, kind, beta):
    values = torch.tensor(scores)
    first, again = (stochastic_top_k(values, k, kind, beta, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.dtype == torch.int64
    assert torch.equal(first, again)
    assert len(set(first.tolist())) == len(first) == min(k, len(scores))
    if kind == "power":
        positive = [scores[i] > 0 for i in first.tolist()]
        assert positive == sorted(positive, reverse=True)


def test_without_a_generator_the_seed_is_fixed():
    scores = torch.rand(100)
    assert torch.equal(stochastic_top_k(scores, 9, "power"), stochastic_top_k(scores, 9, "power"))


def test_keeps_a_few_numbers_a_score():
    scores = torch.rand(1_000_000, generator=torch.Generator().manual_seed(0))
    with LargestAllocation() as largest:
        stochastic_top_k(scores, 100, "power")
    assert largest.bytes <= 2 * scores.nbytes


def test_wrong_inputs_are_refused():
    scores = torch.rand(9)
    with pytest.raises(ValueError, match="`kind` to be 'power', 'softmax' or 'softrank', but got 'gibbs'"):
        stochastic_top_k(scores, 2, "gibbs")
    for beta in (0, -1.0, math.nan, math.inf, "1", True):
        with pytest.raises(ValueError, match=f"`beta` to be a positive number, but got {beta!r}"):
            stochastic_top_k(scores, 2, "power", beta)
    for k in (0, 1.5, True):
        with pytest.raises(ValueError, match="`k` to be a positive integer"):
            stochastic_top_k(scores, k, "softmax")
    with pytest.raises(ValueError, match=r"shape \(N,\), but got \(3, 3\)"):
        stochastic_top_k(scores.view(3, 3), 2, "power")
    assert stochastic_top_k(scores[:0], 2, "softrank").tolist() == []
    scores[4] = -0.25
    with pytest.raises(ValueError, match=r"not to be negative for kind='power', but got -0.25 at position 4.*softrank"):
        stochastic_top_k(scores, 2, "power")
    assert len(stochastic_top_k(scores, 2, "softrank")) == 2
    scores[7] = math.nan
    with pytest.raises(ValueError, match="`scores` to be finite, but got nan at position 7"):
        stochastic_top_k(scores, 2, "power")
