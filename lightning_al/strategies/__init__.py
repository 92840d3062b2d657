"""Query strategies: one class each, over the functions of `lightning_al.functional`."""

from lightning_al.strategies.base import Needs, Outputs, QueryStrategy, ScoreStrategy, get_strategy
from lightning_al.strategies.margin import Margin
from lightning_al.strategies.random import Random

__all__ = ["Margin", "Random"]
