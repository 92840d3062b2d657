"""Pure functions from tensors to tensors: scores and selections, without Lightning.

Every selection returns int64 pool positions in the order picked, and draws random numbers from its generator only.
"""

from lightning_al.functional.badge import badge
from lightning_al.functional.k_center import k_center_greedy
from lightning_al.functional.k_means import k_means
from lightning_al.functional.top_k import top_k
from lightning_al.functional.typiclust import typiclust
from lightning_al.functional.uncertainty import least_confidence, margin, predictive_entropy

__all__ = [
    "badge",
    "k_center_greedy",
    "k_means",
    "least_confidence",
    "margin",
    "predictive_entropy",
    "top_k",
    "typiclust",
]
