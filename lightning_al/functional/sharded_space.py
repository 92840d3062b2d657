"""A space whose points stay on the processes that hold them."""

from __future__ import annotations

from torch import Tensor

from lightning_al.functional.shard import Features, Shard
from lightning_al.functional.spaces import LocalSpace, Rows, Space


class ShardedSpace(Space):
    """The points of all processes, numbered as in one process; each process calls the same methods at the same time.

    Points travel when they are taken; a pass over all points is made by each process over its own, and one number a
    point travels. After the pool's come the labeled points, of which every process holds all.

    Args:
        local: This process's rows of the pool, then the labeled points; made with the same shard.
        shard: Which rows of the pool they are.
    """

    def __init__(self, local: LocalSpace, shard: Shard) -> None:
        self.local, self.shard = local, shard
        self.device, self.dtype = local.device, local.dtype

    def __len__(self) -> int:
        """Return the number of points, the labeled ones included."""
        return len(self.local) + self.shard.size - self.shard.rows

    def take(self, rows: Rows) -> Features:
        """Return the features of some points of the pool, or, as a slice, of labeled ones."""
        if isinstance(rows, Tensor):
            return self.shard.take(rows, self.local.take)
        others = self.shard.size - self.shard.rows
        return self.local.take(slice(rows.start - others, rows.stop - others))

    def squared_distances(self, points: Features, centres: Features) -> Tensor:
        """Return non-negative squared distances ``(points, centres)``."""
        return self.local.squared_distances(points, centres)

    def nearest(self, points: Features, centres: Features) -> Tensor:
        """Return each point's squared distance from the nearest centre ``(points,)``."""
        return self.local.nearest(points, centres)

    def lower_to_nearest(self, bounds: Tensor, centres: Features) -> None:
        """Lower the pool's bounds ``(N,)``, in place: each process those of its own points."""
        mine = bounds[self.shard.rank :: self.shard.world_size].contiguous()
        self.local.lower_to_nearest(mine, centres)
        bounds.copy_(self.shard.join(mine))
