"""Query strategies: one class each, over the functions of `lightning_al.functional`."""

from __future__ import annotations

from lightning_al.strategies.alfa_mix import ALFAMix
from lightning_al.strategies.badge import BADGE
from lightning_al.strategies.bait import BAIT
from lightning_al.strategies.bald import BALD
from lightning_al.strategies.base import Needs as Needs
from lightning_al.strategies.base import Outputs as Outputs
from lightning_al.strategies.base import QueryStrategy as QueryStrategy
from lightning_al.strategies.base import ScoreStrategy as ScoreStrategy
from lightning_al.strategies.base import get_strategy as get_strategy
from lightning_al.strategies.batch_bald import BatchBALD
from lightning_al.strategies.cal import CAL
from lightning_al.strategies.class_balanced import ClassBalanced
from lightning_al.strategies.cluster_margin import ClusterMargin
from lightning_al.strategies.core_set import CoreSet
from lightning_al.strategies.dcom import DCoM
from lightning_al.strategies.drop_query import DropQuery
from lightning_al.strategies.entropy import Entropy
from lightning_al.strategies.epig import EPIG
from lightning_al.strategies.exclude_duplicates import ExcludeDuplicates
from lightning_al.strategies.exclude_outliers import ExcludeOutliers
from lightning_al.strategies.falcun import FALCUN
from lightning_al.strategies.flqmi import FLQMI
from lightning_al.strategies.galaxy import GALAXY
from lightning_al.strategies.k_means import KMeans
from lightning_al.strategies.lcmd import LCMD
from lightning_al.strategies.least_confidence import LeastConfidence
from lightning_al.strategies.margin import Margin
from lightning_al.strategies.max_herding import MaxHerding
from lightning_al.strategies.mean_std import MeanStd
from lightning_al.strategies.mixture import Mixture
from lightning_al.strategies.posterior_variance import PosteriorVariance
from lightning_al.strategies.prefilter import Prefilter
from lightning_al.strategies.prob_cover import ProbCover
from lightning_al.strategies.random import Random
from lightning_al.strategies.seals import SEALS
from lightning_al.strategies.stochastic import Stochastic
from lightning_al.strategies.tcm import TCM
from lightning_al.strategies.typiclust import TypiClust
from lightning_al.strategies.uncertainty_herding import UHerding
from lightning_al.strategies.variation_ratio import VariationRatio
from lightning_al.strategies.vote_entropy import VoteEntropy

# Strategies only: what is listed here is what the contract test runs and what a misspelt name is compared with.
__all__ = [
    "BADGE",
    "BAIT",
    "BALD",
    "CAL",
    "EPIG",
    "FALCUN",
    "FLQMI",
    "GALAXY",
    "LCMD",
    "SEALS",
    "TCM",
    "ALFAMix",
    "BatchBALD",
    "ClassBalanced",
    "ClusterMargin",
    "CoreSet",
    "DCoM",
    "DropQuery",
    "Entropy",
    "ExcludeDuplicates",
    "ExcludeOutliers",
    "KMeans",
    "LeastConfidence",
    "Margin",
    "MaxHerding",
    "MeanStd",
    "Mixture",
    "PosteriorVariance",
    "Prefilter",
    "ProbCover",
    "Random",
    "Stochastic",
    "TypiClust",
    "UHerding",
    "VariationRatio",
    "VoteEntropy",
]
