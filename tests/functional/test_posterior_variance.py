"""Greedy posterior variance against the Gaussian process solved anew for each pick."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.functional.posterior_variance import posterior_variance
from tests._helpers.probes import LargestAllocation

module = importlib.import_module("lightning_al.functional.posterior_variance")  # not the function


def variances(pool: torch.Tensor, known: torch.Tensor, scale: float, noise: float) -> torch.Tensor:
    """Return the variances of a Gaussian process with a linear kernel, by its textbook formula."""
    x, a = pool.double() / math.sqrt(scale), known.double() / math.sqrt(scale)
    inner = torch.linalg.inv(a @ a.t() + noise**2 * torch.eye(len(a), dtype=torch.float64))
    return (x * x).sum(1) - ((x @ a.t() @ inner) * (x @ a.t())).sum(1)


def reference(pool: torch.Tensor, query_size: int, labeled: torch.Tensor, noise: float = 0.1) -> list[int]:
    scale = float((labeled if len(labeled) else pool).double().square().sum(1).mean())
    picks: list[int] = []
    for _ in range(min(query_size, len(pool))):
        left = variances(pool, torch.cat([labeled, pool[picks]]), scale, noise)
        left[picks] = -math.inf
        picks.append(int(left.argmax()))
    return picks


def points(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator) / torch.arange(1, columns + 1).sqrt()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("labeled", [0, 3, 40])
@pytest.mark.parametrize("noise", [0.03, 1.0])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_equals_the_gaussian_process(dtype, labeled, noise, offset):
    values = (points(400 + labeled, 9) + offset).to(dtype)
    pool, known = values[:400], values[400:]
    if offset and dtype in (torch.float16, torch.bfloat16):
        pool, known = pool[:0], known[:0]  # rounded to a few values, where all ties
    assert posterior_variance(pool, 30, known, noise).tolist() == reference(pool, 30, known, noise)


@pytest.mark.parametrize(("tile", "directions"), [(1, 512), (7, 4), (16, 1)])
def test_neither_tile_nor_rebasing_changes_a_pick(tile, directions, monkeypatch):
    pool, known = points(300, 12), points(5, 12, seed=1)
    expected = posterior_variance(pool, 60, known)
    monkeypatch.setattr(module, "_TILE", tile)
    monkeypatch.setattr(module, "_DIRECTIONS", directions)
    assert posterior_variance(pool, 60, known).tolist() == expected.tolist() == reference(pool, 60, known)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=20), st.integers(1, 5))
def test_picks_all_once_and_none_that_is_beaten(rows, tile):
    pool = torch.tensor(rows).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TILE", tile)
        picks = posterior_variance(pool, len(rows), noise=0.5).tolist()
    assert sorted(picks) == list(range(len(rows)))
    scale = float(pool.square().sum(1).mean()) or 1.0
    for made in range(len(picks)):
        left = variances(pool, pool[picks[:made]], scale, 0.5)
        left[picks[:made]] = -math.inf
        best = [i for i, value in enumerate(left.tolist()) if value > float(left.max()) - 1e-6]
        assert picks[made] == min(best)


def test_by_hand():
    """Variances 4, 1, 3.61 at first (times 1 / 2.87); once the first is known, 1 is the largest that is left."""
    pool = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.9, 0.0]])
    assert posterior_variance(pool, 3).tolist() == [0, 1, 2]
    assert posterior_variance(pool, 1, torch.tensor([[5.0, 0.0]])).tolist() == [1]


def test_the_unit_of_embeddings_does_not_matter_and_the_noise_does():
    pool, known = points(200, 6), points(10, 6, seed=1)
    expected = posterior_variance(pool, 20, known)
    assert torch.equal(posterior_variance(1024 * pool, 20, 1024 * known), expected)
    assert torch.equal(posterior_variance(pool / 4096, 20, known / 4096), expected)
    assert not torch.equal(posterior_variance(pool, 20, known, noise=10.0), expected)


def test_identical_and_empty_rows():
    assert posterior_variance(torch.full((6, 3), 1000.0), 9).tolist() == list(range(6))
    assert posterior_variance(torch.zeros(4, 3), 3).tolist() == [0, 1, 2]
    assert posterior_variance(torch.ones(4, 3), 3, torch.zeros(2, 3)).tolist() == [0, 1, 2]
    assert posterior_variance(torch.ones(1, 1), 1, torch.empty(0, 1)).tolist() == [0]
    assert posterior_variance(torch.empty(0, 3), 3).tolist() == []


def test_wrong_inputs_are_refused():
    pool = points(50, 3)
    for noise in (0, -1.0, math.nan, math.inf, True):
        with pytest.raises(ValueError, match="Expected `noise` to be a number above 0, but got"):
            posterior_variance(pool, 2, noise=noise)
    known = points(9, 3)
    known[4, 0] = math.nan
    with pytest.raises(ValueError, match="`labeled_embeddings` to be finite, but got nan at position 4"):
        posterior_variance(pool, 2, known)
    pool[31, 1] = math.inf
    with pytest.raises(ValueError, match="`embeddings` to be finite, but got inf at position 31"):
        posterior_variance(pool, 2)


def test_never_copies_the_pool():
    pool = points(30_000, 64)
    with LargestAllocation() as largest:
        posterior_variance(pool, 20, pool[:5])
    assert largest.bytes <= pool.nbytes / 4
