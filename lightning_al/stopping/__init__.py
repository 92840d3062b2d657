"""When a run has enough labels: rules that are asked after each round."""

from lightning_al.stopping.budget import Budget
from lightning_al.stopping.marginal_value import MarginalValue
from lightning_al.stopping.rule import StoppingRule
from lightning_al.stopping.several import AllOf, AnyOf
from lightning_al.stopping.stabilizing import StabilizingPredictions, cohens_kappa
from lightning_al.stopping.target_metric import TargetMetric

__all__ = [
    "AllOf",
    "AnyOf",
    "Budget",
    "MarginalValue",
    "StabilizingPredictions",
    "StoppingRule",
    "TargetMetric",
    "cohens_kappa",
]
