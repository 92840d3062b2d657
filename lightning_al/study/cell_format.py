"""How a study's cells are written: JSON and plain arrays with checksums, so that damage is found; never a pickle."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_al import durable

Cell = dict[str, Any]
Arrays = Mapping[str, npt.NDArray[Any]]

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


class EncodedCell(NamedTuple):
    """A cell as it is written, made where the fit was made.

    Args:
        key: The cell's name.
        json: Content of its JSON file.
        npz: Content of its file of arrays, where it has any.
    """

    key: str
    json: bytes
    npz: bytes | None


def encode(key: str, cell: Cell, arrays: Arrays | None = None) -> EncodedCell:
    r"""Encodes a cell.

    Args:
        key: The cell's key, of letters, digits, ``.``, ``_`` and ``-``.
        cell: Values that JSON holds.
        arrays: Numbers that belong to it.

    Returns:
        What to write.

    Raises:
        ValueError: If the key, the cell (NaN, say) or an array (of objects) cannot be written.

    Examples:
        >>> encode("design-1", {"labels": 60}).json
        b'{"key": "design-1", "npz": null, "content": {"labels": 60}, "checksum": "4385541e072eadcc"}\n'
    """
    npz = _encode_arrays(key, arrays) if arrays else None
    return EncodedCell(key, seal(key, plain(f"cell `{key}`", cell), None if npz is None else digest(npz)), npz)


def decode(cell: EncodedCell) -> Cell:
    """The cell as it will be read.

    Args:
        cell: What `encode` made.

    Returns:
        The cell, as it comes back from JSON.

    Examples:
        >>> decode(encode("design-1", {"labels": (60, 120)}))
        {'labels': [60, 120]}
    """
    return unseal(cell.json, cell.key)[0]


def decode_arrays(npz: bytes) -> dict[str, npt.NDArray[Any]]:
    """Reads arrays.

    Args:
        npz: Content of a file of arrays.

    Returns:
        The arrays by name.

    Raises:
        ValueError: If it holds anything else.
    """
    try:
        with np.load(io.BytesIO(npz), allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # hostile content may raise anything
        raise ValueError(f"it holds no plain arrays ({error})") from error


def seal(key: str, content: Cell, npz: str | None = None) -> bytes:
    """Writes values as JSON with a checksum over them, their key and the checksum of their arrays.

    Args:
        key: Their name.
        content: The values, as `plain` gives them.
        npz: Checksum of the file of arrays that belongs to them.

    Returns:
        Content of the file: one line.

    Raises:
        ValueError: If it is no key.
    """
    sealed = {"key": check_key(key), "npz": npz, "content": content}
    return (json.dumps(sealed | {"checksum": digest(json.dumps(sealed).encode())}) + "\n").encode()


def unseal(data: bytes, key: str) -> tuple[Cell, str | None]:
    """Undoes `seal`.

    Args:
        data: Content of the file.
        key: The name it has.

    Returns:
        The values, and the checksum of the arrays that belong to them.

    Raises:
        ValueError: If it was changed or cut, or is the file of another key.
    """
    try:
        sealed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({error})") from error
    if not isinstance(sealed, dict) or not isinstance(sealed.get("content"), dict):
        raise ValueError("it holds no values with a checksum")
    checksum = sealed.pop("checksum", None)
    if digest(json.dumps(sealed).encode()) != checksum:
        raise ValueError("it does not match its checksum")
    if sealed.get("key") != key:
        raise ValueError(f"it is the file of `{sealed.get('key')}`")
    return sealed["content"], sealed.get("npz")


def digest(data: bytes) -> str:
    """A checksum against accidents: it is no signature.

    Args:
        data: The bytes.

    Returns:
        16 hex digits.

    Examples:
        >>> digest(b"")
        'e3b0c44298fc1c14'
    """
    return hashlib.sha256(data).hexdigest()[: durable.CHECKSUM_LENGTH]


def is_key(name: str) -> bool:
    """Whether a name can be a key: it becomes the name of a file.

    Args:
        name: The name.

    Returns:
        Whether it is 1 to 200 letters, digits, ``.``, ``_`` and ``-`` and begins with none of ``.``.

    Examples:
        >>> is_key("start-r00"), is_key("../start")
        (True, False)
    """
    return isinstance(name, str) and _KEY.fullmatch(name) is not None


def check_key(key: str) -> str:
    """Checks a key.

    Args:
        key: The key.

    Returns:
        The key.

    Raises:
        ValueError: If it is none (see `is_key`).
    """
    if not is_key(key):
        raise ValueError(
            "Expected a key to be 1 to 200 letters, digits, `.`, `_` and `-` and not to begin with `.`, but got "
            f"{key!r}."
        )
    return key


def plain(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they come back from JSON.

    Args:
        name: What they are, for the error.
        values: The values.

    Returns:
        The same with lists for tuples and strings for keys.

    Raises:
        ValueError: If JSON does not hold them.

    Examples:
        >>> plain("settings", {"fractions": (0.2, 1.0)})
        {'fractions': [0.2, 1.0]}
    """
    try:
        values_from_json: dict[str, Any] = json.loads(json.dumps(dict(values), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"Expected {name} to hold what JSON holds (no NaN, no infinity), but got {values!r} ({error})."
        ) from error
    return values_from_json


def _encode_arrays(key: str, arrays: Arrays) -> bytes:
    # not np.savez: it would pickle objects, and takes an array called `file` for its own argument
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                try:
                    np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
                except ValueError as error:
                    raise ValueError(f"Expected array `{name}` of cell `{key}` to hold numbers ({error}).") from error
    return buffer.getvalue()
