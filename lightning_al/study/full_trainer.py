"""The user's Trainer as a study copies it: quiet, and leaving nothing behind."""

from __future__ import annotations

import copy
import gc
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, ModelSummary, ProgressBar
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_al.callback import ActiveLearning
from lightning_al.rounds import is_lightning_trainer

_UNSEEN = (ActiveLearning, ProgressBar, ModelSummary)

_OF_NO_USE = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # PyTorch's to Lightning
    r"The number of training batches \(\d+\) is smaller than the logging interval",  # a study's fits log nothing
    r"The '\w+' does not have many workers",  # fits run side by side instead
)
"""How warnings begin that nobody can act upon in a study."""


def plain_trainer() -> Trainer:
    """A Trainer for who has none to give: a proxy's embeddings need no more."""
    return Trainer(devices=1, logger=False, enable_checkpointing=False, max_epochs=1)


def quiet_trainer(given: Trainer | Callable[[], Trainer]) -> Any:
    """A new Trainer with the user's settings that shows nothing, and that keeps checkpoints it chooses among only.

    Args:
        given: An unused Trainer, which is copied, or a function that makes one.

    Returns:
        The Trainer, without ActiveLearning, progress, summary, profiler, and without checkpoints that monitor nothing.

    Raises:
        MisconfigurationException: The Trainer was used already.
        ValueError: The function made something else.
    """
    with quiet(repeated=False):
        original: Any = given if isinstance(given, Trainer) else given()
    if not is_lightning_trainer(original):
        raise ValueError(
            "Expected `trainer` to make a lightning.pytorch.Trainer, but it made a "
            f"{type(original).__module__}.{type(original).__name__}."
        )
    if original.state.fn is not None or original.global_step:
        raise MisconfigurationException(
            "The Trainer was used already, and its copies would train nothing more. Make a new one for the study, "
            "Trainer(...), or give a function that makes one, trainer=lambda: Trainer(...)."
        )
    # What is thrown away is not copied: a logger or an oracle may hold a connection.
    dropped = [*original.loggers, *(callback for callback in original.callbacks if _is_unseen(callback))]
    memo: dict[int, Any] = {id(each): each for each in dropped} | {id(original.profiler): PassThroughProfiler()}
    trainer = copy.deepcopy(original, memo)
    trainer.callbacks = [callback for callback in trainer.callbacks if not _is_unseen(callback)]
    trainer.num_sanity_val_steps = 0  # without consequence for the fit: Lightning isolates its random numbers
    return trainer


def _is_unseen(callback: Any) -> bool:
    monitors = isinstance(callback, ModelCheckpoint) and callback.monitor
    return isinstance(callback, _UNSEEN) or (isinstance(callback, Checkpoint) and not monitors)


def check_study_trainer(trainer: Trainer) -> None:
    """Raise where a trainer cannot make the fits of a study.

    Raises:
        MisconfigurationException: It has several devices, runs elsewhere than in this process, or trains nothing.
    """
    if trainer.num_devices > 1 or trainer.num_nodes > 1:
        raise MisconfigurationException(
            f"The Trainer has {trainer.num_devices} devices on {trainer.num_nodes} nodes. A study runs several fits "
            "side by side instead, each on one device: set `devices=1` and `num_nodes=1`, and `workers` on the study."
        )
    if trainer.strategy.launcher is not None:
        raise MisconfigurationException(
            f"The Trainer's strategy {type(trainer.strategy).__name__} starts processes of its own, and a study runs "
            "each fit in the worker's process: leave out `strategy=`."
        )
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        if getattr(trainer, name) == 0:
            raise MisconfigurationException(f"`{name}=0` on the Trainer trains nothing: leave it out, or raise it.")


class Unheard(DummyLogger):
    """In the place of the user's loggers: models and callbacks that log find one, and nothing is kept.

    Args:
        folder: Where callbacks that write beside the logs may do so.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    @property
    def save_dir(self) -> str:
        """The fit's temporary folder."""
        return self.folder


@contextmanager
def quiet(*, repeated: bool) -> Iterator[None]:
    """Keep Lightning's notes on each fit to itself; warnings that an earlier fit gave too are not repeated.

    Nor are warnings given of what is so in every study.
    """
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        with warnings.catch_warnings():
            for message in _OF_NO_USE:
                warnings.filterwarnings("ignore", message=message)
            if repeated:
                warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def collected() -> Iterator[None]:
    """Free what was made within: a Trainer and its model refer to each other, and many such pairs would pile up."""
    frozen_before = gc.get_freeze_count()
    gc.freeze()  # a collection goes through what came later only: milliseconds, where all that is imported takes 0.3 s
    try:
        yield
    finally:
        gc.collect()
        if not frozen_before:
            gc.unfreeze()


def run(trainer: Trainer, model: LightningModule, data: LightningDataModule) -> None:
    """``trainer.fit``, where Ctrl-C stays Ctrl-C: Lightning makes an exit of it, with the code of any failure.

    Raises:
        KeyboardInterrupt: The user interrupted the fit.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(model, datamodule=data)
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        if signal.getsignal(signal.SIGINT) is not handler:  # switched off while Lightning cleaned up
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None
