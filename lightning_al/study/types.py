"""What the parts of a study hand to one another: requests for fits, fits, and the tasks that make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from lightning_al.strategies.base import QueryStrategy

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Request:
    """One fit to make, and what to ask its model afterwards.

    Args:
        labeled: Pilot positions to train on ``(n,)``, in the order they were labeled.
        seed: Decides everything random about the fit: weights, order, dropout, augmentation.
        queries: Strategies by arm that pick among the rest of the pilot with the fitted model.
        query_size: Samples each of them picks.
        observe: Whether to return embeddings and predictions of the whole pilot too.
    """

    labeled: IntArray
    seed: int
    queries: Mapping[str, QueryStrategy] = field(default_factory=dict)
    query_size: int = 0
    observe: bool = False


@dataclass(frozen=True)
class Observation:
    """What a fit on the whole pilot says of each of its N samples.

    Args:
        embeddings: What the head sees ``(N, D)``, float32.
        confidence: Probability of the given label after each epoch ``(epochs, N)``, float32.
        correct: Whether the given label was predicted after each epoch ``(epochs, N)``, bool.
        targets: The given labels ``(N,)``.
    """

    embeddings: FloatArray
    confidence: FloatArray
    correct: npt.NDArray[np.bool_]
    targets: IntArray


@dataclass(frozen=True)
class Fit:
    """What came of a request.

    Args:
        metrics: Metrics on the test set by name, as torchmetrics gives them.
        picked: Pilot positions that each arm asks for, in the order picked.
        seconds_fit: Seconds the training took.
        seconds_predict: Seconds the prediction of the test set took.
        seconds_query: Seconds the queries took, by arm.
        peak_memory_mb: Most memory held at once, in MB; of the accelerator where there is one.
        observation: Of the whole pilot, where it was asked for.
        states: What each arm's strategy remembers after its query; those that remember nothing are not there.
    """

    metrics: dict[str, float]
    picked: dict[str, list[int]] = field(default_factory=dict)
    seconds_fit: float = 0.0
    seconds_predict: float = 0.0
    seconds_query: dict[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    observation: Observation | None = None
    states: dict[str, dict[str, Any]] = field(default_factory=dict)


class Fitter(Protocol):
    """Trains on parts of the pilot: the whole model (full) or a linear head on frozen embeddings (proxy)."""

    def fit_many(self, requests: Sequence[Request]) -> list[Fit]:
        """Answer requests; each answer depends on its own request only, whatever else is asked with it."""
        ...


@dataclass(frozen=True)
class Task:
    """Fits that one worker makes one after the other.

    Args:
        key: Name of the task, unique in the study, of letters, digits, ``.``, ``_`` and ``-``.
        part: Nested random design, paired simulation, or fits on the whole pilot.
        fits: Number of fits it makes: its weight in the progress.
        after: Keys of the tasks whose cells it reads.
        details: What the part needs to know (arms, replicate, bucket, ...).
    """

    key: str
    part: Literal["design", "start", "simulation", "pilot"]
    fits: int
    after: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
