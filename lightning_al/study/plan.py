"""What a study would take: its fits, and after one of them was timed, its hours."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_al.strategies.base import QueryStrategy
from lightning_al.study.cells import Cell
from lightning_al.study.design import Design
from lightning_al.study.progress import duration
from lightning_al.study.types import Fitter, Request, Task

_LONG = 2 * 3600
"""Seconds from which a cheaper mode is worth a mention."""


@dataclass(frozen=True)
class Plan:
    """The fits of a study and the time they may take.

    Args:
        design: The plan.
        seconds: Seconds of the fits and queries that are left, one after the other; None where nothing was timed.
        workers: Fits that run side by side.
        mode: ``"full"`` or ``"proxy"``.
        finished: Fits that the study's folder has.
    """

    design: Design
    seconds: float | None
    workers: int
    mode: str
    finished: int = 0

    def __str__(self) -> str:
        """The plan as a table, one line a part."""
        design = self.design
        arms = len(design.arms) + 1
        nested = design.buckets * len(design.fractions) * design.seeds
        counts = design.label_counts
        chains = design.replicates * (1 + arms * design.rounds)
        shares = ", ".join(f"{100 * fraction:g}" for fraction in design.fractions)
        lines = [
            f"Nested random design  {nested:5d} fits  {design.buckets} buckets x {shares} % x {design.seeds} seeds",
            f"Paired simulation     {chains:5d} fits  {design.replicates} replicates x (random, "
            f"{', '.join(design.arms)}), {counts[0]:,} to {counts[-1]:,} labels by {design.query_size:,}",
            f"The whole pilot       {design.replicates:5d} fits  {design.pilot:,} labels",
            f"In all                {design.num_fits:5d} fits  {'' if self.finished else self.time}".rstrip(),
        ]
        if self.finished:
            lines.append(f"Left                  {self.left:5d} fits  {self.time}")
        return "\n".join(lines)

    @property
    def left(self) -> int:
        """Fits that are still to be made."""
        return self.design.num_fits - self.finished

    @property
    def time(self) -> str:
        """The time in words."""
        if not self.left:
            return "the answer alone is written anew"
        if self.seconds is None:
            return "not timed"
        side = f" with {self.workers} side by side" if self.workers > 1 else ""
        return f"about {duration(self.seconds / self.workers)}{side}, reckoned from one timed fit"

    @property
    def hint(self) -> str:
        """What would be faster, where that is worth a mention; else empty."""
        if self.mode == "proxy" or self.seconds is None or self.seconds / self.workers < _LONG:
            return ""
        return (
            "That is long. mode='proxy' extracts embeddings once and trains linear heads on them, which takes minutes; "
            "confirm=True then runs only random and the best strategy with your model. Fewer replicates or rounds help "
            "too, and a runner for several machines."
        )


def plan_of(
    design: Design,
    mode: str,
    workers: int,
    fitter: Fitter | None = None,
    strategies: Mapping[str, QueryStrategy] = {},
    finished: Sequence[Cell] = (),
) -> Plan:
    """Make the plan; with a fitter, one fit of the mean number of labels is timed, with its queries.

    Args:
        design: The plan of the fits.
        mode: ``"full"`` or ``"proxy"``.
        workers: Fits that run side by side.
        fitter: Makes the timed fit.
        strategies: The strategies that query after it.
        finished: The cells that are there already.

    Returns:
        The plan.
    """
    if fitter is None or len(finished) == design.num_fits:
        return Plan(design, None, workers, mode, len(finished))
    labels = round(design.num_labels / design.num_fits)
    labeled = np.random.default_rng(design.seed).permutation(design.pilot)[:labels].astype(np.int64)
    size = max(1, min(design.query_size, design.pilot - labels))
    began = time.monotonic()
    (fit,) = fitter.fit_many([Request(labeled, design.seed, strategies if labels < design.pilot else {}, size)])
    whole = time.monotonic() - began
    queries = sum(fit.seconds_query.values())
    # A chain queries for itself alone; the timed fit queried for all.
    rounds = design.replicates * design.rounds
    seconds = design.num_fits * (whole - queries) + rounds * queries
    # As the progress counts: half of a fit's time grows with its labels, half does not.
    done = len(finished) / design.num_fits + sum(cell["labels"] for cell in finished) / design.num_labels
    return Plan(design, seconds * (1 - done / 2), workers, mode, len(finished))


def fits_left(design: Design, tasks: Sequence[Task], finished: Sequence[Cell]) -> tuple[int, int]:
    """Count the fits that are still to be made.

    Args:
        design: The plan.
        tasks: Its tasks, all of them or all but those of the nested design.
        finished: The cells that are there.

    Returns:
        Fits, and the labels that they train on together, at least 1.
    """
    fits = sum(task.fits for task in tasks)
    labels = design.num_labels
    if fits != design.num_fits:
        labels -= (
            sum(len(design.bucket_share(b, f)) for b in range(design.buckets) for f in design.fractions) * design.seeds
        )
    return fits - len(finished), max(labels - sum(cell["labels"] for cell in finished), 1)
