"""The side of a contestant: a script that holds one library's selections, and runs one of them as often as it is told.

It runs in the environment of that library, so that it needs NumPy and the standard library alone. It reads lines of
JSON and answers each by one: a request, which is the name of a selection, the folder of its arrays and its numbers, and
is answered when all is ready; then any other line, which runs the selection once.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

Prepare = Callable[..., Callable[[], Any]]
"""Takes arrays and numbers by name, brings them into the form that the library wants, and returns the selection."""

_ROWS_TO_WARM_UP, _PICKS_TO_WARM_UP = 512, 4


def serve(selections: dict[str, Prepare], convert: Callable[[Any], Any] = lambda array: array) -> None:
    """Answer until the other side closes.

    Args:
        selections: What this library offers, by the strategy's name.
        convert: Makes the library's kind of array.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    run: Callable[[], Any] = lambda: None  # noqa: E731 - until there is a request
    for line in sys.stdin:
        message, answer = json.loads(line), {}
        if message:
            run = lambda: None  # noqa: E731 - lets go of the arrays of the last request
            run = _prepared(selections[message["strategy"]], Path(message["folder"]), message["numbers"], convert)
        else:
            answer = measured(run)
        print(json.dumps(answer), file=answers, flush=True)


def _prepared(
    prepare: Prepare, folder: Path, numbers: dict[str, Any], convert: Callable[[Any], Any]
) -> Callable[[], Any]:
    arrays = {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}
    # The first call loads libraries and code; on a few rows, so that it leaves no memory to be used again.
    some = {name: convert(array[:_ROWS_TO_WARM_UP].copy()) for name, array in arrays.items()}
    prepare(**some, **numbers | {"query_size": _PICKS_TO_WARM_UP})()
    return prepare(**{name: convert(array) for name, array in arrays.items()}, **numbers)


def measured(run: Callable[[], Any]) -> dict[str, Any]:
    """Run once: seconds, megabytes beyond those held before (NaN where the system does not tell), and the picks."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what earlier work freed is not to be used again unseen
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak never falls: set it to what is resident now
    before = _peak_megabytes()
    began = time.perf_counter()
    picks = run()
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "megabytes": _peak_megabytes() - before,
        "picks": [int(pick) for pick in picks],
    }


def _peak_megabytes() -> float:
    try:
        status = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
