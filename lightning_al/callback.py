"""ActiveLearning: the callback's configuration and hooks. The rounds themselves are in ``run.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.utils.data import Dataset

from lightning_al.checkpoints import keep_best
from lightning_al.checks import NOTHING_LABELED, STATE_KEY, check_numbers, check_trainer, check_waiting
from lightning_al.control import check_fraction
from lightning_al.costs import CostOf, cost_values
from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.dataset import count_of, plain_amount
from lightning_al.exceptions import ResumeError
from lightning_al.oracles import DatasetOracle, Oracle
from lightning_al.pool import Pool
from lightning_al.predictions import OutputKind
from lightning_al.rounds import RoundLoop, is_lightning_trainer, unwrap_data, wrap_data
from lightning_al.run import Run
from lightning_al.run_folder import RunFolder, check_readable
from lightning_al.spawned import SharedPath
from lightning_al.stopping import AnyOf, StoppingRule
from lightning_al.strategies import ExcludeDuplicates, ExcludeOutliers
from lightning_al.strategies.base import QueryStrategy, get_strategy
from lightning_al.weights import check_can_randomize


class ActiveLearning(Callback):
    """Turns one ``trainer.fit`` into rounds of fit, query, label, reset, until the budget is spent.

    Each round is a whole fit from epoch 0, with everything the Trainer has: early stopping, checkpoints, schedules,
    loggers. At its end the strategy picks unlabeled samples with the round's best model, the oracle labels them, and
    the next fit sees them too. What happened is kept in RUN_DIR (``rounds.csv``, ``ledger.csv``, ``queries/``,
    ``last-round.ckpt``), from which a killed run goes on.

    Args:
        strategy: A query strategy or its name.
        query_size: Labels asked for in a round: a count, or a share of the training set in (0, 1).
        rounds: How many fits in all, the first included.
        budget: How many labels in all, the first ones included; the last query takes what is left.
        initial: The first labels: a count, a share or a list of dataset indices. For a plain datamodule or
            dataloaders, which the callback wraps by itself; 100 by default.
        initial_strategy: Picks the first labels with the untrained (or pretrained) model instead of at random.
        pool_dataset: The training samples without augmentation, same length and order, for scoring.
        reset: The weights a round starts with: those the fit began with (``"initial"``), new ones (``"random"``), or
            those of the round before (``"keep"``).
        load_best: Query with the round's best checkpoint, where a ModelCheckpoint monitors a metric.
        oracle: Who labels; by default the dataset's own targets are revealed.
        stopping: A rule, or several of which any ends the run.
        cost: What a label of a sample costs, in any unit: a number, a list (tensor, array) of one for each training
            sample, or a callable of the dataset index. ``rounds.csv`` then has what was spent, ``Budget(cost=...)``
            limits it, and score strategies pick what is worth most for its cost; the others do not look at it.
        outputs: What the model's ``forward`` or ``query_step`` returns: ``"logits"``, ``"log_probs"`` or ``"probs"`` of
            shape (B, C), or one logit a sample, ``"binary"``; logits (B, L) of labels that do not exclude each other,
            ``"multilabel"``; logits (B, C, ...) at each pixel or token, ``"dense"``; values, ``"regression"``; boxes,
            ``"detection"``. With a dimension more, (B, K, ...), they are K draws, of an ensemble say.
        mc_samples: How many draws of the model by dropout a strategy such as BALD reads; by default those that the
            model returns, else 20.
        embedding_layer: The name of the layer whose input is the embedding; by default the last linear layer.
        control_fraction: Share of each query that is drawn at random in place of the strategy's picks, 0.1 say. The
            run then tells, with an interval, what the strategy gains over random labels: ``control_gain`` in
            ``rounds.csv``.
        exclude_outliers: Share of the pool that no query gets to see: the samples farthest from their neighbours in
            embedding space, junk often. See ``ExcludeOutliers``.
        exclude_duplicates: Leave out samples that are next to the same as others of the pool or as labeled ones. See
            ``ExcludeDuplicates``.
        seed: Of all random choices; by default the datamodule's.
        dirpath: RUN_DIR; ``<default_root_dir>/active_learning`` by default.

    Raises:
        ValueError: An argument is out of its range, or the strategy is not known.

    Example:
        >>> ActiveLearning("Margin", query_size=20, budget=200)
        ActiveLearning(Margin(), query_size=20, budget=200)
        >>> ActiveLearning("Margn", query_size=20, budget=200)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: ...
    """

    model_factory: Callable[[], LightningModule] | None = None
    """Makes a new model, for ``reset="random"``; the command line sets it."""

    def __init__(
        self,
        strategy: QueryStrategy | str = "Margin",
        query_size: int | float = 100,
        *,
        rounds: int | None = None,
        budget: int | None = None,
        initial: int | float | list[int] | None = None,
        initial_strategy: QueryStrategy | str | None = None,
        pool_dataset: Dataset[Any] | None = None,
        reset: Literal["initial", "random", "keep"] = "initial",
        load_best: bool = True,
        oracle: Oracle | None = None,
        stopping: StoppingRule | list[StoppingRule] | None = None,
        cost: float | list[float] | CostOf | None = None,
        outputs: OutputKind = "logits",
        mc_samples: int | None = None,
        embedding_layer: str | None = None,
        control_fraction: float = 0.0,
        exclude_outliers: float = 0.0,
        exclude_duplicates: bool = False,
        seed: int | None = None,
        dirpath: str | Path | None = None,
    ) -> None:
        self.strategy = _excluding(get_strategy(strategy), exclude_outliers, exclude_duplicates)
        self.control_fraction = check_fraction(control_fraction)
        self.initial_strategy = None if initial_strategy is None else get_strategy(initial_strategy)
        query_size, initial = plain_amount(query_size), plain_amount(initial)
        if isinstance(query_size, list):
            raise ValueError(f"Expected `query_size` to be a count or a share in (0, 1), but got {query_size!r}.")
        count_of(query_size, 1 << 62, "query_size", least=1)
        if initial is not None:
            first = count_of(initial, 1 << 62, "initial")
            share = isinstance(initial, float) and initial < 1  # of what is known at `fit` only
            if first == 0 and initial_strategy is None:
                raise ValueError(NOTHING_LABELED)
            if budget is not None and not share and isinstance(budget, int) and 0 < budget < first:
                raise ValueError(f"`budget={budget}` is below the {first} initial labels, which count too: raise it.")
        for name, value in (("rounds", rounds), ("budget", budget), ("mc_samples", mc_samples)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"Expected `{name}` to be a positive whole number, but got {value!r}.")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise ValueError(f"Expected `seed` to be a whole number, but got {seed!r}.")
        if oracle is not None and not isinstance(oracle, Oracle):
            raise ValueError(f"Expected `oracle` to be an instance of lightning_al.Oracle, but got {oracle!r}.")
        if reset not in ("initial", "random", "keep"):
            raise ValueError(f"Expected `reset` to be 'initial', 'random' or 'keep', but got {reset!r}.")
        if outputs not in get_args(OutputKind):
            raise ValueError(f"Expected `outputs` to be one of {', '.join(get_args(OutputKind))}, but got {outputs!r}.")
        self.stopping = [] if stopping is None else [*stopping] if isinstance(stopping, (list, tuple)) else [stopping]
        wrong = [rule for rule in self.stopping if not isinstance(rule, StoppingRule)]
        if wrong:
            raise ValueError(f"Expected `stopping` to hold instances of StoppingRule, but got {wrong[0]!r}.")
        self.rule = AnyOf(self.stopping) if self.stopping else None
        if cost is not None and not callable(cost):
            cost_values(cost)
        if rounds is None and budget is None and not self.stopping:
            raise ValueError(
                "Nothing ends the run, `rounds` and `budget` are both None: say how many labels in all, `budget=1000`, "
                "or how many fits, `rounds=10`."
            )
        self.query_size, self.rounds, self.budget = query_size, rounds, budget
        self.initial, self.pool_dataset, self.seed = initial, pool_dataset, seed
        self.reset, self.load_best, self.outputs, self.embedding_layer = reset, load_best, outputs, embedding_layer
        self.mc_samples, self.cost = mc_samples, cost
        self.oracle = DatasetOracle() if oracle is None else oracle
        self.dirpath = dirpath
        self._run: Run | None = None
        self._wrapped: ActiveLearningDataModule | None = None
        self._run_folder = SharedPath()

    def __repr__(self) -> str:
        """Return the callback's main arguments."""
        limits = [f"{k}={v}" for k, v in (("rounds", self.rounds), ("budget", self.budget)) if v is not None]
        return f"ActiveLearning({', '.join([repr(self.strategy), f'query_size={self.query_size}', *limits])})"

    @property
    def state_key(self) -> str:
        """A fixed name, so that a renamed subclass finds its state in a checkpoint."""
        return STATE_KEY

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row a round: round, labeled, unlabeled, pending, rejected, metrics, seconds_fit, seconds_query.

        Where samples have a cost, ``cost`` too: what was spent so far.
        """
        elsewhere = self._run_folder.read() if self._run is None else None
        if elsewhere is not None:  # the run was one of processes that this one spawned
            return RunFolder(elsewhere).read_rounds()
        return [] if self._run is None else self._run.history

    @property
    def pool(self) -> Pool:
        """What is labeled, unlabeled, pending and rejected, also where the callback wrapped plain data by itself."""
        return self._active_run().datamodule.pool

    def share_folder(self, path: Path) -> None:
        """Let the process that spawned this one know where to look the history up."""
        self._run_folder.write(path)

    # -- hooks of the trainer
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wrap the data where needed, check everything that can be known, and put the round loop in place."""
        if not is_lightning_trainer(trainer):
            raise MisconfigurationException(
                f"ActiveLearning needs lightning.pytorch's Trainer, but got {type(trainer).__module__}'s: the two "
                "packages do not mix. Write `from lightning.pytorch import Trainer` (and LightningModule) instead."
            )
        if stage != "fit":
            return
        if self._run is not None and self._run.finished and self._run.trainer is trainer:
            folder = self._run.folder
            saved = f"; to go on with a larger budget, fit(..., ckpt_path={str(folder.checkpoint)!r})" if folder else ""
            raise MisconfigurationException(
                "This Trainer has run all its rounds, and a second `fit` on it would train nothing. Make a new "
                f"Trainer and ActiveLearning{saved}."
            )
        check_trainer(trainer)
        check_waiting(trainer, self.oracle)
        datamodule = self._datamodule(trainer)
        check_numbers(self, datamodule)
        if self.reset == "random" and self.model_factory is None:
            check_can_randomize(pl_module)
            rank_zero_warn(
                "reset='random' draws all weights anew each round, pretrained ones too. Use reset='initial' to start "
                "each round from the weights that `fit` began with."
            )
        RoundLoop.uninstall(trainer)  # no teardown runs after an exception, so that fit's loop may still be there
        self._run = Run(self, trainer, datamodule)
        RoundLoop.install(trainer, self)

    def begin(self, trainer: Trainer) -> bool | None:
        """Asked by the loop before the first round."""
        return self._active_run().begin(trainer)

    def end_round(self, trainer: Trainer) -> bool:
        """Asked by the loop after each fit."""
        return self._active_run().end_round(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log ``round`` and ``labeled``, so that every logger and checkpoint name has them."""
        run = self._active_run()
        pl_module.log("round", float(run.round), rank_zero_only=False, sync_dist=False)
        pl_module.log("labeled", float(len(run.datamodule.pool.labeled)), sync_dist=False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the trainer its own loop back."""
        RoundLoop.uninstall(trainer)
        if self._wrapped is not None:
            unwrap_data(trainer, self._wrapped)

    def state_dict(self) -> dict[str, Any]:
        """Where the run is; the pool is in the datamodule's state."""
        return {} if self._run is None else self._run.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint was taken."""
        if state_dict and self._run is not None:
            self._run.load_state_dict(state_dict)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what each ModelCheckpoint knows of the round that a checkpoint was taken in."""
        keep_best(trainer, checkpoint["callbacks"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a checkpoint that holds no state of this callback, before anything else of it is restored.

        The optimizers, not restored yet either, are noted as each round shall begin with them.
        """
        if isinstance(trainer.fit_loop, RoundLoop):
            trainer.fit_loop.remember_optimizers()
        if not trainer.strategy.restore_checkpoint_after_setup:
            self._active_run().check_restored()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say what to do where the checkpoint to go on from could not be read."""
        path = trainer.ckpt_path
        unread = self._run is not None and not self._run.is_restored
        if path is not None and unread and isinstance(exception, Exception) and Path(path).is_file():
            try:
                check_readable(Path(path))
            except ResumeError as error:
                raise error from exception

    # -- checks
    def _active_run(self) -> Run:
        if self._run is None:
            raise MisconfigurationException("There is no run yet: pass the callback to the Trainer, then call `fit`.")
        return self._run

    def _datamodule(self, trainer: Trainer) -> ActiveLearningDataModule:
        datamodule = trainer.datamodule
        if not isinstance(datamodule, ActiveLearningDataModule):
            given = {"initial": self.initial, "pool_dataset": self.pool_dataset, "seed": self.seed}
            self._wrapped = wrap_data(trainer, **{k: v for k, v in given.items() if v is not None})
            return self._wrapped
        if datamodule is self._wrapped:
            return datamodule
        for name, mine, its in (
            ("initial", self.initial, datamodule.initial),
            ("seed", self.seed, datamodule.seed),
            ("pool_dataset", self.pool_dataset, datamodule.given_pool_dataset),
        ):
            if mine is not None and mine is not its and (name == "pool_dataset" or mine != its):
                raise MisconfigurationException(
                    f"`{name}` is {mine!r} on ActiveLearning and {its!r} on ActiveLearningDataModule: say it once, on "
                    "the datamodule, which draws the first labels."
                )
        return datamodule


def _excluding(strategy: QueryStrategy, outliers: float, duplicates: bool) -> QueryStrategy:
    if isinstance(outliers, bool) or not isinstance(outliers, (int, float)) or not 0 <= outliers < 1:
        raise ValueError(f"Expected `exclude_outliers` to be a share of the pool in [0, 1), but got {outliers!r}.")
    if duplicates:
        strategy = ExcludeDuplicates(strategy)
    return ExcludeOutliers(strategy, share=outliers) if outliers else strategy
