"""What a study was asked, as its parts read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from lightning_al.scoring import OutputKind
from lightning_al.strategies.base import QueryStrategy
from lightning_al.study.metrics import StudyMetrics
from lightning_al.study.runners import Runner


class Asked:
    """The arguments of `FeasibilityStudy`, which says what each means, once they are checked.

    ``strategies`` are by the name of their arm; ``metrics`` hold the ``metric`` that decides and the others.
    """

    strategies: Mapping[str, QueryStrategy]
    metric: str
    metrics: StudyMetrics
    mode: Literal["full", "proxy"]
    backbone: str | Callable[..., Any] | None
    confirm: bool
    buckets: int
    fractions: tuple[float, ...]
    seeds: int
    replicates: int
    initial: int | None
    query_size: int | None
    rounds: int
    delta: float | None
    saving: float
    label_cost: float | None
    hour_cost: float | None
    runner: Runner
    outputs: OutputKind | None
    embedding_layer: str | None
    seed: int
    output: Path
