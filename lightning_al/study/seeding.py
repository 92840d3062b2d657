"""Everything random about a fit from one seed, and the caller's random numbers as they were."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor

from lightning_al.randomness import restore_rng, rng_state

_ENVIRONMENT = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
_LONG = 1000  # containers past this length hold samples, not generators
_DEEP = 8


@contextmanager
def seeded(seed: int, *holders: Any) -> Iterator[None]:
    """Within this, random numbers are those of a script that begins with ``seed_everything(seed, workers=True)``.

    Generators that datasets or transforms hold are seeded too: else a fit would depend on how many came before it.
    Afterwards all of them, and the environment that Lightning hands to the loaders' workers, are as before.

    Args:
        seed: From 0 to 2^32 - 1.
        holders: Objects in which generators are looked for, attribute by attribute.

    Raises:
        ValueError: The seed is out of range.

    Example:
        >>> with seeded(5):
        ...     drawn = torch.rand(2)
        >>> bool((drawn == torch.rand(2, generator=torch.Generator().manual_seed(5))).all())
        True
    """
    if not 0 <= seed < 1 << 32:  # Lightning would take 0 in its place
        raise ValueError(f"Expected `seed` to be from 0 to {(1 << 32) - 1}, but got {seed}.")
    states, environment = rng_state(), {name: os.environ.get(name) for name in _ENVIRONMENT}
    held = [(generator, _state(generator)) for holder in holders for generator in generators_in(holder)]
    try:
        for generator, _ in held:
            reseed(generator, seed)
        seed_everything(seed, workers=True, verbose=False)
        yield
    finally:
        for generator, state in held:
            _restore(generator, state)
        restore_rng(states)
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def generators_in(holder: Any) -> list[Any]:
    """The random generators of torch, NumPy and Python that an object holds, at whatever depth is likely.

    Example:
        >>> class Noise:
        ...     def __init__(self):
        ...         self.parts = [np.random.default_rng(0)]
        >>> [type(found).__name__ for found in generators_in({"transform": Noise()})]
        ['Generator']
    """
    found, seen, waiting = [], {id(holder)}, [(holder, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)):
            found.append(value)
            continue
        inner: list[Any] = []
        if isinstance(value, (list, tuple, set)) and len(value) <= _LONG:
            inner = list(value)
        elif isinstance(value, Mapping) and len(value) <= _LONG:
            inner = list(value.values())
        elif not isinstance(value, (type, Tensor, np.ndarray, Trainer, LightningModule)):
            inner = list(getattr(value, "__dict__", {}).values())
        for part in inner:
            if depth < _DEEP and id(part) not in seen:
                seen.add(id(part))
                waiting.append((part, depth + 1))
    return found


def reseed(generator: Any, seed: int) -> None:
    """Put a generator of torch, NumPy or Python where a new one with that seed would be."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        kind: Any = type(generator.bit_generator)
        generator.bit_generator.state = kind(seed).state
    else:
        generator.seed(seed)


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _restore(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
