"""Pure functions from tensors to tensors: scores and selections, without Lightning.

Every selection returns int64 pool positions in the order picked, and draws random numbers from its generator only.
"""

from lightning_al.functional.aggregation import aggregate
from lightning_al.functional.alfa_mix import alfa_mix
from lightning_al.functional.badge import badge
from lightning_al.functional.bait import bait
from lightning_al.functional.batch_bald import batch_bald
from lightning_al.functional.cal import cal, contrastive_divergence
from lightning_al.functional.cluster_margin import agglomerate, cluster_margin
from lightning_al.functional.committee import mean_std, mutual_information, variation_ratio, vote_entropy
from lightning_al.functional.dcom import adapt_deltas, dcom
from lightning_al.functional.drop_query import drop_query
from lightning_al.functional.duplicates import near_duplicates
from lightning_al.functional.falcun import falcun
from lightning_al.functional.flqmi import flqmi
from lightning_al.functional.galaxy import galaxy
from lightning_al.functional.herding import max_herding, uncertainty_herding
from lightning_al.functional.k_center import k_center_greedy
from lightning_al.functional.k_means import k_means
from lightning_al.functional.lcmd import lcmd
from lightning_al.functional.neighbours import neighbours
from lightning_al.functional.outliers import knn_distances
from lightning_al.functional.posterior_variance import posterior_variance
from lightning_al.functional.predictive_information import expected_predictive_information_gain
from lightning_al.functional.prob_cover import prob_cover
from lightning_al.functional.shard import Shard
from lightning_al.functional.stochastic import stochastic_top_k
from lightning_al.functional.top_k import top_k
from lightning_al.functional.typiclust import typiclust
from lightning_al.functional.uncertainty import least_confidence, margin, predictive_entropy

__all__ = [
    "Shard",
    "adapt_deltas",
    "agglomerate",
    "aggregate",
    "alfa_mix",
    "badge",
    "bait",
    "batch_bald",
    "cal",
    "cluster_margin",
    "contrastive_divergence",
    "dcom",
    "drop_query",
    "expected_predictive_information_gain",
    "falcun",
    "flqmi",
    "galaxy",
    "k_center_greedy",
    "k_means",
    "knn_distances",
    "lcmd",
    "least_confidence",
    "margin",
    "max_herding",
    "mean_std",
    "mutual_information",
    "near_duplicates",
    "neighbours",
    "posterior_variance",
    "predictive_entropy",
    "prob_cover",
    "stochastic_top_k",
    "top_k",
    "typiclust",
    "uncertainty_herding",
    "variation_ratio",
    "vote_entropy",
]
