"""Whether a run ends after a round: its limits, the time, and its stopping rules."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from lightning_al import rounds
from lightning_al.checkpoints import best_checkpoint, load_weights
from lightning_al.limits import Limits
from lightning_al.querying import Querying
from lightning_al.ranks import on_rank_zero
from lightning_al.stopping import StoppingRule


class Ending:
    """Asks whether the run should end, on every rank.

    Args:
        trainer: The running trainer.
        querying: Runs the model over samples of the pool.
        limits: The numbers that the user set.
        rule: The stopping rule, if any.
        load_best: Whether a rule that looks at predictions sees those of the round's best model.
    """

    def __init__(
        self, trainer: Trainer, querying: Querying, limits: Limits, rule: StoppingRule | None, load_best: bool
    ) -> None:
        self.trainer, self.querying, self.limits = trainer, querying, limits
        self.rule, self.load_best = rule, load_best
        self.outlook: str | None = None
        """Where the rule stood when it was last asked."""

    def begin(self) -> None:
        """Begin a run; the first labels are in the pool."""
        if self.rule is not None:
            self.rule.begin(self.querying.datamodule.pool.unlabeled)

    def state_dict(self) -> dict[str, Any]:
        """What the rule remembers."""
        return {} if self.rule is None else self.rule.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what the rule remembered; where it is not that rule any more, it begins anew."""
        if self.rule is None:
            return
        try:
            self.rule.load_state_dict(state)
        except ValueError as error:
            self.begin()
            rank_zero_info(f"The stopping rules are not those of the checkpoint, and begin anew: {error}")

    def reason_to_stop(self, round: int, history: list[dict[str, Any]]) -> str | None:
        """Why the run ends with this round; None where it goes on."""
        reason, rule = self.limits.reason_to_stop(round, self.querying.datamodule.pool), self.rule
        if reason is None and rounds.out_of_time(self.trainer):
            reason = "the time is over."
        if reason is not None or rule is None:
            return reason
        if rule.needs_predictions:
            self._observe(rule, round)
        # Metrics may differ from rank to rank, the decision must not.
        asked = on_rank_zero(self.trainer, lambda: (rule.reason_to_stop(history), rule.outlook(history)))
        reason, self.outlook = asked
        return reason

    def _observe(self, rule: StoppingRule, round: int) -> None:
        """Show a stopping rule what the round's best model predicts; the model is then as it was."""

        def predict(indices: Tensor) -> Tensor:
            title = f"Round {round}: predicting {len(indices):,} for the stopping rule"
            probs = self.querying.probs(indices, round, title)
            assert probs is not None, "checked before the run"
            return probs.argmax(1)

        strategy, best = self.trainer.strategy, best_checkpoint(self.trainer) if self.load_best else ""
        if not best:
            rule.observe(predict)
            return
        last = {name: value.detach().clone() for name, value in strategy.lightning_module_state_dict().items()}
        load_weights(self.trainer, best)
        rule.observe(predict)
        strategy.load_model_state_dict({"state_dict": last}, strict=self.trainer.lightning_module.strict_loading)
