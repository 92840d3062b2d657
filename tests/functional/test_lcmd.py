"""LCMD against the paper's loop in float64: the same picks in the same order, whatever the sketch leaves out."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.functional.lcmd import lcmd
from tests._helpers.probes import LargestAllocation

module = importlib.import_module("lightning_al.functional.lcmd")  # not the function


def reference(pool: torch.Tensor, query_size: int, labeled: torch.Tensor | None = None) -> list[int]:
    """Return the picks of Holzmüller et al. (2023), section 4.3: all distances anew for each pick."""
    x = pool.double()
    centres = [] if labeled is None else list(labeled.double())
    picks: list[int] = []
    if not centres:
        picks.append(int((x - x.mean(0)).square().sum(1).argmin()))
        centres.append(x[picks[0]])
    while len(picks) < min(query_size, len(x)):
        squared = torch.stack([(x - centre).square().sum(1) for centre in centres])
        nearest, owner = squared.amin(0), [int(column.argmin()) for column in squared.t()]
        sums = [sum(float(d) for d, k in zip(nearest, owner, strict=True) if k == c) for c in range(len(centres))]
        free = [i for i in range(len(x)) if i not in picks and sums[owner[i]] == max(sums)]
        if max(sums) == 0:
            free = [i for i in range(len(x)) if i not in picks]
        picks.append(max(free, key=lambda i: (float(nearest[i]), -i)))
        centres.append(x[picks[-1]])
    return picks


def correlated(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Return clusters in a space whose directions fall in variance, as those of real embeddings do."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(5, columns, generator=generator)
    points = centres[torch.randint(5, (rows,), generator=generator)] + torch.randn(rows, columns, generator=generator)
    return points / torch.arange(1, columns + 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("columns", "labeled", "offset"), [(8, 0, 0), (80, 0, 0), (80, 9, 0), (80, 9, 1000), (8, 700, 0)]
)
def test_equals_the_papers_loop(dtype, columns, labeled, offset):
    points = (correlated(300 + labeled, columns) + offset).to(dtype)
    if offset and dtype in (torch.float16, torch.bfloat16):  # most points coincide: sums tie but for their rounding
        points = points - offset
    pool, known = points[:300], points[300:] if labeled else None
    assert lcmd(pool, 25, known).tolist() == reference(pool, 25, known)


def test_the_sketch_spares_most_comparisons_and_changes_none(monkeypatch):
    points = correlated(2000, 80)
    told = []
    rivals = module._Sketch.rivals

    def counted(self, pick, distances):
        positions = rivals(self, pick, distances)
        told.append(len(distances) if positions is None else len(positions))
        return positions

    monkeypatch.setattr(module._Sketch, "rivals", counted)
    picks = lcmd(points, 100, points[:1] + 1)
    assert sum(told) < 0.2 * 100 * 2000
    monkeypatch.setattr(module._Sketch, "rivals", lambda self, pick, distances: None)
    assert torch.equal(lcmd(points, 100, points[:1] + 1), picks)


def test_sketched_distances_are_lower_bounds():
    points = correlated(500, 90) + 10
    space = module.EuclideanSpace(points)
    sketch = module._Sketch(space, 500)
    assert sketch.points is not None
    assert sketch.points.shape == (500, 19)
    true = torch.cdist(points.double(), points.double()).square()
    sketched = torch.cdist(sketch.points.double(), sketch.points.double()).square()
    assert (sketched <= true + 1e-4).all()
    assert sketched.sum() > 0.8 * true.sum()  # most of the variance is in few directions


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=25),
    known=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=3),
)
def test_ties_go_to_the_lowest_position(points, known):
    pool, labeled = torch.tensor(points).float(), torch.tensor(known).float()
    assert lcmd(pool, 99, labeled).tolist() == reference(pool, 99, labeled)


def test_by_hand():
    """Centres 0 and 10: sums of squares 1 + 4 + 4 = 9 and 6.25; then 2 takes both twos, and 12.5 is left."""
    pool = torch.tensor([[1.0], [2.0], [2.0], [12.5], [10.0]])
    assert lcmd(pool, 5, torch.tensor([[0.0], [10.0]])).tolist() == [1, 3, 0, 2, 4]


def test_a_dense_region_comes_before_an_outlier():
    pool = torch.cat([torch.linspace(3, 5, 100)[:, None], torch.tensor([[-20.0]])])
    assert lcmd(pool, 2, torch.zeros(1, 1)).tolist() == [100, 99]  # one cluster: its farthest
    assert lcmd(pool, 1, torch.tensor([[0.0], [-10.0]])).tolist() == [99]  # 1600 against 100


def test_identical_rows_are_picked_once_each_in_order():
    pool = torch.full((7, 70), 1000.1)
    assert lcmd(pool, 7, pool[:2]).tolist() == list(range(7))
    assert lcmd(pool, 99).tolist() == list(range(7))
    assert lcmd(pool[:1], 3).tolist() == [0]
    assert lcmd(pool[:0], 3).tolist() == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_wrong_inputs_are_refused(value):
    pool, known = correlated(90, 70), correlated(20, 70)
    known[7, 1] = value
    with pytest.raises(ValueError, match=f"`labeled_embeddings` to be finite, but got {value} at position 7"):
        lcmd(pool, 5, known)
    pool[42, 2] = value
    with pytest.raises(ValueError, match=f"`embeddings` to be finite, but got {value} at position 42"):
        lcmd(pool, 5)
    with pytest.raises(ValueError, match=r"to be a floating-point tensor, but got torch\.int64"):
        lcmd(torch.ones(3, 2, dtype=torch.int64), 1)


def test_never_copies_the_pool():
    pool = correlated(40_000, 100)
    with LargestAllocation() as largest:
        lcmd(pool, 10, pool[:3] + 1)
    assert largest.bytes <= pool.nbytes / 4
