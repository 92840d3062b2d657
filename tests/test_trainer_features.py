"""Every feature of the Trainer, once a round: what works as in a plain fit and what is refused with a message.

The table in ``docs/trainer_features.md`` names these tests, and the last one here compares the two.
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch.callbacks as pl_callbacks
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    BasePredictionWriter,
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    OnExceptionCheckpoint,
    RichProgressBar,
    StochasticWeightAveraging,
    Timer,
    TQDMProgressBar,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.tuner import Tuner
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader

from lightning_al import ActiveLearning
from lightning_al.exceptions import ResumeError
from lightning_al.strategies import Margin
from tests._helpers.rounds_fixtures import (
    POOL_SIZE,
    Fitted,
    Net,
    Points,
    PointsData,
    ScriptedNet,
    Trace,
    WatchingOracle,
    least_margins,
    make_trainer,
    run,
    same,
    weights_of,
    wrapped,
)

compat = pytest.mark.lightning_compat


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lightning_al.reporting.learning_curve", lambda *args, **kwargs: None
    )  # a second each, tested elsewhere


def check_rounds(fitted: Fitted) -> None:
    """Three rounds that each began as a new fit does and trained on what was labeled, by the model's own margins."""
    trace = fitted.trace
    assert trace.column("epoch") == [0, 0, 0]
    assert trace.column("ended") == [1, 1, 1]
    assert trace.column("optimizer_state") == [0, 0, 0]
    assert [len(labeled) for labeled in trace.column("labeled")] == [8, 12, 16]
    for row, picks in zip(trace.rounds, fitted.picks, strict=False):
        assert least_margins(row["end_weights"], row["labeled"], 4) == picks
    assert trace.rounds[2]["labeled"] == trace.rounds[0]["labeled"] + fitted.picks[0] + fitted.picks[1]
    assert not same(trace.rounds[0]["weights"], trace.rounds[0]["end_weights"])


# -- a round is a fit


@compat
def test_each_round_is_a_whole_fit_from_the_initial_weights(tmp_path: Path) -> None:
    initial = weights_of(Net())
    fitted = run(tmp_path)
    check_rounds(fitted)
    trace = fitted.trace
    assert all(same(weights, initial) for weights in trace.column("weights"))
    assert trace.column("gradients") == [0, 0, 0]
    assert trace.column("metrics") == [{}, {}, {}]
    assert trace.column("lr") == [[0.2], [0.2], [0.2]]
    assert trace.column("batches") == [2, 3, 4]
    assert trace.column("epochs") == [[0, 1], [0, 1], [0, 1]]
    assert trace.column("global_step") == [0, 4, 10]
    assert fitted.trainer.global_step == 18
    assert [row["labeled"] for row in fitted.callback.history] == [8, 12, 16]


@compat
def test_each_epoch_trains_on_what_is_labeled_and_on_nothing_else(tmp_path: Path) -> None:
    fitted = run(tmp_path)
    batches = iter(fitted.model.seen)
    for row in fitted.trace.rounds:
        for _ in row["epochs"]:
            seen = [index for _ in range(row["batches"]) for index in next(batches)]
            assert sorted(seen) == sorted(row["labeled"])
    assert next(batches, None) is None


@compat
def test_reset_keep_goes_on_with_the_weights_that_queried(tmp_path: Path) -> None:
    fitted = run(tmp_path, al={"reset": "keep"})
    check_rounds(fitted)
    for row, queried in zip(fitted.trace.rounds[1:], fitted.callback.oracle.weights, strict=True):
        assert same(row["weights"], queried)
        assert not same(row["weights"], fitted.trace.rounds[0]["weights"])


def _random_starts(root: Path, seed: int) -> list[dict[str, Tensor]]:
    with pytest.warns(UserWarning, match="draws all weights anew each round, pretrained ones too"):
        return run(root, data=wrapped(seed=seed), al={"reset": "random"}).trace.column("weights")


@compat
def test_reset_random_draws_new_weights_by_reset_parameters(tmp_path: Path) -> None:
    starts = _random_starts(tmp_path / "a", seed=3)
    assert same(starts[0], weights_of(Net()))
    assert not torch.equal(starts[1]["body.weight"], starts[0]["body.weight"])
    assert not torch.equal(starts[1]["body.weight"], starts[2]["body.weight"])
    torch.manual_seed(99)
    again = _random_starts(tmp_path / "b", seed=3)
    assert all(same(one, other) for one, other in zip(starts, again, strict=True))
    other = _random_starts(tmp_path / "c", seed=4)
    assert not torch.equal(other[1]["body.weight"], starts[1]["body.weight"])


class Random3(Net):
    """Net with a bias of 3 and random weights: what only the factory makes."""

    def __init__(self) -> None:
        super().__init__()
        self.body.reset_parameters()
        nn.init.constant_(self.head.bias, 3.0)


def test_reset_random_takes_the_models_of_the_factory(tmp_path: Path) -> None:
    def starts(root: Path) -> list[dict[str, Tensor]]:
        model = Net()
        callback = ActiveLearning(query_size=4, rounds=3, reset="random")
        callback.model_factory = Random3
        trace = Trace()
        make_trainer(root, [callback, trace]).fit(model, datamodule=wrapped())
        return trace.column("weights")

    first, second = starts(tmp_path / "a"), starts(tmp_path / "b")
    assert same(first[0], weights_of(Net()))
    assert first[1]["head.bias"].tolist() == first[2]["head.bias"].tolist() == [3.0, 3.0, 3.0]
    assert not torch.equal(first[1]["body.weight"], first[2]["body.weight"])
    assert all(same(one, other) for one, other in zip(first, second, strict=True))


def test_reset_random_is_refused_where_a_layer_cannot_be_drawn_anew(tmp_path: Path) -> None:
    class Scaled(Net):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    with pytest.raises(MisconfigurationException, match=r"the model itself \(Scaled\).*model_factory"):
        run(tmp_path, model=Scaled(), al={"reset": "random"})


# -- early stopping and checkpoints


@compat
def test_early_stopping_starts_anew_each_round(tmp_path: Path) -> None:
    # Round 1 is worse than round 0 throughout: a best score that survived would stop it in its second epoch.
    model = ScriptedNet([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.2, 0.1], [0.5, 0.5]])
    stopper = EarlyStopping("score", mode="max", patience=1)
    fitted = run(tmp_path, stopper, model=model, max_epochs=6)
    assert fitted.trace.column("epochs") == [[0, 1], [0, 1, 2, 3], [0, 1]]
    check_rounds(fitted)
    assert float(stopper.best_score) == 0.5
    assert stopper.stopped_epoch == 1


def test_callbacks_of_the_model_start_anew_each_round(tmp_path: Path) -> None:
    class Stopping(ScriptedNet):
        def configure_callbacks(self) -> Callback:
            return EarlyStopping("score", mode="max", patience=1)

    fitted = run(tmp_path, model=Stopping([[0.9, 0.8], [0.1, 0.2, 0.1], [0.5]]), max_epochs=6)
    assert fitted.trace.column("epochs") == [[0, 1], [0, 1, 2], [0, 1]]


SCRIPT = [[0.1, 0.9, 0.2], [0.5, 0.2, 0.3], [0.1, 0.2, 0.3]]


@compat
def test_the_query_uses_the_best_checkpoint_of_its_round(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "best", monitor="score", mode="max")
    fitted = run(tmp_path, saver, model=ScriptedNet(SCRIPT), max_epochs=3)
    rounds = fitted.trace.rounds
    best = [rounds[0]["epoch_weights"][1], rounds[1]["epoch_weights"][0]]
    for row, weights, queried, picks in zip(rounds, best, fitted.callback.oracle.weights, fitted.picks, strict=False):
        assert same(queried, weights)
        assert picks == least_margins(weights, row["labeled"], 4)
    assert fitted.picks[0] != least_margins(rounds[0]["end_weights"], rounds[0]["labeled"], 4)
    assert float(saver.best_model_score) == pytest.approx(0.3)
    saved = torch.load(saver.best_model_path, weights_only=True)
    assert same(saved["state_dict"], rounds[2]["epoch_weights"][2])
    assert len(list((tmp_path / "best").glob("*.ckpt"))) == 3  # the best of each round stays


@compat
def test_reset_keep_goes_on_with_the_best_checkpoint(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "best", monitor="score", mode="max")
    fitted = run(tmp_path, saver, model=ScriptedNet(SCRIPT), max_epochs=3, al={"reset": "keep"})
    rounds = fitted.trace.rounds
    assert same(rounds[1]["weights"], rounds[0]["epoch_weights"][1])
    assert same(rounds[2]["weights"], rounds[1]["epoch_weights"][0])


def test_load_best_false_queries_with_the_last_weights(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "best", monitor="score", mode="max")
    fitted = run(tmp_path, saver, model=ScriptedNet(SCRIPT), max_epochs=3, al={"load_best": False})
    for row, queried in zip(fitted.trace.rounds, fitted.callback.oracle.weights, strict=False):
        assert same(queried, row["end_weights"])


@compat
def test_checkpoint_names_can_hold_the_round(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "all", "{round:.0f}-{labeled:.0f}-{epoch}", monitor="score", save_top_k=-1)
    run(tmp_path, saver, model=ScriptedNet(SCRIPT))
    names = sorted(path.stem for path in (tmp_path / "all").glob("*.ckpt"))
    assert names == [f"round={r}-labeled={n}-epoch={e}" for r, n in ((0, 8), (1, 12), (2, 16)) for e in (0, 1)]


def test_save_last_is_the_last_epoch_of_the_last_round(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "all", monitor="score", mode="max", save_last=True)
    fitted = run(tmp_path, saver, model=ScriptedNet(SCRIPT))
    saved = torch.load(tmp_path / "all" / "last.ckpt", weights_only=True)
    assert same(saved["state_dict"], fitted.trace.rounds[2]["end_weights"])
    assert [path.name for path in (tmp_path / "all").glob("last*")] == ["last.ckpt"]


# -- learning rates


class CycleNet(Net):
    """OneCycleLR over as many steps as the Trainer says that a fit has."""

    def __init__(self) -> None:
        super().__init__()
        self.estimates: list[float] = []

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        self.estimates.append(self.trainer.estimated_stepping_batches)
        cycle = OneCycleLR(optimizer, max_lr=1.0, total_steps=int(self.estimates[-1]) + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def on_train_end(self) -> None:
        self.last_lr = [*getattr(self, "last_lr", []), self.trainer.optimizers[0].param_groups[0]["lr"]]


@compat
@pytest.mark.parametrize(
    ("limits", "estimates"),
    [
        ({"max_epochs": 2}, [4, 6, 8]),
        ({"max_steps": 5}, [5, 5, 5]),
        ({"max_epochs": 2, "max_steps": 5}, [4, 5, 5]),
    ],
)
def test_one_cycle_lr_sees_the_grown_set(tmp_path: Path, limits: dict[str, int], estimates: list[int]) -> None:
    fitted = run(tmp_path, model=CycleNet(), **limits)
    assert fitted.model.estimates == estimates
    assert [lr[0] for lr in fitted.trace.column("lr")] == pytest.approx([1 / 25] * 3)
    steps = [row["end_step"] - row["global_step"] for row in fitted.trace.rounds]
    assert steps == estimates
    assert fitted.model.last_lr == pytest.approx([1 / 25 / 1e4] * 3)  # each cycle ran to its end
    check_rounds(fitted)


@compat
def test_step_lr_starts_anew_each_round(tmp_path: Path) -> None:
    class Stepped(Net):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.2)
            return [optimizer], [StepLR(optimizer, step_size=1, gamma=0.5)]

    fitted = run(tmp_path, model=Stepped(), max_epochs=3)
    assert fitted.trace.column("epoch_lrs") == [[0.2, 0.1, 0.05]] * 3


@compat
def test_reduce_lr_on_plateau_starts_anew_each_round(tmp_path: Path) -> None:
    class Plateau(ScriptedNet):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.2)
            plateau = ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=0)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "score"}}

    # Round 1 stays below round 0's best: a schedule that remembered it would halve after the first epoch.
    fitted = run(tmp_path, model=Plateau([[0.9, 0.8, 0.7], [0.1, 0.2, 0.1], [0.5, 0.6, 0.7]]), max_epochs=3)
    assert fitted.trace.column("epoch_lrs") == [[0.2, 0.2, 0.1], [0.2, 0.2, 0.2], [0.2, 0.2, 0.2]]


def test_learning_rate_monitor_logs_each_round(tmp_path: Path) -> None:
    class Stepped(Net):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.2)
            return [optimizer], [StepLR(optimizer, step_size=1, gamma=0.5)]

    logger = CSVLogger(tmp_path)
    run(tmp_path, LearningRateMonitor("epoch"), model=Stepped(), logger=logger)
    assert _logged(logger, "lr-SGD") == pytest.approx([0.2, 0.1] * 3)


@compat
def test_gradient_accumulation_scheduler_starts_anew_each_round(tmp_path: Path) -> None:
    fitted = run(tmp_path, GradientAccumulationScheduler({0: 1, 1: 2}))
    # 2, 3 and 4 batches: every one a step in epoch 0, every second one and the last in epoch 1.
    assert fitted.trace.column("global_step") == [0, 2 + 1, 3 + 3 + 2]
    assert fitted.trainer.global_step == 8 + 4 + 2
    check_rounds(fitted)


def test_accumulate_grad_batches_and_gradient_clipping(tmp_path: Path) -> None:
    norms: list[float] = []

    class Clipped(Net):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            norms.append(float(torch.stack([p.grad.norm() for p in self.parameters()]).norm()))

        def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
            super().configure_gradient_clipping(optimizer, *args, **kwargs)
            norms.append(float(torch.stack([p.grad.norm() for p in self.parameters()]).norm()))

    fitted = run(tmp_path, model=Clipped(), accumulate_grad_batches=2, gradient_clip_val=0.01)
    assert fitted.trace.column("global_step") == [0, 2, 2 + 4]
    clipped = norms[1::2]
    assert len(clipped) == 2 + 4 + 4
    assert clipped == pytest.approx([0.01] * 10, rel=1e-3)


class BackboneNet(Net):
    """Net whose body is named as BackboneFinetuning wants it; the optimizer has what is not frozen."""

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2) if batch_norm else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.backbone(x))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.2)


@compat
def test_backbone_finetuning_freezes_anew_each_round(tmp_path: Path) -> None:
    frozen: list[bool] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                frozen.append(not pl_module.backbone[0].weight.requires_grad)

    finetuning = BackboneFinetuning(1, lambda epoch: 1.5, backbone_initial_lr=0.05)
    fitted = run(tmp_path, finetuning, Watch(), model=BackboneNet())
    assert frozen == [True, False] * 3
    assert fitted.trace.column("lr") == [[0.2], [0.2], [0.2]]  # one group: the backbone's comes in epoch 1
    for row in fitted.trace.rounds:
        start, middle, end = (w["backbone.0.weight"] for w in (row["weights"], *row["epoch_weights"]))
        assert torch.equal(start, middle)
        assert not torch.equal(middle, end)
    assert all(same(weights, fitted.trace.rounds[0]["weights"]) for weights in fitted.trace.column("weights"))
    again = run(tmp_path / "again", finetuning, model=BackboneNet())  # the callback itself can be used again
    assert again.trace.column("lr") == [[0.2], [0.2], [0.2]]


def test_base_finetuning_with_frozen_batch_norm_starts_anew_each_round(tmp_path: Path) -> None:
    tracking: list[bool] = []

    class Freeze(BaseFinetuning):
        def freeze_before_training(self, pl_module: Any) -> None:
            self.freeze(pl_module.backbone, train_bn=False)

        def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
            tracking.append(pl_module.backbone[1].track_running_stats)
            if epoch == 1:
                self.unfreeze_and_add_param_group(pl_module.backbone, optimizer)

    run(tmp_path, Freeze(), model=BackboneNet(batch_norm=True))
    assert tracking == [False, False] * 3


# -- loggers and bars


def _logged(logger: CSVLogger, name: str) -> list[float]:
    frame = pd.read_csv(Path(logger.log_dir) / "metrics.csv")
    return frame[name].dropna().tolist()


@compat
def test_loggers_keep_one_run_with_a_growing_step(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    csv, board = CSVLogger(tmp_path, name="csv"), TensorBoardLogger(tmp_path, name="board")
    run(tmp_path, logger=[csv, board])
    assert [path.name for path in (tmp_path / "csv").iterdir()] == ["version_0"]
    assert [path.name for path in (tmp_path / "board").iterdir()] == ["version_0"]
    assert _logged(csv, "round") == [0, 0, 1, 1, 2, 2]
    assert _logged(csv, "labeled") == [8, 8, 12, 12, 16, 16]
    assert _logged(csv, "epoch")[-1] == 1
    steps = _logged(csv, "step")
    assert steps == sorted(steps)
    assert steps[-1] == 17
    events = EventAccumulator(board.log_dir).Reload()
    assert [(event.step, event.value) for event in events.Scalars("labeled")] == [
        (1, 8), (3, 8), (6, 12), (9, 12), (13, 16), (17, 16),
    ]  # fmt: skip
    losses = [event.step for event in events.Scalars("train_loss")]
    assert losses == list(range(18))


@pytest.mark.parametrize("bar", [TQDMProgressBar, RichProgressBar])
def test_progress_bars_show_each_round(
    tmp_path: Path, bar: type[Any], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # the query's bar is for terminals only
    totals: list[int] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            shown = trainer.progress_bar_callback
            if batch_idx == 0 and bar is TQDMProgressBar:
                totals.append(int(shown.train_progress_bar.total))
            elif batch_idx == 0:
                totals.append(int(shown.progress._tasks[shown.train_progress_bar_id].total))

    run(tmp_path, bar(refresh_rate=1), Watch(), enable_progress_bar=True)
    assert totals == [2, 2, 3, 3, 4, 4]
    captured = capfd.readouterr()
    shown = captured.out + captured.err
    assert "Epoch 1" in shown
    assert "scoring 40 unlabeled" in shown
    assert "scoring 36 unlabeled" in shown


@pytest.mark.parametrize("plain_first", [True, False])
def test_hyperparameters_are_logged_as_in_a_plain_fit(tmp_path: Path, plain_first: bool) -> None:
    def logged(root: Path, callbacks: list[Callback], data: Any) -> str:
        logger = CSVLogger(root)
        model = Net()
        make_trainer(root, callbacks, logger=logger, max_epochs=1).fit(model, datamodule=data)
        return (Path(logger.log_dir) / "hparams.yaml").read_text()

    plain = logged(tmp_path / "plain", [], PointsData(batch_size=6))
    assert "batch_size: 6" in plain
    data = PointsData(batch_size=6)
    callback = ActiveLearning(query_size=4, rounds=1, initial=8 if plain_first else None)
    ours = logged(tmp_path / "al", [callback], data if plain_first else wrapped(data))
    assert ours == plain


# -- limits


class Clock:
    """Takes the place of the module ``time``: a second passes at each look."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def test_the_profiler_and_the_sanity_check_see_one_fit(tmp_path: Path) -> None:
    checks: list[int] = []

    class Watch(Callback):
        def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
            checks.append(trainer.datamodule.pool.round)

    profiler = SimpleProfiler()
    check_rounds(run(tmp_path, Watch(), num_sanity_val_steps=2, profiler=profiler))
    assert checks == [0]
    assert len(profiler.recorded_durations["run_training_epoch"]) == 6


@compat
@pytest.mark.parametrize("by", ["max_time", "Timer"])
def test_max_time_and_timer_count_over_the_rounds_and_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr("lightning.pytorch.callbacks.timer.time", Clock())
    elapsed: list[float] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
            elapsed.append(next(c for c in trainer.callbacks if isinstance(c, Timer)).time_elapsed())

    arguments = {"max_time": {"seconds": 40}} if by == "max_time" else {}
    timers = [Timer({"seconds": 40})] if by == "Timer" else []
    fitted = run(tmp_path, Watch(), *timers, al={"rounds": 10}, max_epochs=2, **arguments)
    assert elapsed == sorted(elapsed)
    assert (
        0 < elapsed[0] < 40 < elapsed[-1] + 4 < 48
    )  # each look at the clock, of which there are a few, takes a second
    assert 1 < len(fitted.callback.history) < 10
    assert [len(labeled) for labeled in fitted.trace.column("labeled")] == [8, 12, 16, 20][: len(fitted.trace.rounds)]


def test_a_timer_without_a_limit_measures_all_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning.pytorch.callbacks.timer.time", Clock())
    timer = Timer()
    run(tmp_path, timer, limit_val_batches=0)
    assert timer.time_elapsed("train") == 3  # a look at each round's start and end, a second apart


@compat
def test_should_stop_ends_the_round_and_not_the_run(tmp_path: Path) -> None:
    class Stops(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    fitted = run(tmp_path, Stops(), max_epochs=4)
    assert fitted.trace.column("epochs") == [[0, 1]] * 3
    assert fitted.trace.column("global_step") == [0, 2 + 1, 2 + 1 + 3 + 1]
    check_rounds(fitted)


@compat
def test_max_steps_counts_from_each_rounds_start(tmp_path: Path) -> None:
    fitted = run(tmp_path, max_steps=3)
    assert fitted.trace.column("global_step") == [0, 3, 6]
    assert fitted.trainer.global_step == 9
    assert fitted.trainer.max_steps == 3
    check_rounds(fitted)


@compat
def test_min_epochs_and_min_steps_hold_each_round(tmp_path: Path) -> None:
    falling = [[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]] * 3
    stopper = EarlyStopping("score", mode="max", patience=1)
    fitted = run(tmp_path / "a", stopper, model=ScriptedNet(falling), max_epochs=6, min_epochs=4)
    assert fitted.trace.column("epochs") == [[0, 1, 2, 3]] * 3
    stopper = EarlyStopping("score", mode="max", patience=1)
    fitted = run(tmp_path / "b", stopper, model=ScriptedNet(falling), max_epochs=6, min_steps=9)
    # 2, 3 and 4 batches an epoch: 9 steps are in after epochs 5, 3 and 3.
    assert [len(epochs) for epochs in fitted.trace.column("epochs")] == [5, 3, 3]
    assert fitted.trainer.fit_loop.min_steps == 9


@compat
@pytest.mark.parametrize(("limit", "batches"), [(1, [1, 1, 1]), (3, [2, 3, 3]), (0.5, [1, 1, 2])])
def test_limit_train_batches_holds_each_round(tmp_path: Path, limit: float, batches: list[int]) -> None:
    fitted = run(tmp_path, limit_train_batches=limit)
    assert fitted.trace.column("batches") == batches
    check_rounds(fitted)


def test_limit_val_batches_holds_each_round(tmp_path: Path) -> None:
    class Counting(Net):
        validated = 0

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.validated += len(batch[1])

    fitted = run(tmp_path, model=Counting(), limit_val_batches=2)
    assert fitted.model.validated == 3 * 2 * 2 * 4  # rounds, epochs, batches, samples


class Recording(Margin):
    """Margin that notes how many samples it scored."""

    def __init__(self) -> None:
        self._scored: list[int] = []

    def select_from_scores(self, scores: Tensor, query_size: int, **kwargs: Any) -> Tensor:
        self._scored.append(len(scores))
        return super().select_from_scores(scores, query_size, **kwargs)


@pytest.mark.parametrize(("limit", "scored"), [(2, [8, 8]), (0.25, [10, 9])])
def test_limit_predict_batches_scores_a_random_part(tmp_path: Path, limit: float, scored: list[int]) -> None:
    strategy = Recording()
    fitted = run(tmp_path, limit_predict_batches=limit, al={"strategy": strategy})
    assert strategy._scored == scored
    row = fitted.trace.rounds[0]
    ranking = least_margins(row["end_weights"], row["labeled"], POOL_SIZE)
    ranks = [ranking.index(pick) for pick in fitted.picks[0]]
    assert ranks == sorted(ranks)
    assert ranks != [0, 1, 2, 3]


@compat
def test_fast_dev_run_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fitted = run(tmp_path / "root", fast_dev_run=True)
    assert fitted.trace.column("batches") == [1, 1, 1]
    assert [len(labeled) for labeled in fitted.trace.column("labeled")] == [8, 12, 16]
    assert list(tmp_path.rglob("*")) == []


# -- the Tuner


def _tuned(root: Path, data: Any = None, **arguments: Any) -> tuple[Any, Any, Trace, Net]:
    model = Net()
    trace = Trace()
    callback = ActiveLearning(query_size=4, rounds=3, oracle=WatchingOracle(model), initial=None if data is None else 8)
    trainer = make_trainer(root, [callback, trace], **arguments)
    return trainer, callback, trace, model


@compat
def test_tuner_lr_find_leaves_pool_callbacks_and_folder_alone(tmp_path: Path) -> None:
    trainer, callback, trace, model = _tuned(tmp_path, max_epochs=10)
    data, callbacks = wrapped(), list(trainer.callbacks)
    finder = Tuner(trainer).lr_find(model, datamodule=data, num_training=20, early_stop_threshold=None)
    assert trainer.callbacks == callbacks
    assert data.pool.round == 0
    assert len(data.pool.labeled) == 8
    assert list(tmp_path.rglob("*")) == []
    assert trace.rounds == []
    assert type(trainer.fit_loop) is _FitLoop
    assert model.lr == finder.suggestion() != 0.2
    trainer.fit(model, datamodule=data)
    assert trace.column("lr") == [[model.lr]] * 3
    check_rounds(Fitted(trainer, model, data, callback, trace))


@compat
def test_learning_rate_finder_callback_sets_the_rate_of_every_round(tmp_path: Path) -> None:
    finder = LearningRateFinder(num_training_steps=20, early_stop_threshold=None)
    fitted = run(tmp_path, finder, max_epochs=10)
    assert fitted.model.lr != 0.2
    assert fitted.trace.column("lr") == [[fitted.model.lr]] * 3
    check_rounds(fitted)
    assert fitted.trace.column("global_step") == [0, 20, 50]


SCALING: dict[str, Any] = {"init_val": 3, "max_trials": 2, "steps_per_trial": 1}


def _scaled_plainly(root: Path) -> int:
    """The batch size that the Tuner finds without us: how often it doubles depends on Lightning's version."""
    data = PointsData()
    Tuner(make_trainer(root, [])).scale_batch_size(Net(), datamodule=data, **SCALING)
    assert data.batch_size in (6, 12)
    return data.batch_size


@compat
@pytest.mark.parametrize("plain", [False, True])
def test_tuner_scale_batch_size_reaches_the_inner_datamodule(tmp_path: Path, plain: bool) -> None:
    expected = _scaled_plainly(tmp_path)
    inner = PointsData()
    data = inner if plain else wrapped(inner)
    trainer, _, trace, model = _tuned(tmp_path, data if plain else None)
    found = Tuner(trainer).scale_batch_size(model, datamodule=data, **SCALING)
    assert found == inner.batch_size == expected
    assert list(tmp_path.rglob("*")) == []
    trainer.fit(model, datamodule=data)
    assert trace.column("batches") == [-(-labels // expected) for labels in (8, 12, 16)]
    assert [len(labeled) for labeled in trace.column("labeled")] == [8, 12, 16]


@compat
def test_batch_size_finder_callback(tmp_path: Path) -> None:
    expected = _scaled_plainly(tmp_path)
    data = wrapped()
    fitted = run(tmp_path, BatchSizeFinder(**SCALING), data=data)
    assert data.datamodule.batch_size == expected
    assert fitted.trace.column("batches") == [-(-labels // expected) for labels in (8, 12, 16)]
    check_rounds(fitted)


# -- precision, compilation, workers


class DtypeNet(Net):
    """Notes the type of what forward returned in training and in scoring."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        self.dtypes = {**getattr(self, "dtypes", {}), (self.training, self.trainer.predicting): logits.dtype}
        return logits


@compat
@pytest.mark.parametrize(
    ("precision", "dtype", "weights"),
    [
        ("bf16-mixed", torch.bfloat16, torch.float32),
        ("bf16-true", torch.bfloat16, torch.bfloat16),
        ("64-true", torch.float64, torch.float64),
        ("16-mixed", torch.bfloat16, torch.float32),  # on a CPU Lightning itself takes bf16-mixed instead
    ],
)
def test_precision(tmp_path: Path, precision: Any, dtype: torch.dtype, weights: torch.dtype) -> None:
    initial = weights_of(Net().to(weights))
    fitted = run(tmp_path, model=DtypeNet(), precision=precision)
    assert fitted.model.dtypes == {(True, False): dtype, (False, False): dtype, (False, True): dtype}
    assert all(same(start, initial) for start in fitted.trace.column("weights"))
    scores = fitted.callback.oracle.queries[0].scores
    assert scores.isfinite().all()
    row = fitted.trace.rounds[0]
    if precision == "64-true":
        double = Points()
        double.x = double.x.double()
        assert least_margins(row["end_weights"], row["labeled"], 4, double) == fitted.picks[0]
    else:  # rounding may swap neighbors: what was asked is among the dozen least sure
        exact = least_margins({k: v.float() for k, v in row["end_weights"].items()}, row["labeled"], 12)
        assert set(fitted.picks[0]) <= set(exact)


@compat
def test_a_gradient_scaler_starts_anew_each_round(tmp_path: Path) -> None:
    scales: list[float] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == trainer.current_epoch == 0:
                scales.append(trainer.precision_plugin.scaler.get_scale())

    # The user's own scale, which doubles every second step: after 4 and 6 steps it is another one.
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=2)
    run(tmp_path, Watch(), plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert scales == [16.0, 16.0, 16.0]
    assert scaler.get_scale() == 16.0 * 2**4


@pytest.mark.parametrize("strategy", ["Margin", "CoreSet", "BADGE"])
def test_torch_compile(tmp_path: Path, strategy: str) -> None:
    plain = run(tmp_path / "plain", al={"strategy": strategy})
    torch.manual_seed(0)
    model = torch.compile(Net(), backend="eager")
    compiled = run(tmp_path / "compiled", model=model, al={"strategy": strategy})
    assert compiled.picks == plain.picks
    assert same(weights_of(compiled.trainer.lightning_module), weights_of(plain.model))


def test_persistent_workers_see_what_was_labeled(tmp_path: Path) -> None:
    # In order: workers draw other numbers from the global generator, in a plain fit too.
    alone = run(tmp_path / "alone", data=wrapped(PointsData(shuffle=False)))
    helped = run(tmp_path / "helped", data=wrapped(PointsData(num_workers=2, shuffle=False)))
    check_rounds(helped)
    assert helped.picks == alone.picks
    assert helped.model.seen == alone.model.seen
    assert same(weights_of(helped.model), weights_of(alone.model))


# -- other ways to train


@compat
def test_manual_optimization(tmp_path: Path) -> None:
    class Manual(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.seen.append(batch[2].tolist())
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

    torch.manual_seed(0)
    fitted = run(tmp_path / "manual", model=Manual())
    check_rounds(fitted)
    torch.manual_seed(0)
    automatic = run(tmp_path / "automatic")
    assert fitted.trace.column("global_step") == [0, 4, 10]
    assert fitted.picks == automatic.picks
    assert same(weights_of(fitted.model), weights_of(automatic.model))


class StepWeights(Callback):
    """The weights after each optimizer step, a list a round."""

    def __init__(self) -> None:
        self.rounds: list[list[dict[str, Tensor]]] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.rounds.append([])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if not self.rounds[-1] or trainer.global_step != self.step:
            self.rounds[-1].append(weights_of(pl_module))
        self.step = trainer.global_step


def _has(name: str) -> Any:
    averaging = getattr(pl_callbacks, name, None)
    if averaging is None:
        pytest.skip(f"{name} came with Lightning 2.6")
    return averaging


@compat
@pytest.mark.parametrize("accumulate", [1, 2])
def test_weight_averaging_starts_anew_each_round(tmp_path: Path, accumulate: int) -> None:
    averaging = _has("WeightAveraging")()
    steps = StepWeights()
    fitted = run(tmp_path, steps, averaging, accumulate_grad_batches=accumulate)
    assert all(same(weights, fitted.trace.rounds[0]["weights"]) for weights in fitted.trace.column("weights"))
    for row, queried, weights in zip(fitted.trace.rounds, fitted.callback.oracle.weights, steps.rounds, strict=False):
        taken = weights[-(row["end_step"] - row["global_step"]) :]
        assert len(taken) == row["end_step"] - row["global_step"]
        for name, value in queried.items():
            torch.testing.assert_close(value, torch.stack([w[name] for w in taken]).mean(0))


@compat
def test_ema_weight_averaging_starts_anew_each_round(tmp_path: Path) -> None:
    averaging = _has("EMAWeightAveraging")(decay=0.5)
    steps = StepWeights()
    fitted = run(tmp_path, steps, averaging)
    for queried, weights in zip(fitted.callback.oracle.weights, steps.rounds, strict=False):
        for name, value in queried.items():
            mean = weights[0][name]
            for later in weights[1:]:
                mean = 0.5 * mean + 0.5 * later[name]
            torch.testing.assert_close(value, mean)


@compat
def test_weight_averaging_by_epoch_validates_what_a_plain_fit_would(tmp_path: Path) -> None:
    validated: list[dict[str, Tensor]] = []

    class Validating(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                validated.append(weights_of(self))

    averaging_class = _has("WeightAveraging")
    by_epoch = {"should_update": lambda self, step_idx=None, epoch_idx=None: epoch_idx is not None}
    fitted = run(tmp_path, type("ByEpoch", (averaging_class,), by_epoch)(), model=Validating())
    for row, first, second in zip(fitted.trace.rounds, validated[::2], validated[1::2], strict=True):
        assert same(first, row["weights"])  # nothing is averaged yet: the weights that training began with
        assert same(second, row["epoch_weights"][0])


def test_stochastic_weight_averaging_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=r"cannot start anew each round\. Use .*WeightAveraging"):
        run(tmp_path, StochasticWeightAveraging(swa_lrs=0.1))
    assert list(tmp_path.rglob("*")) == []


def test_callbacks_of_the_user_start_each_round_as_before_the_first(tmp_path: Path) -> None:
    class Best(Callback):
        best = float("inf")
        starts: list[float] = []  # noqa: RUF012 - one for the test

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.starts.append(self.best)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.best = min(self.best, float(trainer.callback_metrics["train_loss"]))

        def state_dict(self) -> dict[str, Any]:
            return {"best": self.best}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.best = state_dict["best"]

    callback = Best()
    run(tmp_path, callback)
    assert callback.starts == [float("inf")] * 3
    assert callback.best < 3


# -- data


def test_reload_dataloaders_every_n_epochs(tmp_path: Path) -> None:
    calls: list[int] = []

    class Reloading(PointsData):
        def val_dataloader(self) -> Any:
            calls.append(self.trainer.current_epoch)
            return super().val_dataloader()

    fitted = run(tmp_path, data=wrapped(Reloading()), reload_dataloaders_every_n_epochs=1)
    check_rounds(fitted)
    assert calls[-6:] == [0, 1] * 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"val_check_interval": 0.5}, [[0, 1, 0, 1], [0, 1, 2, 0, 1, 2], [1, 3, 1, 3]]),
        ({"check_val_every_n_epoch": 2}, [[1], [2], [3]]),
        # Every third batch of a round, over its epochs of 2, 3 and 4 batches.
        ({"val_check_interval": 3, "check_val_every_n_epoch": None}, [[0], [2, 2], [2, 1]]),
    ],
)
def test_validation_intervals_hold_each_round(
    tmp_path: Path, arguments: dict[str, Any], expected: list[list[int]]
) -> None:
    validated: list[list[int]] = []

    class Validating(Net):
        def on_train_start(self) -> None:
            validated.append([])

        def on_validation_start(self) -> None:
            validated[-1].append(self.trainer.fit_loop.batch_idx)

    run(tmp_path, model=Validating(), **arguments)
    assert validated == expected


def test_overfit_batches_trains_on_the_same_batch(tmp_path: Path) -> None:
    fitted = run(tmp_path, overfit_batches=1)
    assert fitted.trace.column("batches") == [1, 1, 1]
    assert fitted.model.seen == [fitted.trace.rounds[0]["labeled"][:4]] * 6
    check_rounds(fitted)


def test_several_validation_loaders(tmp_path: Path) -> None:
    class Two(PointsData):
        def val_dataloader(self) -> Any:
            return [self._loader(self.val_set), self._loader(self.test_set)]

    fitted = run(tmp_path, data=wrapped(Two()))
    metrics = fitted.callback.history[2]["metrics"]
    assert metrics.keys() == {"train_loss", "val_loss/dataloader_idx_0", "val_loss/dataloader_idx_1"}
    model, points = fitted.model.eval(), Points(24, seed=2)
    loss = torch.nn.functional.cross_entropy(model(points.x), points.targets).item()
    assert metrics["val_loss/dataloader_idx_1"] == pytest.approx(loss, rel=1e-5)


@compat
@pytest.mark.parametrize("where", ["model", "datamodule"])
def test_augmentation_on_the_device_is_off_while_scoring(tmp_path: Path, where: str) -> None:
    augmented: list[int] = []

    def augment(self: Any, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer.training:
            augmented.append(len(batch[0]))
            batch[0] = batch[0] + 100 * torch.randn(len(batch[0]), 2)
        return batch

    model_class = type("AugmentedNet", (Net,), {"on_after_batch_transfer": augment} if where == "model" else {})
    data_class = type("AugmentedData", (PointsData,), {"on_after_batch_transfer": augment} if where != "model" else {})
    fitted = run(tmp_path, model=model_class(), data=wrapped(data_class()))
    check_rounds(fitted)
    assert sum(augmented) == 2 * (8 + 12 + 16)


@compat
def test_a_query_fires_no_predict_hook_and_no_writer(tmp_path: Path) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a predict hook fired")

    hooks = [name for name in dir(Callback) if "predict" in name]
    assert len(hooks) >= 6
    callback_class = type("NoPredict", (Callback,), dict.fromkeys(hooks, refuse))
    model_hooks = [name for name in dir(LightningModule) if "predict" in name]
    assert "predict_step" in model_hooks
    model_class = type("NoPredictNet", (Net,), dict.fromkeys(model_hooks, refuse))
    writers = {"write_on_batch_end": refuse, "write_on_epoch_end": refuse}
    writer = type("Writer", (BasePredictionWriter,), writers)("batch_and_epoch")
    check_rounds(run(tmp_path, callback_class(), writer, model=model_class()))


class DropoutNet(Net):
    """With dropout, and a batch norm that the user holds in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.dropout(self.norm(x)))

    def on_train_epoch_start(self) -> None:
        self.norm.eval()


def _states(model: nn.Module) -> tuple[Any, ...]:
    modes = {name: module.training for name, module in model.named_modules()}
    return (
        torch.get_rng_state().tolist(),
        repr(np.random.get_state()),  # noqa: NPY002 - what users' transforms draw from
        random.getstate(),
        modes,
        torch.is_grad_enabled(),
    )


@compat
@pytest.mark.parametrize("strategy", ["Random", "Margin", "KMeans", "BADGE", "TypiClust"])
def test_a_query_leaves_random_numbers_and_modes_as_they_were(tmp_path: Path, strategy: str) -> None:
    model = DropoutNet()
    before: list[Any] = []
    after: list[Any] = []

    class Before(Callback):
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            before.append(_states(pl_module))

    class After(WatchingOracle):
        def label(self, query: Any) -> Any:
            after.append(_states(model))
            return super().label(query)

    run(tmp_path, Before(), model=model, al={"strategy": strategy, "oracle": After()})
    assert after == before[:2]
    assert before[0][3]["norm"] is False
    assert before[0][3]["dropout"] is True


def test_a_query_leaves_the_loaders_own_generator_as_it_was(tmp_path: Path) -> None:
    class Seeded(PointsData):
        def __init__(self) -> None:
            super().__init__()
            self.generator = torch.Generator().manual_seed(5)

        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(self.train_set, batch_size=4, shuffle=True, generator=self.generator)

    orders = []
    for strategy in ("Random", "Margin"):
        initial = list(range(8))
        fitted = run(tmp_path / strategy, data=wrapped(Seeded(), initial), al={"strategy": strategy, "rounds": 2})
        orders.append([[fitted.trace.rounds[1]["labeled"].index(i) for i in batch] for batch in fitted.model.seen[4:]])
    assert orders[0] == orders[1]


@compat
def test_a_plain_datamodule_is_wrapped_by_the_callback(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = run(tmp_path / "wrapped")
    torch.manual_seed(0)
    fitted = run(tmp_path / "plain", data=PointsData(), al={"initial": 8})
    check_rounds(fitted)
    assert fitted.picks == expected.picks
    assert same(weights_of(fitted.model), weights_of(expected.model))
    assert fitted.callback.history[2]["metrics"] == expected.callback.history[2]["metrics"]


@compat
def test_plain_dataloaders_are_wrapped_by_the_callback(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = run(tmp_path / "wrapped")
    torch.manual_seed(0)
    model, trace, plain = Net(), Trace(), PointsData()
    callback = ActiveLearning(query_size=4, rounds=3, initial=8, oracle=WatchingOracle(model))
    trainer = make_trainer(tmp_path / "plain", [callback, trace])
    trainer.fit(model, plain.train_dataloader(), plain.val_dataloader())
    assert callback.oracle.picks == expected.picks
    assert same(weights_of(model), weights_of(expected.model))
    assert callback.history[2]["metrics"] == expected.callback.history[2]["metrics"]
    assert trainer.datamodule is None
    assert trainer.validate(model, plain.val_dataloader(), verbose=False) == [
        {"val_loss": pytest.approx(callback.history[2]["metrics"]["val_loss"])}
    ]


def test_a_model_with_its_own_train_dataloader(tmp_path: Path) -> None:
    class Own(Net):
        def train_dataloader(self) -> DataLoader[Any]:
            return PointsData().train_dataloader()

        def val_dataloader(self) -> DataLoader[Any]:
            return PointsData().val_dataloader()

    torch.manual_seed(0)
    expected = run(tmp_path / "wrapped")
    torch.manual_seed(0)
    model, trace = Own(), Trace()
    callback = ActiveLearning(query_size=4, rounds=3, initial=8, oracle=WatchingOracle(model))
    make_trainer(tmp_path / "own", [callback, trace]).fit(model)
    assert callback.oracle.picks == expected.picks
    assert same(weights_of(model), weights_of(expected.model))
    assert callback.history[2]["metrics"] == expected.callback.history[2]["metrics"]


# -- after a fit


@compat
@pytest.mark.parametrize("plain", [False, True])
def test_validate_test_and_predict_after_the_fit(tmp_path: Path, plain: bool) -> None:
    data = PointsData() if plain else wrapped()
    fitted = run(tmp_path, data=data, al={"initial": 8 if plain else None})
    last = fitted.callback.history[2]["metrics"]["val_loss"]
    assert fitted.trainer.validate(fitted.model, datamodule=data, verbose=False) == [{"val_loss": pytest.approx(last)}]
    points, model = Points(24, seed=2), fitted.model
    loss = torch.nn.functional.cross_entropy(model(points.x), points.targets).item()
    assert fitted.trainer.test(model, datamodule=data, verbose=False) == [{"test_loss": pytest.approx(loss, rel=1e-5)}]
    predicted = torch.cat(fitted.trainer.predict(model, datamodule=data))
    assert torch.equal(predicted, model(points.x).argmax(dim=-1))


def test_testing_an_older_checkpoint_leaves_the_pool_alone(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "all", "{round:.0f}-{epoch}", monitor="score", save_top_k=-1)
    fitted = run(tmp_path, saver, model=ScriptedNet(SCRIPT))
    digest = fitted.data.pool.digest()
    oldest = min((tmp_path / "all").glob("*.ckpt"), key=lambda path: torch.load(path, weights_only=True)["global_step"])
    fitted.trainer.test(fitted.model, datamodule=fitted.data, ckpt_path=oldest, verbose=False)
    assert same(weights_of(fitted.model), fitted.trace.rounds[0]["epoch_weights"][0])
    assert fitted.data.pool.digest() == digest


@compat
def test_the_plain_loop_is_back_after_the_fit(tmp_path: Path) -> None:
    fitted = run(tmp_path, max_steps=3, min_steps=2)
    assert type(fitted.trainer.fit_loop) is _FitLoop
    assert fitted.trainer.fit_loop.max_steps == 3
    assert fitted.trainer.fit_loop.min_steps == 2
    assert fitted.trainer.state.finished


@compat
def test_a_second_fit_on_the_same_trainer_says_why_not(tmp_path: Path) -> None:
    fitted = run(tmp_path)
    ledger = (tmp_path / "active_learning" / "ledger.csv").read_bytes()
    with pytest.raises(MisconfigurationException, match="Make a new Trainer"):
        fitted.trainer.fit(fitted.model, datamodule=fitted.data)
    assert (tmp_path / "active_learning" / "ledger.csv").read_bytes() == ledger
    assert len(fitted.data.pool.labeled) == 16


def test_a_new_trainer_with_a_used_datamodule_says_why_not(tmp_path: Path) -> None:
    data = wrapped()
    run(tmp_path / "a", data=data)
    with pytest.raises(MisconfigurationException, match=r"round 2 of an earlier fit, with 16 labels\. Make a new"):
        run(tmp_path / "b", data=data)
    assert len(data.pool.labeled) == 16


class Failing(Net):
    """Raises in a given training step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.trainer.global_step == self.at:
            raise ArithmeticError("the user's own error")
        return super().training_step(batch, batch_idx)


@compat
@pytest.mark.parametrize("limits", [{"max_epochs": 2}, {"max_steps": 4}])
@pytest.mark.parametrize("trainer_is", ["fresh", "same"])
def test_a_fit_goes_on_after_an_exception(tmp_path: Path, limits: dict[str, int], trainer_is: str) -> None:
    torch.manual_seed(0)
    expected = run(tmp_path / "whole", **limits, enable_checkpointing=True)
    torch.manual_seed(0)
    data, model, trace = wrapped(), Failing(at=7), Trace()
    callback = ActiveLearning(query_size=4, rounds=3, oracle=WatchingOracle(model))
    root = tmp_path / "failed"
    trainer = make_trainer(root, [callback, trace], **limits, enable_checkpointing=True)
    with pytest.raises(ArithmeticError):
        trainer.fit(model, datamodule=data)
    assert len(trace.rounds) == 2
    model.at = -1
    if trainer_is == "fresh":
        callback = ActiveLearning(query_size=4, rounds=3, oracle=callback.oracle)
        trainer = make_trainer(root, [callback, trace], **limits, enable_checkpointing=True)
    with pytest.raises(ResumeError, match=r"ckpt_path='.*last-round.ckpt'"):
        trainer.fit(model, datamodule=data)
    trainer.fit(model, datamodule=data, ckpt_path=root / "active_learning" / "last-round.ckpt")
    assert callback.oracle.picks == expected.picks
    assert [row["labeled"] for row in callback.history] == [8, 12, 16]
    assert same(weights_of(model), weights_of(expected.model))
    assert trainer.global_step == expected.trainer.global_step
    assert trainer.max_steps == limits.get("max_steps", -1)
    assert type(trainer.fit_loop) is _FitLoop


@compat
def test_without_checkpoints_a_failed_run_starts_again_and_asks_nothing_twice(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = run(tmp_path / "whole")
    torch.manual_seed(0)
    data, model = wrapped(), Failing(at=7)
    oracle = WatchingOracle(model)
    trainer = make_trainer(tmp_path / "failed", [ActiveLearning(query_size=4, rounds=3, oracle=oracle)])
    with pytest.raises(ArithmeticError):
        trainer.fit(model, datamodule=data)
    torch.manual_seed(0)
    again, trace = Net(), Trace()
    callback = ActiveLearning(query_size=4, rounds=3, oracle=oracle)
    with pytest.raises(MisconfigurationException, match="Make a new ActiveLearningDataModule"):
        make_trainer(tmp_path / "failed", [callback, trace]).fit(again, datamodule=data)
    make_trainer(tmp_path / "failed", [callback, trace]).fit(again, datamodule=wrapped())
    assert oracle.picks == expected.picks
    assert trace.column("labeled") == expected.trace.column("labeled")
    assert same(weights_of(again), weights_of(expected.model))
    rows = pd.read_csv(tmp_path / "failed" / "active_learning" / "ledger.csv")
    assert rows["dataset_index"].tolist() == expected.trace.rounds[2]["labeled"]


class Hooked(Callback):
    """A callback of the user with something to save."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.loaded: list[int] = []

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.errors.append(exception)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["of_the_user"] = 41

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.loaded.append(checkpoint["of_the_user"])


@compat
def test_on_exception_and_on_save_checkpoint_of_a_users_callback(tmp_path: Path) -> None:
    class Grumpy(WatchingOracle):
        def label(self, query: Any) -> Any:
            if query.round == 2:
                raise ConnectionError("the labelers went home")
            return super().label(query)

    hooked, data, saver = Hooked(), wrapped(), OnExceptionCheckpoint(tmp_path / "error")
    with pytest.raises(ConnectionError):
        run(tmp_path, hooked, saver, data=data, al={"oracle": Grumpy()}, enable_checkpointing=True)
    assert [str(error) for error in hooked.errors] == ["the labelers went home"]
    assert len(data.pool.labeled) == 12  # the query that failed labeled nothing
    path = tmp_path / "active_learning" / "last-round.ckpt"
    assert torch.load(path, weights_only=True)["of_the_user"] == 41
    model, callback = Net(), ActiveLearning(query_size=4, rounds=3)
    make_trainer(tmp_path, [callback, hooked], enable_checkpointing=True).fit(model, datamodule=data, ckpt_path=path)
    assert hooked.loaded == [41]
    assert [row["labeled"] for row in callback.history] == [8, 12, 16]


# -- the table


def test_the_table_names_these_tests() -> None:
    table = (Path(__file__).parents[1] / "docs" / "trainer_features.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", table))
    defined = {name for name in globals() if name.startswith("test_")} - {"test_the_table_names_these_tests"}
    assert named == defined
