"""A value of a metric that is good enough."""

from __future__ import annotations

from typing import Literal

from lightning_al.stopping.rule import History, StoppingRule, is_number, last_value


class TargetMetric(StoppingRule):
    """Ends the run once a logged metric reaches a value.

    Args:
        metric: The name under which it is logged.
        value: The value to reach.
        mode: Whether the metric is better the higher (``"max"``) or the lower (``"min"``).

    Raises:
        ValueError: ``mode`` is neither, or ``value`` is no number.

    Example:
        >>> rule = TargetMetric("val_acc", 0.9)
        >>> rule.reason_to_stop([{"labeled": 40, "metrics": {"val_acc": 0.85}}])
        >>> rule.reason_to_stop([{"labeled": 60, "metrics": {"val_acc": 0.93}}])
        'val_acc reached 0.93 (target 0.9) with 60 labels.'
    """

    def __init__(self, metric: str, value: float, mode: Literal["max", "min"] = "max") -> None:
        if not is_number(value):
            raise ValueError(f"Expected `value` to be a number, but got {value!r}.")
        if mode not in ("max", "min"):
            raise ValueError(f"Expected `mode` to be 'max' or 'min', but got {mode!r}.")
        self.metric, self.value, self.mode = metric, value, mode

    def reason_to_stop(self, history: History) -> str | None:
        """See :meth:`StoppingRule.reason_to_stop`.

        Raises:
            ValueError: The metric is not logged; the message lists what is.
        """
        if not history:
            return None
        got = last_value(history, self.metric, self)
        if (got >= self.value) if self.mode == "max" else (got <= self.value):
            return f"{self.metric} reached {got:.4g} (target {self.value:.4g}) with {history[-1]['labeled']} labels."
        return None
