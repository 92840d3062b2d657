"""What one rank does for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from lightning.pytorch import Trainer

from lightning_al.exceptions import ActiveLearningError

T = TypeVar("T")


def on_rank_zero(trainer: Trainer, act: Callable[[], T]) -> T:
    """Do something on the first rank only; its result, or its error, reaches all."""
    result: Any = None
    error: Exception | None = None
    if trainer.is_global_zero:
        try:
            result = act()
        except Exception as caught:
            error = caught
    result, message = trainer.strategy.broadcast((result, None if error is None else repr(error)))
    if error is not None:
        raise error
    if message is not None:
        raise ActiveLearningError(f"The first rank failed: {message}")
    return cast(T, result)
