"""What a study may be asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_al.strategies import BADGE, Margin, Random
from lightning_al.study import settings
from lightning_al.study.metrics import metric_name


def test_arms_are_named_by_class_and_where_that_is_not_enough_by_arguments() -> None:
    plain = settings.named_strategies(["Random", "Margin", BADGE(), Random()])
    assert list(plain) == ["Margin", "BADGE"]
    assert [type(strategy) for strategy in plain.values()] == [Margin, BADGE]


def test_the_deciding_metric_comes_first_and_is_not_doubled() -> None:
    assert settings.study_metrics("recall", None, None).names == (
        "recall", "accuracy", "precision", "f1", "auroc", "calibration_error"
    )  # fmt: skip
    assert settings.study_metrics("f1", ["recall", "f1"], None).names == ("f1", "recall")
    kappa = "torchmetrics.classification.MulticlassCohenKappa"
    assert settings.study_metrics(kappa, [kappa, "accuracy"], 0.1).names == ("MulticlassCohenKappa", "accuracy")
    with pytest.raises(ValueError, match="names 'f1' twice"):
        settings.study_metrics("f1", ["f1", "recall", "f1"], None)
    with pytest.raises(ValueError, match=r"MulticlassCohenKappa does not lie in \[0, 1\].*Set `delta`"):
        settings.study_metrics(kappa, None, None)


PROBS, TARGETS = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]]), torch.tensor([0, 0, 1, 1])
FBETA = "torchmetrics.classification.MulticlassFBetaScore"
BETA = {"class_path": FBETA, "init_args": {"beta": 2.0}}


@pytest.mark.parametrize(
    ("metric", "entry", "value"),
    [
        # Of class 0: precision 2 / 3, recall 1. Of class 1: precision 1, recall 1 / 2.
        ("f1", {"class_path": "f1", "init_args": {"average": "micro"}}, 0.75),
        ("MulticlassFBetaScore", BETA, (10 / 11 + 5 / 9) / 2),
        (FBETA, {**BETA, "class_path": "MulticlassFBetaScore"}, (10 / 11 + 5 / 9) / 2),
        (FBETA, BETA, (10 / 11 + 5 / 9) / 2),
        (BETA, BETA, (10 / 11 + 5 / 9) / 2),
        (BETA, FBETA, (10 / 11 + 5 / 9) / 2),
        ({"class_path": "f1", "init_args": {"average": "micro"}}, "f1", 0.75),
        ("f1", "f1", (4 / 5 + 2 / 3) / 2),
    ],
)
def test_an_entry_of_metrics_defines_the_metric_that_decides(metric: Any, entry: Any, value: float) -> None:
    found = settings.study_metrics(metric, ["accuracy", entry], None)
    assert found.names == (metric_name(metric), "accuracy")
    assert found.compute(PROBS, TARGETS)[metric_name(metric)] == pytest.approx(value)


@pytest.mark.parametrize(
    ("metric", "entry"),
    [
        (BETA, {**BETA, "init_args": {"beta": 0.5}}),
        (FBETA, "mine.MulticlassFBetaScore"),
        (FBETA, {"class_path": "mine.MulticlassFBetaScore", "init_args": {"beta": 2.0}}),
    ],
)
def test_two_definitions_of_the_deciding_metric_are_refused(metric: Any, entry: Any) -> None:
    with pytest.raises(ValueError, match=r"`metrics` defines 'MulticlassFBetaScore' as .* goes by one of them"):
        settings.study_metrics(metric, [entry], None)


@pytest.mark.parametrize("shares", [[0.2], (0.2, 1), [1]])
def test_shares(shares: Any) -> None:
    found = settings.ascending_shares(shares)
    assert found == tuple(shares)
    assert {type(share) for share in found} == {float}


@pytest.mark.parametrize(
    "shares", [[], [0.0, 1.0], [0.5, 0.2], [0.2, 0.2], [1.5], ["0.2"], [float("nan")], "0.2", None]
)
def test_what_is_no_list_of_ascending_shares(shares: Any) -> None:
    with pytest.raises(ValueError, match="`fractions` to be ascending shares"):
        settings.ascending_shares(shares)


@pytest.mark.parametrize("count", [0, -3, 2.0, "3", True, float("inf")])
def test_what_is_no_count(count: Any) -> None:
    with pytest.raises(ValueError, match="Expected `rounds` to be a whole number of at least 1"):
        settings.check_counts(1, seeds=3, rounds=count)
    settings.check_counts(1, rounds=None)


@pytest.mark.parametrize("amount", [0, -0.1, float("nan"), float("inf"), "1", True])
def test_what_is_no_amount(amount: Any) -> None:
    with pytest.raises(ValueError, match="Expected `label_cost` to be a number above 0"):
        settings.check_amounts(delta=0.5, label_cost=amount)
    settings.check_amounts(label_cost=None)


@pytest.mark.parametrize("share", [0, 1, -0.5, 10, "0.1", None, float("nan")])
def test_what_is_no_share(share: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected `saving` to be a share in \(0, 1\)"):
        settings.check_share("saving", share)
    assert settings.check_share("saving", 0.25) == 0.25
