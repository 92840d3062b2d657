"""What the next labels are likely to gain, against what they cost."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from lightning_al.stopping.rule import History, StoppingRule, is_number, last_value

LEAST_ROUNDS = 6
"""Rounds with different label counts from which a curve of three parameters has an interval worth looking at."""

_BOOTSTRAPS = 400
_UPPER = 0.975


class Gain(NamedTuple):
    """What a curve gains over some more labels, with its 95 % interval."""

    value: float
    low: float
    high: float


class MarginalValue(StoppingRule):
    """Ends the run once what the next query is likely to gain is not worth its cost.

    The run's own learning curve is fitted by ``metric = top - a n^-b`` over the label counts ``n`` of its rounds, and
    read on by as many labels as the last query brought. The run ends only when even the upper end of the 95 % interval
    of that gain stays below what its cost has to bring: ``high / cost < gain / price``. With fewer than 6 rounds the
    gain is not yet known, and a noisy metric, of a small validation set say, keeps it so for long.

    Costs are those of ``ActiveLearning(cost=...)``, rejected samples included, and labels count 1 each without.
    Worth using where the metric is measured on samples that were not chosen by a strategy. The curve of a run may have
    a step that no power law foresees; put an ``AllOf`` around this rule and a ``TargetMetric`` where stopping too
    early is the dearer mistake. A round costs a fraction of a second.

    Args:
        metric: The name under which it is logged.
        gain: A gain in the metric, in its own units, whose price is known.
        price: What that gain may cost, in the unit of ``ActiveLearning(cost=...)``, or in labels: with ``gain=0.01,
            price=500`` a hundredth of accuracy may take 500 labels.
        mode: Whether the metric is better the higher (``"max"``) or the lower (``"min"``).

    Raises:
        ValueError: ``gain`` or ``price`` is not positive, or there is no such ``mode``.

    References:
        The interval comes from resampled residuals (Efron and Tibshirani, 1993, *An Introduction to the Bootstrap*,
        chapter 9), widened as far as Student's t says for the few rounds that a run has.

    Example:
        >>> rule = MarginalValue("val_acc", gain=0.01, price=100)
        >>> counts = [100, 200, 300, 400, 500, 600, 700, 800]
        >>> rows = [{"labeled": n, "metrics": {"val_acc": 0.9 - 2 * n**-0.5}} for n in counts]
        >>> rule.reason_to_stop(rows[:5])
        >>> rule.outlook(rows[:5])
        'gain of val_acc by the next labels: not yet known (5 of 6 rounds).'
        >>> rule.reason_to_stop(rows)  # 2 (800^-0.5 - 900^-0.5) = 0.0040
        'the next 100 labels would raise val_acc by 0.004 (at most 0.004), and their cost of 100 has to bring 0.01.'
    """

    def __init__(self, metric: str, gain: float, price: float, mode: Literal["max", "min"] = "max") -> None:
        for name, value in (("gain", gain), ("price", price)):
            if not is_number(value) or not 0 < value < math.inf:
                raise ValueError(f"Expected `{name}` to be a positive number, but got {value!r}.")
        if mode not in ("max", "min"):
            raise ValueError(f"Expected `mode` to be 'max' or 'min', but got {mode!r}.")
        self.metric, self.gain, self.price, self.mode = metric, gain, price, mode

    def reason_to_stop(self, history: History) -> str | None:
        """See :meth:`StoppingRule.reason_to_stop`.

        Raises:
            ValueError: The metric is not logged; the message lists what is.
        """
        if not history:
            return None
        last_value(history, self.metric, self)
        ahead = self._ahead(history)
        if ahead is None or ahead["gain"].high >= ahead["worth"]:
            return None
        return (
            f"the next {ahead['labels']:,} labels would {self._verb} {self.metric} by {ahead['gain'].value:.2g} (at "
            f"most {ahead['gain'].high:.2g}), and their cost of {ahead['cost']:,.6g} has to bring {ahead['worth']:.2g}."
        )

    def outlook(self, history: History) -> str | None:
        """See :meth:`StoppingRule.outlook`."""
        ahead = self._ahead(history)
        if ahead is None:
            rounds = len(self._curve(history)[0])
            return f"gain of {self.metric} by the next labels: not yet known ({rounds} of {LEAST_ROUNDS} rounds)."
        gain = ahead["gain"]
        return (
            f"the next {ahead['labels']:,} labels may {self._verb} {self.metric} by {gain.value:.2g} ({gain.low:.2g} "
            f"to {gain.high:.2g}); to end the run it has to be below {ahead['worth']:.2g}."
        )

    @property
    def _verb(self) -> str:
        return "raise" if self.mode == "max" else "lower"

    def _curve(self, history: History) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Label counts and values, higher is better; of rounds with the same labels, the last."""
        sign = 1.0 if self.mode == "max" else -1.0
        values = {row["labeled"]: sign * float(row["metrics"].get(self.metric, math.nan)) for row in history}
        known = {labels: value for labels, value in values.items() if labels > 0 and math.isfinite(value)}
        return np.array([*known], dtype=np.float64), np.array([*known.values()])

    def _ahead(self, history: History) -> dict[str, Any] | None:
        """What the next query brings and costs, if it is like the last one that brought labels; None if not known."""
        labels, values = self._curve(history)
        steps = [
            (b["labeled"] - a["labeled"], _cost(b) - _cost(a))
            for a, b in pairwise(history)
            if ("cost" in a) == ("cost" in b)  # a run may go on with costs that began without
        ]
        step, cost = next((each for each in reversed(steps) if each[0] > 0 and each[1] > 0), (0, 0.0))
        if len(labels) < LEAST_ROUNDS or not step:
            return None
        gain = gain_ahead(labels, values, history[-1]["labeled"], step)
        return {"labels": step, "cost": cost, "gain": gain, "worth": self.gain / self.price * cost}


def gain_ahead(labels: NDArray[np.float64], values: NDArray[np.float64], start: float, step: float) -> Gain:
    """What a learning curve gains over the next labels.

    Args:
        labels: Label counts ``(P,)``, P at least 4.
        values: The metric at each ``(P,)``, higher is better.
        start: Label count to begin at.
        step: Labels more.

    Returns:
        The gain of the fitted power law, at least 0, with the 95 % interval of resampled residuals.

    Example:
        >>> n = np.array([50.0, 100.0, 200.0, 400.0])
        >>> [round(each, 4) for each in gain_ahead(n, 0.9 - 2 * n**-0.5, 400, 500)]  # 2 (400^-0.5 - 900^-0.5)
        [0.0333, 0.0333, 0.0333]
    """
    # not above: the study runs the callback, which imports these rules
    from lightning_al.study.learning_curve import fit_power_laws

    def gains(errors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        a, b, c = (part[:, None] for part in fit_power_laws(errors, labels, False).T)
        return a[:, 0] * (start ** -b[:, 0] - (start + step) ** -b[:, 0]), c + a * labels**-b

    count = len(labels)
    (value,), (fitted,) = gains(-values[None])
    spread = math.sqrt(count / (count - 3))  # the fit has taken three degrees of freedom out of the residuals
    drawn = np.random.default_rng(0).choice((-values - fitted) * spread, (_BOOTSTRAPS, count))
    wider = float(stdtrit(count - 3, _UPPER) / stdtrit(np.inf, _UPPER))
    low, high = value + wider * (np.quantile(gains(fitted + drawn)[0], (1 - _UPPER, _UPPER)) - value)
    return Gain(float(value), max(0.0, float(min(low, value))), float(max(high, value)))


def _cost(row: Any) -> float:
    return float(row.get("cost", row["labeled"]))
