"""What a run saves and loads of its state: the checkpoint after a round, and the round's best one."""

from __future__ import annotations

import contextlib
import copy
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_al.exceptions import RunFolderError


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Save the whole state so that a kill or a full disk leaves the old file or the new one; called on every rank.

    Raises:
        RunFolderError: The file cannot be written; the old one is as it was.
    """
    written = path.with_name(path.name + ".new")
    try:
        if trainer.is_global_zero:
            path.parent.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(written, weights_only=False)
        if trainer.is_global_zero:
            with open(written, "rb") as file:
                os.fsync(file.fileno())
            os.replace(written, path)
    except BaseException as error:  # Ctrl-C too: half a checkpoint would only take room
        if trainer.is_global_zero:
            with contextlib.suppress(OSError):
                written.unlink()
        if isinstance(error, OSError):
            raise RunFolderError(_not_saved(path, error)) from error
        raise
    trainer.strategy.barrier("lightning_al.save_checkpoint")


def _not_saved(path: Path, error: OSError) -> str:
    told = (
        f"The checkpoint {path} cannot be written: {error}. Free some space there and in {tempfile.gettempdir()}, "
        "where Lightning writes it first, and "
    )
    if not path.exists():
        return f"{told}start again: there is no earlier checkpoint to go on from."
    return (
        f"{told}go on with trainer.fit(..., ckpt_path={str(path)!r}), or --ckpt_path {path}: the last good checkpoint "
        "is still there, and answers that came in since are in the ledger and are not asked again."
    )


def load_weights(trainer: Trainer, path: str) -> None:
    """Load the model's weights from a checkpoint that this run wrote."""
    trainer.strategy.barrier("lightning_al.load_weights")
    # Hyperparameters may be of the user's own types: those that the live model and data hold are safe to make again.
    live = trainer.lightning_module, getattr(trainer, "datamodule", None)
    known: list[Any] = list(_types_in([getattr(owner, "hparams", None) for owner in live]))
    try:
        with torch.serialization.safe_globals(known):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise MisconfigurationException(
            f"The round's best checkpoint {path} cannot be read without running code that it holds ({error}). Leave "
            "such arguments out, `save_hyperparameters(ignore=[...])`, or query with the last weights, "
            "ActiveLearning(load_best=False)."
        ) from error
    trainer.strategy.load_model_state_dict(checkpoint, strict=trainer.lightning_module.strict_loading)


def _types_in(value: Any, depth: int = 4) -> set[type]:
    """The types of a value and of what it holds, builtins left out."""
    inner: Iterable[Any] = ()
    if isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, (list, tuple, set)):
        inner = value
    elif hasattr(value, "__dict__"):
        inner = vars(value).values()
    types = {type(value)} if type(value).__module__ != "builtins" else set()
    return types.union(*(_types_in(part, depth - 1) for part in inner)) if depth else types


def keep_best(trainer: Trainer, states: dict[str, Any]) -> None:
    """Let each ModelCheckpoint go on with the round's best, which it forgets where its folder is another one.

    A resumed run has a new version of the logger's folder, and with it a ModelCheckpoint has a new ``dirpath``.
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint):
            state = states.get(callback.state_key, {})
            for name in ("best_k_models", "best_model_score", "kth_best_model_path", "kth_value"):
                if name in state:
                    setattr(callback, name, copy.deepcopy(state[name]))


def best_checkpoint(trainer: Trainer) -> str:
    """The path of the round's best checkpoint where a ModelCheckpoint monitors a metric, else an empty string."""
    monitors = (c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor)
    return next((c.best_model_path for c in monitors), "")
