"""From scores of parts to scores of samples, against loops."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_al.functional.aggregation import aggregate

SCORES = torch.rand(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("how", ["mean", "max", "sum", 0.1, 0.3, 0.5, 0.99, 3 / 7])
def test_as_a_loop_has_it(how) -> None:
    wanted = []
    for row in SCORES.tolist():
        if isinstance(how, float):
            count = next(k for k in range(1, 8) if k >= how * 7 - 1e-12)
            part = sorted(row)[-count:]
            wanted.append(sum(part) / len(part))
        else:
            wanted.append({"mean": sum(row) / 7, "max": max(row), "sum": sum(row)}[how])
    assert aggregate(SCORES, how).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("how", ["mean", "max", "sum", 0.5])
def test_a_sample_without_parts_has_zero(how) -> None:
    assert aggregate(torch.empty(3, 0), how).tolist() == [0, 0, 0]


@pytest.mark.parametrize("how", ["median", 0.0, 1.0, 1, -0.5, math.nan, True])
def test_other_ways_are_refused(how) -> None:
    with pytest.raises(ValueError, match="Expected `aggregate` to be 'mean', 'max', 'sum', or a share"):
        aggregate(SCORES, how)
