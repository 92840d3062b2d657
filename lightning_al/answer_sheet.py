"""queries/round-003.csv: what is asked, as a table that people fill in; and such tables read back."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_al import durable
from lightning_al.class_names import label_of
from lightning_al.exceptions import AnswersError
from lightning_al.recorded_query import RecordedQuery

COLUMNS = ("rank", "dataset_index", "path", "guess", "confidence", "score")
TO_FILL = ("label", "reject")
_YES, _NO = ("x", "1", "1.0", "yes", "y", "true"), ("", "0", "0.0", "no", "n", "false")
_SHOWN = 10
"""Problems told at once."""


@dataclass(frozen=True)
class Given:
    """An answer somebody gave.

    Args:
        row: The row of the file, 1 for the first below the header.
        dataset_index: Which sample.
        label: The target; ``None`` where it is rejected.
        rejected: Whether the sample cannot be labeled.
    """

    row: int
    dataset_index: int
    label: Any
    rejected: bool


def encode(query: RecordedQuery, classes: Sequence[str] | None, *, to_fill: bool) -> bytes:
    r"""Write a query for people.

    Args:
        query: What is asked, with paths and guesses where there are any.
        classes: Names of the classes by index.
        to_fill: Whether there are columns for the answers.

    Returns:
        Content of a CSV file. No spreadsheet runs a text in it as a formula.

    Examples:
        >>> query = RecordedQuery([41], [0.5], "Margin", guesses=[(1, 0.625)], paths=["a/41.png"])
        >>> encode(query, ["crop", "weed"], to_fill=True)
        b'rank,dataset_index,path,guess,confidence,score,label,reject\n1,41,a/41.png,weed,0.625,0.5,,\n'
    """
    lines = [",".join(COLUMNS + TO_FILL if to_fill else COLUMNS)]
    for place, index in enumerate(query.dataset_indices):
        guess, confidence = ("", "")
        if query.guesses is not None:
            number, share = query.guesses[place]
            guess = str(number) if classes is None or number >= len(classes) else durable.encode_cell(classes[number])
            confidence = f"{share:.4g}"
        scored = query.scores is not None and not math.isnan(query.scores[place])
        score = f"{query.scores[place]:.6g}" if query.scores is not None and scored else ""
        path = "" if query.paths is None else durable.encode_cell(query.paths[place])
        cells = [str(place + 1), str(index), path, guess, confidence, score, *("" for _ in TO_FILL if to_fill)]
        lines.append(durable.join_cells(cells))
    return "".join(line + "\n" for line in lines).encode()


def decode(
    content: bytes, source: str, classes: Sequence[str] | None, paths: Mapping[int, str] | None = None
) -> list[Given]:
    r"""Read the answers of such a table, or of any with the columns ``dataset_index`` (or ``path``) and ``label``.

    It may come from a spreadsheet: with a byte order mark, semicolons or tabs, its rows and columns in another order.
    A row without label and rejection is no answer.

    Args:
        content: Content of the file.
        source: What messages call it.
        classes: Names of the classes by index; ``None`` takes numbers and text as they are.
        paths: The file of each dataset index that was asked for; they are compared as text and never opened.

    Returns:
        The answers, in the order of the rows; an index may come twice.

    Raises:
        AnswersError: It is no such table, or a row of it cannot be understood; all such rows are named.

    Examples:
        >>> decode(b"dataset_index;label\r\n41;weed\r\n7;\r\n", "labels.csv", ["crop", "weed"])
        [Given(row=1, dataset_index=41, label=1, rejected=False)]
    """
    names, rows = _table(content, source)
    indices: dict[str, list[int]] = {}
    for index, path in (paths or {}).items():
        indices.setdefault(path.strip(), []).append(index)
    by_path = "dataset_index" not in names
    if (by_path and not ("path" in names and indices)) or not {*TO_FILL} & {*names}:
        raise AnswersError(
            f"Expected {source} to have the columns `dataset_index` (or `path`) and `label` (and `reject`, where "
            f"samples are junk), but it has {', '.join(f'`{name}`' for name in names) or 'none'}."
        )
    found, problems = [], []
    for number, row in rows:
        label, reject = row.get("label", "").strip(), row.get("reject", "").strip().lower()
        try:
            if reject not in _YES + _NO:
                raise ValueError(f"`reject` is {reject!r}: write x, or nothing")
            if not label and reject in _NO:
                continue
            if label and reject in _YES:
                raise ValueError(f"it has the label {label!r} and is rejected too: leave one empty")
            index = _index(row, indices, paths or {})
            found.append(Given(number, index, label_of(label, classes) if label else None, not label))
        except ValueError as error:
            problems.append(f"row {number}: {error}")
    refuse(problems, source)
    return found


def refuse(problems: Sequence[str], source: str) -> None:
    """Raise where there are problems.

    Raises:
        AnswersError: It names the first ten.
    """
    if problems:
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        told = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
        raise AnswersError(f"{source} was not taken, and nothing was changed:{told}{more}")


def _table(content: bytes, source: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The names of the columns, and each row that is not empty with its number."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnswersError(
            f"Expected {source} to be text in UTF-8, but byte {error.start} is none: save it as `CSV UTF-8`."
        ) from None
    if "\0" in text:
        raise AnswersError(f"Expected {source} to be a CSV file, but it holds NUL characters.")
    header, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=header.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise AnswersError(f"Expected {source} to be a CSV file, but it cannot be read: {error}.") from None
    names = [name.strip().lower() for name in lines[0]] if lines else []
    doubled = {name for name in names if name and names.count(name) > 1}
    if doubled:
        raise AnswersError(f"Expected {source} to have each column once, but `{min(doubled)}` comes twice.")
    rows = [
        (number, dict(zip(names, cells, strict=False)))
        for number, cells in enumerate(lines[1:], start=1)
        if any(cell.strip() for cell in cells)
    ]
    return names, rows


def _index(row: Mapping[str, str], indices: Mapping[str, Sequence[int]], paths: Mapping[int, str]) -> int:
    path, number = row.get("path", "").strip(), row.get("dataset_index", "").strip()
    of_path = indices.get(path) or indices.get(_decoded(path).strip()) or []
    if not number:
        if len(of_path) > 1:
            raise ValueError(f"{len(of_path)} samples have the path {path!r}: give their `dataset_index`")
        if not of_path:
            raise ValueError(f"its path {path!r} was never asked for" if path else "it has no `dataset_index`")
        return of_path[0]
    digits = number.removesuffix(".0")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
        raise ValueError(f"`dataset_index` is {number!r}, which is no index")
    index = int(digits)
    if path and index in paths and index not in of_path:
        raise ValueError(f"dataset index {index} is {paths[index]!r}, but its `path` is {path!r}: were rows mixed up?")
    return index


def _decoded(cell: str) -> str:
    try:
        return durable.decode_cell(cell)
    except ValueError:
        return cell
