"""k-center against the greedy loop in float64: the same picks in the same order."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.functional import k_center_greedy
from tests._helpers import reference
from tests._helpers.probes import LargestAllocation


def mixture(rows: int, columns: int, seed: int = 0, clusters: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(clusters, columns, generator=generator)
    return centres[torch.randint(clusters, (rows,), generator=generator)] + torch.randn(
        rows, columns, generator=generator
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["mixture", "sphere"])
@pytest.mark.parametrize("labeled", [0, 1, 600])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_equals_the_greedy_loop(dtype, kind, labeled, offset):
    points = mixture(3600, 16)
    if kind == "sphere":
        points = 8 * torch.nn.functional.normalize(points, dim=1)
    points = points.to(dtype) + offset
    pool, known = points[:3000], points[3000 : 3000 + labeled]
    picks = k_center_greedy(pool, 250, known).tolist()
    assert len(set(picks)) == 250
    if dtype == torch.float64:
        assert picks == reference.k_center_greedy(pool, 250, known)
    else:  # distances that differ in the seventh digit may change places
        assert reference.greedy_shortfall(pool, picks, known) < 1e-6
        assert picks[:20] == reference.k_center_greedy(pool, 20, known)


def test_equals_the_greedy_loop_to_the_last_point():
    points = mixture(700, 8).double()
    assert k_center_greedy(points, 700).tolist() == reference.k_center_greedy(points, 700)


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=40),
    known=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), max_size=3),
    tile=st.integers(1, 9),
)
def test_ties_go_to_the_lowest_position_whatever_the_tile(points, known, tile):
    pool, labeled = torch.tensor(points).double(), torch.tensor(known).double().reshape(-1, 2)
    with pytest.MonkeyPatch.context() as patch:
        module = __import__("sys").modules["lightning_al.functional.k_center"]
        patch.setattr(module, "_TILE", tile)
        patch.setattr(module, "_SMALLEST_TILE", 1)
        picks = k_center_greedy(pool, len(points), labeled).tolist()
    if known:  # the mean of integers is not exact, and neither is a tie about it
        assert picks == reference.k_center_greedy(pool, len(points), labeled)
    assert sorted(picks) == list(range(len(points)))


def test_ties_on_a_line_by_hand():
    pool = torch.tensor([[-1.0], [1.0], [3.0], [-3.0], [0.0]])
    assert k_center_greedy(pool, 5, torch.zeros(1, 1)).tolist() == [2, 3, 0, 1, 4]
    assert k_center_greedy(pool, 2).tolist() == [4, 2]  # the point at the mean first


@pytest.mark.parametrize("seed", range(8))
def test_of_copies_of_the_row_nearest_the_mean_the_lowest_comes_first(seed):
    pool = mixture(331, 19, seed)
    nearest = int((pool.double() - pool.double().mean(0)).square().sum(1).argmin())
    copies = torch.cat([pool, pool[:7], pool, pool[:3], pool])  # the mean moves a little, and copies to other places
    again = int((copies.double() - copies.double().mean(0)).square().sum(1).argmin())
    assert again == nearest
    assert k_center_greedy(copies, 1).tolist() == [nearest]


def test_of_rows_on_both_sides_of_the_mean_the_lowest_comes_first():
    assert k_center_greedy(torch.tensor([[4.0], [1.0], [-1.0], [-4.0]]) / 3, 2).tolist() == [1, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    pool = mixture(900, 12).to(dtype)
    picks = k_center_greedy(pool, 60).tolist()
    assert reference.greedy_shortfall(pool, picks) < 1e-6
    assert picks[:20] == reference.k_center_greedy(pool, 20)


def test_duplicates_of_what_is_labeled_come_last():
    points = mixture(200, 64) + 1000
    pool = torch.cat([points[:50], points])
    picks = k_center_greedy(pool, 250, points[:50]).tolist()
    assert sorted(picks[:150]) == list(range(100, 250))
    assert picks[150:] == list(range(100))  # all at distance 0: in order of position


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_embedding_that_is_not_finite_is_named(value):
    pool, known = mixture(500, 3), mixture(20, 3)
    known[7, 1] = value
    with pytest.raises(ValueError, match=f"`labeled_embeddings` to be finite, but got {value} at position 7"):
        k_center_greedy(pool, 5, known)
    pool[402, 2] = value
    with pytest.raises(ValueError, match=f"`embeddings` to be finite, but got {value} at position 402"):
        k_center_greedy(pool, 5)


def test_embeddings_that_cannot_be_squared_or_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="small enough to be squared"):
        k_center_greedy(torch.tensor([[1e30], [-1e30]]), 1)
    with pytest.raises(ValueError, match="the pool's 3 columns, but got 2"):
        k_center_greedy(torch.rand(5, 3), 1, torch.rand(5, 2))


def test_reduced_precision_around_it_changes_nothing():
    pool = mixture(2000, 32)
    expected = k_center_greedy(pool, 50)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            picks = k_center_greedy(pool, 50)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(picks, expected)


def test_never_copies_the_pool():
    pool = mixture(60_000, 64)
    with LargestAllocation() as largest:
        k_center_greedy(pool, 20, pool[:5] + 1)
    assert largest.bytes <= pool.nbytes / 4
