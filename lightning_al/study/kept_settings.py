"""settings.json of a study's folder: which study its cells are of, and what another one has otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

VERSION = 1
"""Of settings.json; a newer one is refused."""

_LONGEST_VALUE = 200


def encode(settings: Mapping[str, Any]) -> bytes:
    """Writes settings.

    Args:
        settings: Values that JSON holds.

    Returns:
        Content of the file.
    """
    return (json.dumps({"version": VERSION, "settings": settings}, indent=2) + "\n").encode()


def decode(content: bytes) -> tuple[int, dict[str, Any]]:
    """Reads settings.

    Args:
        content: Content of the file.

    Returns:
        The version, and the settings.

    Raises:
        ValueError: If it is not as it was written.

    Examples:
        >>> decode(encode({"seed": 0}))
        (1, {'seed': 0})
    """
    try:
        found = json.loads(content)
        return int(found["version"]), dict(found["settings"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Compares settings by what JSON holds of them: 1 is not 1.0, and not true.

    Args:
        old: The settings in the folder.
        new: Those asked for.

    Returns:
        Name, old and new value of each setting that differs, long values cut.

    Examples:
        >>> differences({"seed": 0, "data": {"pilot": 9}}, {"data": {"pilot": 8}, "seed": 0})
        [('data.pilot', '9', '8')]
    """
    before, after = _flat(old), _flat(new)
    names = list(dict.fromkeys([*before, *after]))
    rows = [(name, before.get(name, "not set"), after.get(name, "not set")) for name in names]
    return [(name, _shorten(then), _shorten(now)) for name, then, now in rows if then != now]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The value of each setting as JSON, by its name with dots."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value, sort_keys=True)
    return flat


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."
