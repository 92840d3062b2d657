"""EPIG."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lightning_al.functional.inputs import check_query_size, default_generator, permutation
from lightning_al.functional.predictive_information import expected_predictive_information_gain
from lightning_al.functional.top_k import top_k
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy

_TARGETS = 200  # the authors draw 100, anew for each single label


class EPIG(QueryStrategy):
    """Ask for the labels that tell most of the predictions wanted: the mutual information with targets' labels.

    Where the pool holds much that does not matter for the task, it avoids what BALD asks for there. It reads dropout
    draws or an ensemble, the same draws for the pool and for the targets. Targets are samples of the distribution to
    predict on, unlabeled; without them, up to 200 drawn from the pool. Its batches hold near-duplicates, as BALD's.
    Time grows with the product of pool, targets and squared classes; memory is a copy of the targets.

    References:
        Bickford Smith, Kirsch, Farquhar, Gal, Foster and Rainforth (AISTATS 2023), *Prediction-Oriented Bayesian Active
        Learning*.
    """

    needs = Needs(pool=frozenset({"samples"}), target=frozenset({"samples"}))

    def select(
        self,
        pool: Outputs,
        query_size: int,
        *,
        labeled: Outputs | None = None,
        target: Outputs | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Pick the highest scores; see `QueryStrategy.select`.

        ``target`` are samples of the distribution to predict on; where it is None or empty, they are drawn from the
        pool. ``labeled`` is not read.
        """
        samples = pool.require("samples", self.name)
        if check_query_size(query_size, len(samples)) == 0:
            return torch.empty(0, dtype=torch.int64, device=samples.device)
        generator = default_generator(generator)
        if target:
            targets = target.require("samples", f"the targets of {self.name}")
        else:
            targets = samples[permutation(len(samples), generator)[:_TARGETS].to(samples.device)]
        return top_k(expected_predictive_information_gain(samples, targets), query_size, generator)
