"""How an arm's strategy is written in Python and in YAML."""

from __future__ import annotations

import ast
import json
from typing import Any

from lightning_al import strategies


def spelled(arm: str) -> tuple[str, str] | None:
    """Write an arm's strategy as an argument of `ActiveLearning`.

    Args:
        arm: An arm's name: a class's, in any spelling of its letters, or what an instance of one shows as.

    Returns:
        The Python expression and the YAML value; None where there is no such strategy.

    Examples:
        >>> spelled("least_confidence")
        ('"LeastConfidence"', 'LeastConfidence')
        >>> spelled("Margin(aggregate='max')")
        ("Margin(aggregate='max')", '{class_path: Margin, init_args: {aggregate: "max"}}')
        >>> spelled("our own way")
    """
    name, bracket, _ = arm.partition("(")
    found = _class_of(name)
    if found is None:
        return None
    path = found.__name__ if found.__name__ in strategies.__all__ else f"{found.__module__}.{found.__qualname__}"
    if not bracket:
        return json.dumps(found.__name__), path
    try:
        call = ast.parse(arm, mode="eval").body
        given = {each.arg: ast.literal_eval(each.value) for each in call.keywords if each.arg}  # type: ignore[attr-defined]
    except (SyntaxError, ValueError, AttributeError):
        return None
    if not given:
        return json.dumps(found.__name__), path
    return arm, f"{{class_path: {path}, init_args: {_flow(given)}}}"


def _class_of(name: str) -> type | None:
    """The class of a strategy by its name, or by the letters of one of ours."""
    letters = "".join(filter(str.isalpha, name.lower()))
    ours = next((each for each in strategies.__all__ if each.lower() == letters), name)
    try:
        return type(strategies.get_strategy(ours))
    except (ValueError, TypeError):  # there is none, or it cannot be made without arguments
        return None


def _flow(value: Any) -> str:
    """A value in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)
