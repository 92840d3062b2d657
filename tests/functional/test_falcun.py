"""FALCUN: the law of its picks against the formula, term by term."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from lightning_al.functional.falcun import _draw, falcun
from tests._helpers import reference
from tests._helpers.probes import LargestAllocation


def law_of(probs: torch.Tensor, count: int, gamma: int = 10) -> dict[tuple[int, ...], float]:
    """Return the chance of every ordered pick, by Gilhuber et al. (2024)."""
    rows, unsure = probs.double().tolist(), reference.margin(probs)
    law = {}
    for order in permutations(range(len(rows)), count):
        chance, distances, left = 1.0, list(unsure), set(range(len(rows)))
        for pick in order:
            low, high = min(distances[i] for i in left), max(distances[i] for i in left)
            spread = high - low
            weights = {i: ((distances[i] - low) / spread if spread else 0.0) + unsure[i] for i in left}
            weights = {i: weight**gamma for i, weight in weights.items()}
            total = sum(weights.values())
            chance *= weights[pick] / total if total else 1 / len(left)
            left.remove(pick)
            for i in left:
                gap = sum(abs(a - b) for a, b in zip(rows[i], rows[pick], strict=True))
                distances[i] = min(distances[i], gap)
        law[order] = chance
    return law


def unsure_probs(rows: int, classes: int, seed: int, sharpness: float = 0.7) -> torch.Tensor:
    return (sharpness * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))).softmax(1)


@pytest.mark.parametrize("kind", ["random", "twins", "certain", "mostly certain"])
def test_picks_follow_the_law(kind):
    probs = unsure_probs(5, 3, seed=2, sharpness=0.25)
    if kind == "twins":
        probs = probs[:2].repeat(3, 1)[:5]
    elif kind == "certain":
        probs = torch.eye(3).repeat(2, 1)[:5]
    elif kind == "mostly certain":
        probs[1:] = torch.eye(3)[torch.arange(4) % 3] * 0.999 + 0.001 / 3
    law = law_of(probs, 3)
    assert sum(law.values()) == pytest.approx(1)
    generator = torch.Generator().manual_seed(1)
    drawn = [tuple(falcun(probs, 3, generator).tolist()) for _ in range(2000)]
    distance, expected = reference.total_variation(law, drawn)
    assert distance < 1.35 * expected + 1e-3


def test_the_law_test_sees_a_wrong_law():
    probs = unsure_probs(5, 3, seed=2, sharpness=0.25)
    law, wrong = law_of(probs, 3), law_of(probs, 3, gamma=8)
    orders = list(wrong)
    generator = torch.Generator().manual_seed(1)
    chances = torch.tensor([wrong[order] for order in orders])
    drawn = [orders[i] for i in torch.multinomial(chances, 2000, replacement=True, generator=generator)]
    distance, expected = reference.total_variation(law, drawn)
    assert distance > 1.35 * expected + 1e-3


def test_the_largest_random_number_falls_on_a_weight_above_zero():
    weights = torch.tensor([0.0, 0.3, 0.1, 0.0, 0.0], dtype=torch.float64)
    for number, pick in [(1 - 2**-53, 2), (0.0, 1), (0.749, 1), (0.751, 2)]:
        assert _draw(weights, torch.tensor([number], dtype=torch.float64)).tolist() == [pick]


def test_goes_from_the_unsure_to_the_diverse():
    """Two kinds of unsure samples, 500 and 3: the second pick is of the kind that the first is not."""
    probs = torch.cat([torch.tensor([[0.5, 0.5, 0.0]]).repeat(500, 1), torch.tensor([[0.5, 0.0, 0.5]]).repeat(3, 1)])
    kinds = [{pick >= 500 for pick in falcun(probs, 2, torch.Generator().manual_seed(s)).tolist()} for s in range(20)]
    assert sum(len(kind) == 2 for kind in kinds) > 13  # three at 2^10 against 500 at 1: six times in seven


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["random", "identical", "certain"])
def test_hard_pools_give_unique_positions(dtype, kind):
    probs = unsure_probs(60, 5, 0)
    probs = {"random": probs, "identical": probs[:1].expand(60, -1), "certain": torch.eye(5).repeat(12, 1)}[kind]
    probs = probs.to(dtype)
    for size in (1, 7, 60, 99):
        picks = falcun(probs, size)
        assert picks.dtype == torch.int64
        assert sorted(set(picks.tolist())) == sorted(picks.tolist())
        assert len(picks) == min(size, 60)
    assert falcun(probs[:1], 3).tolist() == [0]
    assert falcun(probs[:0], 3).tolist() == []
    assert falcun(torch.ones(4, 1).to(dtype), 4).sort().values.tolist() == [0, 1, 2, 3]


def test_wrong_inputs_are_refused():
    probs = unsure_probs(30, 4, 0)
    with pytest.raises(ValueError, match=r"in \[0, 1\], but got .* at position 0"):
        falcun(probs - 0.9, 3)
    with pytest.raises(ValueError, match=r"floating-point tensor, but got torch\.int64"):
        falcun(probs.long(), 3)
    probs[17, 1] = math.nan
    with pytest.raises(ValueError, match="`probs` to be finite, but got nan at position 17"):
        falcun(probs, 3)


def test_keeps_a_few_numbers_a_sample():
    probs = unsure_probs(30_000, 64, 0)
    with LargestAllocation() as largest:
        falcun(probs, 5)
    assert largest.bytes <= max(8 * len(probs), 1 << 21)  # a float64 a sample, or one block
