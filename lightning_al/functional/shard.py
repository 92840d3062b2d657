"""A pool spread over processes: which rows each holds, and how they put together what they need of each other.

Every process runs the same selection on the same numbers, and asks for the same rows at the same time. Before anything
is gathered the processes tell each other that they are well and what they are about to gather, so that the error of
one, or a difference between them, ends all: nobody waits for a process that has left.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from lightning_al.exceptions import ActiveLearningError

Features = tuple[Tensor, ...]
"""What distances are computed from: tensors with one row a point."""

_MESSAGE_BYTES = 2048


class Shard:
    """The rows ``rank``, ``rank + world_size``, ``rank + 2 * world_size``, ... of a pool, held by one of the processes.

    Of one selection: after an error no process uses it again.

    Args:
        rank: This process's number, from 0.
        world_size: Number of processes W.
        size: Number of rows N of the whole pool.
        gather: Puts the processes' tensors together, ``(n, ...)`` to ``(W, n, ...)``, on the device of what it is
            given: this rank's data's, or the CPU. All processes call it with the same shape and type.

    Example:
        >>> shard = Shard(rank=0, world_size=1, size=3, gather=lambda mine: mine[None])
        >>> shard.rows, shard.join(torch.tensor([5, 6, 7]))
        (3, tensor([5, 6, 7]))
    """

    def __init__(self, rank: int, world_size: int, size: int, gather: Callable[[Tensor], Tensor]) -> None:
        self.rank, self.world_size, self.size, self.gather = rank, world_size, size, gather
        self._ended = False

    @property
    def rows(self) -> int:
        """Number of rows that this process holds."""
        return len(range(self.rank, self.size, self.world_size))

    def check_rows(self, values: Tensor, name: str) -> int:
        """Return the size of the whole pool.

        Args:
            values: This process's rows ``(rows, ...)``.
            name: The argument's name, for the message.

        Returns:
            The number of rows of all processes.

        Raises:
            ValueError: If they are not as many as this process should hold.
        """
        if len(values) != self.rows:
            raise ValueError(
                f"Expected `{name}` to hold the {self.rows} rows of rank {self.rank} out of {self.size} on "
                f"{self.world_size} ranks, but got {len(values)}. Pass `{name}[rank::world_size]`."
            )
        return self.size

    def together(self, act: Callable[[], Tensor]) -> Tensor:
        """Do something on all processes that gives each the same.

        Args:
            act: Returns integers, the same on every process.

        Returns:
            What it returned.

        Raises:
            ActiveLearningError: If it failed on another process, or the processes differ.
        """
        try:
            result = act()
            self._agree(_digest(result))
        except Exception as error:
            if not self._ended:
                self._agree(0, error)
            raise
        return result

    def exchange(self, mine: Tensor, asked: Tensor | None = None) -> Tensor:
        """Gather a tensor of the same shape from each process ``(W, n, ...)``.

        Args:
            mine: This process's ``(n, ...)``.
            asked: Integers that must be the same on all processes.

        Returns:
            Those of all, by rank.

        Raises:
            ActiveLearningError: If another process failed, or is about to gather something else.
        """
        self._agree(_digest(asked, zlib.crc32(f"{tuple(mine.shape)} {mine.dtype}".encode())))
        return self.gather(mine)

    def join(self, mine: Tensor) -> Tensor:
        """Gather the rows of all processes.

        Args:
            mine: This process's rows ``(rows, ...)``.

        Returns:
            Those of the whole pool ``(N, ...)``, in its order.
        """
        padded = mine.new_zeros((-(-self.size // self.world_size), *mine.shape[1:]))
        padded[: len(mine)] = mine
        return self.exchange(padded).transpose(0, 1).flatten(0, 1)[: self.size]

    def take(self, positions: Tensor, fetch: Callable[[Tensor], Features]) -> Features:
        """Gather the features of some rows from the processes that hold them, in one exchange.

        Args:
            positions: Positions ``(M,)`` in the whole pool, the same on all processes.
            fetch: Returns the features of this process's rows, given their positions among them.

        Returns:
            Features with M rows, in the order of the positions.
        """
        owner = positions % self.world_size
        mine = (owner == self.rank).nonzero()[:, 0]
        features = fetch(positions[mine] // self.world_size)
        columns = [feature[:, None] if feature.ndim == 1 else feature for feature in features]
        ranks = torch.arange(self.world_size, device=positions.device)
        among_owners = (owner[:, None] == ranks).cumsum(0).gather(1, owner[:, None])[:, 0] - 1
        widths = [part.shape[1] for part in columns]
        widest = reduce(torch.promote_types, (part.dtype for part in columns))
        padded = columns[0].new_zeros((int(owner.bincount().max()), sum(widths)), dtype=widest)
        torch.cat([part.to(widest) for part in columns], dim=1, out=padded[: len(mine)])
        parts = self.exchange(padded, positions).split(widths, dim=2)
        taken = [part[owner, among_owners].to(feature.dtype) for part, feature in zip(parts, features, strict=True)]
        return tuple(new if old.ndim > 1 else new[:, 0] for new, old in zip(taken, features, strict=True))

    def _agree(self, digest: int, error: Exception | None = None) -> None:
        """Tell the others about this process; raise where another failed, or has another digest."""
        told = self.gather(torch.tensor([int(error is None), digest]))
        failed = (told[:, 0] == 0).nonzero()[:, 0].tolist()
        differ = bool((told[:, 1] != told[0, 1]).any())
        self._ended = bool(failed) or differ
        if failed:
            messages = self.gather(_encoded("" if error is None else f"{type(error).__name__}: {error}"))
            if error is None:
                raise ActiveLearningError(f"Rank {failed[0]} failed: {_decoded(messages[failed[0]])}")
        elif differ:
            raise ActiveLearningError(
                "The ranks are about to part: they do not pick the same samples. They must be given the same query "
                "size, labeled samples and state of the generator, and run on devices of one kind. If this strategy is "
                "your own, set `sharded = False` in its class, unless it picks the same on every rank."
            )


def _digest(values: Tensor | None, start: int = 0) -> int:
    return start if values is None else zlib.crc32(values.to("cpu", torch.int64).numpy().tobytes(), start)


def _encoded(message: str) -> Tensor:
    text = message.encode()[:_MESSAGE_BYTES]
    return torch.tensor(list(text.ljust(_MESSAGE_BYTES, b"\0")), dtype=torch.uint8)


def _decoded(message: Tensor) -> str:
    return bytes(message.tolist()).rstrip(b"\0").decode(errors="replace")
