"""Tables of fits, one row a fit: from a CSV file, a DataFrame or Python's own lists, as columns."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lightning_al.study.table import EFFORT, PLACE
from lightning_al.study.types import FloatArray

Table = dict[str, list[Any]]
"""Columns by name, all of one length."""


def read_table(source: Any) -> Table:
    """Bring a table of fits into columns.

    Args:
        source: A path to a CSV file with a header, a DataFrame, a mapping of columns, or a list of rows (mappings).

    Returns:
        The columns by name, all of one length; an absent cell of a row is None.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none of these, empty, or its columns differ in length.

    Examples:
        >>> read_table([{"arm": "random", "labels": 10}, {"arm": "Margin", "labels": 10}])
        {'arm': ['random', 'Margin'], 'labels': [10, 10]}
    """
    if isinstance(source, (str, PathLike)):
        columns = _read_csv(Path(source))
    elif hasattr(source, "to_dict") and hasattr(source, "columns"):
        columns = {str(name): list(column) for name, column in source.to_dict("list").items()}
    elif isinstance(source, Mapping):
        columns = {str(name): list(column) for name, column in source.items()}
    elif isinstance(source, Sequence) and all(isinstance(row, Mapping) for row in source):
        names = list(dict.fromkeys(str(name) for row in source for name in row))
        columns = {name: [row.get(name) for row in source] for name in names}
    else:
        raise ValueError(
            "Expected `curves` to be a path to a CSV file, a DataFrame, a mapping of columns or a list of rows, but "
            f"got {type(source).__name__}."
        )
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Expected the columns of `curves` to be of one length, but got {lengths}.")
    if not any(lengths.values()):
        raise ValueError("Expected `curves` to have at least one row, but it is empty.")
    return columns


def require_columns(table: Table, names: Sequence[str]) -> None:
    """Raise where a column is missing.

    Args:
        table: The columns.
        names: Those that are needed.

    Raises:
        ValueError: A column is missing; the message lists those found.
    """
    missing = [name for name in names if name not in table]
    if missing:
        raise ValueError(f"Expected `curves` to have the columns {[*names]}, but {missing} are not among {[*table]}.")


def rows_of(table: Table, part: str) -> Table:
    """Keep the rows of one part of a study.

    Args:
        table: The columns.
        part: ``"simulation"``, ``"design"`` or ``"pilot"``.

    Returns:
        The same columns with the rows of that part. Rows that name no part are of the simulation.
    """
    return take(table, [row for row, name in enumerate(parts_of(table)) if name == part])


def parts_of(table: Table) -> list[str]:
    """Tell of which part each row is; rows that name none are of the simulation."""
    if "part" not in table:
        return ["simulation"] * len(next(iter(table.values())))
    return [name_of(part) or "simulation" for part in table["part"]]


def take(table: Table, rows: Sequence[int]) -> Table:
    """Keep some rows, by their positions, in the order given."""
    return {name: [column[row] for row in rows] for name, column in table.items()}


def metrics_in(table: Table) -> list[str]:
    """Name the columns that may be metrics: those with a number in them that tell neither place nor effort of a fit.

    Args:
        table: The columns.

    Returns:
        Their names.

    Examples:
        >>> metrics_in({"arm": ["random"], "labels": ["10"], "f1": ["0.5"], "seconds_fit": ["2"], "note": ["late"]})
        ['f1']
    """
    known = {"", *PLACE, *EFFORT}
    others = [name for name in table if name not in known and not name.startswith("seconds")]
    return [name for name in others if any(map(_is_number, table[name]))]


def name_of(value: Any) -> str:
    """Name an arm, a replicate or a bucket: ``2``, ``2.0`` and ``" 2"`` are one, an empty cell is ``""``.

    Args:
        value: The cell.

    Returns:
        The name.

    Examples:
        >>> name_of(2.0), name_of(" Margin "), name_of(float("nan"))
        ('2', 'Margin', '')
    """
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return ""
    text = str(value).strip()
    whole = text.removesuffix(".0")
    return whole if whole.lstrip("-").isdigit() else text


def numbers(table: Table, name: str) -> FloatArray:
    """Read a column of numbers.

    Args:
        table: The columns.
        name: Which of them.

    Returns:
        The numbers, float64; NaN where a cell is empty, NaN or infinite.

    Raises:
        ValueError: A cell is text; the message says which.
    """
    values = np.empty(len(table[name]))
    for row, cell in enumerate(table[name]):
        try:
            values[row] = math.nan if cell is None or cell == "" else float(cell)
        except (TypeError, ValueError):
            raise ValueError(
                f"Expected the column {name!r} of `curves` to hold numbers, but got {cell!r} in row {row + 1}."
            ) from None
    values[~np.isfinite(values)] = math.nan
    return values


def in_order(names: set[str]) -> list[str]:
    """Sort names, numbers by their value.

    Args:
        names: What to sort.

    Returns:
        Numbers first.

    Examples:
        >>> in_order({"10", "9", "b"})
        ['9', '10', 'b']
    """

    def key(name: str) -> tuple[bool, float, str]:
        number = name.lstrip("-").isdecimal()
        return not number, float(name) if number else 0.0, name

    return sorted(names, key=key)


def _is_number(cell: Any) -> bool:
    try:
        return math.isfinite(float(cell))
    except (TypeError, ValueError):
        return False


def _read_csv(path: Path) -> Table:
    if not path.is_file():
        raise FileNotFoundError(f"Expected `curves` to be a CSV file, but there is no file {str(path)!r}.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file.read()
        if "\0" in text:  # UTF-16, or no text at all
            raise ValueError("it holds NUL bytes")
        reader = csv.reader(io.StringIO(text, newline=""))
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"Expected {str(path)!r} to be a table as CSV, but it cannot be read as such ({error}). Save the table "
            "again as CSV with commas, in UTF-8."
        ) from error
    if not lines:
        raise ValueError(f"Expected {str(path)!r} to have a header and rows, but it is empty.")
    (_, header), *rows = lines
    names = [name.strip() for name in header]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(f"Expected each column of {str(path)!r} to have its own name, but {twice} stand there twice.")
    for number, row in rows:
        if len(row) != len(names):
            raise ValueError(
                f"Expected every row of {str(path)!r} to have the header's {len(names)} cells, but line {number} has "
                f"{len(row)}."
            )
    return {name: [row[column] for _, row in rows] for column, name in enumerate(names)}
