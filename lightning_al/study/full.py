"""Fits of the user's whole model on parts of the pilot."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lightning_al.embeddings import find_layer
from lightning_al.querying import check_readable, target_set
from lightning_al.rounds import is_lightning_trainer
from lightning_al.scoring import OutputKind
from lightning_al.strategies.base import QueryStrategy
from lightning_al.study.full_cell import CellFit
from lightning_al.study.full_data import PilotData, class_indices
from lightning_al.study.full_trainer import Unheard, check_study_trainer, collected, quiet, quiet_trainer, run
from lightning_al.study.metrics import StudyMetrics
from lightning_al.study.overlap import Contents
from lightning_al.study.seeding import seeded
from lightning_al.study.settings import check_one_distribution
from lightning_al.study.subject import identity_of
from lightning_al.study.types import Fit, Request


class FullFitter:
    """Trains the user's model, with the user's Trainer settings, on part of the pilot for each request.

    Each fit has a new model and a copy of the Trainer, with its callbacks and limits; it logs nothing, and its
    checkpoints go to a temporary folder. The same request gives the same answer, whatever came before it.

    Args:
        model: Makes a model, called under the request's seed; or a model, which is copied: seeds then decide the
            order, dropout and augmentation only.
        datamodule: The data. Its training set is the pilot; it is set up once a process.
        trainer: A Trainer that was not used, or a function that makes one.
        metrics: What is computed on the test set.
        outputs: What the model's ``forward`` or ``query_step`` returns.
        embedding_layer: The name of the layer whose input is the embedding; by default the last linear layer.

    Raises:
        ValueError: An argument is of the wrong kind.

    Example:
        >>> import numpy as np
        >>> from lightning_al.demos import DigitsCNN, DigitsDataModule
        >>> quick = {"max_epochs": 8, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
        >>> fitter = FullFitter(DigitsCNN, DigitsDataModule(), lambda: Trainer(**quick), StudyMetrics(["accuracy"]))
        >>> fit, = fitter.fit_many([Request(labeled=np.arange(200), seed=1)])
        >>> fit.metrics["accuracy"] > 0.7
        True
    """

    def __init__(
        self,
        model: LightningModule | Callable[[], LightningModule],
        datamodule: LightningDataModule,
        trainer: Trainer | Callable[[], Trainer],
        metrics: StudyMetrics,
        *,
        outputs: OutputKind = "logits",
        embedding_layer: str | None = None,
        draws: int | None = None,
    ) -> None:
        if not isinstance(model, LightningModule) and not callable(model):
            raise ValueError(
                "Expected `model` to be a lightning.pytorch.LightningModule or a function that makes one, but got a "
                f"{type(model).__name__}."
            )
        if not is_lightning_trainer(trainer) and (not callable(trainer) or hasattr(trainer, "fit")):
            raise ValueError(
                "Expected `trainer` to be a lightning.pytorch.Trainer or a function that makes one, but got a "
                f"{type(trainer).__module__}.{type(trainer).__name__}."
            )
        check_one_distribution(outputs)
        self.model, self.datamodule, self.trainer, self.metrics = model, datamodule, trainer, metrics
        self.outputs, self.embedding_layer, self.draws = outputs, embedding_layer, draws
        self._data = PilotData(datamodule)
        self._downloaded = self._ready = self._rehearsed = False

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what another process sets up by itself."""
        state = {**self.__dict__, "_data": PilotData(self.datamodule), "_ready": False, "_rehearsed": False}
        state.pop("contents", None)
        return state

    @property
    def model_is_factory(self) -> bool:
        """Whether seeds decide the initial weights too."""
        return not isinstance(self.model, LightningModule)

    @property
    def data(self) -> PilotData:
        """The data, set up."""
        return self._set_up()

    @cached_property
    def contents(self) -> Contents:
        """The samples of pilot and test set, each of which is read once."""
        return Contents(self.data.plain_samples, self.data.test_set)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides the fits, as far as it can be seen."""
        return identity_of(self._new_model(0), self._new_trainer(), self.data, self.contents)

    @property
    def test_split(self) -> str:
        """Where the test set comes from: ``"test"`` or ``"val"``."""
        return self._data.test_split

    @property
    def test_used_for_selection(self) -> bool:
        """Whether the test set is the validation set, and a callback or a learning rate schedule goes by it."""
        if self.test_split == "test":
            return False
        model, trainer = self._new_model(0), self._new_trainer()
        brought = model.configure_callbacks()
        callbacks = [*trainer.callbacks, *(brought if isinstance(brought, Sequence) else [brought])]
        monitors = [*(getattr(callback, "monitor", None) for callback in callbacks), *schedule_monitors(model)]
        return any(monitor and not str(monitor).startswith("train") for monitor in monitors)

    def check(self, strategies: Collection[QueryStrategy], fewest: int = 1) -> None:
        """Raise where a fit or a query could not work, before the first.

        Args:
            strategies: The strategies that will query.
            fewest: The least number of labels that a fit will have.

        Raises:
            MisconfigurationException: The trainer, the data or the model do not fit a study, or models share weights.
            ScoringError: There is no layer of the name ``embedding_layer``.
            ValueError: The targets are no class indices.
        """
        for strategy in strategies:
            check_readable(strategy, self.outputs)
        check_study_trainer(self._new_trainer())
        model = self._new_model(0)
        check_separate(model, self._new_model(0))
        if not hasattr(model, "query_step") and not is_overridden("forward", model):
            raise MisconfigurationException(
                f"{type(model).__name__} has no `forward`, which tests and queries call: define `forward(x)` to return "
                "the logits, or a method `query_step(batch, batch_idx)` that does."
            )
        if self.embedding_layer is not None:
            find_layer(model, self.embedding_layer)
        data = self._set_up()
        check_target_set(strategies, data)
        data.check_batches(fewest)
        with seeded(0, data):
            check_classes(data.datamodule.train_dataloader())
            for batch in data.test_loader():
                class_indices(batch)
                break

    def fit_many(self, requests: Sequence[Request]) -> list[Fit]:
        """Make the fits, one after the other.

        Raises:
            FloatingPointError: The loss of a fit became NaN or infinite.
            ScoringError: The model's outputs cannot be scored: wrong shape, or not finite.
            ValueError: Probabilities on the test set are not finite, or targets are no class indices.
        """
        fits = []
        for request in requests:
            with collected():
                fits.append(self._fit(request))
        return fits

    def _fit(self, request: Request) -> Fit:
        data = self._set_up()
        with (
            quiet(repeated=self._rehearsed),
            tempfile.TemporaryDirectory(prefix="lightning_al-", ignore_cleanup_errors=True) as folder,
            seeded(request.seed, data),
        ):
            model = self._made_model()
            trainer = self._new_trainer()
            cell = CellFit(
                request,
                data.part(request.labeled, request.seed),
                self.metrics,
                self.outputs,
                self.embedding_layer,
                Path(folder),
                rehearse=not self._rehearsed,
                draws=self.draws,
            )
            if trainer.loggers:
                trainer.logger = Unheard(folder)
            trainer.callbacks = [cell, *trainer.callbacks]
            run(trainer, model, cell.data)
            self._rehearsed = True
            return cell.fit

    # -- the parts of a fit
    def _set_up(self) -> PilotData:
        if not self._ready:
            # The same split in every process, were the datamodule to draw one.
            with seeded(0, self._data):
                self._data.prepare(self._new_trainer(), download=not self._downloaded)
            self._ready = self._downloaded = True
        return self._data

    def _new_model(self, seed: int) -> LightningModule:
        with seeded(seed):
            return self._made_model()

    def _made_model(self) -> LightningModule:
        if isinstance(self.model, LightningModule):
            return copy.deepcopy(self.model)
        model = self.model()
        if not isinstance(model, LightningModule):
            raise ValueError(
                "Expected `model` to make a lightning.pytorch.LightningModule, but it made a "
                f"{type(model).__module__}.{type(model).__name__}."
            )
        return model

    def _new_trainer(self) -> Any:
        return quiet_trainer(self.trainer)


def check_classes(batches: Iterable[Any]) -> None:
    """Raise where there is nothing to tell apart; no more batches are read than it takes to see two classes.

    Raises:
        ValueError: The targets are of one class, or no class indices.
    """
    seen: set[int] = set()
    for batch in batches:
        seen.update(class_indices(batch).tolist())
        if len(seen) > 1:
            return
    raise ValueError(
        f"Every training sample is of class {seen.pop() if seen else None}: there is nothing to tell apart."
    )


def check_target_set(strategies: Iterable[QueryStrategy], data: PilotData) -> None:
    """Raise where a strategy seeks samples like those of a target set, and there is none, or none that can be read.

    Raises:
        MisconfigurationException: It does.
    """
    reading = [strategy for strategy in strategies if strategy.needs.target]
    seeking = [strategy.name for strategy in reading if strategy.own_target]
    if reading and target_set(data) is None and seeking:
        raise MisconfigurationException(
            f"{seeking[0]} seeks samples like those of a target set, and the datamodule names none: give it a method "
            "`target_dataset()` that returns some, those of rare classes say, or leave the strategy out."
        )


def schedule_monitors(model: LightningModule) -> list[str]:
    """What the model's learning rate schedules go by, ReduceLROnPlateau's ``monitor`` say.

    None where the model cannot make its optimizers outside of a fit.
    """
    try:
        waiting = [model.configure_optimizers()]
    except Exception:  # of the user's code: a schedule that asks the trainer for the number of steps, say
        return []
    found = []
    while waiting:
        part: Any = waiting.pop()
        if isinstance(part, (list, tuple)):
            waiting.extend(part)
        elif isinstance(part, Mapping):
            schedule = part.get("scheduler", part.get("lr_scheduler"))
            if "monitor" in part and (isinstance(schedule, ReduceLROnPlateau) or part.get("reduce_on_plateau")):
                found.append(str(part["monitor"]))
            waiting.append(part.get("lr_scheduler"))
    return found


def check_separate(model: LightningModule, other: LightningModule) -> None:
    """Raise where two new models share weights, so that one fit would go on where another ended.

    Raises:
        MisconfigurationException: They do.
    """
    own = {id(weight) for weight in model.parameters() if weight.requires_grad}
    shared = [name for name, weight in other.named_parameters() if id(weight) in own]
    if shared:
        raise MisconfigurationException(
            f"The function `model` gave two models that share the weights {shared[0]!r}, so that each fit would go on "
            "where the one before ended. Make the layers within it, model=lambda: MyModel(...)."
        )
