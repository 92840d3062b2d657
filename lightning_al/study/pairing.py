"""Which arms, replicates and label counts of a table of fits can be put side by side, and what that leaves out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_al.study.reading import Table, in_order, name_of, numbers, parts_of

CONTROL = "random"
"""The arm that the others are compared with, in lower case."""

ENOUGH = 6
"""Replicates that an exact test needs: `room.LEAST_REPLICATES`, which cannot be imported by what it builds on."""

MOST_TOLD = 4
"""Causes that a note names."""

Runs = dict[str, dict[str, dict[float, float]]]
"""Value by arm, replicate and label count."""


def runs_of(rows: Table, metric: str, factor: float) -> tuple[Runs, list[str]]:
    """Read every run.

    Args:
        rows: The fits of the simulation.
        metric: The metric's column.
        factor: What it is multiplied with.

    Returns:
        The runs, and notes on rows that were left out or averaged.

    Raises:
        ValueError: A count is no number or negative.
    """
    labels, values = numbers(rows, "labels"), numbers(rows, metric) * factor
    if not (labels[np.isfinite(values)] >= 0).all():
        wrong = next(row for row in np.flatnonzero(np.isfinite(values)) if not labels[row] >= 0)
        raise ValueError(
            f"Expected `labels` to be counts of at least 0, but got {rows['labels'][wrong]!r} for arm "
            f"{rows['arm'][wrong]!r}, replicate {rows['replicate'][wrong]!r}."
        )
    found: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    for arm, replicate, count, value in zip(rows["arm"], rows["replicate"], labels, values, strict=True):
        if np.isfinite(value):
            found[_arm_name(arm), name_of(replicate), float(count)].append(float(value))
    runs: Runs = defaultdict(lambda: defaultdict(dict))
    for (arm, replicate, count), same in found.items():
        runs[arm][replicate][count] = float(np.mean(same))
    notes = []
    empty, doubled = int((~np.isfinite(values)).sum()), sum(len(same) > 1 for same in found.values())
    if empty:
        what, were = ("rows", "were") if empty > 1 else ("row", "was")
        notes.append(f"{empty} {what} without a finite {metric} {were} left out.")
    if doubled:
        notes.append(f"{doubled} label count{'s' * (doubled > 1)} of a run had several rows, which were averaged.")
    return runs, notes


def require_arms(table: Table, metric: str) -> None:
    """Refuse a fit that names no arm: counted to all of them, it would draw every curve to its value."""
    counts, values = numbers(table, "labels"), numbers(table, metric)
    for row, (arm, part) in enumerate(zip(table["arm"], parts_of(table), strict=True)):
        if part == "simulation" and np.isfinite(values[row]) and not name_of(arm):
            raise ValueError(
                f"Expected every fit to name its arm, but row {row + 1} below the header (replicate "
                f"{name_of(table['replicate'][row])!r}, {counts[row]:g} labels) has an empty `arm`. Write {CONTROL!r} "
                "or the strategy's name there; a fit that several arms share takes a row for each of them."
            )


def _arm_name(value: Any) -> str:
    name = name_of(value)
    return CONTROL if name.lower() == CONTROL else name


def _named(rows: Table) -> list[str]:
    return [name for name in dict.fromkeys(_arm_name(arm) for arm in rows["arm"]) if name]


def arms_of(rows: Table, runs: Runs) -> tuple[str, ...]:
    """Name the arms, the control first.

    Raises:
        ValueError: There is no control, nothing to compare it with, or an arm without a run.
    """
    named = _named(rows)
    if CONTROL not in named:
        raise ValueError(f"Expected an arm named {CONTROL!r} to compare the others with, but the arms are {named}.")
    if len(named) < 2:
        raise ValueError(f"Expected an arm besides {CONTROL!r}, but it is the only one: there is nothing to compare.")
    empty = [arm for arm in named if arm not in runs]
    if empty:
        raise ValueError(f"Expected every arm to have a finite metric somewhere, but {empty} have none: remove them.")
    return (CONTROL, *(arm for arm in named if arm != CONTROL))


def complete_replicates(runs: Runs, arms: Sequence[str]) -> tuple[list[str], list[str]]:
    """Find the replicates that have a run of every arm, and say what the others lack.

    Raises:
        ValueError: There is none.
    """
    every = in_order({replicate for arm in arms for replicate in runs[arm]})
    complete = [replicate for replicate in every if all(replicate in runs[arm] for arm in arms)]
    notes = [
        f"Replicate {replicate} lacks {_listed([arm for arm in arms if replicate not in runs[arm]])} and was dropped."
        for replicate in every
        if replicate not in complete
    ]
    if not complete:
        raise ValueError(
            f"Expected a replicate with a curve of every arm ({_listed(arms)}), but there is none: "
            + "; ".join(f"{arm} has {_listed(in_order(set(runs[arm])))}" for arm in arms)
            + ". Leave out the arms with few replicates."
        )
    return complete, notes


def common_range(runs: Runs, arms: Sequence[str], replicates: list[str]) -> tuple[float, float, list[str]]:
    """Find the range of label counts to compare, and the replicates whose runs all span it, as `read_curves` tells.

    Raises:
        ValueError: No replicate has two counts that every arm spans.
    """
    starts = np.array([max(min(runs[arm][replicate]) for arm in arms) for replicate in replicates])
    ends = np.array([min(max(runs[arm][replicate]) for arm in arms) for replicate in replicates])

    def spanning(first: float, last: float) -> npt.NDArray[np.intp]:
        return np.flatnonzero((starts <= first) & (ends >= last))

    def worth(pair: tuple[float, float]) -> tuple[bool, float, float]:
        kept, length = len(spanning(*pair)), pair[1] - pair[0]
        return kept >= ENOUGH, kept * length, length

    pairs = [(first, last) for first in np.unique(starts).tolist() for last in np.unique(ends).tolist() if first < last]
    ranges = [pair for pair in pairs if len(spanning(*pair))]
    if not ranges:
        raise ValueError(
            "Expected the arms to share a range of label counts, but no replicate has two counts that every arm "
            f"spans: the first and last are {[*zip(starts.tolist(), ends.tolist(), strict=True)]}."
        )
    first, last = max(ranges, key=worth)
    return first, last, [replicates[row] for row in spanning(first, last)]


def notes_on_range(
    runs: Runs, arms: Sequence[str], replicates: Sequence[str], kept: Sequence[str], first: float, last: float
) -> list[str]:
    """Say which replicates the common range cost, how much of the others' curves, and which runs are the cause."""
    notes = []
    short = [replicate for replicate in replicates if replicate not in kept]
    if short:
        late = [(arm, r) for arm in arms for r in short if min(runs[arm][r]) > first]
        early = [(arm, r) for arm in arms for r in short if max(runs[arm][r]) < last]
        verbs = ("do", "were") if len(short) > 1 else ("does", "was")
        notes.append(
            f"Replicate{'s' * (len(short) > 1)} {_listed(short)} {verbs[0]} not span {first:g} to {last:g} labels and "
            f"{verbs[1]} dropped: {_ends(runs, late, early)}."
        )
    low = min(min(runs[arm][r]) for arm in arms for r in kept)
    high = max(max(runs[arm][r]) for arm in arms for r in kept)
    if low < first or last < high:
        late = [(arm, r) for arm in arms for r in kept if low < first == min(runs[arm][r])]
        early = [(arm, r) for arm in arms for r in kept if high > last == max(runs[arm][r])]
        notes.append(
            f"The curves are compared from {first:g} to {last:g} labels only, though some go from {low:g} to {high:g}: "
            f"{_ends(runs, late, early)}."
        )
    return notes


def _ends(runs: Runs, late: Sequence[tuple[str, str]], early: Sequence[tuple[str, str]]) -> str:
    """Name the runs that start late or end early, those of an arm at the same count together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for verb, end, found in (("starts", min, late), ("ends", max, early)):
        for arm, replicate in found:
            groups[f"{arm} {verb} at {end(runs[arm][replicate]):g}"].append(replicate)
    told = [f"{what} in replicate{'s' * (len(names) > 1)} {_listed(names)}" for what, names in groups.items()]
    return "; ".join(told[:MOST_TOLD]) + (f"; and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
