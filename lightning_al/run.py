"""One run, round after round: fit, query, label, reset, and what is saved in between."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lightning_al import rounds
from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.dataset import count_of
from lightning_al.exceptions import ResumeError
from lightning_al.figures import learning_curve
from lightning_al.labeling import Labeling, as_query, telling_of_failures
from lightning_al.oracles import Query
from lightning_al.querying import Querying
from lightning_al.randomness import restore_rng, rng_state
from lightning_al.ranks import on_rank_zero
from lightning_al.run_folder import RunFolder
from lightning_al.strategies.base import QueryStrategy
from lightning_al.weights import InitialWeights, Trainability, random_weights

if TYPE_CHECKING:
    from lightning_al.callback import ActiveLearning


class Run:
    """The rounds of one ``trainer.fit``, driven by the loop in ``rounds.py``.

    Args:
        callback: The configuration.
        trainer: The trainer that runs it.
        datamodule: The wrapped data, set up.
    """

    def __init__(self, callback: ActiveLearning, trainer: Trainer, datamodule: ActiveLearningDataModule) -> None:
        self.callback, self.trainer, self.datamodule = callback, trainer, datamodule
        keeps = not trainer.fast_dev_run
        dirpath = callback.dirpath or os.path.join(trainer.default_root_dir, "active_learning")
        self.folder = RunFolder(dirpath) if keeps else None
        self.saves = keeps and bool(trainer.checkpoint_callbacks)
        self.initial = InitialWeights(self.folder.initial_weights if self.folder and self.saves else None)
        self.labeling = Labeling(callback.oracle, self.folder)
        self.seed = datamodule.seed if callback.seed is None else callback.seed
        self.querying = Querying(trainer, datamodule, callback.outputs, callback.embedding_layer, self.seed)
        self.fresh = rounds.fresh_states(trainer, callback)
        self.limits = trainer.fit_loop.max_steps, trainer.fit_loop.min_steps
        self.accumulate_grad_batches = trainer.accumulate_grad_batches
        self.trainability: Trainability | None = None

        self.round = 0
        self.fitted = False
        self.step0 = 0
        self.run_id = ""
        self.history: list[dict[str, Any]] = []
        self.finished = False
        self._metrics: dict[str, float] = {}
        self._token, self._own_checkpoint = uuid.uuid4().hex, False
        self._restored: dict[str, Any] | None = None
        self._rank_states: list[Any] | None = None
        self._started = time.monotonic()
        self._drawn = float("-inf")

    # -- checkpoints
    def state_dict(self) -> dict[str, Any]:
        """Where the run is; tensors, lists, numbers and text only."""
        return {
            "round": self.round,
            "fitted": self.fitted,
            "step0": self.step0,
            "run_id": self.run_id,
            "saved_by": self._token,
            "seed": self.seed,
            "history": self.history,
            "metrics": {**self._metrics, **self._logged()},
            "pool": self.datamodule.pool.digest(),
            "rng": self._rank_states or [rng_state()],
            "sampler_seed": int(os.environ.get("PL_GLOBAL_SEED", 0)),
            "world_size": self.trainer.world_size,
            # An early-stopped round would train an epoch more: Lightning does not save `should_stop`.
            "stopped": self.trainer.should_stop and not rounds.out_of_time(self.trainer, agree=False),
            "strategy": self.callback.strategy.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of a checkpoint; it is compared with the pool and the ledger before training."""
        if state.get("saved_by") == self._token:  # the learning rate and batch size finders go back to where they began
            self._own_checkpoint = True
            return
        self._restored = state
        self.round, self.fitted, self.step0 = int(state["round"]), bool(state["fitted"]), int(state["step0"])
        self.run_id, self.seed = str(state["run_id"]), int(state["seed"])
        self.querying.seed = self.seed  # what the run draws does not depend on the process that goes on with it
        self.history = [dict(row) for row in state["history"]]
        self._metrics = dict(state["metrics"])
        self.callback.strategy.load_state_dict(state["strategy"])

    @property
    def is_restored(self) -> bool:
        """Whether a checkpoint's state was taken over."""
        return self._restored is not None

    def _save(self) -> None:
        if self.folder is None or not self.saves:
            return
        if self.trainer.world_size > 1:
            self._rank_states = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(self._rank_states, rng_state())
        rounds.save_checkpoint(self.trainer, self.folder.checkpoint)
        self._rank_states = None

    # -- the driver of the loop
    def begin(self, trainer: Trainer) -> bool:
        """Before the first or the resumed round; True where that round's fit is done already."""
        self.datamodule.live_here()
        self.trainability = Trainability(trainer.lightning_module)
        loop = cast(rounds.RoundLoop, trainer.fit_loop)
        if self._restored is None:
            self._start()
            loop.drop_loader()  # the first round draws its shuffle after the saved RNG state, as a resumed one does
            loop.shift_steps(*self.limits, start=self.step0)
        else:
            self._resume(self._restored, loop)
        if self.folder is not None and trainer.is_global_zero:  # every rank has its own pool by now
            self.callback.share_folder(self.folder.path)
            self.datamodule.share_folder(self.folder.path)
        self._started = time.monotonic()
        return self.fitted

    def end_round(self, trainer: Trainer) -> bool:
        """After a fit: query, label, reset. False: no further round."""
        if not self.fitted:
            self._close_fit()
        on_rank_zero(trainer, self._record_by_hand)
        self._save()  # before a stopping rule, the query or the oracle can fail
        reason = self._reason_to_stop()
        if reason is not None:
            self._finish(reason)
            return False
        # The query may take long, or wait for people.
        if trainer.strategy.reduce_boolean_decision(trainer.received_sigterm, all=False):
            raise SIGTERMException
        began = time.monotonic()
        best = rounds.best_checkpoint(trainer) if self.callback.load_best else ""
        if best:
            rounds.load_weights(trainer, best)
        query = self._acquire(self.callback.strategy, self.round + 1, self._query_size())
        if query is None:
            self._say()
            self._write_figures()
            return False
        self.history[-1]["seconds_query"] = time.monotonic() - began
        self._say()
        on_rank_zero(self.trainer, lambda: self.labeling.draw_sheet(query))
        self._write_figures()
        self._next_round()
        return True

    def check_restored(self) -> None:
        """Raise where a checkpoint was given and held nothing of this run.

        Raises:
            ResumeError: It is another kind of checkpoint.
        """
        if self.trainer.ckpt_path is not None and self._restored is None and not self._own_checkpoint:
            raise ResumeError(
                f"The checkpoint {self.trainer.ckpt_path} holds no state of ActiveLearning: it comes from a plain fit, "
                "or holds weights only. Load its weights into the model instead, "
                "`MyModel.load_from_checkpoint(...)`, or resume from the run's last-round.ckpt."
            )

    def _start(self) -> None:
        trainer = self.trainer
        self.check_restored()
        on_rank_zero(self.trainer, self._refuse_unfinished)
        if self.datamodule.pool.round > 0:
            raise MisconfigurationException(
                f"The datamodule's pool is in round {self.datamodule.pool.round} of an earlier fit, with "
                f"{len(self.datamodule.pool.labeled)} labels. Make a new ActiveLearningDataModule for a new run; to go "
                "on with that one, trainer.fit(..., ckpt_path=...) with its last-round.ckpt."
            )
        self.querying.rehearse(self.callback.strategy)
        on_rank_zero(self.trainer, self._open_folder)
        if self.folder is not None:
            on_rank_zero(self.trainer, self.folder.lock)
        self.run_id = on_rank_zero(self.trainer, lambda: uuid.uuid4().hex)
        if self.callback.initial_strategy is not None:
            count = self.datamodule.initial_count()
            self.datamodule.unlabel_initial()
            query = self._acquire(self.callback.initial_strategy, 0, count)
            if query is None:
                raise MisconfigurationException(
                    "No label came back for the first samples, so there is nothing to train on. Start again when the "
                    "oracle has answers."
                )
            on_rank_zero(self.trainer, lambda: self.labeling.draw_sheet(query))
        else:
            given = self.datamodule.given_labels
            on_rank_zero(trainer, lambda: self.labeling.record_initial(self.datamodule.pool.labeled.tolist(), given))
        on_rank_zero(trainer, self._record_by_hand)
        if self.callback.reset == "initial":
            state = trainer.strategy.lightning_module_state_dict()
            self.initial.save(state, self.run_id, write=trainer.is_global_zero)
        self._save()

    def _record_by_hand(self) -> None:
        self.labeling.record_by_hand(self.datamodule.pool, self.datamodule.given_labels)

    def _refuse_unfinished(self) -> None:
        folder = self.folder
        if folder is not None and folder.is_unfinished and folder.checkpoint.exists():
            raise ResumeError(
                f"{folder.path} holds an unfinished run. To go on with it: "
                f"trainer.fit(..., ckpt_path={str(folder.checkpoint)!r}), or --ckpt_path {folder.checkpoint}. "
                "For a new run: ActiveLearning(dirpath=...), or move that folder away."
            )

    def _open_folder(self) -> None:
        """Find the folder as a new run may: absent, or with answers of a run that was killed before it was saved."""
        folder = self.folder
        if folder is None or not folder.exists:
            return self._describe(finished=False)
        info = folder.read_run() or {}
        if not folder.is_unfinished:
            rank_zero_info(f"The finished run in {folder.path} was moved to {folder.set_aside()}.")
            return self._describe(finished=False)
        if info:
            now = {"strategy": repr(self.callback.strategy), "seed": self.seed}
            for name in (name for name in now if info.get(name) != now[name]):
                raise ResumeError(
                    f"{folder.path} holds an unfinished run with {name} {info.get(name)}; this one has {now[name]}, "
                    "and would be credited with the other's picks. Set another `dirpath`, or move that folder away."
                )
            self.datamodule.check_same_dataset(info["pool_size"], info["fingerprint"], f"The run in {folder.path}")
        rank_zero_info(f"{folder.path} has no checkpoint: the run starts again and replays the answers in its ledger.")
        return None

    def _describe(self, finished: bool, reason: str = "") -> None:
        if self.folder is not None:
            self.folder.write_run(
                {
                    "finished": finished,
                    "reason": reason,
                    "pool_size": self.datamodule.pool.size,
                    "fingerprint": self.datamodule.fingerprint,
                    "strategy": repr(self.callback.strategy),
                    "seed": self.seed,
                    "round": self.round,
                }
            )

    def _resume(self, state: dict[str, Any], loop: rounds.RoundLoop) -> None:
        pool = self.datamodule.pool
        if pool.round != self.round:
            raise ResumeError(
                f"The checkpoint's pool is in round {pool.round} and its callback in round {self.round}: they were "
                "not saved together. Resume from the run's last-round.ckpt."
            )
        if pool.digest() != state["pool"]:
            raise ResumeError("The checkpoint's pool was changed after it was saved. Resume from another checkpoint.")
        sampler_seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        if self.trainer.world_size > 1 and state["sampler_seed"] != sampler_seed:
            raise ResumeError(
                f"The run was seeded with {state['sampler_seed']} and this process with {sampler_seed}: the ranks' "
                f"shares would be shuffled otherwise. Call seed_everything({state['sampler_seed']}) first."
            )
        if self.folder is not None:
            on_rank_zero(self.trainer, self.folder.lock)
            on_rank_zero(self.trainer, lambda: self.labeling.check_covers(pool))
            on_rank_zero(self.trainer, lambda: self._describe(finished=False))
        loop.shift_steps(*self.limits, start=self.step0)
        states = state["rng"]
        if self.trainer.global_rank < len(states):
            restore_rng(states[self.trainer.global_rank])
        if not loop.is_mid_round:
            loop.clear_restart()
        if not loop.restarting:
            loop.drop_loader()
        self.trainer.should_stop = self.trainer.should_stop or bool(state["stopped"])
        rank_zero_info(f"Resumed in round {self.round} with {len(pool.labeled)} labeled samples.")

    # -- a round's end
    def _logged(self) -> dict[str, float]:
        metrics = self.trainer.callback_metrics
        return {k: float(v) for k, v in metrics.items() if v.numel() == 1 and k not in ("round", "labeled")}

    def _close_fit(self) -> None:
        pool = self.datamodule.pool
        self.history.append(
            {
                "round": self.round,
                "labeled": len(pool.labeled),
                "unlabeled": pool.num_unlabeled,
                "rejected": len(pool.rejected),
                "metrics": {**self._metrics, **self._logged()},
                "seconds_fit": time.monotonic() - self._started,
                "seconds_query": 0.0,
            }
        )
        self.fitted = True

    def _reason_to_stop(self) -> str | None:
        callback, pool = self.callback, self.datamodule.pool
        if callback.rounds is not None and self.round + 1 >= callback.rounds:
            return f"all {callback.rounds} rounds are done."
        if callback.budget is not None and len(pool.labeled) >= callback.budget:
            return f"the budget of {callback.budget} labels is spent."
        if pool.num_unlabeled == 0:
            return f"the pool is empty ({len(pool.pending)} pending)." if len(pool.pending) else "the pool is empty."
        if rounds.out_of_time(self.trainer):
            return "the time is over."

        def first_reason() -> str | None:
            reasons = (rule.reason_to_stop(self.history) for rule in callback.stopping)
            return next((reason for reason in reasons if reason is not None), None)

        # Metrics may differ from rank to rank, the decision must not.
        return on_rank_zero(self.trainer, first_reason) if callback.stopping else None

    def _finish(self, reason: str) -> None:
        self.finished = True
        self._say()
        rank_zero_info(f"Active learning ended: {reason}")
        self._write_figures()
        on_rank_zero(self.trainer, lambda: self._describe(finished=True, reason=reason))

    def _query_size(self) -> int:
        pool, callback = self.datamodule.pool, self.callback
        size = count_of(callback.query_size, pool.size, "query_size", least=1)
        if callback.budget is not None:
            size = min(size, callback.budget - len(pool.labeled))
        return min(size, pool.num_unlabeled)

    def _next_round(self) -> None:
        trainer, callback, module = self.trainer, self.callback, self.trainer.lightning_module
        self.round += 1
        if callback.reset == "initial":
            state = self.initial.load(self.run_id)
            trainer.strategy.load_model_state_dict({"state_dict": state}, strict=module.strict_loading)
        elif callback.reset == "random":
            state = random_weights(module, callback.model_factory, self.seed + 7919 * self.round)
            trainer.strategy.load_model_state_dict({"state_dict": state}, strict=module.strict_loading)
        if self.trainability is not None:
            self.trainability.restore(module)
        module.zero_grad(set_to_none=True)
        rounds.reset_callbacks(trainer, self.fresh, self.accumulate_grad_batches)
        cast(rounds.RoundLoop, trainer.fit_loop).next_round(*self.limits)
        self.fitted, self.step0, self._metrics = False, trainer.global_step, {}
        self._save()
        self._started = time.monotonic()

    # -- the query
    def _acquire(self, strategy: QueryStrategy, round: int, size: int) -> Query | None:
        """Query, ask and label: afterwards the pool is that of ``round``; on any error it is as before.

        Returns:
            The query; None where all of it is pending, and then the pool is as before too.
        """
        pool, preview = self.datamodule.pool, self.datamodule.preview
        recorded = on_rank_zero(self.trainer, lambda: self.labeling.recorded(round))
        if recorded is not None:
            query = as_query(round, recorded, preview)
            gone = query.dataset_indices[~pool.are_unlabeled(query.dataset_indices)]
            if len(gone):
                raise ResumeError(
                    f"The recorded query of round {round} asks for dataset index {int(gone[0])}, which is not "
                    "unlabeled: record and pool are not of the same run. Set another `dirpath`, or restore the folder "
                    "from a copy."
                )
        else:
            query = self.querying.pick(strategy, round, size)
        answers = on_rank_zero(self.trainer, lambda: self.labeling.ask(query))
        if answers.pending and not answers.labels:
            # A fit on the same labels would tell nothing. The run stays where its last checkpoint is: going on from
            # there asks for the pending ones again.
            path = "the run's last-round.ckpt" if self.folder is None else self.folder.checkpoint
            rank_zero_info(f"No label came back: {len(answers.pending)} are pending. Go on later with ckpt_path={path}")
            return None
        asked = query.dataset_indices.tolist()
        rejected, pending = set(answers.rejected), set(answers.pending)
        labeled = [index for index in asked if index in answers.labels]
        self.datamodule.label_in_round(labeled, [answers.labels[index] for index in labeled], round)
        pool.reject([index for index in asked if index in rejected], round)
        pool.hold([index for index in asked if index in pending], round)
        pool.round = round
        return query

    # -- telling
    def _say(self) -> None:
        row, left = self.history[-1], []
        if self.callback.rounds is not None:
            left.append(self.callback.rounds - 1 - self.round)
        if self.callback.budget is not None:
            size = count_of(self.callback.query_size, self.datamodule.pool.size, "query_size", least=1)
            left.append(-(-(self.callback.budget - row["labeled"]) // size))
        rank_zero_info(round_line(row, 0 if self.finished else min(left, default=0)))

    def _write_figures(self) -> None:
        folder = self.folder
        if folder is not None:

            def write() -> None:
                folder.write_rounds(self.history)
                # Half a second a drawing: often enough to look at, too rarely to slow quick rounds down.
                if self.finished or time.monotonic() - self._drawn > 30:
                    with telling_of_failures("the learning curve"):
                        learning_curve(self.history, Path(folder.path) / "metrics")
                    self._drawn = time.monotonic()

            on_rank_zero(self.trainer, write)


def round_line(row: dict[str, Any], rounds_left: int) -> str:
    """A round in one line, with the time that the rounds left may take.

    Example:
        >>> row = {"round": 2, "labeled": 60, "unlabeled": 940, "metrics": {"val_acc": 0.81}}
        >>> round_line(row | {"seconds_fit": 30.0, "seconds_query": 2.0}, rounds_left=4)
        'Round 2: 60 labeled, 940 unlabeled  val_acc 0.81  (fit 30.0 s, query 2.0 s, about 2 min left)'
    """
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in sorted(row["metrics"].items()))
    seconds = rounds_left * (row["seconds_fit"] + row["seconds_query"])
    left = f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"
    spent = f"fit {row['seconds_fit']:.1f} s, query {row['seconds_query']:.1f} s{left if seconds >= 5 else ''}"
    return f"Round {row['round']}: {row['labeled']:,} labeled, {row['unlabeled']:,} unlabeled  {metrics}  ({spent})"
