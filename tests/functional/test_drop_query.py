"""DropQuery: the law of its flips against all masks enumerated, and which samples become candidates."""

from __future__ import annotations

import importlib
import math
from itertools import product

import pytest
import torch

from lightning_al.functional.drop_query import _flips, drop_query
from tests._helpers.probes import LargestAllocation


class Linear:
    """A head in the dtype of what it is given."""

    def __init__(self, columns: int, classes: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(columns, classes, generator=generator, dtype=torch.float64)

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        return points @ self.weight.to(points.dtype)


def flip_chance(row: torch.Tensor, head: Linear) -> float:
    """Return the chance that a mask changes the prediction, over all masks."""
    rest, chance = int(head(row[None]).argmax()), 0.0
    for mask in product([0.0, 1.0], repeat=len(row)):
        kept = torch.tensor(mask, dtype=row.dtype)
        if int(head((row * kept * 4)[None]).argmax()) != rest:
            chance += math.prod(0.25 if bit else 0.75 for bit in mask)
    return chance


@pytest.mark.parametrize("columns", [5, 8, 9])
def test_flips_follow_the_law_of_three_passes(columns):
    head, copies = Linear(columns, 3), 4000
    rows = torch.randn(3, columns, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    flips = _flips(rows.repeat_interleave(copies, 0), head, torch.Generator().manual_seed(1))
    for row, counts in zip(rows, flips.split(copies), strict=True):
        chance = flip_chance(row, head)
        assert 0.02 < chance < 0.98
        law = [math.comb(3, k) * chance**k * (1 - chance) ** (3 - k) for k in range(4)]
        drawn = counts.long().bincount(minlength=4) / copies
        noise = sum(math.sqrt(2 * p * (1 - p) / (math.pi * copies)) for p in law) / 2
        assert sum(abs(p - q) for p, q in zip(law, drawn.tolist(), strict=True)) / 2 < 2.5 * noise


def test_samples_and_passes_are_dropped_independently():
    """Each of two features alone decides; the flips of neighbours must not go together."""
    head = lambda z: torch.stack([z[:, 0] - 0.5, 0.5 - z[:, 0]], 1)  # noqa: E731 - shortest here
    flips = _flips(torch.ones(20_000, 1), head, torch.Generator().manual_seed(3)).double()
    assert flips.mean().item() == pytest.approx(3 * 0.75, abs=0.03)
    assert flips.var().item() == pytest.approx(3 * 0.75 * 0.25, abs=0.03)  # passes that went together: three times it
    assert torch.corrcoef(torch.stack([flips[:-1], flips[1:]]))[0, 1].abs() < 0.03


@pytest.mark.parametrize(
    ("twice", "once", "expected"),
    [(50, 30, "twice"), (49, 30, "once"), (0, 5, "once"), (0, 1, "all of once"), (0, 0, "none")],
)
def test_candidates_are_relaxed_until_there_are_25_a_pick(twice, once, expected, monkeypatch):
    flips = torch.zeros(200, dtype=torch.int8)
    flips[100 : 100 + twice] = torch.tensor([2, 3], dtype=torch.int8).repeat(25)[:twice]
    flips[:once] = 1
    monkeypatch.setattr(
        importlib.import_module("lightning_al.functional.drop_query"), "_flips", lambda *arguments: flips
    )
    points = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    allowed = {"twice": set(range(100, 150)), "once": {*range(once), *range(100, 100 + twice)}}.get(expected)
    seen: set[int] = set()
    for seed in range(20):
        picks = drop_query(points, Linear(4, 3), 2, torch.Generator().manual_seed(seed)).tolist()
        assert len(set(picks)) == 2
        seen.update(picks)
        if expected == "all of once":
            assert picks[0] == 0
        elif allowed is not None:
            assert set(picks) <= allowed
    assert len(seen) > 4 or once + twice == 5
    if expected == "once" and twice:
        assert min(seen) < once


def test_one_is_picked_from_each_group_of_candidates():
    """Three groups near the boundaries of a head, and many samples far from any."""
    generator = torch.Generator().manual_seed(0)
    head = lambda z: torch.stack([z.sum(1), -z.sum(1)], 1)  # noqa: E731 - shortest here
    group = torch.zeros(3, 24)
    group[0, :12], group[0, 12:] = 1.0, -0.9
    group[1, ::2], group[1, 1::2] = 1.0, -0.9
    group[2, :6], group[2, 6:12] = 2.0, -1.8
    unsure = group.repeat(30, 1) + 0.02 * torch.randn(90, 24, generator=generator)
    picks = drop_query(torch.cat([5 + torch.rand(400, 24, generator=generator), unsure]), head, 3)
    assert picks.min() >= 400
    assert {(pick - 400) % 3 for pick in picks.tolist()} == {0, 1, 2}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["random", "identical", "zeros", "offset"])
def test_hard_pools_give_unique_positions(dtype, kind):
    points = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    points = {
        "random": points,
        "identical": points[:1].expand(60, -1),
        "zeros": 0 * points,
        "offset": points + 1000,
    }[kind].to(dtype)
    for size in (1, 7, 60, 99):
        picks = drop_query(points, Linear(6, 4), size)
        assert picks.dtype == torch.int64
        assert sorted(set(picks.tolist())) == sorted(picks.tolist())
        assert len(picks) == min(size, 60)
    assert drop_query(points[:1], Linear(6, 4), 3).tolist() == [0]
    assert drop_query(points[:0], Linear(6, 4), 3).tolist() == []


def test_wrong_inputs_are_refused():
    points = torch.rand(700, 500)
    with pytest.raises(ValueError, match=r"return logits of shape \(262, C\), but got \(262,\)"):
        drop_query(points, lambda z: z.sum(1), 2)
    with pytest.raises(ValueError, match=r"floating-point tensor, but got torch\.int64"):
        drop_query(points.long(), Linear(500, 3), 2)
    marked = points.clone()
    marked[600, 0] = 9
    with pytest.raises(ValueError, match="logits of `head` to be finite, but got nan at position 600"):
        drop_query(marked, lambda z: Linear(500, 3)(z).masked_fill((z[:, :1] == 9), math.nan), 2)
    marked[600, 0] = math.inf
    with pytest.raises(ValueError, match="`embeddings` to be finite, but got inf at position 600"):
        drop_query(marked, Linear(500, 3), 2)


def test_never_copies_the_pool():
    points = torch.randn(40_000, 64, generator=torch.Generator().manual_seed(0))
    with LargestAllocation() as largest:
        drop_query(points, Linear(64, 5), 20)
    assert largest.bytes <= points.nbytes / 4
