"""Query strategies: one class each, over the functions of `lightning_al.functional`."""

from lightning_al.strategies.badge import BADGE
from lightning_al.strategies.base import Needs as Needs
from lightning_al.strategies.base import Outputs as Outputs
from lightning_al.strategies.base import QueryStrategy as QueryStrategy
from lightning_al.strategies.base import ScoreStrategy as ScoreStrategy
from lightning_al.strategies.base import get_strategy as get_strategy
from lightning_al.strategies.core_set import CoreSet
from lightning_al.strategies.entropy import Entropy
from lightning_al.strategies.k_means import KMeans
from lightning_al.strategies.least_confidence import LeastConfidence
from lightning_al.strategies.margin import Margin
from lightning_al.strategies.random import Random
from lightning_al.strategies.typiclust import TypiClust

# Strategies only: what is listed here is what the contract test runs and what a misspelt name is compared with.
__all__ = ["BADGE", "CoreSet", "Entropy", "KMeans", "LeastConfidence", "Margin", "Random", "TypiClust"]
