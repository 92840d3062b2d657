"""What a study may be asked: each argument is checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_al.predictions import ONE_DISTRIBUTION
from lightning_al.strategies import Random
from lightning_al.strategies.base import QueryStrategy, get_strategy
from lightning_al.study.design import check_arms
from lightning_al.study.metrics import KNOWN, MetricSpec, StudyMetrics, metric_name


def named_strategies(given: Sequence[str | QueryStrategy]) -> dict[str, QueryStrategy]:
    """The strategies by arm: a class's name, or where a class stands there twice, what it was made with.

    Raises:
        ValueError: One is not known, two are the same, or none is left besides Random.

    Example:
        >>> named_strategies(["Margin", "Random"])
        {'Margin': Margin()}
    """
    if isinstance(given, (str, QueryStrategy)):
        raise ValueError(f"Expected `strategies` to be a list, but got {given!r}: write [{given!r}].")
    # Random labels are the control and there anyway: named as a strategy too, they would be run twice.
    made = [strategy for strategy in map(get_strategy, given) if type(strategy) is not Random]
    if not made:
        raise ValueError(f"Expected `strategies` to name at least one besides Random, but got {list(given)!r}.")
    names = [strategy.name for strategy in made]
    arms = [repr(strategy) if names.count(strategy.name) > 1 else strategy.name for strategy in made]
    check_arms(arms)
    return dict(zip(arms, made, strict=True))


def study_metrics(metric: MetricSpec, others: Sequence[MetricSpec] | None, delta: float | None) -> StudyMetrics:
    """The metric of the verdict first, then those that are computed besides; by default all with a short name.

    An entry of ``others`` with the name of the first defines it, with its ``init_args``.

    Raises:
        ValueError: One is not known, two definitions of the first contradict each other, or it has no points and no
            ``delta`` is given.

    Example:
        >>> beta = {"class_path": "MulticlassFBetaScore", "init_args": {"beta": 2.0}}
        >>> study_metrics("MulticlassFBetaScore", ["accuracy", beta], None).names
        ('MulticlassFBetaScore', 'accuracy')
    """
    name = metric_name(metric)
    if isinstance(others, (str, Mapping)):
        raise ValueError(f"Expected `metrics` to be a list, but got {others!r}: write [{others!r}].")
    others = list(others or KNOWN)
    same = next((number for number, spec in enumerate(others) if metric_name(spec) == name), None)
    deciding = metric if same is None else _joined(metric, others.pop(same))
    metrics = StudyMetrics([deciding, *others])
    if delta is None and not metrics.in_unit_interval(name):
        raise ValueError(
            f"{name} does not lie in [0, 1], so a gain of it has no points. Set `delta`, the least gain worth while, "
            "in its own unit."
        )
    return metrics


def _joined(metric: MetricSpec, entry: MetricSpec) -> MetricSpec:
    """One definition from the verdict's metric and the entry of ``metrics`` with its name."""
    (path, arguments), (other_path, others) = _parts(metric), _parts(entry)
    name = metric_name(metric)
    if (arguments and others and arguments != others) or len({path, other_path} - {name}) > 1:
        raise ValueError(
            f"`metric` is {metric!r}, and `metrics` defines {name!r} as {entry!r}: the verdict goes by one of them. "
            f"Say metric={name!r} and define it in `metrics`, or leave it out there."
        )
    return {"class_path": other_path if path == name else path, "init_args": arguments or others}


def _parts(spec: MetricSpec) -> tuple[str, dict[str, Any]]:
    return (spec, {}) if isinstance(spec, str) else (str(spec["class_path"]), dict(spec.get("init_args") or {}))


def check_one_distribution(outputs: str) -> None:
    """Check that a model's outputs are one distribution over classes a sample, which is what a study's metrics read.

    Raises:
        ValueError: They are not.
    """
    if outputs not in ONE_DISTRIBUTION:
        raise ValueError(
            f"Expected `outputs` to be one of {', '.join(ONE_DISTRIBUTION)}, but got {outputs!r}: a study is of "
            "classification so far. `compare_curves` takes curves of any task and metric."
        )


def check_counts(least: int = 1, **counts: int | None) -> None:
    """Check that each is a whole number from ``least``, or None.

    Raises:
        ValueError: One is not.
    """
    for name, count in counts.items():
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < least):
            raise ValueError(f"Expected `{name}` to be a whole number of at least {least}, but got {count!r}.")


def check_amounts(**amounts: float | None) -> None:
    """Check that each is a finite number above 0, or None.

    Raises:
        ValueError: One is not.
    """
    for name, amount in amounts.items():
        if amount is not None and not (_is_number(amount) and amount > 0):
            raise ValueError(f"Expected `{name}` to be a number above 0, but got {amount!r}.")


def check_share(name: str, share: Any) -> float:
    """Return a share in (0, 1).

    Raises:
        ValueError: It is none.
    """
    if not (_is_number(share) and 0 < share < 1):
        raise ValueError(f"Expected `{name}` to be a share in (0, 1), but got {share!r}.")
    return float(share)


def ascending_shares(fractions: Sequence[float]) -> tuple[float, ...]:
    """Return ascending shares in (0, 1] as floats.

    Raises:
        ValueError: They are not.

    Example:
        >>> ascending_shares([0.5, 1])
        (0.5, 1.0)
    """
    shares = tuple(fractions) if isinstance(fractions, Sequence) and not isinstance(fractions, str) else ()
    right = shares and all(_is_number(share) and 0 < share <= 1 for share in shares)
    if not right or sorted(set(shares)) != list(shares):
        raise ValueError(f"Expected `fractions` to be ascending shares in (0, 1], but got {fractions!r}.")
    return tuple(float(share) for share in shares)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
