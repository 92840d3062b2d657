"""What one task does: ask the fitter, and hand on each finished fit as a cell that can be stored."""

from __future__ import annotations

import base64
import copy
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lightning_al.strategies import Random
from lightning_al.strategies.base import QueryStrategy
from lightning_al.study.design import CONTROL, Design
from lightning_al.study.types import Fit, Fitter, IntArray, Request, Task

Cell = dict[str, Any]
Arrays = dict[str, npt.NDArray[Any]]
Read = Callable[[str], Cell | None]
Finished = tuple[str, Cell, Arrays | None]

OBSERVED = "pilot-r00"
"""The fit on the whole pilot whose embeddings and predictions are kept."""


@dataclass
class Work:
    """Runs the tasks of a study: what a worker needs to know.

    Args:
        design: The plan.
        fitter: Makes the fits.
        strategies: The strategies by arm, besides the control.
    """

    design: Design
    fitter: Fitter
    strategies: Mapping[str, QueryStrategy]

    def __call__(self, task: Task, read: Read) -> Iterator[Finished]:
        """Make the fits of a task.

        Args:
            task: The task.
            read: Gives a finished cell by its key, or None.

        Yields:
            Key, cell and arrays of each fit as it is finished; what ``read`` has already is not made again.
        """
        parts = {"design": self._design, "start": self._start, "simulation": self._simulation, "pilot": self._pilot}
        yield from parts[task.part](task, read)

    def _design(self, task: Task, read: Read) -> Iterator[Finished]:
        fraction = task.details["fraction"]
        cells: list[Cell] = []
        requests = []
        for bucket, seed in task.details["places"]:
            labeled = self.design.bucket_share(bucket, fraction)
            place = (round(1e6 * fraction), bucket, seed)
            requests.append(Request(labeled, self.design.fit_seed("design", *place)))
            key = self.design.design_key(fraction, bucket, seed)
            cells.append({"key": key, "arm": "", "replicate": seed, "bucket": bucket, "fraction": fraction})
        yield from self._fit(task, cells, requests, read)

    def _start(self, task: Task, read: Read) -> Iterator[Finished]:
        replicate = task.details["replicate"]
        request = self._request(self.design.initial_set(replicate), replicate, 0, [CONTROL, *self.strategies])
        cell = {"key": task.key, "arm": "", "replicate": replicate, "round": 0}
        yield from self._fit(task, [cell], [request], read)

    def _pilot(self, task: Task, read: Read) -> Iterator[Finished]:
        replicate = task.details["replicate"]
        everything = np.arange(self.design.pilot, dtype=np.int64)
        request = Request(everything, self.design.fit_seed("pilot", replicate), observe=task.key == OBSERVED)
        yield from self._fit(task, [{"key": task.key, "arm": "", "replicate": replicate}], [request], read)

    def _simulation(self, task: Task, read: Read) -> Iterator[Finished]:
        """The rounds of the task's arms, in step."""
        replicate, arms = task.details["replicate"], task.details["arms"]
        start = read(f"start-r{replicate:02d}")
        if start is None:
            raise RuntimeError(f"The first fit of replicate {replicate} is not there, which its rounds go on from.")
        initial = self.design.initial_set(replicate)
        labeled = {arm: np.concatenate([initial, _positions(start["picked"][arm])]) for arm in arms}
        states = start.get("states", {})
        for round in range(1, self.design.rounds + 1):
            cells, requests = [], []
            for arm in arms:
                last = round == self.design.rounds
                requests.append(self._request(labeled[arm], replicate, round, [] if last else [arm], states))
                key = self.design.simulation_key(replicate, arm, round)
                cells.append({"key": key, "arm": arm, "replicate": replicate, "round": round})
            known = [read(cell["key"]) for cell in cells]
            finished: list[Finished] = [(cell["key"], cell, None) for cell in known if cell is not None]
            if len(finished) < len(cells):  # all arms again: what a batch gives is then the same as without the kill
                finished = list(self._fit(task, cells, requests, lambda key: None))
                yield from (made for made, before in zip(finished, known, strict=True) if before is None)
            for arm, (_, cell, _) in zip(arms, finished, strict=True):
                labeled[arm] = np.concatenate([labeled[arm], _positions(cell["picked"].get(arm, []))])
            states = {arm: state for _, cell, _ in finished for arm, state in cell.get("states", {}).items()}

    def _request(
        self, labeled: IntArray, replicate: int, round: int, arms: Sequence[str], states: Mapping[str, str] = {}
    ) -> Request:
        strategies = {
            arm: Random() if arm == CONTROL else _remembering(self.strategies[arm], states.get(arm)) for arm in arms
        }
        seed = self.design.fit_seed("simulation", replicate, round)
        return Request(labeled, seed, strategies, self.design.query_size)

    def _fit(self, task: Task, cells: Sequence[Cell], requests: Sequence[Request], read: Read) -> Iterator[Finished]:
        """Make the fits of one batch, unless every one is there."""
        missing = {cell["key"] for cell in cells if read(cell["key"]) is None}
        if not missing:
            return
        for cell, request, fit in zip(cells, requests, self.fitter.fit_many(requests), strict=True):
            if cell["key"] in missing:
                yield cell["key"], _record(task, cell, request, fit), _arrays(fit)


def _record(task: Task, cell: Cell, request: Request, fit: Fit) -> Cell:
    states = {arm: _packed(state) for arm, state in fit.states.items()}
    return {
        **{"bucket": None, "fraction": None, "round": None},
        **cell,
        "part": "simulation" if task.part == "start" else task.part,
        "labels": len(request.labeled),
        "seed": request.seed,
        # The probabilities were finite: a metric that is not has no meaning on this test set (a class is missing, say).
        "metrics": {name: value if np.isfinite(value) else None for name, value in fit.metrics.items()},
        "seconds_fit": fit.seconds_fit,
        "seconds_predict": fit.seconds_predict,
        "seconds_query": fit.seconds_query,
        "peak_memory_mb": fit.peak_memory_mb,
        "picked": fit.picked,
        **({"states": states} if states else {}),
    }


def _packed(state: Mapping[str, Any]) -> str:
    """What a strategy remembers as JSON holds it, tensors too."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def _remembering(strategy: QueryStrategy, packed: str | None) -> QueryStrategy:
    """A strategy that goes on from the query before, as in a run: killed and begun again or not."""
    if packed is None:
        return strategy
    try:
        state = torch.load(io.BytesIO(base64.b64decode(packed)), weights_only=True)
    except Exception as error:
        raise ValueError(
            f"Expected `state_dict` of {strategy.name} to hold tensors, numbers, strings, and lists and dicts of them, "
            f"but it cannot be read again: {error}"
        ) from error
    strategy = copy.deepcopy(strategy)
    strategy.load_state_dict(state)
    return strategy


def _arrays(fit: Fit) -> Arrays | None:
    seen = fit.observation
    if seen is None:
        return None
    return {
        "embeddings": seen.embeddings,
        "confidence": seen.confidence,
        "correct": seen.correct,
        "targets": seen.targets,
    }


def _positions(picked: Sequence[int]) -> IntArray:
    return np.asarray(picked, dtype=np.int64)
