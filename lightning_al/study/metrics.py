"""The metrics of every cell of a study, by torchmetrics."""

from __future__ import annotations

import difflib
import importlib
import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchmetrics.classification
from torch import Tensor
from torchmetrics import Metric

KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "accuracy": ("MulticlassAccuracy", {"average": "micro"}),
    "precision": ("MulticlassPrecision", {"average": "macro"}),
    "recall": ("MulticlassRecall", {"average": "macro"}),
    "f1": ("MulticlassF1Score", {"average": "macro"}),
    "auroc": ("MulticlassAUROC", {"average": None}),  # averaged here: see `_reduced`
    "calibration_error": ("MulticlassCalibrationError", {"norm": "l1"}),
}
"""The metrics that have a short name, and what torchmetrics calls them."""

# torchmetrics declares [0, 1] as the range of all of them, for its plots.
_WIDER_THAN_DECLARED = ("CohenKappa", "MatthewsCorrCoef", "HingeLoss")

MetricSpec = str | Mapping[str, Any]


class StudyMetrics:
    """Computes metrics of predictions on a test set.

    Accuracy is the share of right predictions; precision, recall, F1 and AUROC (one class against the rest) are means
    over classes; calibration error is the expected one (L1, 15 bins). Two classes are treated like more. A class that
    the test set lacks has no AUROC and no recall, and is left out of these means.

    Args:
        specs: Metrics: short names, class paths such as ``"torchmetrics.classification.MulticlassCohenKappa"`` (the
            last part alone will do for torchmetrics' own), or ``{"class_path": ..., "init_args": {...}}``. The number
            of classes is filled in.

    Raises:
        ValueError: A metric is not known, named twice, cannot be made, or does not tell in which direction it is good.

    Example:
        >>> metrics = StudyMetrics(("accuracy", "recall"))
        >>> metrics.compute(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), torch.tensor([0, 1, 1]))
        {'accuracy': 0.666..., 'recall': 0.75}
    """

    def __init__(self, specs: Sequence[MetricSpec] = tuple(KNOWN)) -> None:
        if isinstance(specs, (str, Mapping)):
            raise ValueError(f"Expected `metrics` to be a list, but got {specs!r}: write [{specs!r}].")
        self._made: dict[str, tuple[type[Metric], dict[str, Any]]] = {}
        self._probes: dict[str, Metric] = {}
        for spec in specs:
            name = metric_name(spec)
            if name in self._made:
                raise ValueError(f"`metrics` names {name!r} twice: the table has one column a metric.")
            self._made[name] = _class_and_arguments(spec)
            self._probes[name] = probe = self._make(name, num_classes=2)
            if probe.higher_is_better is None:
                raise ValueError(
                    f"{name} does not say whether higher is better. Set it in a class of your own, `class Mine({name}):"
                    " higher_is_better = True`, and give its class path."
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics' names, as `compute` returns them."""
        return tuple(self._made)

    @property
    def definitions(self) -> list[str]:
        """Name, class and arguments of each metric, sorted: two of equal definitions give equal values."""
        return sorted(f"{name}: {kind.__qualname__}({given})" for name, (kind, given) in self._made.items())

    def higher_is_better(self, name: str) -> bool:
        """Whether a higher value is the better one, as torchmetrics says."""
        return bool(self._probes[self._known(name)].higher_is_better)

    def in_unit_interval(self, name: str) -> bool:
        """Whether the values lie in [0, 1], so that they can be told in points (hundredths)."""
        probe = self._probes[self._known(name)]
        if any(wide in base.__name__ for base in type(probe).__mro__ for wide in _WIDER_THAN_DECLARED):
            return False
        return (probe.plot_lower_bound, probe.plot_upper_bound) == (0.0, 1.0)

    def compute(self, probs: Tensor, targets: Tensor) -> dict[str, float]:
        """Compare predictions with the truth.

        Args:
            probs: Class probabilities ``(N, C)``, C >= 2.
            targets: Class indices ``(N,)``, integers.

        Returns:
            Values by name; NaN for one that these targets do not define (AUROC with a single class).

        Raises:
            ValueError: The shapes do not fit, a probability is not finite, or a target is no class index.
        """
        _check(probs, targets)
        # Beyond [0, 1] by a rounding error, torchmetrics would take them for logits.
        probs, targets = probs.detach().cpu().float().clamp(0, 1), targets.detach().cpu().long()
        values = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes that are missing, once a fit
            for name in self._made:
                metric = self._make(name, probs.shape[1])
                given = probs
                if type(metric).__name__.startswith("Binary"):
                    if probs.shape[1] != 2:
                        raise ValueError(f"{name} is for two classes, and the model tells {probs.shape[1]} apart.")
                    given = probs[:, 1]
                metric.update(given, targets)
                values[name] = _reduced(name, metric.compute(), targets)
        return values

    def _make(self, name: str, num_classes: int) -> Metric:
        kind, arguments = self._made[name]
        fitting = {"task": "multiclass", "num_classes": num_classes}
        accepted = inspect.signature(kind).parameters
        try:
            made = kind(**{key: value for key, value in fitting.items() if key in accepted} | arguments)
        except Exception as error:
            raise ValueError(f"The metric {name} cannot be made with {arguments or 'no init_args'}: {error}") from error
        return made

    def _known(self, name: str) -> str:
        name = name.rpartition(".")[2]
        if name not in self._made:
            raise ValueError(
                f"Expected `metric` to be one of {sorted(self._made)}, but got {name!r}.{_closest(name, self._made)}"
            )
        return name


def metric_name(spec: MetricSpec) -> str:
    """Return the name of a metric in tables: a short name, else the class's.

    Example:
        >>> metric_name("f1"), metric_name("torchmetrics.classification.MulticlassCohenKappa")
        ('f1', 'MulticlassCohenKappa')
    """
    path = spec if isinstance(spec, str) else spec.get("class_path") if isinstance(spec, Mapping) else None
    if not isinstance(path, str):
        raise ValueError(
            f"Expected a metric to be a name or {{'class_path': ..., 'init_args': ...}}, but got {spec!r}."
        )
    return path.rpartition(".")[2]


def _class_and_arguments(spec: MetricSpec) -> tuple[type[Metric], dict[str, Any]]:
    path = spec if isinstance(spec, str) else str(spec["class_path"])
    arguments = {} if isinstance(spec, str) else dict(spec.get("init_args") or {})
    if path in KNOWN:
        path, defaults = KNOWN[path]
        arguments = defaults | arguments
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module or torchmetrics.classification.__name__), name)
    except (ImportError, AttributeError) as error:
        why = f" ({error})" if module else _closest(path, [*KNOWN, *torchmetrics.classification.__all__])
        raise ValueError(
            f"Expected each of `metrics` to be one of {list(KNOWN)} or the class path of a torchmetrics metric, but "
            f"got {path!r}.{why}"
        ) from None
    if not (inspect.isclass(kind) and issubclass(kind, Metric)):
        raise ValueError(f"Expected {path!r} to be a torchmetrics.Metric, but it is {kind!r}.")
    return kind, arguments


def _reduced(name: str, value: Any, targets: Tensor) -> float:
    if name == "auroc":  # torchmetrics counts a class without positives, whose AUROC has no meaning, as 0
        counts = torch.bincount(targets, minlength=len(value))
        value = value[(counts > 0) & (counts < len(targets))].mean()
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"Expected the metric {name} to give one number, but got {got}: average it in `init_args`.")
    return float(value)


def _check(probs: Tensor, targets: Tensor) -> None:
    if probs.ndim != 2 or probs.shape[1] < 2 or targets.shape != probs.shape[:1] or not len(targets):
        raise ValueError(
            f"Expected `probs` (N, C) with C >= 2 and `targets` (N,), but got {tuple(probs.shape)} and "
            f"{tuple(targets.shape)}."
        )
    bad = ~torch.isfinite(probs).all(dim=1)
    if bool(bad.any()):
        raise ValueError(f"The probabilities of test sample {int(bad.nonzero()[0])} are not finite (NaN or infinite).")
    if targets.is_floating_point() or targets.is_complex():
        raise ValueError(f"Expected `targets` to be class indices, but got {targets.dtype}.")
    least, most = int(targets.min()), int(targets.max())
    if least < 0 or most >= probs.shape[1]:
        raise ValueError(
            f"Expected `targets` to be class indices from 0 to {probs.shape[1] - 1}, which the model tells apart, but "
            f"got {least if least < 0 else most}."
        )


def _closest(name: str, known: Any) -> str:
    by_lower = {candidate.lower(): candidate for candidate in reversed(list(known))}  # the first of a name stays
    matches = difflib.get_close_matches(name.lower(), list(by_lower), n=1)
    return f" Did you mean {by_lower[matches[0]]!r}?" if matches else ""
