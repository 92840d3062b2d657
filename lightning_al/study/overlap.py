"""Samples that pilot and test set share: a test on what was trained on flatters every fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import Subset

from lightning_al import durable
from lightning_al.study.types import FloatArray

_MOST = 20_000
"""Samples of each set that are compared, once a study: enough to find a copied split, and minutes for photos."""

_MOST_HASHED = 5_000
"""Samples of each set by which a study is known again, at each start."""

_TARGETS = {"label", "labels", "target", "targets", "y"}

_SAME = 1e-6
"""Cosine distance below which two embeddings are of the same picture."""


def refuse_shared(
    pilot: Any, test: Any, name: str = "the training set", harm: str = "the study would test on what it trained on"
) -> None:
    """Raise where both are parts of one dataset and hold the same of its indices.

    Args:
        pilot: The training set.
        test: The test set.
        name: What messages call the first.
        harm: What would come of it.

    Raises:
        MisconfigurationException: They share samples.
    """
    base, of_pilot = _indices(pilot)
    other, of_test = _indices(test)
    if base is not other or of_pilot is None or of_test is None:
        return
    shared = sorted(set(of_pilot) & set(of_test))
    if shared:
        raise MisconfigurationException(
            f"The test set shares {len(shared):,} of its {len(of_test):,} samples with {name} (index "
            f"{shared[0]} of the {type(base).__name__}, for example): {harm}. "
            "Split them apart in the datamodule, random_split(dataset, [...]) for example."
        )


class Samples:
    """The samples of a dataset as hashes; each is read once, whoever asks for it.

    Args:
        dataset: The dataset. One that is not map-style has no samples.
    """

    def __init__(self, dataset: Any) -> None:
        readable = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        self.dataset: Any = dataset if readable else None
        self._known: dict[int, tuple[bytes, bytes]] = {}

    def spread(self, most: int) -> list[int]:
        """Positions evenly over the dataset, the first and the last among them; all where it has no more."""
        size = 0 if self.dataset is None else len(self.dataset)
        return list(range(size)) if size <= most else [i * (size - 1) // (most - 1) for i in range(most)]

    def inputs(self, positions: Sequence[int]) -> list[bytes]:
        """Hashes of the samples without their labels."""
        return [inputs for inputs, _ in self._read(positions)]

    def whole(self, positions: Sequence[int]) -> list[bytes]:
        """Hashes of the samples with their labels."""
        return [whole for _, whole in self._read(positions)]

    def _read(self, positions: Sequence[int]) -> list[tuple[bytes, bytes]]:
        with isolate_rng():
            for position in positions:
                if position not in self._known:
                    sample = self.dataset[position]
                    self._known[position] = _digest(sample, with_targets=False), _digest(sample, with_targets=True)
        return [self._known[position] for position in positions]


class Contents:
    """What pilot and test set hold.

    Args:
        pilot: The pilot without augmentation.
        test: The test set.
    """

    def __init__(self, pilot: Any, test: Any) -> None:
        self.pilot, self.test = Samples(pilot), Samples(test)

    @property
    def digest(self) -> str:
        """A hash of inputs and targets, 5,000 samples of each set at most: corrected labels change it."""
        whole = hashlib.sha256()
        for samples in (self.pilot, self.test):
            for digest in samples.whole(samples.spread(_MOST_HASHED)):
                whole.update(digest)
        return whole.hexdigest()[:16]

    def copies(self) -> tuple[int, int]:
        """Count the test samples whose inputs are those of a pilot sample, byte by byte.

        Returns:
            How many, and how many were compared; 20,000 at most of either set.
        """
        known = set(self.pilot.inputs(self.pilot.spread(_MOST)))
        compared = self.test.inputs(self.test.spread(_MOST))
        return sum(digest in known for digest in compared), len(compared)


def warn_of_copies(contents: Contents, folder: Path) -> list[str]:
    """Warn of test samples that are in the pilot too.

    Args:
        contents: What both hold.
        folder: The study's: its ``overlap.json`` holds what was found, since other contents would be another study.

    Returns:
        The warning as a note for the report; empty where there are none.
    """
    path = folder / "overlap.json"
    if not path.is_file():
        counted = dict(zip(("same", "compared"), contents.copies(), strict=True))
        durable.write_atomically(path, (json.dumps(counted) + "\n").encode())
    found = json.loads(path.read_text())
    if not found["same"]:
        return []
    told = (
        f"{found['same']:,} of {found['compared']:,} test samples are in the pilot too, byte for byte: they flatter "
        "every fit."
    )
    rank_zero_warn(f"{told} Take them out of one of the two.")
    return [told]


def near_duplicates(pilot: FloatArray, test: FloatArray) -> int:
    """Count the test samples whose embedding is, but for rounding, that of a pilot sample.

    Example:
        >>> near_duplicates(np.array([[1.0, 2.0], [3.0, 1.0]]), np.array([[2.0, 4.0], [0.0, 1.0]]))
        1
    """
    from sklearn.neighbors import NearestNeighbors

    def directions(rows: FloatArray) -> FloatArray:
        return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))

    chords, _ = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(directions(pilot)).kneighbors(directions(test))
    return int((chords[:, 0] ** 2 / 2 < _SAME).sum())


def _indices(dataset: Any) -> tuple[Any, list[int] | None]:
    """The dataset that a part is of, and the indices that it holds; None where they are not known."""
    held: list[int] | None = None
    while isinstance(dataset, Subset):
        inner = [int(index) for index in dataset.indices]
        held = inner if held is None else [inner[index] for index in held]
        dataset = dataset.dataset
    if held is None and hasattr(dataset, "__len__"):
        held = list(range(len(dataset)))
    return dataset, held


def _digest(sample: Any, with_targets: bool) -> bytes:
    content = hashlib.sha256()
    if isinstance(sample, Mapping):
        left_out = {"index", "idx", "id"} | (set() if with_targets else _TARGETS)
        _add({name: value for name, value in sample.items() if name not in left_out}, content)
    else:
        _add(sample[0] if isinstance(sample, (tuple, list)) and not with_targets else sample, content)
    return content.digest()


def _add(value: Any, content: Any) -> None:
    if isinstance(value, Mapping):
        for name in sorted(value, key=str):
            _add(value[name], content)
    elif isinstance(value, (tuple, list)):
        for each in value:
            _add(each, content)
    elif isinstance(value, Tensor):
        _add(value.detach().cpu().contiguous().numpy(), content)
    elif hasattr(value, "__array__"):  # PIL images too
        array = np.ascontiguousarray(value)
        content.update(str(array.shape).encode() + array.tobytes())
    else:
        content.update(repr(value).encode())
