"""Herding against the papers' loop on the whole kernel: the same picks in the same order."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_al.functional import herding
from lightning_al.functional.herding import max_herding, uncertainty_herding
from lightning_al.functional.temperature import calibrated_margin, calibration_temperature
from tests._helpers import reference
from tests._helpers.probes import LargestAllocation


def points(rows: int, seed: int = 0, columns: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, columns, generator=generator)
    drawn = torch.randint(5, (rows,), generator=generator)
    return centres[drawn] + 0.3 * torch.randn(rows, columns, generator=generator)


def probabilities(rows: int, seed: int = 0) -> Tensor:
    return (2 * torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))).softmax(1).double()


def unit_distances(x: Tensor, y: Tensor) -> Tensor:
    x, y = (each.double() / each.double().norm(dim=1, keepdim=True) for each in (x, y))
    return reference.distances(x, y)


def kernel_of(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    return (-((unit_distances(x, y) / bandwidth) ** 2)).exp()


def shortfall(
    picks: list[int], pool: Tensor, known: Tensor, weights: Tensor | None = None, bandwidth: float = 1.0
) -> float:
    """Return by how much of the highest gain a pick falls short, at worst; 0: the greedy order of Bae et al. (2024).

    Samples near each other and far from all others add the same, so that picks alone cannot be compared.
    """
    assert len(set(picks)) == len(picks)
    weights = torch.ones(len(pool)) if weights is None else weights
    kernel = kernel_of(pool, pool, bandwidth)
    best = torch.cat([torch.zeros(1, len(pool), dtype=torch.float64), kernel_of(known, pool, bandwidth)]).amax(0)
    worst, left = 0.0, torch.ones(len(pool), dtype=torch.bool)
    for pick in picks:
        gains = (weights * (kernel - best).clamp(min=0)).mean(1)
        worst = max(worst, 1 - float(gains[pick] / gains[left].max()))
        best, left[pick] = torch.maximum(best, kernel[pick]), False
    return worst


def bandwidth_of(known: Tensor) -> float:
    distances = unit_distances(known, known)
    return float(distances[distances > 1e-9].min())


def unsure(probs: Tensor) -> Tensor:
    return torch.tensor(reference.margin(probs)).double()


@pytest.fixture(params=[3, 128])
def _tile(request, monkeypatch):
    monkeypatch.setattr(herding, "_TILE", request.param)
    monkeypatch.setattr(herding, "_BLOCK", 5 * request.param)
    monkeypatch.setattr(herding, "_AT_ONCE", 4 * request.param)


@pytest.mark.usefixtures("_tile")
@pytest.mark.parametrize("labeled", [0, 1, 40])
def test_max_herding_is_greedy_to_the_last_sample(labeled):
    pool, known = points(130).double(), points(labeled, seed=1).double()
    picks = max_herding(pool, 130, known).tolist()
    assert len(picks) == 130
    assert shortfall(picks, pool, known) < 1e-9
    assert max_herding(pool, 9, known).tolist() == picks[:9]


@pytest.mark.usefixtures("_tile")
@pytest.mark.parametrize("labeled", [2, 6, 40])
def test_uncertainty_herding_is_greedy(labeled):
    pool, known = points(130).double(), points(labeled, seed=1).double()
    probs, known_probs = probabilities(130), probabilities(labeled, seed=1)
    targets = torch.arange(labeled) % 3
    temperature = calibration_temperature(known_probs, targets)
    assert temperature > 1
    scaled = probs ** (1 / temperature)
    weights = unsure(scaled / scaled.sum(1, keepdim=True))
    picks = uncertainty_herding(pool, probs, 130, known, known_probs, targets).tolist()
    assert len(picks) == 130
    assert shortfall(picks, pool, known, weights, bandwidth_of(known)) < 1e-9


def test_uncertainty_herding_without_labels_is_max_herding():
    pool = points(80).double()
    assert torch.equal(uncertainty_herding(pool, probabilities(80), 80), max_herding(pool, 80))


def test_labels_at_one_place_give_the_bandwidth_of_max_herding():
    pool, known, probs = points(80).double(), points(1).double().repeat(3, 1), probabilities(80)
    picks = uncertainty_herding(pool, probs, 40, known).tolist()
    assert shortfall(picks, pool, known, unsure(probs)) < 1e-9


def test_many_labels_give_margin_sampling():
    pool, probs = points(80, columns=64).double(), probabilities(80)
    known = points(2, columns=64, seed=3).double()
    known[1] = known[0] + 1e-4
    expected = reference.top_k(unsure(probs), 80)
    assert uncertainty_herding(pool, probs, 80, known).tolist() == expected


def test_where_nothing_is_uncertain_all_count_alike():
    pool, known = points(60).double(), points(4, seed=1).double()
    certain = torch.eye(3)[torch.arange(60) % 3].double()
    picks = uncertainty_herding(pool, certain, 60, known).tolist()
    assert len(picks) == 60
    assert shortfall(picks, pool, known, bandwidth=bandwidth_of(known)) < 1e-9
    certain[[7, 20]] = 1 / 3
    picks = uncertainty_herding(pool, certain, 60, known).tolist()
    assert {7, 20} == set(picks[:2])
    assert sorted(picks) == list(range(60))


def test_a_large_pool_is_covered_by_a_sample_of_it(monkeypatch):
    monkeypatch.setattr(herding, "_MOST_COVERED", 50)
    monkeypatch.setattr(herding, "_COVERED_A_PICK", 3)
    pool = points(200).double()
    for count, drawn in ((5, 50), (30, 90)):
        seen = torch.randperm(200, generator=torch.Generator().manual_seed(8), dtype=torch.int32)[:drawn].long()
        weights = torch.zeros(200).index_fill(0, seen, 1.0)
        picks = max_herding(pool, count, generator=torch.Generator().manual_seed(8)).tolist()
        assert shortfall(picks, pool, pool[:0], weights) < 1e-9


@pytest.mark.parametrize(
    ("dtype", "offset"),
    [(torch.float32, 0.0), (torch.float32, 1000.0), (torch.float16, 0.0), (torch.bfloat16, 0.0)],
)
def test_other_precisions_give_the_same_picks(dtype, offset):
    pool, known, probs = points(100).to(dtype) + offset, points(8, seed=1).to(dtype) + offset, probabilities(100)
    picks = uncertainty_herding(pool, probs, 40, known).tolist()
    assert shortfall(picks, pool, known, unsure(probs), bandwidth_of(known)) < (1e-2 if offset else 1e-5)


@pytest.mark.parametrize("pool", [torch.ones(7, 3), torch.zeros(7, 3), torch.ones(1, 3)])
def test_identical_rows_are_all_picked_once(pool):
    everyone = list(range(len(pool)))
    assert max_herding(pool, 9).tolist() == everyone
    assert max_herding(pool, 9, pool[:1]).tolist() == everyone
    assert uncertainty_herding(pool, probabilities(len(pool)), 9, pool[:1]).sort().values.tolist() == everyone


def test_what_does_not_fit_is_named():
    pool, probs = points(30), probabilities(30)
    pool[12, 2] = math.nan
    for select in (max_herding, lambda *a: uncertainty_herding(a[0], probs[: len(a[0])], *a[1:])):
        with pytest.raises(ValueError, match="`embeddings` to be finite, but got nan at position 12"):
            select(pool, 3)
        with pytest.raises(ValueError, match="`labeled_embeddings` to be finite, but got nan at position 0"):
            select(pool[:12], 3, pool[12:13])
        with pytest.raises(ValueError, match="floating-point tensor, but got"):
            select(torch.ones(3, 2, dtype=torch.int64), 1)
    with pytest.raises(ValueError, match="`probs` to have 12 rows, as `embeddings`, but got 30"):
        uncertainty_herding(pool[:12], probs, 3)
    probs[5, 1] = math.nan
    with pytest.raises(ValueError, match="`probs` to be finite, but got nan at position 5"):
        uncertainty_herding(pool[:12], probs[:12], 3)


def test_never_copies_the_pool_or_stores_the_kernel(monkeypatch):
    monkeypatch.setattr(herding, "_MOST_COVERED", 500)
    pool = points(8000, columns=512)
    with LargestAllocation() as largest:
        max_herding(pool, 5)
    assert largest.bytes <= pool.nbytes / 4


@pytest.mark.parametrize("classes", [2, 4])
def test_the_temperature_has_the_least_calibration_error(classes):
    generator = torch.Generator().manual_seed(classes)
    probs = (6 * torch.randn(60, classes, generator=generator)).softmax(1).double()
    targets = torch.randint(classes, (60,), generator=generator)
    errors = []
    for step in range(190):
        scaled = probs ** (1 / (1 + step / 10))
        scaled = scaled / scaled.sum(1, keepdim=True)
        error = 0.0
        for bin in range(classes):
            inside = [
                (max(row), row.index(max(row)) == target)
                for row, target in zip(scaled.tolist(), targets.tolist(), strict=True)
                if bin / classes < max(row) <= (bin + 1) / classes
            ]
            error += abs(sum(confidence - hit for confidence, hit in inside)) / 60
        errors.append(error)
    assert calibration_temperature(probs, targets) == round(1 + errors.index(min(errors)) / 10, 1)


def test_a_certain_row_stays_certain_at_any_temperature_that_is_tried():
    certain = torch.eye(3)[:1].repeat(4, 1)
    assert calibration_temperature(certain, torch.zeros(4, dtype=torch.int64)) == 1.0
    assert calibrated_margin(certain, 5.0).tolist() == pytest.approx([0.0] * 4, abs=1e-6)
    with pytest.raises(ValueError, match="`labeled_targets` to be classes from 0 to 2, but got 3 at position 1"):
        calibration_temperature(certain, torch.tensor([0, 3, 0, 0]))
