"""FeasibilityStudy: what is asked, checked early, and the order in which it is answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lightning_al.scoring import OutputKind
from lightning_al.strategies.base import QueryStrategy
from lightning_al.study import settings
from lightning_al.study.answering import confirm_by_full_model, fitter_of, make_fits, report_of, say_time
from lightning_al.study.asked import Asked
from lightning_al.study.cell_store import CellStore
from lightning_al.study.cells import Cell, Work
from lightning_al.study.evidence import cells_of
from lightning_al.study.full import FullFitter
from lightning_al.study.metrics import metric_name
from lightning_al.study.overlap import warn_of_copies
from lightning_al.study.plan import Plan, plan_of
from lightning_al.study.report import FeasibilityReport
from lightning_al.study.runners import LocalRunner, Runner
from lightning_al.study.setting_up import design_of, subject_of, what_decides


class FeasibilityStudy(Asked):
    """Tells whether active learning will work for a problem, before anyone pays for labels.

    Takes data whose labels are known (the pilot: the training set), hides the labels, and reveals them as each query
    strategy asks for them, in paired repetitions beside random labels. The verdict follows a fixed rule on the gain
    over random with its interval; fits on random subsets tell how much of the spread is which data, and how much is
    training noise. A killed study goes on where it was when it is run again.

    Args:
        strategies: The query strategies to try besides random labels.
        metric: What the verdict goes by: ``accuracy``, ``precision``, ``recall``, ``f1``, ``auroc`` (macro averages),
            ``calibration_error``, or the class path of a torchmetrics metric.
        metrics: What every fit is measured by besides; by default all with a short name.
        mode: ``full`` trains your model in every fit; ``proxy`` extracts embeddings once and trains linear heads on
            them: minutes become seconds, and the answer is about the heads.
        backbone: Where a proxy's embeddings come from: a torchvision model's name (``resnet18``), or a module or its
            class path, images to (B, D). By default your model's own, as it is.
        confirm: After a proxy, run random and the best strategy with your model, which then decides.
        buckets: Disjoint random parts of the pilot in the nested design.
        fractions: Shares of a bucket to train on.
        seeds: Training seeds of each share of each bucket, at least 2 to tell data from training noise.
        replicates: Paired repetitions of the simulation; below 6 no verdict but ``inconclusive`` is possible.
        initial: Labels that every strategy starts with. By default the last fit has half of the pilot.
        query_size: Labels a round; by default as many as ``initial``.
        rounds: Queries after the first fit.
        delta: The least gain worth while: points for a metric in [0, 1] (0.5 by default), else in the metric's own
            unit, and then it must be given.
        saving: The least share of labels saved that is worth while.
        label_cost: Price of a label: the report tells the money saved.
        hour_cost: Price of an hour of training, in the same currency.
        runner: Where the fits run; by default processes of this machine.
        workers: Processes that fit side by side; ``auto`` is one a core.
        outputs: What the model returns, as for ``ActiveLearning``, whose setting in the trainer's callbacks counts by
            default.
        embedding_layer: The layer whose input is the embedding, likewise.
        seed: Of every random choice.
        output: The folder for the answer and for what going on needs.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> FeasibilityStudy(strategies=["Margn"])
        Traceback (most recent call last):
        ...
        ValueError: Expected `strategy` to be a `QueryStrategy` or one of [...], but got 'Margn'. Did you mean 'Margin'?
    """

    def __init__(
        self,
        strategies: Sequence[str | QueryStrategy] = ("LeastConfidence", "Margin", "BADGE", "KMeans"),
        metric: str = "accuracy",
        metrics: Sequence[str | dict[str, Any]] | None = None,
        mode: Literal["full", "proxy"] = "full",
        backbone: str | Callable[..., Any] | None = None,
        confirm: bool = False,
        buckets: int = 5,
        fractions: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0),
        seeds: int = 3,
        replicates: int = 10,
        initial: int | None = None,
        query_size: int | None = None,
        rounds: int = 8,
        delta: float | None = None,
        saving: float = 0.1,
        label_cost: float | None = None,
        hour_cost: float | None = None,
        runner: Runner | None = None,
        workers: int | Literal["auto"] = "auto",
        outputs: OutputKind | None = None,
        embedding_layer: str | None = None,
        seed: int = 0,
        output: str | Path = "feasibility",
    ) -> None:
        if mode not in ("full", "proxy"):
            raise ValueError(f"Expected `mode` to be 'full' or 'proxy', but got {mode!r}.")
        if mode == "full" and backbone is not None:
            raise ValueError("`backbone` is for mode='proxy': in full mode your whole model is trained. Leave it out.")
        if hour_cost is not None and label_cost is None:
            raise ValueError("`hour_cost` alone has nothing to be weighed against. Set `label_cost` too.")
        if runner is not None and workers != "auto":
            raise ValueError("`workers` is for the default runner; give your own runner the number instead.")
        if runner is not None and not isinstance(runner, Runner):
            raise ValueError(f"Expected `runner` to be a Runner, LocalRunner() for example, but got {runner!r}.")
        if outputs is not None:
            settings.check_one_distribution(outputs)
        if not isinstance(output, (str, Path)):
            raise ValueError(f"Expected `output` to be the path of a folder, but got {output!r}.")
        self.strategies = settings.named_strategies(strategies)
        self.metric, self.metrics = metric_name(metric), settings.study_metrics(metric, metrics, delta)
        settings.check_counts(2, buckets=buckets)
        settings.check_counts(
            1, seeds=seeds, replicates=replicates, rounds=rounds, initial=initial, query_size=query_size
        )
        settings.check_counts(0, seed=seed)
        if seed >= 1 << 32:
            raise ValueError(
                f"Expected `seed` to be below 2^32, as every library's generators take it, but got {seed}."
            )
        settings.check_amounts(delta=delta, label_cost=label_cost, hour_cost=hour_cost)
        self.mode, self.backbone, self.confirm = mode, backbone, False
        if confirm:
            self.ask_to_confirm()
        self.buckets, self.seeds, self.replicates, self.rounds = buckets, seeds, replicates, rounds
        self.fractions = settings.ascending_shares(fractions)
        self.initial, self.query_size = initial, query_size
        self.delta, self.saving = delta, settings.check_share("saving", saving)
        self.label_cost, self.hour_cost = label_cost, hour_cost
        self.runner = LocalRunner(workers) if runner is None else runner
        self.outputs, self.embedding_layer = outputs, embedding_layer
        self.seed, self.output = seed, Path(output)

    def ask_to_confirm(self) -> None:
        """Run random and the best strategy with the full model after the proxy.

        Raises:
            ValueError: The study is no proxy.
        """
        if self.mode == "full":
            raise ValueError("`confirm` is for mode='proxy': in full mode your whole model decides. Leave it out.")
        self.confirm = True

    def run(
        self,
        model: LightningModule | Callable[[], LightningModule],
        datamodule: LightningDataModule,
        trainer: Trainer | Callable[[], Trainer] | None = None,
    ) -> FeasibilityReport:
        """Make the fits, or what is missing of them, and write the answer into ``output``.

        Args:
            model: A function that makes the model, called under each fit's seed; or a model, which is copied for each
                fit: its initial weights are then the same in all.
            datamodule: The data. The training set is the pilot; the test set is ``test_dataloader``'s, else
                ``val_dataloader``'s.
            trainer: A Trainer that was not used yet, whose settings and callbacks every fit has; or a function that
                makes one. A proxy may do without.

        Returns:
            The report, which ``output`` holds as ``feasibility.json`` and ``index.html``.

        Raises:
            ActiveLearningError: The model, the data or the trainer do not fit a study, ``output`` holds another study,
                or too many fits failed.
            KeyboardInterrupt: On Ctrl-C, with what to do to go on.
            ValueError: An argument, or a size, does not fit the pilot.
        """
        try:
            return self._run(subject_of(self, model, datamodule, trainer))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Interrupted. Run the same again to go on: the fits that are finished are kept in {self.output}."
            ) from None

    def _run(self, subject: FullFitter) -> FeasibilityReport:
        design = design_of(self, subject)
        began = time.monotonic()
        with CellStore(self.output).opened(what_decides(self, subject, design)) as store:
            shared = warn_of_copies(subject.contents, store.folder)
            fitter = fitter_of(self, subject, store)
            if self.mode == "full" and not store.keys():
                say_time(self, design, fitter)
            work = Work(design, fitter, self.strategies)
            failures = make_fits(self, store, work, design.tasks(batched=self.mode == "proxy"))
            report = report_of(self, store, design, subject, failures)
            if self.confirm:
                report = confirm_by_full_model(self, subject, report, design)
            report.notes += shared
            report.seconds["wall"] = time.monotonic() - began
            report.save(self.output)
        rank_zero_info(f"{report.headline}\nThe report: {self.output / 'index.html'}")
        return report

    def dry_run(
        self,
        model: LightningModule | Callable[[], LightningModule],
        datamodule: LightningDataModule,
        trainer: Trainer | Callable[[], Trainer] | None = None,
    ) -> Plan:
        """Tell what `run` would do, and after one timed fit, how long it would take; nothing is written.

        Of a study that was begun in ``output``, it is told what is left of it.

        Args:
            model: As for `run`.
            datamodule: As for `run`.
            trainer: As for `run`.

        Returns:
            The plan; printed, it is a table.

        Raises:
            ActiveLearningError: As `run`.
            ValueError: As `run`.
        """
        subject = subject_of(self, model, datamodule, trainer)
        design = design_of(self, subject)
        store, finished = CellStore(self.output), list[Cell]()
        if store.keys():
            with store.opened(what_decides(self, subject, design)):
                finished = cells_of(store, design)
        fitter = fitter_of(self, subject, None)
        return plan_of(design, self.mode, self.runner.side_by_side, fitter, self.strategies, finished)
