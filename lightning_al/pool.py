"""Which dataset index is labeled, unlabeled, pending or rejected, and since which round."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_al.exceptions import PoolError

Status = Literal["labeled", "pending", "rejected"]
_STATUSES: tuple[Status, ...] = ("labeled", "pending", "rejected")


class Pool:
    """The bookkeeping of a pool: every dataset index is in exactly one of four places.

    Indices are kept as lists of what left the pool, in the order it happened, so that the state of a run on ten
    million samples is as large as its labels; one bool a sample says what is still unlabeled.

    Args:
        size: How many samples the dataset has.

    Raises:
        PoolError: ``size`` is not positive.

    Example:
        >>> pool = Pool(5)
        >>> pool.label([3, 0])
        >>> pool.labeled.tolist(), pool.unlabeled.tolist()
        ([3, 0], [1, 2, 4])
        >>> pool.reject([4], round=1)
        >>> pool.unlabeled.tolist(), pool.rounds("rejected").tolist()
        ([1, 2], [1])
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise PoolError(f"The training set has {size} samples; active learning needs at least one.")
        self.size = size
        self.round = 0
        """The round whose labels are in: a checkpoint's pool and callback must agree on it."""
        self._is_unlabeled = torch.ones(size, dtype=torch.bool)
        self._indices: dict[Status, Tensor] = {s: torch.empty(0, dtype=torch.int64) for s in _STATUSES}
        self._rounds: dict[Status, Tensor] = {s: torch.empty(0, dtype=torch.int64) for s in _STATUSES}

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self._indices[s])} {s}" for s in _STATUSES)
        return f"Pool({self.size} samples: {counts}, {self.num_unlabeled} unlabeled)"

    @property
    def labeled(self) -> Tensor:
        """Dataset indices with a label, in the order they came ``(L,)``, int64."""
        return self._indices["labeled"]

    @property
    def pending(self) -> Tensor:
        """Dataset indices asked for and not answered yet, int64."""
        return self._indices["pending"]

    @property
    def rejected(self) -> Tensor:
        """Dataset indices that the oracle refused (junk), int64."""
        return self._indices["rejected"]

    @property
    def unlabeled(self) -> Tensor:
        """Dataset indices a query may pick, ascending ``(U,)``, int64. Made anew at each call."""
        return self._is_unlabeled.nonzero().squeeze(1)

    @property
    def num_unlabeled(self) -> int:
        """How many samples a query may pick."""
        return self.size - sum(len(indices) for indices in self._indices.values())

    def rounds(self, status: Status = "labeled") -> Tensor:
        """The round in which each index of ``status`` came there, in the same order, int64."""
        return self._rounds[status]

    def label(self, indices: Sequence[int] | Tensor, round: int | None = None) -> None:
        """Move unlabeled or pending indices to labeled.

        Args:
            indices: Dataset indices, each once, none labeled or rejected.
            round: The round that first trains on them; the current one by default.

        Raises:
            PoolError: An index is out of range, doubled, labeled or rejected; nothing is moved then.
        """
        self._move(indices, "labeled", round)

    def reject(self, indices: Sequence[int] | Tensor, round: int | None = None) -> None:
        """Take unlabeled or pending indices out for good; arguments and errors as in :meth:`label`."""
        self._move(indices, "rejected", round)

    def hold(self, indices: Sequence[int] | Tensor, round: int | None = None) -> None:
        """Mark unlabeled indices as pending: asked, not answered; arguments and errors as in :meth:`label`."""
        self._move(indices, "pending", round)

    def _move(self, indices: Sequence[int] | Tensor, to: Status, round: int | None) -> None:
        moved = torch.as_tensor(indices, dtype=torch.int64).flatten()
        if moved.numel() == 0:
            return
        self._check(moved, to)
        # Out of place: with spawned processes the tensors of the parent are shared memory, and writing into them
        # would move the samples of the other ranks too.
        is_unlabeled = self._is_unlabeled.clone()
        is_unlabeled[moved] = False
        if to != "pending" and len(self.pending):
            stays = ~torch.isin(self.pending, moved)
            self._indices["pending"] = self.pending[stays]
            self._rounds["pending"] = self._rounds["pending"][stays]
        since = torch.full_like(moved, self.round if round is None else round)
        self._is_unlabeled = is_unlabeled
        self._indices[to] = torch.cat([self._indices[to], moved])
        self._rounds[to] = torch.cat([self._rounds[to], since])

    def _check(self, moved: Tensor, to: Status) -> None:
        outside = moved[(moved < 0) | (moved >= self.size)]
        if len(outside):
            raise PoolError(f"Index {int(outside[0])} is outside the dataset of {self.size} samples.")
        unique, counts = moved.unique(return_counts=True)
        if len(unique) != len(moved):
            raise PoolError(f"Index {int(unique[counts > 1][0])} is named more than once.")
        gone = moved[~self._is_unlabeled[moved]]
        if to != "pending" and len(self.pending):
            gone = gone[~torch.isin(gone, self.pending)]
        if len(gone):
            where = next(s for s in _STATUSES if bool((self._indices[s] == gone[0]).any()))
            raise PoolError(f"Index {int(gone[0])} is {where} already and cannot become {to}.")

    def digest(self) -> str:
        """A short fingerprint of the whole state, order included."""
        content = hashlib.sha256(f"{self.size}:{self.round}".encode())
        for status in _STATUSES:
            content.update(self._indices[status].numpy().tobytes())
            content.update(self._rounds[status].numpy().tobytes() + status.encode())
        return content.hexdigest()[:16]

    def state_dict(self) -> dict[str, Any]:
        """Index lists of what left the pool; loads with ``torch.load(weights_only=True)``."""
        state: dict[str, Any] = {"size": self.size, "round": self.round, "digest": self.digest()}
        for status in _STATUSES:
            state[status] = self._indices[status].clone()
            state[f"{status}_rounds"] = self._rounds[status].clone()
        return state

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Pool:
        """The pool that :meth:`state_dict` described.

        Raises:
            PoolError: The state contradicts itself: it was changed after it was saved.
        """
        try:
            pool = cls(int(state["size"]))
            for status in _STATUSES:
                indices = torch.as_tensor(state[status], dtype=torch.int64)
                pool._move(indices, status, None)
                pool._rounds[status] = torch.as_tensor(state[f"{status}_rounds"], dtype=torch.int64).clone()
            pool.round = int(state["round"])
            agrees = pool.digest() == state["digest"]
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise PoolError(f"The checkpoint's pool cannot be read ({error}); it was changed after it was saved.") from None
        if not agrees:
            raise PoolError("The checkpoint's pool does not match its own digest; it was changed after it was saved.")
        return pool
