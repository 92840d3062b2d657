"""Whether a run can work as it was set up: the trainer with its callbacks, the callback's numbers with the data's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.dataset import count_of
from lightning_al.oracles import DatasetOracle, Oracle

if TYPE_CHECKING:
    from lightning_al.callback import ActiveLearning

STATE_KEY = "ActiveLearning"
"""Under which a checkpoint keeps the callback's state, whatever a subclass is called."""

NOTHING_LABELED = (
    "`initial=0` leaves nothing to train on. Label some at random, initial=20, or name a strategy that picks the first "
    "20 with the untrained model, ActiveLearning(initial=20, initial_strategy='TypiClust')."
)


def check_numbers(callback: ActiveLearning, datamodule: ActiveLearningDataModule) -> None:
    """Raise where the callback's numbers do not fit the pool.

    Raises:
        MisconfigurationException: The budget is below the first labels, nothing is labeled at the start, or too few
            samples for a batch.
        ValueError: ``query_size`` is larger than the training set.
    """
    size = datamodule.pool.size
    initial = datamodule.initial_count()
    count_of(callback.query_size, size, "query_size", least=1)
    if callback.budget is not None and callback.budget < initial:
        raise MisconfigurationException(
            f"`budget={callback.budget}` is below the {initial} initial labels, which count too: raise it."
        )
    if initial == 0 and callback.initial_strategy is None:
        raise MisconfigurationException(NOTHING_LABELED)
    if callback.initial_strategy is not None and initial == 0:
        raise MisconfigurationException(
            "`initial_strategy` picks `initial` samples, which is 0: say how many, for example initial=20."
        )
    if callback.initial_strategy is not None and isinstance(datamodule.initial, list):
        raise MisconfigurationException(
            f"`initial` lists the first {initial} samples, so `initial_strategy` has none to pick: give their number, "
            f"`initial={initial}`, or leave out `initial_strategy`."
        )
    datamodule.check_batches(initial)


def warn_of_unasked_labels(oracle: Oracle, datamodule: ActiveLearningDataModule) -> None:
    """Warn where somebody is to label, and the first labels are the dataset's own all the same."""
    initial = datamodule.initial_count()
    if isinstance(oracle, DatasetOracle) or not initial:
        return
    count = f" and their number, `initial={initial}`" if isinstance(datamodule.initial, list) else ""
    rank_zero_warn(
        f"The first {initial} labels are the dataset's own targets: {type(oracle).__name__} is not asked for them. To "
        f"have them asked too, say ActiveLearning(initial_strategy='Random'){count}."
    )


def check_waiting(trainer: Trainer, oracle: Oracle) -> None:
    """Raise where the other ranks would run into a timeout while the first waits for people.

    Raises:
        MisconfigurationException: There are several, and the oracle polls.
    """
    if oracle.poll is not None and trainer.world_size > 1:
        raise MisconfigurationException(
            f"`poll={oracle.poll}` lets {type(oracle).__name__} wait for people, and the {trainer.world_size} ranks' "
            "connection would time out. Leave `poll` out: the run ends, and the same command goes on with "
            "`--ckpt_path last`."
        )


def check_trainer(trainer: Trainer) -> None:
    """Raise where the trainer or its callbacks cannot run in rounds.

    Raises:
        MisconfigurationException: It trains nothing, has this callback twice, or one that changes the Trainer for good.
    """
    if isinstance(trainer.strategy.checkpoint_io, AsyncCheckpointIO):
        raise MisconfigurationException(
            "AsyncCheckpointIO returns before a checkpoint is written, so a kill could find none that goes on. Leave "
            "it out of the Trainer's plugins."
        )
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        value = getattr(trainer, name)
        if value == 0:
            raise MisconfigurationException(
                f"`{name}=0` on the Trainer trains nothing, so every query would ask an untrained model: leave "
                "it out, or raise it."
            )
    if sum(callback.state_key == STATE_KEY for callback in trainer.callbacks) > 1:
        raise MisconfigurationException("There are two ActiveLearning callbacks; one fit has one pool: keep one.")
    if any(isinstance(callback, StochasticWeightAveraging) for callback in trainer.callbacks):
        raise MisconfigurationException(
            "StochasticWeightAveraging changes the Trainer's epochs once a `fit`, so it cannot start anew each "
            "round. Use lightning.pytorch.callbacks.WeightAveraging, which can."
        )
