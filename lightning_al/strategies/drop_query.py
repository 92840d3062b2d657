"""DropQuery: predictions that dropout changes, spread out."""

from __future__ import annotations

from torch import Generator, Tensor

from lightning_al.functional.drop_query import drop_query
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy
from lightning_al.strategies.heads import require_head


class DropQuery(QueryStrategy):
    """Ask for samples whose prediction changes when features are dropped, one from each of as many clusters.

    Made for embeddings of large pretrained models with a linear head, where its authors found it on a par with or ahead
    of Margin, BADGE and ALFA-Mix over natural, medical and satellite images. Only the head runs again, four times.
    Time is that and a k-means on the candidates; memory is a few numbers a sample.

    References:
        Gupte, Aklilu, Nirschl and Yeung-Levy (TMLR 2024), *Revisiting Active Learning in the Era of Vision Foundation
        Models*.
    """

    needs = Needs(pool=frozenset({"embeddings", "head"}))

    def select(
        self, pool: Outputs, query_size: int, *, labeled: Outputs | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Pick among predictions that flip; see `lightning_al.functional.drop_query`."""
        embeddings, head = pool.require("embeddings", self.name), require_head(pool, self.name)
        return drop_query(embeddings, head, query_size, generator)
