"""The fit loop that runs once a round. The only file that touches the Trainer's private members.

Each private name used here is exercised by the tests on every supported minor of Lightning.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning, Checkpoint, ModelCheckpoint, Timer
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.forward_pass import Machine


class RoundDriver(Protocol):
    """What the loop asks before the first round and after each."""

    def begin(self, trainer: Trainer) -> bool | None:
        """Get ready; True where a checkpoint was taken after a fit, so that its round only lacks the query.

        None where there is nothing to train on yet.
        """

    def end_round(self, trainer: Trainer) -> bool:
        """Query, label, reset; False where no further round follows."""


class RoundLoop(_FitLoop):
    """Lightning's fit loop, run to completion once a round."""

    driver: Any
    fresh_optimizers: list[Any]
    fresh_schedulers: list[Any]
    given: tuple[int, int | None, int]
    """``max_steps``, ``min_steps`` and ``accumulate_grad_batches`` as the user gave them: rounds change all three."""

    @classmethod
    def install(cls, trainer: Trainer, driver: Any) -> None:
        """Put this loop in the place of the trainer's own, with all it knows."""
        loop = cls.__new__(cls)
        loop.__dict__.update(trainer.fit_loop.__dict__)
        loop.driver = driver
        loop.given = loop.max_steps, loop.min_steps, trainer.accumulate_grad_batches
        trainer.fit_loop = loop

    @staticmethod
    def uninstall(trainer: Trainer) -> None:
        """Put Lightning's own loop back, where this one is there, with the limits that the user gave."""
        ours = trainer.fit_loop
        if isinstance(ours, RoundLoop):
            loop = _FitLoop.__new__(_FitLoop)
            loop.__dict__.update({k: v for k, v in ours.__dict__.items() if k not in ("driver", "given")})
            loop.epoch_loop.max_steps, loop.epoch_loop.min_steps, trainer.accumulate_grad_batches = ours.given
            trainer.fit_loop = loop

    def run(self) -> None:
        """Fit, query, label, reset, until the driver says that it is enough."""
        trainer, driver = self.trainer, self.driver
        if driver not in trainer.callbacks:  # the Tuner's nested fits take the callbacks away
            super().run()
            return
        fitted = driver.begin(trainer)
        if fitted is None:
            return
        if not fitted and self.epoch_progress.total.ready > 0 and self.done:
            # A checkpoint of the last epoch: run() would draw from the RNG for a loader that it never uses.
            fitted = True
        while True:
            if not fitted:
                super().run()
            if not driver.end_round(trainer):
                return
            fitted = False

    # -- between two rounds
    def next_round(self, max_steps: int, min_steps: int | None) -> None:
        """Back to epoch 0 with a new train loader, optimizers and schedules; the total counts go on."""
        if self._data_fetcher is not None:
            self._data_fetcher.teardown()
            self._data_fetcher = None  # torn down twice, after an error before the next fit, it would raise
        self.clear_restart()
        self.epoch_progress.current.reset()
        # Its total too: with `check_val_every_n_epoch=None` validation comes every so many batches of a fit.
        self.epoch_loop.batch_progress.reset()
        self.epoch_loop.scheduler_progress.reset_on_run()
        self.epoch_loop.automatic_optimization.optim_progress.reset_on_run()
        self._last_train_dl_reload_epoch = self.epoch_loop.val_loop._last_val_dl_reload_epoch = float("-inf")
        self._combined_loader = None
        # `estimated_stepping_batches` takes the least of what remains and max_steps: ask with the base values.
        self.epoch_loop.max_steps, self.epoch_loop.min_steps = max_steps, min_steps
        before = list(self.trainer.optimizers)
        self.trainer.strategy.setup_optimizers(self.trainer)
        if any(optimizer is old for optimizer in self.trainer.optimizers for old in before):
            self.reset_kept_optimizers()
        self.drop_loader()
        self.shift_steps(max_steps, min_steps, self.epoch_loop.global_step)

    def remember_optimizers(self) -> None:
        """Keep the optimizers' and schedules' state of before the first step, for models that make them once."""
        self.fresh_optimizers = [copy.deepcopy(o.state_dict()) for o in self.trainer.optimizers]
        self.fresh_schedulers = [copy.deepcopy(c.scheduler.state_dict()) for c in self.trainer.lr_scheduler_configs]

    def reset_kept_optimizers(self) -> None:
        """Where `configure_optimizers` returned the objects of the round before, momentum and rates start anew."""
        for optimizer, state in zip(self.trainer.optimizers, self.fresh_optimizers, strict=True):
            optimizer.state.clear()
            optimizer.load_state_dict(copy.deepcopy(state))
        for config, state in zip(self.trainer.lr_scheduler_configs, self.fresh_schedulers, strict=True):
            config.scheduler.load_state_dict(copy.deepcopy(state))

    def clear_restart(self) -> None:
        """Forget that a checkpoint was loaded: the coming round starts at its beginning."""
        loops = [
            self,
            self.epoch_loop,
            self.epoch_loop.val_loop,
            self.epoch_loop.automatic_optimization,
            self.epoch_loop.manual_optimization,
        ]
        for loop in loops:  # not the `restarting` property: with max_steps its setter always says True
            loop._restarting = loop._loaded_from_state_dict = loop._resuming_from_checkpoint = False

    def drop_loader(self) -> None:
        """Make the next round build its train loader anew, from the RNG as it is then."""
        self._combined_loader = None

    def shift_steps(self, max_steps: int, min_steps: int | None, start: int) -> None:
        """Let the step limits count from ``start``, the round's first step."""
        self.epoch_loop.max_steps = max_steps if max_steps == -1 else max_steps + start
        self.epoch_loop.min_steps = min_steps if not min_steps else min_steps + start

    @property
    def is_mid_round(self) -> bool:
        """Whether a restored checkpoint was taken within a fit, not between two."""
        return bool(self.epoch_progress.current.ready)


class LoadersDataModule(LightningDataModule):
    """The train loader that a script handed to ``trainer.fit``, or its model made, as a datamodule."""

    def __init__(self, request: Callable[[], Any]) -> None:
        super().__init__()
        self.request = request

    def train_dataloader(self) -> Any:
        """The train loader itself."""
        return self.request()


def wrap_data(trainer: Trainer, **arguments: Any) -> ActiveLearningDataModule:
    """Wrap the plain datamodule or dataloaders of a running fit; the wrapped datamodule is set up already."""
    source = trainer.fit_loop._data_source
    plain = trainer.datamodule
    on_the_callback = "ActiveLearning(pool_dataset=...)"
    if plain is not None:
        wrapper = ActiveLearningDataModule(plain, **arguments)
        wrapper.setup_pool(f"a method `pool_dataset()` on {type(plain).__name__}, or {on_the_callback}")
        for loop in (trainer.fit_loop.epoch_loop.val_loop, trainer.validate_loop, trainer.test_loop):
            if loop._data_source.instance is plain:
                loop._data_source.instance = wrapper
    else:
        given = copy.copy(source)
        wrapper = ActiveLearningDataModule(LoadersDataModule(given.dataloader), **arguments)
        wrapper.setup_pool(on_the_callback)
    source.instance = wrapper
    source.name = "train_dataloader"
    trainer.datamodule = wrapper
    wrapper.trainer = trainer
    return wrapper


def unwrap_data(trainer: Trainer, wrapper: ActiveLearningDataModule) -> None:
    """Give the trainer its plain datamodule back where :func:`wrap_data` took it."""
    plain = wrapper.datamodule
    if trainer.datamodule is wrapper and isinstance(plain, LoadersDataModule):
        trainer.datamodule = None


def fresh_states(trainer: Trainer, *without: Callback) -> dict[Any, Any]:
    """The state of every callback, and of the gradient scaler, before the first round, to start each round with it."""
    states = {
        callback: copy.deepcopy(callback.state_dict())
        for callback in trainer.callbacks
        if callback not in without and not isinstance(callback, (Checkpoint, Timer))
    }
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return states if scaler is None else {**states, scaler: scaler.state_dict()}


def reset_callbacks(trainer: Trainer, fresh: dict[Any, Any], accumulate_grad_batches: int) -> None:
    """Every callback as before the first round; what a Timer measured and a checkpoint wrote stays."""
    for callback in trainer.callbacks:
        if isinstance(callback, ModelCheckpoint):
            callback.best_k_models, callback.best_model_path, callback.kth_best_model_path = {}, "", ""
            callback.best_model_score = callback.current_score = None
            callback.kth_value = torch.tensor(float("inf" if callback.mode == "min" else "-inf"))
        elif isinstance(callback, Timer):  # else its elapsed time turns negative in the second round
            callback._offset = callback.time_elapsed()  # type: ignore[assignment]  # typed by its first value, 0
            callback._start_time = dict.fromkeys(callback._start_time)
            callback._end_time = dict.fromkeys(callback._end_time)
        elif fresh.get(callback):
            callback.load_state_dict(copy.deepcopy(fresh[callback]))
            if isinstance(callback, BaseFinetuning):  # nothing was restored that its next fit should go on with
                callback._restarting = False
        average = getattr(callback, "_average_model", None)  # WeightAveraging, from Lightning 2.6 on
        if average is not None:
            average.module.load_state_dict(trainer.lightning_module.state_dict())
            average.n_averaged.zero_()
            callback._latest_update_step = trainer.global_step
            callback._latest_update_epoch = -1
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and fresh.get(scaler):
        scaler.load_state_dict(fresh[scaler])  # with the user's own scale and growth, where they set one
    trainer.should_stop = False
    trainer.accumulate_grad_batches = accumulate_grad_batches  # GradientAccumulationScheduler refuses to start else
    trainer._logger_connector.reset_metrics()


def out_of_time(trainer: Trainer, *, agree: bool = True) -> bool:
    """Whether a Timer, or ``max_time``, has run out; with ``agree`` asked on every rank, the same answer on all."""
    left = [c.time_remaining() for c in trainer.callbacks if isinstance(c, Timer)]
    over = any(seconds is not None and seconds <= 0 for seconds in left)
    return trainer.strategy.reduce_boolean_decision(over, all=False) if agree else over


@contextmanager
def query_machine(
    trainer: Trainer,
    datamodule: ActiveLearningDataModule,
    seed: int,
    title: str,
    dataset: Dataset[Any] | None = None,
) -> Iterator[Machine]:
    """The model in evaluation, and how a dataset's batches reach it, the pool's by default; all is put back at the end.

    The predict loop is not used: it would fire the user's predict hooks and writers and consume the global RNG.
    """
    module = trainer.lightning_module
    fn, stage = trainer.state.fn, trainer.state.stage
    modes = {m: m.training for m in module.modules()}
    trainer.state.fn, trainer.predicting = TrainerFn.PREDICTING, True  # user hooks ask trainer.training
    module.eval()
    try:
        with isolate_rng(), torch.no_grad():
            torch.manual_seed(seed)
            yield Machine(
                model=module,
                batches=lambda indices: evaluation_batches(
                    trainer, datamodule.scoring_dataloader(indices, dataset), title
                ),
                step=lambda batch, number: _step(trainer, module, batch, number),
                rank=trainer.global_rank,
                world_size=trainer.world_size,
                gather=trainer.strategy.all_gather,
                all_well=lambda well: trainer.strategy.reduce_boolean_decision(well, all=True),
                batch_size=datamodule.scoring_batch_size(),
                seed=seed,
            )
    finally:
        trainer.state.fn, trainer.state.stage = fn, stage
        for m, mode in modes.items():
            m.training = mode


def evaluation_batches(trainer: Trainer, loader: Iterable[Any], title: str) -> Iterator[Any]:
    """A loader's batches on the device, as the user's hooks hand them to a model in evaluation."""
    module = trainer.lightning_module
    bar = trainer.progress_bar_callback
    # In a file each step of a bar would be a line.
    shown = getattr(bar, "is_enabled", False) and trainer.is_global_zero and sys.stderr.isatty()
    for batch in tqdm(loader, desc=title, leave=False, disable=not shown, dynamic_ncols=True, unit="batch"):
        if trainer.received_sigterm:  # the pass may be long, and nothing of it is needed to go on
            raise SIGTERMException
        batch = trainer.precision_plugin.convert_input(batch)
        batch = module._on_before_batch_transfer(batch, dataloader_idx=0)
        yield trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def _step(trainer: Trainer, module: LightningModule, batch: Any, number: int) -> Any:
    query_step = getattr(module, "query_step", None)
    with trainer.precision_plugin.forward_context():
        if query_step is not None:
            return query_step(batch, number)
        return module(batch[0] if isinstance(batch, (tuple, list)) else batch)


def write_into(trainer: Trainer, folder: Path) -> None:
    """Let everything that a fit writes at the places Lightning gives land in a folder."""
    trainer._default_root_dir = str(folder)
    for number, callback in enumerate(trainer.checkpoint_callbacks):
        if isinstance(callback, ModelCheckpoint):
            callback.dirpath = str(folder / f"checkpoints-{number}")


def is_lightning_trainer(trainer: Any) -> bool:
    """Whether it is ``lightning.pytorch``'s Trainer, not the one of the package ``pytorch_lightning``."""
    return isinstance(trainer, Trainer)
