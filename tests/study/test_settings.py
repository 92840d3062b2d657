"""What a study may be asked."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_al.strategies import BADGE, Margin, Random
from lightning_al.study import settings


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
    with pytest.raises(ValueError, match=r"MulticlassCohenKappa does not lie in \[0, 1\].*Set `delta`"):
        settings.study_metrics(kappa, None, None)


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
