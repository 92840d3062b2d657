"""Finished cells as the rows of ``curves.csv``: one row a fit and arm."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning_al import durable
from lightning_al.study.design import CONTROL, Design

Row = dict[str, Any]

PLACE = ("part", "arm", "replicate", "bucket", "fraction", "round", "labels", "seed")
EFFORT = ("seconds_fit", "seconds_predict", "seconds_query", "peak_memory_mb")


def rows_of(cells: Iterable[dict[str, Any]], design: Design) -> list[Row]:
    """Turn cells into rows, in an order that does not depend on which was finished first.

    Args:
        cells: The finished cells of a study.
        design: Its plan. The first fit of a replicate, which the arms share, becomes a row of each.

    Returns:
        Rows with the columns of ``PLACE``, one a metric, and ``EFFORT``.
    """
    rows = []
    for cell in cells:
        arms = (CONTROL, *design.arms) if cell["part"] == "simulation" and not cell["arm"] else (cell["arm"],)
        for arm in arms:
            row = {name: cell.get(name) for name in PLACE} | {"arm": arm} | cell["metrics"]
            row |= {name: cell.get(name) for name in EFFORT}
            row["seconds_query"] = cell["seconds_query"].get(arm, 0.0)
            rows.append(row)
    order = {arm: number for number, arm in enumerate(("", CONTROL, *design.arms))}
    parts = {"design": 0, "simulation": 1, "pilot": 2}

    def place(row: Row) -> tuple[Any, ...]:
        numbers = (row["fraction"], row["bucket"], row["replicate"], row["round"])
        return parts[row["part"]], order[row["arm"]], *(-1 if number is None else number for number in numbers)

    return sorted(rows, key=place)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write rows as CSV, atomically; a column a key, an absent value an empty field."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    metrics = [name for name in columns if name not in (*PLACE, *EFFORT)]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*PLACE, *metrics, *EFFORT], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    durable.write_atomically(path, text.getvalue().encode())


def picks_of(cells: Iterable[dict[str, Any]], design: Design) -> dict[str, list[list[int]]]:
    """What each arm asked for, first to last.

    Args:
        cells: The finished cells of a study.
        design: Its plan.

    Returns:
        Per arm, per replicate that is whole: pilot positions in the order picked.
    """
    asked: dict[str, dict[int, dict[int, list[int]]]] = {arm: {} for arm in (CONTROL, *design.arms)}
    for cell in cells:
        for arm, picked in cell["picked"].items():
            asked[arm].setdefault(cell["replicate"], {})[cell["round"]] = picked
    return {
        arm: [
            [position for round in sorted(rounds) for position in rounds[round]]
            for _, rounds in sorted(replicates.items())
            if len(rounds) == design.rounds
        ]
        for arm, replicates in asked.items()
    }
