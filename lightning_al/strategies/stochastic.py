"""Stochastic batches of any score strategy."""

from __future__ import annotations

from typing import Any

from torch import Generator, Tensor

from lightning_al.functional.stochastic import StochasticKind, check_stochastic, stochastic_top_k
from lightning_al.strategies.base import ScoreStrategy, get_score_strategy


class Stochastic(ScoreStrategy):
    """Draw the batch at random, higher scores of another strategy being likelier, in place of taking the highest.

    The highest scores of a large batch are often near-duplicates; what is drawn is spread wider. Over BALD it was shown
    to match BatchBALD and BADGE at the cost of a random number a sample. Under ``"power"``, the authors' choice, scores
    near 0 are hardly asked; ``"softrank"`` reads the order alone, for scores that differ little or may be negative.

    Args:
        strategy: The score strategy, or its name.
        kind: How likely a sample is drawn: ``"power"``, score to the ``beta``; ``"softmax"``, exp of ``beta`` times
            score; ``"softrank"``, rank to the minus ``beta``.
        beta: How strongly the draw follows the scores: near 0 it is uniform, large it takes the highest.

    Raises:
        ValueError: ``strategy`` is no score strategy, there is no such ``kind``, or ``beta`` is not positive.

    References:
        Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal (TMLR 2023), *Stochastic Batch Acquisition: A
        Simple Baseline for Deep Active Learning*.
    """

    def __init__(
        self, strategy: ScoreStrategy | str = "BALD", kind: StochasticKind = "power", beta: float = 1.0
    ) -> None:
        inner = get_score_strategy(strategy, "strategy")
        check_stochastic(kind, beta)
        super().__init__(inner.aggregate)
        self.strategy, self.kind, self.beta = inner, kind, beta
        self.needs = inner.needs

    @property
    def name(self) -> str:
        """The name of the class, and in brackets that of the strategy within."""
        return f"{type(self).__name__}({self.strategy.name})"

    def score(self, probs: Tensor) -> Tensor:
        """Return the scores of the strategy within."""
        return self.strategy.score(probs)

    def select_from_scores(self, scores: Tensor, query_size: int, *, generator: Generator | None = None) -> Tensor:
        """Draw without replacement, of scores not negative for ``"power"``; see `functional.stochastic_top_k`."""
        return stochastic_top_k(scores, query_size, self.kind, self.beta, generator)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the strategy within."""
        return self.strategy.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state of the strategy within."""
        self.strategy.load_state_dict(state)
