"""What strategies over other strategies share."""

from __future__ import annotations

from typing import Any

from torch import Generator, Tensor

from lightning_al.strategies.base import Needs, Outputs, QueryStrategy


class Wrapper(QueryStrategy):
    """A strategy over others: named by them, it reads what they need beside its own, and keeps their state.

    Args:
        inner: The strategies within, by the key that their state is kept under.
        own: What the wrapper itself reads.
    """

    def __init__(self, inner: dict[str, QueryStrategy], own: Needs) -> None:
        self._inner = inner
        everyone = [own, *(strategy.needs for strategy in inner.values())]
        self.own_target = any(strategy.own_target for strategy in inner.values())
        self.needs = Needs(
            pool=frozenset().union(*(needs.pool for needs in everyone)),
            labeled=frozenset().union(*(needs.labeled for needs in everyone)),
            target=frozenset().union(*(needs.target for needs in everyone)),
        )

    @property
    def name(self) -> str:
        """The name of the class, and in brackets those of the strategies within."""
        return f"{type(self).__name__}({', '.join(strategy.name for strategy in self._inner.values())})"

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the strategies within, by key."""
        return {key: strategy.state_dict() for key, strategy in self._inner.items()}

    @property
    def remembers(self) -> bool:
        """Whether one of the strategies within remembers something."""
        return any(strategy.remembers for strategy in self._inner.values())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hand the strategies within their states.

        Args:
            state: What `state_dict` returned.

        Raises:
            ValueError: If the state is for other strategies.
        """
        if state.keys() != self._inner.keys():
            raise ValueError(
                f"Expected a state for {self.name} with the keys {sorted(self._inner)}, but got {sorted(state)}."
            )
        for key, strategy in self._inner.items():
            strategy.load_state_dict(state[key])


def select_within(
    strategy: QueryStrategy,
    pool: Outputs,
    positions: Tensor,
    query_size: int,
    *,
    labeled: Outputs | None,
    target: Outputs | None,
    generator: Generator,
) -> Tensor:
    """Let a strategy pick among part of a pool.

    Args:
        strategy: The strategy.
        pool: Outputs for the N unlabeled samples.
        positions: Pool positions ``(M,)`` that it may pick from, ascending.
        query_size: Number of samples to pick.
        labeled: Outputs for the labeled samples, if any.
        target: Outputs for the samples that predictions are wanted for, if any; handed on where the strategy reads it.
        generator: Source of random numbers.

    Returns:
        Positions ``(min(query_size, M),)`` in the whole pool, int64, in the order picked.
    """
    part = pool if len(positions) == len(pool) else pool.take(positions)
    more: dict[str, Any] = {"target": target} if strategy.needs.target else {}
    picks = strategy.select(part, query_size, labeled=labeled, generator=generator, **more)
    return positions[picks.to(positions.device)]
