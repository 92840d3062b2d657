"""rounds.csv: a row a round, with every logged metric."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from lightning_al import durable

_FIRST_COLUMNS = ("round", "labeled", "unlabeled", "pending", "rejected")
_LAST_COLUMNS = ("cost", "seconds_fit", "seconds_query")
_LATER_COLUMNS = ("pending",)
"""Those of the first that older versions did not write."""
_TAKEN = re.compile("(logged_)*(" + "|".join(_LAST_COLUMNS) + ")")
"""Metrics of these names get ``logged_`` before theirs."""


def encode(history: Sequence[Mapping[str, Any]]) -> bytes:
    """Writes the table; metrics are sorted by name.

    Args:
        history: A mapping a round; see `RunFolder.write_rounds`.

    Returns:
        Content of the file.

    Examples:
        >>> round = {"round": 0, "labeled": 20, "unlabeled": 80, "pending": 0, "rejected": 0, "seconds_fit": 2.5}
        >>> print(encode([{**round, "metrics": {"val_acc": 0.5}}]).decode(), end="")
        round,labeled,unlabeled,pending,rejected,val_acc,seconds_fit,seconds_query
        0,20,80,0,0,0.5,2.5,
    """
    # `round` and `labeled` are logged metrics too
    metrics = sorted({name for row in history for name in row.get("metrics", {})} - {*_FIRST_COLUMNS})
    last = [name for name in _LAST_COLUMNS if name != "cost" or any("cost" in row for row in history)]
    columns = [durable.encode_cell(f"logged_{name}" if _TAKEN.fullmatch(name) else name) for name in metrics]
    lines = [durable.join_cells([*_FIRST_COLUMNS, *columns, *last])]
    for row in history:
        values = row.get("metrics", {})
        cells = [row.get(name) for name in _FIRST_COLUMNS]
        cells += [values.get(name) for name in metrics]
        cells += [row.get(name) for name in last]
        lines.append(durable.join_cells(_number(cell) for cell in cells))
    return "".join(line + "\n" for line in lines).encode()


def decode(content: bytes) -> list[dict[str, Any]]:
    r"""Reads the table. A column that the version that wrote it did not have yet is 0 in each row.

    Args:
        content: Content of the file.

    Returns:
        The history.

    Raises:
        ValueError: If it is no such table.

    Examples:
        >>> decode(b"round,labeled,unlabeled,rejected,seconds_fit,seconds_query\n0,20,80,0,2.5,\n")
        [{'round': 0, 'labeled': 20, 'unlabeled': 80, 'pending': 0, 'rejected': 0, 'seconds_fit': 2.5, 'metrics': {}}]
    """
    history: list[dict[str, Any]] = []
    try:
        # not splitlines: a metric's name may hold other characters that count as line ends there
        header, *lines = content.decode().removesuffix("\n").split("\n")
        names = [durable.decode_cell(name) for name in durable.split_cells(header)]
        for line in lines:
            cells = dict.fromkeys(_LATER_COLUMNS, "0") | dict(zip(names, durable.split_cells(line), strict=True))
            row: dict[str, Any] = {name: int(cells.pop(name)) for name in _FIRST_COLUMNS}
            row |= {name: float(cell) for name in _LAST_COLUMNS if (cell := cells.pop(name, ""))}
            row["metrics"] = {
                name.removeprefix("logged_") if _TAKEN.fullmatch(name) else name: float(cell)
                for name, cell in cells.items()
                if cell
            }
            history.append(row)
    except (KeyError, ValueError) as error:
        raise ValueError(f"line {len(history) + 2} is no row of it ({error})") from error
    return history


def _number(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, Integral) else repr(float(value))
