"""Near-duplicates against a loop over all pairs."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_al.functional import near_duplicates


def in_a_loop(points: torch.Tensor, labeled: torch.Tensor, share: float) -> list[bool]:
    def apart(a: list[float], b: list[float]) -> float:
        a, b = ([x / max(math.hypot(*v), 1e-300) for x in v] for v in (a, b))
        return math.dist(a, b)

    rows, known = points.tolist(), labeled.tolist()
    nearest = sorted(min(apart(a, b) for j, b in enumerate(rows) if j != i) for i, a in enumerate(rows))
    usual = nearest[(len(nearest) - 1) // 2]
    within = max(share * usual, 1e-3)
    return [any(apart(a, b) <= within for b in [*rows[:i], *known]) for i, a in enumerate(rows)]


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_as_a_loop_over_all_pairs(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    points[40:50] = points[:10] * 3 + 1e-4  # directions count, not lengths
    labeled = points[[20, 55]] + 1e-5
    expected = in_a_loop(points, labeled, share)
    assert near_duplicates(points, labeled, share).tolist() == expected
    assert sum(expected) >= 12


def test_copies_past_one_block_are_found() -> None:
    points = torch.randn(1500, 4, generator=torch.Generator().manual_seed(1))
    points[1400] = points[3]
    points[1401] = points[1399]
    found = near_duplicates(points, share=0.0)
    assert found.nonzero().flatten().tolist() == [1400, 1401]


def test_identical_rows_leave_the_first() -> None:
    assert near_duplicates(torch.ones(4, 3)).tolist() == [False, True, True, True]
    assert near_duplicates(torch.zeros(3, 2)).tolist() == [False, True, True]
    assert near_duplicates(torch.ones(1, 2), torch.ones(1, 2)).tolist() == [True]


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        near_duplicates(torch.tensor([[1.0], [torch.nan]]))
    with pytest.raises(ValueError, match="`share` to be at least 0, but got -1"):
        near_duplicates(torch.ones(2, 2), share=-1)
