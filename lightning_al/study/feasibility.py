"""FeasibilityStudy: what is asked, checked early, and the order in which it is answered."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import nn

from lightning_al.callback import ActiveLearning
from lightning_al.dataset import training_dataset
from lightning_al.scoring import OutputKind
from lightning_al.strategies.base import QueryStrategy
from lightning_al.study import settings
from lightning_al.study.cell_store import CellStore, Failure
from lightning_al.study.cells import Cell, Work
from lightning_al.study.design import Design, sizes, slug
from lightning_al.study.evidence import cells_of, conclude, confirmed, notes_on
from lightning_al.study.full import FullFitter
from lightning_al.study.full_trainer import plain_trainer
from lightning_al.study.kept_embeddings import proxy_of
from lightning_al.study.metrics import metric_name
from lightning_al.study.overlap import refuse_shared, warn_of_copies
from lightning_al.study.plan import Plan, fits_left, plan_of
from lightning_al.study.progress import progress
from lightning_al.study.proxy import check_strategies
from lightning_al.study.report import FeasibilityReport
from lightning_al.study.runners import LocalRunner, Runner
from lightning_al.study.subject import backbone_name, description_of, weights_digest
from lightning_al.study.types import Fitter, Task


class FeasibilityStudy:
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
            return self._run(self._subject(model, datamodule, trainer))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Interrupted. Run the same again to go on: the fits that are finished are kept in {self.output}."
            ) from None

    def _run(self, subject: FullFitter) -> FeasibilityReport:
        design = self._design(subject)
        began = time.monotonic()
        with CellStore(self.output).opened(self._decides(subject, design)) as store:
            shared = warn_of_copies(subject.contents, store.folder)
            fitter = self._fitter(subject, store)
            if self.mode == "full" and not store.keys():
                self._say_time(design, fitter)
            failures = self._make(
                store, Work(design, fitter, self.strategies), design.tasks(batched=self.mode == "proxy")
            )
            report = self._conclude(store, design, subject, failures)
            if self.confirm:
                report = confirmed(report, self._confirm(report, design, subject))
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
        subject = self._subject(model, datamodule, trainer)
        design = self._design(subject)
        store, finished = CellStore(self.output), list[Cell]()
        if store.keys():
            with store.opened(self._decides(subject, design)):
                finished = cells_of(store, design)
        fitter = self._fitter(subject, None)
        return plan_of(design, self.mode, self.runner.side_by_side, fitter, self.strategies, finished)

    # -- what is studied
    def _subject(self, model: Any, datamodule: LightningDataModule, trainer: Any) -> FullFitter:
        if trainer is None:
            if self.mode == "full" or self.confirm:
                raise ValueError(
                    "Expected `trainer` for fits of the whole model, but got None: pass a Trainer(max_epochs=...) that "
                    "was not used, with the callbacks that your fits have."
                )
            trainer = plain_trainer
        made = trainer() if callable(trainer) else trainer  # another kind is refused by the fitter
        own = next((each for each in getattr(made, "callbacks", []) if isinstance(each, ActiveLearning)), None)
        subject = FullFitter(
            model,
            datamodule,
            trainer,
            self.metrics,
            outputs=self.outputs or (own.outputs if own else "logits"),
            embedding_layer=self.embedding_layer or (own.embedding_layer if own else None),
            draws=own.mc_samples if own else None,
        )
        smallest = min(self.fractions) * subject.data.pool.size / self.buckets
        if self.mode == "proxy":
            own_target = getattr(subject.data.datamodule, "target_dataset", None) is not None
            check_strategies(self.strategies.values(), own_target)
        subject.check(self.strategies.values(), max(1, int(smallest)))
        refuse_shared(training_dataset(subject.data.datamodule.train_dataloader()), subject.data.test_set)
        return subject

    def _design(self, subject: FullFitter) -> Design:
        pilot = subject.data.pool.size
        initial, query_size = sizes(pilot, self.rounds, self.initial, self.query_size)
        if min(self.fractions) * pilot / self.buckets < 2:
            least = math.ceil(2 * self.buckets / min(self.fractions))
            raise ValueError(
                f"{100 * min(self.fractions):g} % of one of {self.buckets} buckets of {pilot:,} samples is not even "
                f"two: the pilot must have at least {least:,}. Set fewer `buckets`, or larger `fractions`."
            )
        arms = tuple(self.strategies)
        return Design(
            pilot, initial, query_size, self.rounds, self.replicates, self.buckets, self.fractions, self.seeds, arms,
            self.seed,
        )  # fmt: skip

    def _decides(self, subject: FullFitter, design: Design) -> dict[str, Any]:
        """All that decides the cells; what is left out (replicates, delta, prices) may change in the same folder."""
        return {
            "mode": self.mode,
            "outputs": subject.outputs,
            "embedding_layer": subject.embedding_layer,
            **({"mc_samples": subject.draws} if subject.draws is not None else {}),
            "backbone": backbone_name(self.backbone),
            "backbone_weights": weights_digest(self.backbone) if isinstance(self.backbone, nn.Module) else None,
            # an address in a repr differs in each process
            "strategies": {arm: re.sub(r" at 0x\w+", "", repr(each)) for arm, each in self.strategies.items()},
            "metrics": self.metrics.definitions,
            "buckets": design.buckets,
            "fractions": list(design.fractions),
            "seeds": design.seeds,
            "rounds": design.rounds,
            "initial": design.initial,
            "query_size": design.query_size,
            "seed": design.seed,
            "subject": subject.identity,
        }

    def _fitter(self, subject: FullFitter, store: CellStore | None) -> Fitter:
        if self.mode == "full":
            return subject
        return proxy_of(subject, self.backbone, store)

    # -- the fits
    def _say_time(self, design: Design, fitter: Fitter) -> None:
        for seed in (design.seed, design.seed + 1):  # one may fail by its seed, as a cell may
            try:
                trial = replace(design, seed=seed)
                plan = plan_of(trial, self.mode, self.runner.side_by_side, fitter, self.strategies)
            except Exception as error:
                failed = error
            else:
                rank_zero_info(f"{plan}\n{plan.hint}".rstrip())
                return
        rank_zero_warn(
            "Two trial fits failed, so how long the study takes is not known. It goes on: a fit that fails is tried "
            f"once more and then left out. A dry run shows where it fails. {type(failed).__name__}: {failed}"
        )

    def _make(self, store: CellStore, work: Work, tasks: Sequence[Task], title: str = "Study") -> list[Failure]:
        left = fits_left(work.design, tasks, cells_of(store, work.design))
        with progress(title, *left) as told:
            return self.runner.run(tasks, work, store, progress=lambda task, key, cell: told(1, cell["labels"]))

    def _confirm(self, report: FeasibilityReport, design: Design, subject: FullFitter) -> FeasibilityReport:
        """Random and the proxy's best arm, with the full model."""
        best = report.winner or max(report.strategies, key=lambda arm: (arm["delta"], arm["name"]))["name"]
        deciding = design.confirming(best)
        tasks = [task for task in deciding.tasks(batched=False) if task.part != "design"]
        settings_of_full = {**self._decides(subject, deciding), "mode": "full", "backbone": None, "confirms": best}
        with CellStore(self.output / "confirm" / slug(best)).opened(settings_of_full) as store:
            work = Work(deciding, subject, {best: self.strategies[best]})
            failures = self._make(store, work, tasks, f"Confirming {best} with the full model")
            return self._conclude(store, deciding, subject, failures, mode="full")

    def _conclude(
        self,
        store: CellStore,
        design: Design,
        subject: FullFitter,
        failures: Sequence[Failure],
        mode: str | None = None,
    ) -> FeasibilityReport:
        mode = mode or self.mode
        report = conclude(
            store,
            design,
            failures=failures,
            flags=["test_used_for_selection"] * subject.test_used_for_selection,
            preview=subject.data.preview,
            metric=self.metric,
            delta=self.delta,
            saving=self.saving,
            higher_is_better=self.metrics.higher_is_better(self.metric),
            scale=100.0 if self.metrics.in_unit_interval(self.metric) else 1.0,
            label_cost=self.label_cost,
            hour_cost=self.hour_cost,
            settings={
                "mode": mode,
                "backbone": backbone_name(self.backbone),
                "buckets": design.buckets,
                "fractions": list(design.fractions),
                "seeds": design.seeds,
                "outputs": subject.outputs,
            },
        )
        report.data = description_of(subject.data)
        report.notes += notes_on(mode, own_weights=subject.model_is_factory)
        return report
