"""Cluster-Margin: low margins from many clusters, which are found once."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from lightning_al.functional.cluster_margin import agglomerate, cluster_margin
from lightning_al.functional.inputs import check_probs, check_probs_values
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy

_UNKNOWN = -1


class ClusterMargin(QueryStrategy):
    """Ask for low margins from as many clusters of the pool as there are, the smallest clusters first.

    Made for large batches on redundant data: in the paper, ahead of Margin, BADGE and CoreSet for batches of 100,000.
    The pool is clustered in the first query, by average linkage, and never again, so that later queries cost what
    Margin costs; samples that were not there yet are clustered when they come. Its memory, the cluster of each dataset
    index, is saved with the run.

    Args:
        candidates: Samples of low margin for each one to pick, at least 1. Where a batch is a large part of the pool,
            10 of each leave no choice by margin: take fewer.

    Raises:
        ValueError: If ``candidates`` is below 1.

    References:
        Citovsky, DeSalvo, Gentile, Karydas, Rajagopalan, Rostamizadeh and Kumar (NeurIPS 2021), *Batch Active Learning
        at Scale*.
    """

    needs = Needs(pool=frozenset({"probs", "embeddings"}))

    def __init__(self, candidates: float = 10.0) -> None:
        if isinstance(candidates, bool) or not 1 <= candidates < math.inf:
            raise ValueError(f"Expected `candidates` to be a number of at least 1, but got {candidates!r}.")
        self.candidates = candidates
        self._clusters = torch.empty(0, dtype=torch.int64)

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick from the clusters in turns; see `lightning_al.functional.cluster_margin`."""
        probs, embeddings = check_probs(pool.require("probs", self.name)), pool.require("embeddings", self.name)
        check_probs_values(probs)  # before anything is remembered
        clusters = self._clusters_of(pool.require("dataset_indices", self.name).cpu(), embeddings)
        return cluster_margin(probs, clusters, query_size, self.candidates, generator)

    def _clusters_of(self, dataset_indices: Tensor, embeddings: Tensor) -> Tensor:
        """Return the samples' clusters; those not known yet are clustered among themselves."""
        size = max(int(dataset_indices.max()) + 1 if len(dataset_indices) else 0, len(self._clusters))
        known = torch.full((size,), _UNKNOWN)
        known[: len(self._clusters)] = self._clusters
        new = (known[dataset_indices] == _UNKNOWN).nonzero()[:, 0]
        if len(new):
            # Not from the query's generator: the clusters are the same whichever query finds them.
            found = agglomerate(embeddings if len(new) == len(embeddings) else embeddings[new.to(embeddings.device)])
            known[dataset_indices[new]] = found + (known.amax() + 1)
        self._clusters = known
        return known[dataset_indices]

    def state_dict(self) -> dict[str, Any]:
        """Return the cluster of each dataset index, -1 where it is not known, as one int64 tensor."""
        return {"clusters": self._clusters.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` returned.

        Args:
            state: That state.

        Raises:
            ValueError: If the state is not of this strategy.
        """
        clusters = state.get("clusters")
        if set(state) != {"clusters"} or not isinstance(clusters, Tensor) or clusters.dtype != torch.int64:
            raise ValueError(
                f"Expected a state of {self.name} with an int64 tensor `clusters`, but got {sorted(state)}."
            )
        self._clusters = clusters.detach().cpu().clone()
