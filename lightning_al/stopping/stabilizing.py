"""Predictions that new labels no longer change."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_al.stopping.rule import History, Predict, StoppingRule, is_number


class StabilizingPredictions(StoppingRule):
    """Ends the run once the models of successive rounds predict the same, on samples that need no labels.

    A stop set is drawn from the pool at the start and stays the same to the end. Each round's model predicts its
    classes, and Cohen's kappa says how far they agree with the round's before, beyond what chance would give. The run
    ends once kappa has been at least ``kappa`` in ``rounds`` rounds on end.

    Worth using where a validation set would cost labels, and where a round asks a small share of what is labeled: with
    a tiny query two models agree because little has changed. It cannot tell a good model from a stubborn one, and with
    ``reset="initial"`` or ``"random"`` the noise of two fits may keep kappa below 0.99 for ever: watch the kappa that
    is told after each round. A round costs one pass over the stop set.

    Args:
        size: Samples in the stop set, or the whole pool where that has fewer.
        kappa: The agreement to reach, in (0, 1].
        rounds: How many rounds on end have to reach it.
        seed: Draws the stop set.

    Raises:
        ValueError: An argument is out of its range.

    References:
        Bloodgood and Vijay-Shanker (CoNLL 2009), *A Method for Stopping Active Learning Based on Stabilizing
        Predictions and the Need for User-Adjustable Stopping*. Bloodgood and Grothendieck (CoNLL 2013), *Analysis of
        Stopping Active Learning based on Stabilizing Predictions*: models with a kappa of at least T differ in
        F-measure by 4 (1 - T) / T at most.

    Example:
        >>> rule = StabilizingPredictions(size=4, kappa=0.9, rounds=2)
        >>> rule.begin(torch.arange(10))
        >>> for predicted in ([0, 1, 1, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]):
        ...     rule.observe(lambda stop_set: torch.tensor(predicted))
        ...     print(rule.reason_to_stop([]))
        None
        None
        None
        predictions on 4 samples have stabilized: kappa 1.0000, 1.0000 in the last 2 rounds (at least 0.9).
    """

    def __init__(self, size: int = 1000, kappa: float = 0.99, rounds: int = 3, seed: int = 0) -> None:
        for name, value, least in (("size", size, 2), ("rounds", rounds, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"Expected `{name}` to be a whole number of at least {least}, but got {value!r}.")
        if not is_number(kappa) or not 0 < kappa <= 1:
            raise ValueError(f"Expected `kappa` to be in (0, 1], but got {kappa!r}.")
        self.size, self.kappa, self.rounds, self.seed = size, kappa, rounds, seed
        self._stop_set = self._predicted = torch.empty(0, dtype=torch.int64)
        self._kappas: list[float] = []

    @property
    def needs_predictions(self) -> bool:
        """See :attr:`StoppingRule.needs_predictions`."""
        return True

    def begin(self, unlabeled: Tensor) -> None:
        """Draw the stop set; see :meth:`StoppingRule.begin`."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randperm(len(unlabeled), generator=generator)[: self.size]
        self._stop_set = unlabeled[drawn].long().sort().values
        self._predicted, self._kappas = torch.empty(0, dtype=torch.int64), []

    def observe(self, predict: Predict) -> None:
        """See :meth:`StoppingRule.observe`."""
        if not len(self._stop_set):
            return
        predicted = predict(self._stop_set)
        if len(self._predicted):
            self._kappas.append(cohens_kappa(self._predicted, predicted))
        self._predicted = predicted

    def reason_to_stop(self, history: History) -> str | None:
        """See :meth:`StoppingRule.reason_to_stop`."""
        if self._stable_rounds() < self.rounds:
            return None
        last = ", ".join(f"{kappa:.4f}" for kappa in self._kappas[-self.rounds :])
        return (
            f"predictions on {len(self._stop_set):,} samples have stabilized: kappa {last} in the last "
            f"{self.rounds} rounds (at least {self.kappa:g})."
        )

    def outlook(self, history: History) -> str | None:
        """See :meth:`StoppingRule.outlook`."""
        if not self._kappas:
            return "stability of the predictions: not yet known, it takes two rounds."
        return (
            f"kappa {self._kappas[-1]:.4f} with the predictions of the round before "
            f"({self._stable_rounds()} of {self.rounds} rounds at {self.kappa:g})."
        )

    def _stable_rounds(self) -> int:
        """For how many rounds on end, the last included, kappa has been high enough."""
        unstable = [n for n, kappa in enumerate(reversed(self._kappas)) if kappa < self.kappa]
        return unstable[0] if unstable else len(self._kappas)

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`StoppingRule.state_dict`: the stop set, the last predictions and all kappas."""
        state = {"size": self.size, "seed": self.seed, "kappas": [*self._kappas]}
        return {**state, "stop_set": self._stop_set.clone(), "predicted": self._predicted.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`StoppingRule.load_state_dict`."""
        if (state.get("size"), state.get("seed")) != (self.size, self.seed):
            raise ValueError(
                f"Expected the state of a stop set of {self.size} samples drawn with seed {self.seed}, but got one "
                f"with {state.get('size')!r} and {state.get('seed')!r}."
            )
        try:
            stop_set, predicted = (torch.as_tensor(state[name]).long().flatten() for name in ("stop_set", "predicted"))
            kappas = [float(kappa) for kappa in state["kappas"]]
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(f"Expected the state of a stop set, but part of it is missing: {error!r}.") from error
        if len(predicted) not in (0, len(stop_set)):
            raise ValueError(f"Expected {len(stop_set)} predictions, but got {len(predicted)}.")
        self._stop_set, self._predicted, self._kappas = stop_set, predicted, kappas


def cohens_kappa(first: Tensor, second: Tensor) -> float:
    """How far two predictions agree beyond chance: ``(p_o - p_e) / (1 - p_e)``.

    Here ``p_o`` is the share of samples with equal classes, and ``p_e`` the sum over classes of the product of the two
    shares of the class. Where both predict one and the same class everywhere, chance alone explains that they agree
    (0 / 0), and kappa is 0: a model that has collapsed to one class should not pass for a stable one.

    Args:
        first: Classes ``(S,)``, integers, S at least 1.
        second: Classes of the same samples ``(S,)``.

    Returns:
        Kappa in [-1, 1].

    Raises:
        ValueError: They are not of one length, or empty.

    References:
        Cohen (Educational and Psychological Measurement, 1960), *A Coefficient of Agreement for Nominal Scales*.

    Example:
        >>> cohens_kappa(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0]))
        0.5
        >>> cohens_kappa(torch.tensor([1, 1, 1]), torch.tensor([1, 1, 1]))
        0.0
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"Expected two predictions of the same samples (S,), but got {(*first.shape,)} and {(*second.shape,)}."
        )
    count = len(first)
    classes, found = torch.cat([first, second]).unique(return_inverse=True)
    counts = [torch.bincount(part, minlength=len(classes)) for part in found.split(count)]
    agreed = int((first == second).sum()) * count
    by_chance = int((counts[0] * counts[1]).sum())  # both in units of 1 / count^2, exact as integers
    return (agreed - by_chance) / (count * count - by_chance) if len(classes) > 1 else 0.0
