"""Stopping rules on histories written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_al.stopping import StoppingRule, TargetMetric


def history(*values: float, name: str = "val_acc") -> list[dict[str, Any]]:
    return [{"labeled": 10 * (n + 1), "metrics": {name: value}} for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("mode", "values", "stops"),
    [
        ("max", [0.5, 0.89], False),
        ("max", [0.5, 0.9], True),
        ("max", [0.5, 0.95], True),
        ("max", [0.95, 0.5], False),  # the last round counts: its model is the one there is
        ("min", [0.95, 0.91], False),
        ("min", [0.95, 0.9], True),
        ("max", [float("nan")], False),
        ("min", [float("nan")], False),
    ],
)
def test_target_metric(mode: Any, values: list[float], stops: bool) -> None:
    assert (TargetMetric("val_acc", 0.9, mode).reason_to_stop(history(*values)) is not None) is stops


def test_the_reason_says_value_target_and_labels() -> None:
    assert TargetMetric("loss", 0.25, "min").reason_to_stop(history(0.5, 0.1234567, name="loss")) == (
        "loss reached 0.1235 (target 0.25) with 20 labels."
    )


def test_nothing_is_said_before_the_first_round() -> None:
    assert TargetMetric("val_acc", 0.9).reason_to_stop([]) is None


def test_a_metric_that_is_not_logged_lists_what_is() -> None:
    with pytest.raises(ValueError, match=r"waits for 'val_acc', which is not logged; there are \['loss'\].*self.log"):
        TargetMetric("val_acc", 0.9).reason_to_stop(history(0.5, name="loss"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "up"}, "Expected `mode` to be 'max' or 'min', but got 'up'"),
        ({"value": float("nan")}, "Expected `value` to be a number, but got nan"),
        ({"value": "high"}, "Expected `value` to be a number, but got 'high'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TargetMetric(**({"metric": "val_acc", "value": 0.9} | arguments))


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        StoppingRule()
