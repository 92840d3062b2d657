"""BatchBALD."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.batch_bald import batch_bald
from lightning_al.functional.committee import mutual_information
from lightning_al.functional.inputs import check_query_size
from lightning_al.functional.top_k import top_k
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy

# The authors' own code keeps 20 a pick; the floor costs about two seconds for a batch of ten.
_CANDIDATES_A_PICK = 20
_FEWEST_CANDIDATES = 1000


class BatchBALD(QueryStrategy):
    """Ask for the batch whose labels together tell most of the model, so that no two of its samples tell the same.

    It reads dropout draws or an ensemble, and chooses among the 20 samples a pick, at least 1000, with the highest
    BALD. For small batches: it was shown to beat BALD with up to some tens, and K draws can tell at most log K nats
    apart. Beyond that take Stochastic over BALD, which is as good at a fraction of the cost. Time is up to one product
    of candidates, classes, draws and ``num_samples`` a pick; memory ``num_samples`` times draws.

    Args:
        num_samples: How many joint outcomes of the batch's labels are kept: exact up to here, sampled beyond.

    Raises:
        ValueError: ``num_samples`` is not a positive integer.

    References:
        Kirsch, van Amersfoort and Gal (NeurIPS 2019), *BatchBALD: Efficient and Diverse Batch Acquisition for Deep
        Bayesian Active Learning*.
    """

    needs = Needs(pool=frozenset({"samples"}))

    def __init__(self, num_samples: int = 10_000) -> None:
        check_query_size(num_samples, 1, "num_samples")
        self.num_samples = num_samples

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick greedily by what a label adds to the others; see `lightning_al.functional.batch_bald`."""
        samples = pool.require("samples", self.name)
        count = check_query_size(query_size, len(samples))
        kept = max(_FEWEST_CANDIDATES, _CANDIDATES_A_PICK * count)
        if kept >= len(samples):
            return batch_bald(samples, query_size, self.num_samples, generator)
        candidates = top_k(mutual_information(samples), kept, generator)
        return candidates[batch_bald(samples[candidates], query_size, self.num_samples, generator)]
