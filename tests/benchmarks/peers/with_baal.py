"""baal's heuristics, which rank the whole pool."""

from __future__ import annotations

from typing import Any

import numpy as np
from baal.active import heuristics

Array = Any


def _ranked(heuristic: Any) -> Any:
    return lambda probs, query_size: lambda: heuristic(probs)[:query_size]


def bald(samples: Array, query_size: int) -> Any:
    return _ranked(heuristics.BALD())(_draws_last(samples), query_size)


def batch_bald(samples: Array, query_size: int, num_samples: int) -> Any:
    draws_last = _draws_last(samples)
    # It draws so many outcomes from each of the K draws of the model.
    heuristic = heuristics.BatchBALD(query_size, num_draw=num_samples // samples.shape[1])
    return lambda: heuristic(draws_last)[:query_size]


def _draws_last(samples: Array) -> Array:
    return np.ascontiguousarray(samples.swapaxes(1, 2))


SELECTIONS = {
    "Entropy": _ranked(heuristics.Entropy()),
    "Margin": _ranked(heuristics.Margin()),
    "LeastConfidence": _ranked(heuristics.Certainty()),
    "BALD": bald,
    "BatchBALD": batch_bald,
}


if __name__ == "__main__":
    from serving import serve

    serve(SELECTIONS)
