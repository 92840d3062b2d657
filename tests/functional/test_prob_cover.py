"""ProbCover against the paper's loop on the whole graph, and its radius against the definition of purity."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_al.functional import ball_cover
from lightning_al.functional.k_means import cluster
from lightning_al.functional.prob_cover import prob_cover, pure_radius
from lightning_al.functional.unit_space import UnitSpace
from tests._helpers.probes import LargestAllocation


def points(rows: int, columns: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, columns, generator=generator)
    drawn = torch.randint(5, (rows,), generator=generator)
    return centres[drawn] + 0.3 * torch.randn(rows, columns, generator=generator)


def unit_distances(x: Tensor, y: Tensor) -> Tensor:
    x, y = (each.double() / each.double().norm(dim=1, keepdim=True) for each in (x, y))
    return (x[:, None] - y[None]).square().sum(-1).sqrt()


def reference(pool: Tensor, count: int, delta: float, known: Tensor) -> list[int]:
    """Return the greedy cover of Yehuda et al. (2022), Algorithm 1; then the farthest first."""
    distances, from_known = unit_distances(pool, pool), unit_distances(known, pool)
    covered = {x for row in from_known.tolist() for x, distance in enumerate(row) if distance < delta}
    balls = [{x for x, distance in enumerate(row) if distance < delta} for row in distances.tolist()]
    picks: list[int] = []
    while len(picks) < count:
        gains = [-1 if i in picks else len(ball - covered) for i, ball in enumerate(balls)]
        if max(gains) == 0:
            nearest = torch.cat([from_known, distances[picks]]).amin(0)
            nearest[picks] = -1
            picks.append(int(nearest.argmax()))
        else:
            picks.append(gains.index(max(gains)))
            covered |= balls[picks[-1]]
    return picks


@pytest.mark.parametrize("tile", [7, 512])
@pytest.mark.parametrize("labeled", [0, 1, 40])
@pytest.mark.parametrize("delta", [0.05, 0.3, 0.8])
def test_equals_the_papers_loop_to_the_last_sample(delta, labeled, tile, monkeypatch):
    monkeypatch.setattr(ball_cover, "_TILE", tile)
    pool, known = points(150).double(), points(labeled, seed=1).double()
    picks = prob_cover(pool, 150, known, delta).tolist()
    assert picks == reference(pool, 150, delta, known)
    assert prob_cover(pool, 12, known, delta).tolist() == picks[:12]


@pytest.mark.parametrize(
    ("dtype", "offset"),
    [(torch.float32, 0.0), (torch.float32, 1000.0), (torch.float16, 0.0), (torch.bfloat16, 0.0)],
)
def test_other_precisions_give_the_same_cover(dtype, offset):
    pool = points(120).to(dtype) + offset
    distances = unit_distances(pool, pool).flatten().sort().values
    middle = distances[len(distances) // 20 : len(distances) // 10]
    gap = int(middle.diff().argmax())  # no distance is near it
    delta = float(middle[gap] + middle[gap + 1]) / 2
    assert prob_cover(pool, 15, delta=delta).tolist() == reference(pool, 15, delta, pool[:0])


def test_the_last_rows_count():
    away, dense = torch.eye(3)[:2].repeat(400, 1), torch.eye(3)[2:].repeat(801, 1)
    assert prob_cover(torch.cat([away, dense]), 1, delta=0.1).tolist() == [800]


def test_the_scale_of_a_sample_does_not_count():
    pool = points(90).double()
    factors = torch.linspace(0.1, 9, 90, dtype=torch.float64)[:, None]
    assert torch.equal(prob_cover(factors * pool, 30, delta=0.4), prob_cover(pool, 30, delta=0.4))


@pytest.mark.parametrize("labeled", [0, 60])
def test_the_radius_is_the_largest_with_a_pure_share_of_95_percent(labeled):
    pool, known = points(300).double(), points(labeled, seed=1).double()
    space = UnitSpace(pool, known)
    delta = pure_radius(space, 5, torch.Generator().manual_seed(3))
    labels = cluster(space, 5, torch.Generator().manual_seed(3)).labels
    everything = torch.cat([pool, known])
    distances = unit_distances(everything, everything)
    impure = labels[:, None] != labels

    def pure_share(radius: float) -> float:
        return float(((distances < radius) & impure).any(1).logical_not().double().mean())

    assert pure_share(delta * (1 - 1e-9)) >= 0.95
    assert pure_share(delta * (1 + 1e-9)) < 0.95


def test_a_radius_by_hand():
    angles = torch.tensor([0.0, 0.1, 0.2, 1.0, 1.1, 1.2], dtype=torch.float64)
    space = UnitSpace(torch.stack([angles.cos(), angles.sin()], 1))
    # All six balls must be pure; the inner two are as far as the gap of 0.8 radians, a chord of 2 sin 0.4.
    assert pure_radius(space, 2, torch.Generator().manual_seed(0)) == pytest.approx(2 * math.sin(0.4))


def test_no_radius_is_chosen_as_the_pure_one():
    pool = points(200)
    delta = pure_radius(UnitSpace(pool), 5, torch.Generator().manual_seed(4))
    picks = prob_cover(pool, 20, generator=torch.Generator().manual_seed(4), num_classes=5)
    assert torch.equal(picks, prob_cover(pool, 20, delta=delta))


@pytest.mark.parametrize("pool", [torch.ones(7, 3), torch.zeros(7, 3), torch.ones(1, 3)])
def test_identical_rows_are_all_picked_once(pool):
    assert prob_cover(pool, 9).tolist() == list(range(len(pool)))
    assert prob_cover(pool, 9, pool[:1], delta=0.5).tolist() == list(range(len(pool)))


def test_what_is_not_finite_or_not_positive_is_named():
    pool = points(30)
    pool[12, 2] = math.nan
    with pytest.raises(ValueError, match="`embeddings` to be finite, but got nan at position 12"):
        prob_cover(pool, 3)
    with pytest.raises(ValueError, match="`labeled_embeddings` to be finite, but got nan at position 0"):
        prob_cover(pool[:12], 3, pool[12:13])
    with pytest.raises(ValueError, match="floating-point tensor, but got"):
        prob_cover(torch.ones(3, 2, dtype=torch.int64), 1)
    for delta in (0, -1.0, math.inf, math.nan, "0.5", True):
        with pytest.raises(ValueError, match="`delta` to be a number above 0"):
            prob_cover(pool[:5], 1, delta=delta)
    with pytest.raises(ValueError, match="`num_classes` to be a positive integer, but got 0"):
        prob_cover(pool[:5], 1, num_classes=0)


def test_never_copies_the_pool_or_stores_the_graph():
    pool = points(8000, 512)
    with LargestAllocation() as largest:
        prob_cover(pool, 20, delta=0.5)
    assert largest.bytes <= pool.nbytes / 4
