"""EPIG."""

from __future__ import annotations

import torch
from torch import Tensor

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
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Pick the highest scores; see `lightning_al.functional.expected_predictive_information_gain`.

        Args:
            pool: Outputs for the N unlabeled samples.
            query_size: Number of samples to pick.
            labeled: Not read.
            target: Outputs for samples of the distribution to predict on; None or empty: drawn from the pool.
            generator: Source of random numbers, on the CPU. None: one with a fixed seed.

        Returns:
            Unique pool positions ``(min(query_size, N),)``, int64, the highest score first.

        Raises:
            ValueError: If samples are missing or not finite, or ``query_size`` is not a positive integer.
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
