"""Active learning as one PyTorch Lightning callback."""

from lightning_al.callback import ActiveLearning
from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.oracles import Answers, DatasetOracle, FileOracle, LabelStudioOracle, Oracle, Query
from lightning_al.pool import Pool
from lightning_al.stopping import (
    AllOf,
    AnyOf,
    Budget,
    MarginalValue,
    StabilizingPredictions,
    StoppingRule,
    TargetMetric,
)
from lightning_al.strategies import *  # noqa: F403 - one class a strategy, listed there
from lightning_al.strategies import __all__ as _strategies
from lightning_al.study import FeasibilityReport, FeasibilityStudy

__version__ = "0.1.0"

__all__ = [
    "ActiveLearning",
    "ActiveLearningDataModule",
    "AllOf",
    "Answers",
    "AnyOf",
    "Budget",
    "DatasetOracle",
    "FeasibilityReport",
    "FeasibilityStudy",
    "FileOracle",
    "LabelStudioOracle",
    "MarginalValue",
    "Oracle",
    "Pool",
    "Query",
    "StabilizingPredictions",
    "StoppingRule",
    "TargetMetric",
    *_strategies,
]
