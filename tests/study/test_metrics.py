"""StudyMetrics against scikit-learn and hand-worked numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torchmetrics.classification import MulticlassSpecificity

from lightning_al.study.metrics import KNOWN, StudyMetrics, metric_name


class Specificity(MulticlassSpecificity):
    """A user's own metric, with the direction that torchmetrics leaves open."""

    higher_is_better = True


def predictions(classes: int, size: int = 80, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (size,), generator=generator)
    logits = torch.randn(size, classes, generator=generator) + 1.5 * torch.nn.functional.one_hot(targets, classes)
    return logits.softmax(dim=1), targets


def expected_calibration_error(probs: Tensor, targets: Tensor) -> float:
    confidence, predicted = (part.numpy() for part in probs.double().max(dim=1))
    right = predicted == targets.numpy()
    edges = np.linspace(0, 1, 16)
    total = 0.0
    for low, high in pairwise(edges):
        inside = (confidence >= low) & (confidence < high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(total)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_defaults_equal_scikit_learn(classes: int) -> None:
    probs, targets = predictions(classes)
    predicted = probs.argmax(dim=1)
    macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
    one_vs_rest = [sk.roc_auc_score(targets == c, probs[:, c]) for c in range(classes)]
    expected = {
        "accuracy": sk.accuracy_score(targets, predicted),
        "precision": sk.precision_score(targets, predicted, **macro),
        "recall": sk.recall_score(targets, predicted, **macro),
        "f1": sk.f1_score(targets, predicted, **macro),
        "auroc": float(np.mean(one_vs_rest)),
        "calibration_error": expected_calibration_error(probs, targets),
    }
    computed = StudyMetrics().compute(probs, targets)
    assert list(computed) == list(KNOWN)
    assert computed == pytest.approx(expected, abs=1e-6)


def test_a_class_that_the_test_set_lacks_is_left_out_of_auroc_and_recall() -> None:
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    computed = StudyMetrics(["auroc", "recall"]).compute(probs, torch.tensor([0, 0, 1, 1]))
    # Scores of class 0: .7 and .3 against .6 and .2: three of four pairs in order. Class 1: .3 and .7 against .2, .6.
    assert computed == pytest.approx({"auroc": 0.75, "recall": 0.5})


def test_no_value_where_the_targets_define_none() -> None:
    computed = StudyMetrics(["auroc", "accuracy"]).compute(torch.tensor([[0.9, 0.1], [0.4, 0.6]]), torch.tensor([0, 0]))
    assert np.isnan(computed["auroc"])
    assert computed["accuracy"] == 0.5


def test_probabilities_beyond_one_by_rounding_are_not_taken_for_logits() -> None:
    probs, targets = predictions(3)
    beyond = probs.clone()
    beyond[0] = torch.tensor([1.0 + 1e-6, 0.0, -1e-7])
    clean = beyond.clamp(0, 1)
    assert StudyMetrics().compute(beyond, targets) == StudyMetrics().compute(clean, targets)


def test_class_paths() -> None:
    probs, targets = predictions(4)
    specs: list[Any] = [
        "torchmetrics.classification.MulticlassCohenKappa",
        {"class_path": "torchmetrics.classification.MulticlassFBetaScore", "init_args": {"beta": 2.0}},
        f"{__name__}.Specificity",
        "Accuracy",
    ]
    metrics = StudyMetrics(specs)
    predicted = probs.argmax(dim=1)
    negatives = [((predicted != c) & (targets != c)).sum() / (targets != c).sum() for c in range(4)]
    assert metrics.compute(probs, targets) == pytest.approx(
        {
            "MulticlassCohenKappa": sk.cohen_kappa_score(targets, predicted),
            "MulticlassFBetaScore": sk.fbeta_score(targets, predicted, beta=2.0, average="macro"),
            "Specificity": float(np.mean(negatives)),
            "Accuracy": sk.accuracy_score(targets, predicted),
        },
        abs=1e-6,
    )
    assert metrics.names == tuple(map(metric_name, specs))


def test_binary_metrics_see_the_positive_class() -> None:
    probs, targets = predictions(2)
    computed = StudyMetrics(["BinaryAUROC"]).compute(probs, targets)
    assert computed["BinaryAUROC"] == pytest.approx(sk.roc_auc_score(targets, probs[:, 1]))
    with pytest.raises(ValueError, match="BinaryAUROC is for two classes, and the model tells 3 apart"):
        StudyMetrics(["BinaryAUROC"]).compute(*predictions(3))


def test_directions_and_ranges() -> None:
    metrics = StudyMetrics([*KNOWN, "MulticlassCohenKappa", "MulticlassHingeLoss"])
    assert [name for name in metrics.names if not metrics.higher_is_better(name)] == [
        "calibration_error",
        "MulticlassHingeLoss",
    ]
    wider = [name for name in metrics.names if not metrics.in_unit_interval(name)]
    assert wider == ["MulticlassCohenKappa", "MulticlassHingeLoss"]
    assert metrics.higher_is_better("torchmetrics.classification.MulticlassCohenKappa")
    with pytest.raises(ValueError, match=r"'acuracy'\. Did you mean 'accuracy'\?"):
        metrics.higher_is_better("acuracy")


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["acuracy"], r"one of \['accuracy', .*'acuracy'\. Did you mean 'accuracy'\?"),
        (["MulticlassCohnKappa"], "Did you mean 'MulticlassCohenKappa'"),
        (["torchmetrics.classification.Nope"], "has no attribute 'Nope'"),
        (["nowhere.Metric"], "No module named 'nowhere'"),
        (["builtins.dict"], "to be a torchmetrics.Metric"),
        (["MulticlassSpecificity"], "does not say whether higher is better"),
        (["accuracy", "accuracy"], "names 'accuracy' twice"),
        ([{"class_path": "accuracy", "init_args": {"average": "some"}}], "accuracy cannot be made with"),
        ([3], "to be a name or"),
        ("accuracy", r"write \['accuracy'\]"),
    ],
)
def test_refuses_specs(specs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudyMetrics(specs)


@pytest.mark.parametrize(
    ("probs", "targets", "message"),
    [
        ([[0.5, 0.5], [float("nan"), 0.5]], [0, 1], "test sample 1 are not finite"),
        ([[0.5, 0.5]], [2], "from 0 to 1, which the model tells apart, but got 2"),
        ([[0.5, 0.5]], [-1], "but got -1"),
        ([[0.5, 0.5]], [0.5], r"class indices, but got torch\.float32"),
        ([[0.5, 0.5]], [0, 1], r"got \(1, 2\) and \(2,\)"),
        ([[1.0]], [0], "C >= 2"),
    ],
)
def test_refuses_predictions(probs: list[list[float]], targets: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudyMetrics(["accuracy"]).compute(torch.tensor(probs), torch.tensor(targets))


def test_a_metric_must_give_one_number() -> None:
    metrics = StudyMetrics([{"class_path": "accuracy", "init_args": {"average": "none"}}])
    with pytest.raises(ValueError, match=r"accuracy to give one number, but got shape \(3,\)"):
        metrics.compute(*predictions(3))
