"""The k highest against a full sort, ties, and what is kept in memory."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.functional import top_k
from tests._helpers import reference
from tests._helpers.probes import LargestAllocation


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("rows", "k"), [(1, 1), (10, 3), (10, 10), (10, 99), (300_000, 50), (70_000, 50_000)])
def test_equals_a_full_sort(dtype, rows, k):
    scores = torch.randn(rows, generator=torch.Generator().manual_seed(rows + k)).to(dtype)
    picks = top_k(scores, k)
    assert picks.dtype == torch.int64
    assert picks.tolist() == reference.top_k(scores, k)


@settings(max_examples=60, deadline=None)
@given(scores=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=40), k=st.integers(1, 50))
def test_ties_go_to_the_lowest_or_by_the_seed(scores, k):
    values = torch.tensor(scores)
    assert top_k(values, k).tolist() == reference.top_k(values, k)
    first, again = (top_k(values, k, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert len(set(first.tolist())) == min(k, len(scores))
    assert values[first].tolist() == sorted(scores, reverse=True)[:k]


def test_tied_positions_are_equally_likely_in_every_place():
    scores = torch.tensor([1.0, 0.0, 1.0, 1.0, 2.0, 2.0])
    generator = torch.Generator().manual_seed(0)
    drawn = Counter(tuple(top_k(scores, 4, generator).tolist()) for _ in range(3000))
    assert len(drawn) == 2 * 3 * 2  # the two highest in either order, then two of the three that tie
    assert min(drawn.values()) > 3000 / 12 * 0.75
    assert max(drawn.values()) < 3000 / 12 * 1.25


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_named(value):
    scores = torch.zeros(200_000)
    scores[150_001] = value
    with pytest.raises(ValueError, match=f"`scores` to be finite, but got {value} at position 150001"):
        top_k(scores, 1)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, None])
def test_a_wrong_k_is_refused(k):
    with pytest.raises(ValueError, match="`k` to be a positive integer"):
        top_k(torch.zeros(3), k)


def test_wrong_scores_are_refused_and_none_give_none():
    with pytest.raises(ValueError, match=r"shape \(N,\), but got \(2, 2\)"):
        top_k(torch.zeros(2, 2), 1)
    assert top_k(torch.zeros(0), 3).tolist() == []


def test_allocates_less_than_the_scores_unless_all_tie():
    scores = torch.rand(4_000_000, generator=torch.Generator().manual_seed(0))
    with LargestAllocation() as largest:
        top_k(scores, 1000, torch.Generator().manual_seed(0))
    assert largest.bytes < scores.nbytes / 4
    with LargestAllocation() as largest:
        top_k(torch.zeros_like(scores), 1000, torch.Generator().manual_seed(0))
    assert largest.bytes <= scores.nbytes
