"""What a stopping rule is: what it is told of a run, and the reason it gives to end it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

History = Sequence[Mapping[str, Any]]
"""One row a round so far, as in ``ActiveLearning.history``."""

Predict = Callable[[Tensor], Tensor]
"""From dataset indices ``(S,)`` to the classes that the round's best model predicts ``(S,)``, int64."""


class StoppingRule(ABC):
    """Says after each round whether the run should end.

    A rule of your own needs :meth:`reason_to_stop` alone. One that remembers something says so in :meth:`state_dict`,
    and a run that was killed goes on with it.
    """

    @abstractmethod
    def reason_to_stop(self, history: History) -> str | None:
        """Why the run should end now, as a sentence; None while it should go on.

        Args:
            history: One row a round so far, as in ``ActiveLearning.history``.
        """

    def outlook(self, history: History) -> str | None:
        """Where the rule stands, as a sentence, told after each round that it does not end; None for nothing to say."""
        return None

    # -- what the run has to know before it starts
    @property
    def most_labels(self) -> int | None:
        """How many labels surely end the run; the last query is cut to them."""
        return None

    @property
    def most_cost(self) -> float | None:
        """What cost surely ends the run; the last query is cut to it."""
        return None

    @property
    def needs_cost(self) -> bool:
        """Whether it makes sense only where samples have a cost."""
        return False

    @property
    def needs_predictions(self) -> bool:
        """Whether it looks at predictions, so that :meth:`observe` has to be called."""
        return False

    # -- what it sees and remembers
    def begin(self, unlabeled: Tensor) -> None:
        """Forget any run before.

        Args:
            unlabeled: Dataset indices in the pool once the first labels are there ``(U,)``, int64.
        """
        return

    def observe(self, predict: Predict) -> None:
        """See what a round's best model predicts, once a round, on every rank, before it is asked for a reason.

        Args:
            predict: Gives the predicted classes of the samples at some dataset indices.
        """
        return

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers from round to round: tensors, lists, numbers and text only."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`state_dict` returned.

        Args:
            state: That state.

        Raises:
            ValueError: It is of another rule, or of one with other arguments.
        """
        if state:
            raise ValueError(f"Expected no state for {type(self).__name__}, but got the keys {sorted(state)}.")


def last_value(history: History, metric: str, rule: StoppingRule) -> float:
    """The last round's value of a metric.

    Raises:
        ValueError: The metric is not logged; the message lists what is.
    """
    metrics = history[-1]["metrics"]
    if metric not in metrics:
        raise ValueError(
            f"{type(rule).__name__} waits for {metric!r}, which is not logged; there are {sorted(metrics)}. Correct "
            f"`metric=`, or log it: self.log({metric!r}, ...)."
        )
    return float(metrics[metric])


def is_number(value: Any) -> bool:
    """Whether a value is a number and not NaN; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
