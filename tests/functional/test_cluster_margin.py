"""Cluster-Margin against merging by hand, and its round robin against the law of the paper's."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.functional.cluster_margin import agglomerate, cluster_margin
from tests._helpers import reference
from tests._helpers.probes import LargestAllocation

module = importlib.import_module("lightning_al.functional.cluster_margin")  # not the function


def naive_agglomerate(points: torch.Tensor) -> list[set[int]]:
    """Merge the two clusters with the least mean distance; return the first state from which on 10 is the mean size."""
    distances = torch.cdist(points.double(), points.double())
    clusters = [{i} for i in range(len(points))]
    states = [[set(c) for c in clusters]]
    while len(clusters) > 1:
        pairs = [(a, b) for a in range(len(clusters)) for b in range(a)]
        a, b = min(pairs, key=lambda p: float(distances[list(clusters[p[0]])][:, list(clusters[p[1]])].mean()))
        clusters[b] |= clusters.pop(a)
        states.append([set(c) for c in clusters])
    large = [[len(c) for c in state if len(c) > 1] for state in states]
    first = len(states) - 1
    while first > 0 and large[first - 1] and sum(large[first - 1]) >= 10 * len(large[first - 1]):
        first -= 1
    return states[first]


def as_sets(labels: torch.Tensor) -> set[frozenset[int]]:
    return {frozenset((labels == label).nonzero()[:, 0].tolist()) for label in labels.unique()}


def blobs(rows: int, columns: int = 3, seed: int = 0, count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = 6 * torch.randn(count, columns, generator=generator)
    return centres[torch.randint(count, (rows,), generator=generator)] + torch.randn(rows, columns, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("rows", "seed"), [(1, 0), (2, 0), (9, 0), (45, 1), (60, 2), (60, 3)])
@pytest.mark.parametrize("offset", [0, 1000])
def test_agglomerate_equals_merging_by_hand(dtype, rows, seed, offset):
    points = blobs(rows, seed=seed).to(dtype)
    labels = agglomerate(points + offset)
    assert as_sets(labels) == {frozenset(c) for c in naive_agglomerate(points)}
    firsts = [int((labels == label).nonzero()[0]) for label in range(len(labels.unique()))]
    assert firsts == sorted(firsts)


def test_cells_find_groups_that_are_far_apart_and_cut_none_of_them(monkeypatch):
    monkeypatch.setattr(module, "_MOST_SAMPLES", 64)
    generator = torch.Generator().manual_seed(3)
    names = torch.arange(400) % 40
    points = 50 * torch.randn(40, 5, generator=generator)[names] + torch.randn(400, 5, generator=generator) / 100
    labels = agglomerate(points)
    assert as_sets(labels) == as_sets(names)
    assert torch.equal(agglomerate(points), labels)


def test_identical_samples_in_any_number_are_cut_into_cells_and_joined(monkeypatch):
    monkeypatch.setattr(module, "_MOST_SAMPLES", 16)
    assert agglomerate(torch.full((40, 2), 1000.0)).bincount().tolist() == [16, 16, 8]
    assert agglomerate(torch.ones(0, 2)).tolist() == []


def naive_law(groups: list[int], query_size: int) -> dict[tuple[int, ...], float]:
    """Return the law of a round robin: groups by size, equal ones in random order, a random member each turn."""
    law: Counter[tuple[int, ...]] = Counter()
    sizes = Counter(groups)
    orders = [o for o in permutations(sizes) if [sizes[g] for g in o] == sorted(sizes.values())]
    arrangements = list(permutations(range(len(groups))))
    for order in orders:
        for arrangement in arrangements:
            queues = {g: [i for i in arrangement if groups[i] == g] for g in order}
            picks: list[int] = []
            while any(queues.values()):
                picks += [queues[g].pop(0) for g in order if queues[g]]
            law[tuple(picks[:query_size])] += 1 / (len(orders) * len(arrangements))
    return dict(law)


def test_round_robin_follows_the_papers_law():
    groups = [5, 9, 5, 9, 2]
    law = naive_law(groups, 3)
    assert sum(law.values()) == pytest.approx(1)
    generator = torch.Generator().manual_seed(1)
    probs = torch.full((5, 2), 0.5)
    drawn = [tuple(cluster_margin(probs, torch.tensor(groups), 3, generator=generator).tolist()) for _ in range(3000)]
    distance, expected = reference.total_variation(law, drawn)
    assert distance < 1.25 * expected


def test_by_hand():
    """Of the six lowest margins one is alone in cluster 1, two are in 0, three in 2; the seventh is no candidate."""
    top = torch.tensor([0.50, 0.51, 0.52, 0.53, 0.54, 0.55, 0.9])
    probs = torch.stack([top, 1 - top], 1)
    clusters = torch.tensor([2, 2, 0, 2, 1, 0, 7])
    picks = cluster_margin(probs, clusters, 4, candidates=1.5).tolist()
    assert picks[0] == 4
    assert picks[1] in (2, 5)
    assert picks[2] in (0, 1, 3)
    assert {picks[1], picks[3]} == {2, 5}
    assert sorted(cluster_margin(probs, clusters, 4, candidates=1).tolist()) == [0, 1, 2, 3]
    assert sorted(cluster_margin(probs, clusters, 99).tolist()) == list(range(7))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 35), st.floats(1, 5))
def test_small_groups_give_all_and_large_ones_what_is_missing(clusters, query_size, candidates):
    rows = len(clusters)
    probs = (2 * torch.randn(rows, 3, generator=torch.Generator().manual_seed(rows))).softmax(1)
    picks = cluster_margin(probs, torch.tensor(clusters), query_size, candidates).tolist()
    count = min(query_size, rows)
    assert len(picks) == len(set(picks)) == count
    candidate_rows = reference.top_k(torch.tensor(reference.margin(probs)), math.ceil(candidates * count))
    assert set(picks) <= set(candidate_rows)
    sizes, taken = Counter(clusters[i] for i in candidate_rows), Counter(clusters[i] for i in picks)
    most = max(taken.values())
    assert all(taken[group] >= min(size, most - 1) for group, size in sizes.items())


def test_certain_predictions_and_half_precision():
    probs = torch.eye(3)[torch.arange(12) % 3]
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        picks = cluster_margin(probs.to(dtype), torch.zeros(12, dtype=torch.int64), 5)
        assert len(set(picks.tolist())) == 5
    assert agglomerate(blobs(30).half()).shape == (30,)


def test_wrong_inputs_are_refused():
    probs, clusters = torch.full((6, 2), 0.5), torch.zeros(6, dtype=torch.int64)
    for candidates in (0.5, math.nan, math.inf, True):
        with pytest.raises(ValueError, match="`candidates` to be a number of at least 1, but got"):
            cluster_margin(probs, clusters, 2, candidates)
    with pytest.raises(ValueError, match=r"an integer for each of 6 `probs`, but got torch.int64 \(5,\)"):
        cluster_margin(probs, clusters[1:], 2)
    with pytest.raises(ValueError, match=r"but got torch.float32 \(6,\)"):
        cluster_margin(probs, clusters.float(), 2)
    probs[3, 0] = math.nan
    with pytest.raises(ValueError, match="`probs` to be finite, but got nan at position 3"):
        cluster_margin(probs, clusters, 2)
    points = blobs(30)
    points[21, 1] = math.inf
    with pytest.raises(ValueError, match="`embeddings` to be finite, but got inf at position 21"):
        agglomerate(points)


def test_agglomerate_never_copies_the_pool():
    points = blobs(12_000, 400)
    with LargestAllocation() as largest:
        agglomerate(points)
    assert largest.bytes <= points.nbytes / 2  # a cell's distances, whatever the pool's size
