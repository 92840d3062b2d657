"""What a query strategy is: the outputs it asks for, and the pool positions it answers with."""

from __future__ import annotations

import difflib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Generator, Tensor

from lightning_al.functional.aggregation import Aggregate, check_aggregate
from lightning_al.functional.shard import Shard
from lightning_al.functional.top_k import top_k

_FIELDS = frozenset({"probs", "samples", "embeddings", "targets", "dataset_indices", "head"})


@dataclass
class Outputs:
    """What a model says of a set of samples: the fields that were asked for, the rest None.

    Args:
        probs: Class probabilities ``(N, C)``, float32.
        samples: Probabilities of K draws of the model ``(N, K, C)``, float32.
        embeddings: What the last layer sees ``(N, D)``.
        targets: Labels ``(N,)``, known for labeled samples only.
        dataset_indices: The samples' indices in the dataset ``(N,)``, int64.
        head: The last layer, ``(M, D)`` to ``(M, C)``.
        shard: Where the samples are spread over processes: then the fields hold this one's rows of the N, but for
            ``dataset_indices``, which hold all. Only a strategy that is ``sharded`` is given such outputs.
    """

    probs: Tensor | None = None
    samples: Tensor | None = None
    embeddings: Tensor | None = None
    targets: Tensor | None = None
    dataset_indices: Tensor | None = None
    head: Callable[[Tensor], Tensor] | None = None
    shard: Shard | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(value) for name, value in self._tensors().items()}
        if self.shard is not None and "dataset_indices" in lengths:
            lengths["dataset_indices"] -= self.shard.size - self.shard.rows  # the others' samples
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Expected the fields of `Outputs` to describe the same samples, but got {lengths} rows.")

    def __len__(self) -> int:
        """Return the number of samples N."""
        if self.shard is not None:
            return self.shard.size
        return next((len(value) for value in self._tensors().values()), 0)

    def require(self, name: str, asked_by: str) -> Tensor:
        """Return a field that a strategy cannot do without.

        Args:
            name: The field.
            asked_by: The strategy's name, for the message.

        Returns:
            The field's tensor.

        Raises:
            ValueError: If the field is None.
        """
        value = getattr(self, name)
        if not isinstance(value, Tensor):
            raise ValueError(
                f"Expected `{name}` in the outputs for {asked_by}, but got {value!r}. Pass `Outputs({name}=...)`; "
                "a strategy of your own lists what it reads in `needs`."
            )
        return value

    def take(self, positions: Tensor) -> Outputs:
        """Return the outputs of some of the samples, in the order of their positions ``(M,)``; the head stays.

        Raises:
            ValueError: If the samples are spread over processes.
        """
        if self.shard is not None:
            raise ValueError(
                "Expected outputs held as a whole, but got a shard: set `sharded = False` in the strategy."
            )
        taken: dict[str, Any] = {name: each[positions.to(each.device)] for name, each in self._tensors().items()}
        return replace(self, **taken)

    def _tensors(self) -> dict[str, Tensor]:
        values = {name: getattr(self, name) for name in sorted(_FIELDS)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class Needs:
    """The fields of `Outputs` that a strategy reads; what is not listed is not computed.

    Args:
        pool: Fields of the unlabeled pool.
        labeled: Fields of the labeled samples.
        target: Fields of the samples that predictions are wanted for.
    """

    pool: frozenset[str] = field(default_factory=frozenset)
    labeled: frozenset[str] = field(default_factory=frozenset)
    target: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        unknown = (self.pool | self.labeled | self.target) - _FIELDS
        if unknown:
            raise ValueError(f"Expected `needs` to name fields of {sorted(_FIELDS)}, but got {sorted(unknown)}.")


class QueryStrategy(ABC):
    """Picks the samples to ask labels for.

    A strategy names what it reads in `needs` and answers with pool positions in `select`. It draws random numbers from
    the generator it is given only, so that the same generator gives the same query.
    """

    needs: Needs

    own_target: bool = False
    """Whether the target set has to be the user's: one drawn from the pool would have no meaning."""

    sharded: bool = False
    """Whether `select` takes a pool that stays spread over processes (``Outputs.shard``), called on all of them.

    A class with a `select` of its own says so itself: it does not inherit this.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let a `select` that was not written for shards have its pool as a whole."""
        super().__init_subclass__(**kwargs)
        if "select" in vars(cls) and "sharded" not in vars(cls):
            cls.sharded = False

    @property
    def name(self) -> str:
        """The name of the strategy: its class's."""
        return type(self).__name__

    def read_labeled(self, labeled: Outputs | None, name: str) -> Tensor | None:
        """Return a field of the labeled samples, or None before there are any.

        Args:
            labeled: What `select` was given.
            name: The field.

        Returns:
            The field's tensor.

        Raises:
            ValueError: If there are labeled samples without that field.
        """
        return labeled.require(name, f"the labeled samples of {self.name}") if labeled else None

    @abstractmethod
    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick the samples of the pool to label next.

        Args:
            pool: Outputs for the N unlabeled samples.
            query_size: Number of samples to pick.
            labeled: Outputs for the labeled samples; None or empty before there are any.
            generator: Source of random numbers, on the CPU. None: one with a fixed seed.

        Returns:
            Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

        Raises:
            ValueError: If a needed field is missing or not finite, or ``query_size`` is not a positive integer.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what the strategy remembers from one query to the next: nothing, unless it overrides this."""
        return {}

    @property
    def remembers(self) -> bool:
        """Whether a query leaves something that the next one reads."""
        return bool(self.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` returned.

        Args:
            state: That state.

        Raises:
            ValueError: If the state holds something this strategy does not keep.
        """
        if state:
            raise ValueError(f"Expected no state for {self.name}, but got the keys {sorted(state)}.")

    def __repr__(self) -> str:
        """Return the class's name and the arguments it was given."""
        said = ("needs", "own_target")  # by what is within
        given = {key: value for key, value in vars(self).items() if not key.startswith("_") and key not in said}
        arguments = ", ".join(f"{key}={value!r}" for key, value in given.items() if value is not None)
        return f"{type(self).__name__}({arguments})"


class ScoreStrategy(QueryStrategy):
    """Scores each sample on its own and picks the highest.

    The scores of a batch do not depend on the others, so that a pass over the pool keeps one number a sample.

    Args:
        aggregate: How the scores of a sample's labels, pixels or boxes become the sample's, where it has several:
            ``"mean"``, ``"max"``, ``"sum"``, or a share in (0, 1), the mean over that share of the highest. By default
            ``"max"`` for detection, else ``"mean"``, which prefers short samples where labels cost by length.

    Raises:
        ValueError: ``aggregate`` is none of these.
    """

    needs = Needs(pool=frozenset({"probs"}))

    def __init__(self, aggregate: Aggregate | None = None) -> None:
        if aggregate is not None:
            check_aggregate(aggregate)
        self.aggregate = aggregate

    @abstractmethod
    def score(self, probs: Tensor) -> Tensor:
        """Score samples; a higher score is asked first.

        Args:
            probs: Class probabilities ``(N, C)``; those of K draws, ``(N, K, C)``, where the strategy needs
                ``samples``.

        Returns:
            Scores ``(N,)``.

        Raises:
            ValueError: If a value is no probability.
        """

    def select_from_scores(self, scores: Tensor, query_size: int, *, generator: Generator | None = None) -> Tensor:
        """Pick the highest scores; ties go by a permutation from the generator, or to the lowest position.

        Args:
            scores: Scores ``(N,)``.
            query_size: Number of samples to pick.
            generator: Source of random numbers.

        Returns:
            Pool positions ``(min(query_size, N),)``, int64, the highest score first.

        Raises:
            ValueError: If a score is not finite or ``query_size`` is not a positive integer.
        """
        return top_k(scores, query_size, generator)

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick the samples with the highest scores; see `QueryStrategy.select`."""
        (field,) = self.needs.pool
        scores = self.score(pool.require(field, self.name))
        return self.select_from_scores(scores, query_size, generator=generator)


def get_strategy(name_or_instance: str | QueryStrategy) -> QueryStrategy:
    """Return a strategy by its class's name; an instance is returned as it is.

    Args:
        name_or_instance: ``"Margin"``, or ``Margin()``. The name of a class of your own works once it is imported.

    Returns:
        The strategy.

    Raises:
        ValueError: If there is no such strategy; the message lists the known ones and the closest.

    Example:
        >>> get_strategy("Margin")
        Margin()
    """
    if isinstance(name_or_instance, QueryStrategy):
        return name_or_instance
    known = _known_strategies()
    if isinstance(name_or_instance, str) and name_or_instance in known:
        return known[name_or_instance]()
    if inspect.isclass(name_or_instance) and issubclass(name_or_instance, QueryStrategy):
        hint = f" Write `{name_or_instance.__name__}()`: an instance, not the class."
    else:
        hint = _closest(str(name_or_instance), list(known))
    raise ValueError(
        f"Expected `strategy` to be a `QueryStrategy` or one of {sorted(known)}, but got {name_or_instance!r}.{hint}"
    )


def get_score_strategy(name_or_instance: str | QueryStrategy, argument: str) -> ScoreStrategy:
    """Return a strategy as `get_strategy` does, if it scores each sample on its own.

    Args:
        name_or_instance: The strategy or its name.
        argument: What the caller calls it, for the message.

    Returns:
        The strategy.

    Raises:
        ValueError: If there is no such strategy, or it picks batches as a whole.
    """
    strategy = get_strategy(name_or_instance)
    if not isinstance(strategy, ScoreStrategy):
        raise ValueError(
            f"Expected `{argument}` to be a strategy that scores each sample on its own, but got {strategy!r}, which "
            "picks batches as a whole: give `Margin()` or `BALD()`, say."
        )
    return strategy


def _closest(name: str, known: list[str]) -> str:
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), list(by_lower), n=1)
    return f" Did you mean {by_lower[matches[0]]!r}?" if matches else ""


def _known_strategies() -> dict[str, type[QueryStrategy]]:
    """Return every concrete strategy that was imported, by name; the first of a name stays."""
    found: dict[str, type[QueryStrategy]] = {}
    waiting = QueryStrategy.__subclasses__()
    while waiting:
        strategy = waiting.pop(0)
        waiting.extend(strategy.__subclasses__())
        if not inspect.isabstract(strategy):
            found.setdefault(strategy.__name__, strategy)
    return found
