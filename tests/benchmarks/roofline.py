"""How fast could it be? What this device reads and multiplies a second, and what a selection cannot do without."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tests.benchmarks.selection_cases import NEEDS, Case

FLOAT = 4  # bytes
LLOYD_STEPS, BAIT_OVERSAMPLING = 20, 2  # as the package has them

# Large enough that neither fits a cache, and that a product of such matrices is as quick as any.
_READ_BYTES = {"cpu": 400 << 20, "cuda": 8 << 30}
_SIDE = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Rates:
    """What the device does, in float32 and on the threads that torch has."""

    bytes_a_second: float
    flops: float

    def __str__(self) -> str:
        return f"reads {self.bytes_a_second / 1e9:.1f} GB/s, multiplies {self.flops / 1e9:,.0f} GFLOP/s"


@dataclass(frozen=True)
class Work:
    """What a selection cannot do without."""

    bytes: float
    flops: float = 0.0

    def seconds(self, rates: Rates) -> float:
        """The roofline: the longer of the two."""
        return max(self.bytes / rates.bytes_a_second, self.flops / rates.flops)


def measure_rates(device: torch.device, repeats: int = 7) -> Rates:
    """Measure by a sum over a large tensor and a product of square matrices; medians."""
    values = torch.ones(_READ_BYTES[device.type] // FLOAT, device=device)
    read = statistics.median(timed(values.sum, device) for _ in range(repeats + 1))
    size = values.numel() * FLOAT
    del values
    side = _SIDE[device.type]
    left, right = torch.ones(2, side, side, device=device).unbind()
    product = statistics.median(timed(lambda: left @ right, device) for _ in range(repeats + 1))
    return Rates(size / read, 2 * side**3 / product)


def timed(act: Callable[[], Any], device: torch.device) -> float:
    """Seconds until the device is done."""
    synchronize(device)
    began = time.perf_counter()
    act()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def input_bytes(case: Case) -> int:
    """Bytes of what the strategy reads of the pool."""
    columns = {
        "embeddings": case.dimensions,
        "probs": case.classes,
        "samples": case.draws * case.classes,
    }
    return FLOAT * case.samples * sum(columns.get(name, 0) for name in NEEDS[case.strategy])


def compulsory(case: Case) -> Work | None:
    """One read of the inputs, which whoever looks at every sample needs; more where the strategy itself is more.

    None where what is needed depends on the values: BatchBALD evaluates as few candidates as its bounds allow.
    """
    n, d, b = case.samples, case.dimensions, case.query_size
    read = input_bytes(case)
    if case.strategy == "BatchBALD":
        return None
    if case.strategy in ("KMeans", "TypiClust"):
        return Work(read, 2.0 * LLOYD_STEPS * n * d * b)  # every point against every centroid
    if case.strategy in ("ProbCover", "MaxHerding"):
        return Work(read, 1.0 * n * n * d)  # every pair once
    if case.strategy == "BAIT":
        return Work(BAIT_OVERSAMPLING * b * FLOAT * n * d)  # M changes with each pick, and every sample's value with it
    return Work(read)


def all_pairs(case: Case) -> Work | None:
    """Every sample against every pick in one product: a greedy selection that skips no pair, if it needed no order."""
    if case.strategy not in ("CoreSet", "BADGE", "LCMD"):
        return None
    columns = case.dimensions + (case.classes if case.strategy == "BADGE" else 0)
    return Work(input_bytes(case), 2.0 * case.samples * case.query_size * columns)
