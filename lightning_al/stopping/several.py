"""Several rules as one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor

from lightning_al.stopping.rule import History, Predict, StoppingRule

Number = TypeVar("Number", int, float)


class _Several(StoppingRule):
    """Asks its rules, all of them each time: one with a misspelt metric is found in the first round."""

    def __init__(self, rules: Sequence[StoppingRule]) -> None:
        listed = [*rules] if isinstance(rules, Sequence) and not isinstance(rules, str) else [rules]
        wrong = [rule for rule in listed if not isinstance(rule, StoppingRule)]
        if wrong or not listed:
            got = repr(wrong[0]) if wrong else "none"
            raise ValueError(f"Expected `rules` to list instances of StoppingRule, but got {got}.")
        self.rules: list[StoppingRule] = listed

    @abstractmethod
    def _decide(self, reasons: list[str | None]) -> bool:
        """Whether these reasons, one a rule, end the run."""

    def reason_to_stop(self, history: History) -> str | None:
        """See :meth:`StoppingRule.reason_to_stop`."""
        reasons = [rule.reason_to_stop(history) for rule in self.rules]
        return _together(reasons, "; ") if self._decide(reasons) else None

    def outlook(self, history: History) -> str | None:
        """See :meth:`StoppingRule.outlook`; a rule that would end the run by itself gives its reason."""
        return _together([rule.reason_to_stop(history) or rule.outlook(history) for rule in self.rules], "; ")

    @property
    def needs_cost(self) -> bool:
        """See :attr:`StoppingRule.needs_cost`."""
        return any(rule.needs_cost for rule in self.rules)

    @property
    def needs_predictions(self) -> bool:
        """See :attr:`StoppingRule.needs_predictions`."""
        return any(rule.needs_predictions for rule in self.rules)

    def begin(self, unlabeled: Tensor) -> None:
        """See :meth:`StoppingRule.begin`."""
        for rule in self.rules:
            rule.begin(unlabeled)

    def observe(self, predict: Predict) -> None:
        """See :meth:`StoppingRule.observe`."""
        for rule in self.rules:
            rule.observe(predict)

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`StoppingRule.state_dict`."""
        return {"rules": [rule.state_dict() for rule in self.rules]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`StoppingRule.load_state_dict`."""
        states = state.get("rules")
        if not isinstance(states, list) or len(states) != len(self.rules):
            raise ValueError(f"Expected the states of {len(self.rules)} rules, but got {states!r}.")
        for rule, its in zip(self.rules, states, strict=True):
            rule.load_state_dict(its)


class AnyOf(_Several):
    """Ends the run once any of several rules would; a list given to ``ActiveLearning(stopping=[...])`` means this.

    Args:
        rules: The rules.

    Raises:
        ValueError: There is none, or one is no rule.

    Example:
        >>> from lightning_al.stopping import Budget, TargetMetric
        >>> rule = AnyOf([Budget(labels=100), TargetMetric("val_acc", 0.9)])
        >>> rule.reason_to_stop([{"labeled": 60, "metrics": {"val_acc": 0.93}}])
        'val_acc reached 0.93 (target 0.9) with 60 labels.'
    """

    def _decide(self, reasons: list[str | None]) -> bool:
        return any(reason is not None for reason in reasons)

    @property
    def most_labels(self) -> int | None:
        """See :attr:`StoppingRule.most_labels`: the least of the rules'."""
        return _most([rule.most_labels for rule in self.rules], min, every=False)

    @property
    def most_cost(self) -> float | None:
        """See :attr:`StoppingRule.most_cost`: the least of the rules'."""
        return _most([rule.most_cost for rule in self.rules], min, every=False)


class AllOf(_Several):
    """Ends the run once all of several rules would, in the same round.

    Args:
        rules: The rules.

    Raises:
        ValueError: There is none, or one is no rule.

    Example:
        >>> from lightning_al.stopping import Budget, TargetMetric
        >>> rule = AllOf([Budget(labels=50), TargetMetric("val_acc", 0.9)])
        >>> rule.reason_to_stop([{"labeled": 60, "metrics": {"val_acc": 0.89}}])
        >>> rule.reason_to_stop([{"labeled": 80, "metrics": {"val_acc": 0.93}}])
        'the budget of 50 labels is spent; val_acc reached 0.93 (target 0.9) with 80 labels.'
    """

    def _decide(self, reasons: list[str | None]) -> bool:
        return all(reason is not None for reason in reasons)

    @property
    def most_labels(self) -> int | None:
        """See :attr:`StoppingRule.most_labels`: the most of the rules', where each has some."""
        return _most([rule.most_labels for rule in self.rules], max, every=True)

    @property
    def most_cost(self) -> float | None:
        """See :attr:`StoppingRule.most_cost`: the most of the rules', where each has some."""
        return _most([rule.most_cost for rule in self.rules], max, every=True)


def _most(limits: list[Number | None], pick: Callable[[list[Number]], Number], *, every: bool) -> Number | None:
    """One limit of several; None where a rule has none and ``every`` one is needed."""
    known = [limit for limit in limits if limit is not None]
    return pick(known) if known and (not every or len(known) == len(limits)) else None


def _together(sentences: list[str | None], between: str) -> str | None:
    said = [sentence.removesuffix(".") for sentence in sentences if sentence is not None]
    return f"{between.join(said)}." if said else None
