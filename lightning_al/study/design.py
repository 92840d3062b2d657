"""Which fits a study makes: the nested random design, the paired simulation and the fits on the whole pilot."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lightning_al.study.types import IntArray, Task

CONTROL = "random"
"""The arm that every other is compared with."""

_CONFIRMING = 1 << 31

_PARTS = {"design": 1, "start": 2, "simulation": 3, "pilot": 4, "initial": 5}


@dataclass(frozen=True)
class Design:
    """The whole plan of a study; everything random in it follows from its seed.

    Args:
        pilot: Number of labeled samples the study has, N.
        initial: Labels that every arm starts with.
        query_size: Labels a round.
        rounds: Queries after the first fit.
        replicates: Paired repetitions of the simulation.
        buckets: Disjoint random parts of the pilot.
        fractions: Shares of a bucket that are trained on, ascending.
        seeds: Training seeds of each share of each bucket.
        arms: Names of the arms besides the control.
        seed: Draws the buckets, the initial sets and every fit's own seed.

    Example:
        >>> design = Design(200, 10, 5, 2, 6, 2, (0.5, 1.0), 3, ("Margin",), seed=0)
        >>> design.label_counts, design.num_fits
        ((10, 15, 20), 48)
        >>> sorted(set(design.bucket(0).tolist()) & set(design.bucket(1).tolist()))
        []
    """

    pilot: int
    initial: int
    query_size: int
    rounds: int
    replicates: int
    buckets: int
    fractions: tuple[float, ...]
    seeds: int
    arms: tuple[str, ...]
    seed: int

    @property
    def label_counts(self) -> tuple[int, ...]:
        """Labels at each fit of an arm, n_0 < ... < n_m."""
        return tuple(self.initial + i * self.query_size for i in range(self.rounds + 1))

    @property
    def num_fits(self) -> int:
        """Fits in all; the arms of a replicate share their first."""
        nested = self.buckets * len(self.fractions) * self.seeds
        return nested + self.replicates * (2 + (1 + len(self.arms)) * self.rounds)

    @property
    def num_labels(self) -> int:
        """Labels that all fits train on together: what their time grows with."""
        nested = sum(len(self.bucket_share(b, f)) for b in range(self.buckets) for f in self.fractions) * self.seeds
        chains = (1 + len(self.arms)) * sum(self.label_counts[1:])
        return nested + self.replicates * (self.initial + chains + self.pilot)

    def fit_seed(self, part: str, *place: int) -> int:
        """The seed of a fit: independent between fits, and the same for every arm.

        Example:
            >>> design = Design(200, 10, 5, 2, 6, 2, (0.5, 1.0), 3, ("Margin",), seed=0)
            >>> design.fit_seed("simulation", 0, 1) == design.fit_seed("simulation", 0, 2)
            False
        """
        return int(np.random.SeedSequence((self.seed, _PARTS[part], *place)).generate_state(1)[0])

    def initial_set(self, replicate: int) -> IntArray:
        """The pilot positions that every arm of a replicate starts with ``(initial,)``."""
        rng = np.random.default_rng(self.fit_seed("initial", replicate))
        return rng.permutation(self.pilot)[: self.initial].astype(np.int64)

    @cached_property
    def _buckets(self) -> list[IntArray]:
        order = np.random.default_rng(self.fit_seed("design")).permutation(self.pilot)
        return [part.astype(np.int64) for part in np.array_split(order, self.buckets)]

    def bucket(self, number: int) -> IntArray:
        """The pilot positions of a bucket, in random order."""
        return self._buckets[number]

    def bucket_share(self, number: int, fraction: float) -> IntArray:
        """The first samples of a bucket: a larger fraction holds the smaller ones."""
        bucket = self.bucket(number)
        return bucket[: max(1, round(fraction * len(bucket)))]

    def tasks(self, *, batched: bool) -> list[Task]:
        """The fits as tasks that can run side by side.

        Args:
            batched: Whether the fitter is at its best with many fits at once: the arms of a replicate, and the buckets
                and seeds of a fraction, are then one task each. Else each fit or chain of fits is a task.

        Returns:
            The tasks, what others wait for first.
        """
        return [*self._start_tasks(), *self._design_tasks(batched), *self._pilot_tasks(), *self._chains(batched)]

    def _start_tasks(self) -> list[Task]:
        return [
            Task(f"start-r{replicate:02d}", "start", 1, details={"replicate": replicate})
            for replicate in range(self.replicates)
        ]

    def _design_tasks(self, batched: bool) -> list[Task]:
        if batched:
            each = self.buckets * self.seeds
            places = [(b, t) for b in range(self.buckets) for t in range(self.seeds)]
            return [
                Task(f"design-{_percent(fraction)}", "design", each, details={"fraction": fraction, "places": places})
                for fraction in self.fractions
            ]
        return [
            Task(self.design_key(fraction, b, t), "design", 1, details={"fraction": fraction, "places": [(b, t)]})
            for fraction in self.fractions
            for b in range(self.buckets)
            for t in range(self.seeds)
        ]

    def _pilot_tasks(self) -> list[Task]:
        # The longest fits first among those of a kind, so that no worker ends alone with one.
        return [
            Task(f"pilot-r{replicate:02d}", "pilot", 1, details={"replicate": replicate})
            for replicate in range(self.replicates)
        ]

    def _chains(self, batched: bool) -> list[Task]:
        arms = (CONTROL, *self.arms)
        groups = [arms] if batched else [(arm,) for arm in arms]
        return [
            Task(
                f"simulation-r{replicate:02d}" + ("" if batched else f"-{slug(group[0])}"),
                "simulation",
                len(group) * self.rounds,
                after=(f"start-r{replicate:02d}",),
                details={"replicate": replicate, "arms": group},
            )
            for replicate in range(self.replicates)
            for group in groups
        ]

    def confirming(self, arm: str) -> Design:
        """The plan by which the full model confirms a proxy: one arm, and draws of its own.

        Its seed is this one's plus 2^31, modulo 2^32: the arm was chosen for its gain under the proxy's initial sets
        and seeds, and would bring the luck of that choice along into a comparison that shared them.

        Example:
            >>> Design(200, 10, 5, 2, 6, 2, (0.5, 1.0), 3, ("Margin", "BADGE"), seed=4).confirming("BADGE").seed
            2147483652
        """
        return replace(self, arms=(arm,), seed=(self.seed + _CONFIRMING) % (1 << 32))

    @staticmethod
    def design_key(fraction: float, bucket: int, seed: int) -> str:
        """The key of a cell of the nested design."""
        return f"design-{_percent(fraction)}-b{bucket}-t{seed}"

    @staticmethod
    def simulation_key(replicate: int, arm: str, round: int) -> str:
        """The key of a cell of the simulation."""
        return f"simulation-r{replicate:02d}-{slug(arm)}-{round:02d}"


def sizes(pilot: int, rounds: int, initial: int | None, query_size: int | None) -> tuple[int, int]:
    """First labels and labels a round: by default equal, with the last count at most half of the pilot.

    Raises:
        ValueError: The rounds ask for more labels than the pilot has, or the pilot is too small for them.

    Example:
        >>> sizes(1197, 8, None, None), sizes(1197, 8, 100, None)
        ((66, 66), (100, 62))
    """
    if initial is None and query_size is None:
        initial = query_size = pilot // 2 // (rounds + 1)
    elif initial is None:
        initial = min(int(query_size or 0), pilot // 2 - rounds * int(query_size or 0))
    elif query_size is None:
        query_size = (pilot // 2 - initial) // rounds
    last = int(initial) + rounds * int(query_size or 0)
    if initial < 1 or int(query_size or 0) < 1:
        raise ValueError(
            f"Half of the pilot's {pilot:,} samples is too little for {rounds} rounds from initial={initial} with "
            f"query_size={query_size}: the pilot must have at least {2 * (rounds + 1):,}. Set fewer `rounds`, or "
            "smaller `initial` and `query_size`."
        )
    if last > pilot:
        raise ValueError(
            f"initial={initial} and {rounds} rounds of query_size={query_size} make {last:,} labels, but the pilot has "
            f"{pilot:,} samples. Set fewer `rounds`, or smaller `initial` and `query_size`: the arms are best told "
            "apart below half of the pilot."
        )
    return int(initial), int(query_size or 0)


def slug(name: str) -> str:
    """A name as part of a file's name.

    Example:
        >>> slug("Power(Margin(), beta=1.0)")
        'Power-Margin-beta-1.0'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "arm"


def check_arms(names: Iterable[str]) -> None:
    """Check that no two arms would write the same cells.

    Args:
        names: Names of the arms besides the control.

    Raises:
        ValueError: Two names make the same file name, or one is the control's.
    """
    seen: dict[str, str] = {}
    for name in names:
        key = slug(name).lower()
        if key == CONTROL or key in seen:
            other = "the control arm, which is always there" if key == CONTROL else repr(seen[key])
            raise ValueError(
                f"Expected `strategies` to have different names, but {name!r} meets {other}. Leave it out."
            )
        seen[key] = name


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g}".replace(".", "_") + "pct"
