"""FLQMI against the greedy loop on the whole similarity matrix in float64: the same picks in the same order."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.functional.flqmi import flqmi
from tests._helpers.probes import LargestAllocation


def value(similarities: torch.Tensor, picks: list[int], eta: float) -> float:
    """Return the mutual information of picks with the targets, by Kothawade et al. (2021), Table 1."""
    cover = sum(max(0.0, *(float(similarities[i, q]) for i in picks)) for q in range(similarities.shape[1]))
    return cover + eta * sum(float(similarities[i].max()) for i in picks)


def cosines(pool: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    x, y = (torch.nan_to_num(m.double() / m.double().norm(dim=1, keepdim=True)) for m in (pool, targets))
    return x @ y.t()


def greedy(similarities: torch.Tensor, count: int, eta: float) -> tuple[list[int], list[float]]:
    picks: list[int] = []
    gains = []
    for _ in range(count):
        now = (similarities - covered(similarities, picks)).clamp(min=0).sum(1) + eta * similarities.amax(1)
        now[picks] = -math.inf
        picks.append(int(now.argmax()))
        gains.append(float(now.max()))
    return picks, gains


def covered(similarities: torch.Tensor, picks: list[int]) -> torch.Tensor:
    none = torch.zeros(1, similarities.shape[1], dtype=similarities.dtype)
    return torch.cat([none, similarities[picks]]).amax(0)


def points(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("eta", [0.0, 0.1, 1.0, 10])
@pytest.mark.parametrize("targets", [1, 7, 300])
@pytest.mark.parametrize("tile", [512, 5])
def test_equals_the_greedy_loop(eta, targets, tile, monkeypatch):
    monkeypatch.setattr(importlib.import_module("lightning_al.functional.flqmi"), "_LARGEST_TILE", tile)
    pool, sought = points(1500, 12, 0), points(targets, 12, 1)
    count = 20 if eta == 0 and targets == 1 else 120
    picks = flqmi(pool, sought, count, eta).tolist()
    similarities = cosines(pool, sought)
    expected, gains = greedy(similarities, count, eta)
    settled = sum(gain > 1e-12 for gain in gains)  # after that rounding decides between gains of 0
    assert picks[:settled] == expected[:settled]
    assert len(set(picks)) == count


def test_gains_of_the_loop_are_those_of_the_formula():
    similarities = cosines(points(9, 3, 2), points(4, 3, 3))
    picks, gains = greedy(similarities, 9, 0.7)
    for taken in range(9):
        before = value(similarities, picks[:taken], 0.7) if taken else 0.0
        assert value(similarities, picks[: taken + 1], 0.7) - before == pytest.approx(gains[taken])
        for other in set(range(9)) - set(picks[:taken]):
            assert value(similarities, [*picks[:taken], other], 0.7) - before <= gains[taken] + 1e-12


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.sampled_from([(0, 1), (1, 0), (0, -1), (-1, 0), (0, 0), (0, 2)]), min_size=1, max_size=30),
    sought=st.lists(st.sampled_from([(0, 1), (1, 0), (-3, 0)]), min_size=1, max_size=4),
    tile=st.integers(1, 9),
    eta=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_ties_go_to_the_lowest_position_whatever_the_tile(rows, sought, tile, eta):
    pool, targets = torch.tensor(rows).double(), torch.tensor(sought).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(__import__("sys").modules["lightning_al.functional.flqmi"], "_LARGEST_TILE", tile)
        picks = flqmi(pool, targets, len(rows), eta).tolist()
    assert picks == greedy(cosines(pool, targets), len(rows), eta)[0]


def test_finds_the_rare_class_in_all_its_forms():
    """Two forms of the class sought, one of them near what the pool is full of."""
    common, first, second = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0, 1.0, 0]]), torch.tensor([[0, 0, 1.0]])
    pool = torch.cat([common.repeat(200, 1), first.repeat(5, 1), second.repeat(5, 1)])
    pool = pool + 0.05 * points(210, 3, 0).float()
    picks = flqmi(pool, torch.cat([first, second]), 10).tolist()
    assert sorted(picks) == list(range(200, 210))
    assert {pick >= 205 for pick in picks[:2]} == {True, False}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["random", "identical", "zeros", "offset"])
def test_hard_pools_give_unique_positions(dtype, kind):
    pool = points(60, 6, 0)
    pool = {
        "random": pool,
        "identical": pool[:1].expand(60, -1),
        "zeros": 0 * pool,
        "offset": pool + 1000,
    }[kind].to(dtype)
    for size in (1, 7, 60, 99):
        picks = flqmi(pool, pool[:4], size)
        assert picks.dtype == torch.int64
        assert sorted(set(picks.tolist())) == sorted(picks.tolist())
        assert len(picks) == min(size, 60)
    assert flqmi(pool[:1], pool, 3).tolist() == [0]
    assert flqmi(pool[:0], pool, 3).tolist() == []


def test_wrong_inputs_are_refused():
    pool, targets = points(30, 4, 0), points(5, 4, 1)
    for wrong in (targets[:0], targets[:, 1:]):
        with pytest.raises(ValueError, match=r"one row or more of the pool's 4 columns, but got \("):
            flqmi(pool, wrong, 3)
    for eta in (-1, math.nan, math.inf, "1", True):
        with pytest.raises(ValueError, match="`eta` to be a finite number of 0 or more, but got"):
            flqmi(pool, targets, 3, eta)
    with pytest.raises(ValueError, match=r"floating-point tensor, but got torch\.int64"):
        flqmi(pool.long(), targets, 3)
    targets[4, 0] = math.nan
    with pytest.raises(ValueError, match="`target_embeddings` to be finite, but got nan at position 4"):
        flqmi(pool, targets, 3)
    pool[17, 1] = math.inf
    with pytest.raises(ValueError, match="`embeddings` to be finite, but got inf at position 17"):
        flqmi(pool, targets, 3)


def test_never_copies_the_pool():
    pool = points(30_000, 64, 0).float()
    with LargestAllocation() as largest:
        flqmi(pool, pool[:200] + 1, 50)
    assert largest.bytes <= pool.nbytes / 4
