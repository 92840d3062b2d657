"""One run, round after round: fit, query, label, reset, and what is saved in between."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lightning_al import opening, rounds
from lightning_al.acquisition import Acquisition
from lightning_al.checkpoints import best_checkpoint, load_weights, save_checkpoint
from lightning_al.checks import warn_of_unasked_labels
from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.ending import Ending
from lightning_al.exceptions import ResumeError
from lightning_al.labeling import Labeling
from lightning_al.limits import limits_of
from lightning_al.live_gain import LiveGain
from lightning_al.oracles import Answers
from lightning_al.querying import Querying
from lightning_al.randomness import restore_rng, rng_state
from lightning_al.ranks import on_rank_zero
from lightning_al.reporting import Reporting, logged_metrics, round_line, round_row
from lightning_al.run_folder import run_folder
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
        self.folder = run_folder(callback.dirpath, trainer.default_root_dir) if keeps else None
        self.saves = keeps and bool(trainer.checkpoint_callbacks)
        self.initial = InitialWeights(self.folder.initial_weights if self.folder and self.saves else None)
        self.labeling = Labeling(callback.oracle, self.folder, datamodule.check_labels, datamodule.class_names)
        self.seed = datamodule.seed if callback.seed is None else callback.seed
        self.limits = limits_of(callback, datamodule)
        self.querying = Querying(
            trainer,
            datamodule,
            callback.outputs,
            callback.embedding_layer,
            self.seed,
            callback.mc_samples,
            self.limits.costs,
        )
        fraction = callback.control_fraction
        self.acquisition = Acquisition(trainer, datamodule, self.querying, self.labeling, fraction)
        self.live_gain = LiveGain(datamodule, self.querying, self.labeling) if fraction else None
        self.ending = Ending(trainer, self.querying, self.limits, callback.rule, callback.load_best)
        self.reporting = Reporting(self.folder, callback.strategy.name)
        self.fresh = rounds.fresh_states(trainer, callback)
        self.steps = trainer.fit_loop.max_steps, trainer.fit_loop.min_steps
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
            "metrics": {**self._metrics, **logged_metrics(self.trainer)},
            "pool": self.datamodule.pool.digest(),
            "rng": self._rank_states or [rng_state()],
            "sampler_seed": opening.sampler_seed(),
            "world_size": self.trainer.world_size,
            # An early-stopped round would train an epoch more: Lightning does not save `should_stop`.
            "stopped": self.trainer.should_stop and not rounds.out_of_time(self.trainer, agree=False),
            "strategy": self.callback.strategy.state_dict(),
            "strategy_is": repr(self.callback.strategy),
            "stopping": self.ending.state_dict(),
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
        try:
            self.callback.strategy.load_state_dict(state["strategy"])
        except ValueError as error:
            raise ResumeError(
                f"The run was made with {state.get('strategy_is')}, which remembers something else than "
                f"{self.callback.strategy!r}: go on with the same strategy. ({error})"
            ) from error

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
        save_checkpoint(self.trainer, self.folder.checkpoint)
        self._rank_states = None

    # -- the driver of the loop
    def begin(self, trainer: Trainer) -> bool | None:
        """Before the first or the resumed round; True where that round's fit is done already, None to train nothing."""
        self.datamodule.live_here()
        self.trainability = Trainability(trainer.lightning_module)
        loop = cast(rounds.RoundLoop, trainer.fit_loop)
        on_rank_zero(trainer, self.labeling.begin)
        if self._restored is None:
            if not self._start():
                return None
            loop.drop_loader()  # the first round draws its shuffle after the saved RNG state, as a resumed one does
            loop.shift_steps(*self.steps, start=self.step0)
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
        reason = self.ending.reason_to_stop(self.round, self.history)
        if reason is not None:
            self._finish(reason)
            return False
        # The query may take long, or wait for people.
        if trainer.strategy.reduce_boolean_decision(trainer.received_sigterm, all=False):
            raise SIGTERMException
        began = time.monotonic()
        best = best_checkpoint(trainer) if self.callback.load_best else ""
        if best:
            load_weights(trainer, best)
        size = self.limits.next_query_size(self.datamodule.pool)
        queries = self.acquisition.acquire(self.callback.strategy, self.round + 1, size)
        self.history[-1]["seconds_query"] = 0.0 if queries is None else time.monotonic() - began
        self._say()
        self._write_history()
        if queries is None:
            return False
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

    def _start(self) -> bool:
        """Begin a run; False where the first labels have to be waited for."""
        trainer = self.trainer
        self.check_restored()
        folder = self.folder
        if folder is not None:
            on_rank_zero(trainer, lambda: opening.refuse_unfinished(folder))
        if self.datamodule.pool.round > 0:
            raise MisconfigurationException(
                f"The datamodule's pool is in round {self.datamodule.pool.round} of an earlier fit, with "
                f"{len(self.datamodule.pool.labeled)} labels. Make a new ActiveLearningDataModule for a new run; to go "
                "on with that one, trainer.fit(..., ckpt_path=...) with its last-round.ckpt."
            )
        self.querying.rehearse(self.callback.strategy)
        if self.live_gain is not None:
            self.querying.embeddings(torch.arange(1), 0, "Checking the embeddings")
        if folder is not None:
            now = self._identity()
            if not on_rank_zero(trainer, lambda: opening.replays(folder, now, self.datamodule)):
                self._describe(finished=False)
            on_rank_zero(trainer, folder.lock)
        self.run_id = on_rank_zero(self.trainer, lambda: uuid.uuid4().hex)
        if self.callback.initial_strategy is not None:
            count = self.datamodule.initial_count()
            self.datamodule.unlabel_initial()
            if self.acquisition.acquire(self.callback.initial_strategy, 0, count) is None:
                return False
        else:
            warn_of_unasked_labels(self.callback.oracle, self.datamodule)
            given = self.datamodule.given_labels
            on_rank_zero(trainer, lambda: self.labeling.record_initial(self.datamodule.pool.labeled.tolist(), given))
            later = on_rank_zero(trainer, lambda: self.labeling.close(0, Answers()))
            self.datamodule.take_later_answers(later or [], 0)
        on_rank_zero(trainer, self._record_by_hand)
        self.ending.begin()
        if self.callback.reset == "initial":
            state = trainer.strategy.lightning_module_state_dict()
            self.initial.save(state, self.run_id, write=trainer.is_global_zero)
        self._save()
        return True

    def _record_by_hand(self) -> None:
        self.labeling.record_by_hand(self.datamodule.pool, self.datamodule.given_labels)

    def _identity(self) -> dict[str, Any]:
        return opening.identity(self.datamodule, repr(self.callback.strategy), self.seed)

    def _describe(self, *, finished: bool, reason: str = "") -> None:
        folder, info = self.folder, {"finished": finished, "reason": reason, **self._identity(), "round": self.round}
        info["classes"] = self.labeling.classes and [*self.labeling.classes]
        if folder is not None:
            on_rank_zero(self.trainer, lambda: folder.update_run(**info))

    def _resume(self, state: dict[str, Any], loop: rounds.RoundLoop) -> None:
        pool = self.datamodule.pool
        opening.check_resumed(state, pool, self.trainer.world_size)
        if self.folder is not None:
            on_rank_zero(self.trainer, self.folder.lock)
            by_hand = on_rank_zero(self.trainer, lambda: self.labeling.past_the_checkpoint(pool))
            for row in by_hand:
                self.datamodule.take_later_answers([row], row.round)
            on_rank_zero(self.trainer, lambda: self.labeling.check_covers(pool))
            self._describe(finished=False)
        self.ending.load_state_dict(dict(state.get("stopping", {})))
        loop.shift_steps(*self.steps, start=self.step0)
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
    def _close_fit(self) -> None:
        pool, costs, seconds = self.datamodule.pool, self.limits.costs, time.monotonic() - self._started
        metrics = {**self._metrics, **logged_metrics(self.trainer)}
        cost = None if costs is None else costs.spent(pool)
        self.history.append(round_row(self.round, pool, metrics, seconds, cost))
        self.fitted = True
        gain = None if self.live_gain is None else self.live_gain.measure(self.round)
        if gain is not None:
            metrics |= {"control_gain": gain.points, "control_gain_low": gain.low, "control_gain_high": gain.high}
            rank_zero_info(str(gain))
            if (folder := self.folder) is not None:
                on_rank_zero(self.trainer, lambda: folder.update_run(control=gain.as_json()))

    def _finish(self, reason: str) -> None:
        self.finished = True
        self._say()
        rank_zero_info(f"Active learning ended: {reason}")
        self._write_history()
        self._describe(finished=True, reason=reason)

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
        cast(rounds.RoundLoop, trainer.fit_loop).next_round(*self.steps)
        self.fitted, self.step0, self._metrics = False, trainer.global_step, {}
        self._save()
        self._started = time.monotonic()

    # -- telling
    def _say(self) -> None:
        row, size = self.history[-1], self.datamodule.pool.size
        left = 0 if self.finished else self.limits.rounds_left(self.round, row["labeled"], size)
        rank_zero_info(round_line(row, left))
        if self.ending.outlook is not None and not self.finished:
            rank_zero_info(f"Stopping rule: {self.ending.outlook}")

    def _write_history(self) -> None:
        on_rank_zero(self.trainer, lambda: self.reporting.write(self.history, self.trainer, finished=self.finished))
