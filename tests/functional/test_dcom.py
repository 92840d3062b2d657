"""DCoM against the paper's loops: the radii by bisection, and the mix of margin and density."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_al.functional.dcom import adapt_deltas, dcom
from lightning_al.functional.prob_cover import pure_radius
from lightning_al.functional.unit_space import UnitSpace
from tests._helpers import reference


def points(rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    drawn = torch.randint(5, (rows,), generator=generator)
    return (centres[drawn] + 0.3 * torch.randn(rows, 4, generator=generator)).double()


def probabilities(rows: int, seed: int = 0) -> Tensor:
    return (2 * torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))).softmax(1).double()


def unit_distances(x: Tensor, y: Tensor) -> list[list[float]]:
    x, y = (each / each.norm(dim=1, keepdim=True) for each in (x, y))
    return reference.distances(x, y).tolist()


def balls(distances: list[list[float]], radii: list[float]) -> list[set[int]]:
    return [{x for x, d in enumerate(row) if d < radius} for row, radius in zip(distances, radii, strict=True)]


def picks_of_the_paper(pool: Tensor, probs: Tensor, count: int, known: Tensor, deltas: list[float], delta: float):
    """Return the picks of Mishal and Weinshall (2024), Algorithm 1, step 2."""
    mean = sum(deltas) / len(deltas) if deltas else delta
    covered = set().union(*balls(unit_distances(known, pool), deltas))
    coverage = (len(known) + len(covered)) / (len(pool) + len(known))
    weight = (1 + math.exp(-50 * (1 - 0.8))) / (1 + math.exp(-50 * (coverage - 0.8)))
    around = balls(unit_distances(pool, pool), [mean] * len(pool))
    margins = reference.margin(probs)
    unsure = [value - min(margins) for value in margins]
    picks: list[int] = []
    for _ in range(count):
        density = [len(ball - covered) for ball in around]
        scores = [
            weight * u / (max(unsure) or 1) + (1 - weight) * rank / (max(density) or 1)
            for u, rank in zip(unsure, density, strict=True)
        ]
        picks.append(max((i for i in range(len(pool)) if i not in picks), key=lambda i: (scores[i], -i)))
        covered |= around[picks[-1]]
        unsure[picks[-1]] = 0
    return picks, weight


@pytest.mark.parametrize(
    ("labeled", "delta", "weights"),
    [(0, 0.3, (0, 1e-9)), (25, 0.2, (0.01, 0.1)), (25, 0.25, (0.4, 0.7)), (25, 0.35, (0.99, 1.0))],
)
def test_equals_the_papers_loop(labeled, delta, weights):
    pool, probs, known = points(120), probabilities(120), points(labeled, seed=1)
    deltas = torch.linspace(0.6 * delta, 1.4 * delta, labeled, dtype=torch.float64)
    expected, weight = picks_of_the_paper(pool, probs, 60, known, deltas.tolist(), delta)
    assert weights[0] <= weight <= weights[1]
    assert dcom(pool, probs, 60, known, deltas, delta).tolist() == expected


def radii_of_the_paper(pool: Tensor, probs: Tensor, known: Tensor, known_probs: Tensor, targets: Tensor, deltas):
    """Return the radii of Algorithm 1, step 1: bisection until less than 0.05 is left."""
    everything = torch.cat([pool, known])
    predicted = torch.cat([probs, known_probs]).argmax(1).tolist()
    distances = unit_distances(known, everything)
    old = [radius for radius in deltas if not math.isnan(radius)]
    started = [sum(old) / len(old) if math.isnan(radius) else radius for radius in deltas]
    coverage = len(set().union(*balls(distances, started))) / len(everything)
    radii = list(started)
    for i, radius in enumerate(deltas):
        if not math.isnan(radius):
            continue
        low, high = 0.0, 1.1
        while high - low > 0.05:
            middle = (low + high) / 2
            ball = [x for x, distance in enumerate(distances[i]) if distance < middle]
            pure = sum(predicted[x] == targets[i] for x in ball) / len(ball)
            low, high = (middle, high) if pure >= 0.2 * coverage + 0.4 else (low, middle)
        radii[i] = (low + high) / 2
    return radii


def test_radii_equal_the_papers_bisection():
    generator = torch.Generator().manual_seed(7)
    pool, known = (torch.randn(rows, 4, generator=generator).double() for rows in (300, 30))
    # Predictions follow the place, so that some balls are pure far out and some nowhere.
    weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(2)).double()
    probs, known_probs = (4 * pool @ weights).softmax(1), (4 * known @ weights).softmax(1)
    targets = known_probs.argmax(1)
    targets[20:] = (targets[20:] + 1) % 3
    deltas = torch.full((30,), math.nan, dtype=torch.float64)
    deltas[::3] = torch.linspace(0.1, 0.5, 10, dtype=torch.float64)
    radii = adapt_deltas(pool, probs, known, known_probs, targets, deltas)
    expected = radii_of_the_paper(pool, probs, known, known_probs, targets.tolist(), deltas.tolist())
    assert radii.tolist() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(radii[::3], deltas[::3])
    assert len(radii[deltas.isnan()].unique()) >= 6


def test_the_first_radius_is_the_pure_one():
    pool, probs = points(150), probabilities(150)
    delta = pure_radius(UnitSpace(pool), 3, torch.Generator().manual_seed(5))
    picks = dcom(pool, probs, 20, generator=torch.Generator().manual_seed(5))
    assert torch.equal(picks, dcom(pool, probs, 20, delta=delta))


@pytest.mark.parametrize("pool", [torch.ones(7, 3), torch.zeros(7, 3), torch.ones(1, 3)])
def test_identical_certain_rows_are_all_picked_once(pool):
    certain = torch.eye(2)[:1].repeat(len(pool), 1)
    everyone = list(range(len(pool)))
    assert dcom(pool, certain, 9).tolist() == everyone
    assert dcom(pool, certain, 9, pool[:1], torch.tensor([0.5])).tolist() == everyone


def test_what_does_not_fit_is_named():
    pool, probs, known = points(30), probabilities(30), points(4, seed=1)
    with pytest.raises(ValueError, match="a radius for each of 4 labeled samples, but got None"):
        dcom(pool, probs, 3, known)
    with pytest.raises(ValueError, match="`probs` to have 30 rows, as its embeddings, but got 29"):
        dcom(pool, probs[1:], 3)
    with pytest.raises(ValueError, match="`delta` to be a number above 0"):
        dcom(pool, probs, 3, delta=0)
    with pytest.raises(ValueError, match="`labeled_targets` to be classes from 0 to 2, but got 3 at position 1"):
        adapt_deltas(pool, probs, known, probs[:4], torch.tensor([0, 3, 0, 0]), torch.full((4,), math.nan))
    pool[12, 2] = math.nan
    with pytest.raises(ValueError, match="`embeddings` to be finite, but got nan at position 12"):
        dcom(pool, probs, 3)
    probs[5, 1] = math.inf
    with pytest.raises(ValueError, match="`probs` to be finite, but got inf at position 5"):
        dcom(points(30), probs, 3)
