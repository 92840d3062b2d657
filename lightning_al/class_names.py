"""What people call a class, and the target a model trains on."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any

from lightning_al import durable


def label_of(text: str, classes: Sequence[str] | None) -> Any:
    """The target that a text stands for.

    Args:
        text: The name of a class, or its index; not empty.
        classes: The names of the classes by index; ``None`` where they have none.

    Returns:
        The index of the class. Without names: a number where the text is one, else the text.

    Raises:
        ValueError: There are names, and this is none of them, nor an index of one.

    Examples:
        >>> label_of("weed", ["crop", "weed"]), label_of("1", ["crop", "weed"]), label_of("2.5", None)
        (1, 1, 2.5)
        >>> label_of("wed", ["crop", "weed"])
        Traceback (most recent call last):
        ...
        ValueError: the class 'wed' is not known; did you mean 'weed'? There are: crop, weed
    """
    number = _number(text)
    if classes is None:
        return text if number is None else number
    names = [str(name) for name in classes]
    for spelt in (text, _decoded(text)):
        if spelt in names:
            return names.index(spelt)
    if isinstance(number, float) and number.is_integer():  # a spreadsheet's 3.0
        number = int(number)
    numbers = [_number(name) for name in names]
    if number is not None and numbers.count(number) == 1:  # classes that are called 01, 02, ...
        return numbers.index(number)
    if isinstance(number, int) and 0 <= number < len(names) and not any(each is not None for each in numbers):
        return number
    close = difflib.get_close_matches(text, names, n=1)
    shown = ", ".join(names[:20]) + (f", and {len(names) - 20} more" if len(names) > 20 else "")
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"the class {text!r} is not known{hint} There are: {shown}")


def _number(text: str) -> int | float | None:
    if not text.isascii() or "_" in text:  # Python reads more as a number than people do
        return None
    for kind in (int, float):
        try:
            value = kind(text)
        except (ValueError, OverflowError):
            continue
        return value if math.isfinite(value) else None
    return None


def _decoded(text: str) -> str:
    """As it was before it was written so that no spreadsheet runs it."""
    try:
        return durable.decode_cell(text)
    except ValueError:
        return text
