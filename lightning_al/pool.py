"""Which dataset index is labeled, unlabeled, pending or rejected, and since which round."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_al.exceptions import PoolError

Status = Literal["labeled", "pending", "rejected"]
_STATUSES: tuple[Status, ...] = ("labeled", "pending", "rejected")
_BLOCK = 1 << 18  # indices found at a time: what `nonzero` makes of them stays in the cache


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
        return self.candidates(torch.int64)

    def candidates(self, dtype: torch.dtype | None = None) -> Tensor:
        """As :attr:`unlabeled`, by default in int32 where that holds them: 40 MB instead of 80 for ten million."""
        if dtype is None:
            dtype = torch.int32 if self.size < 1 << 31 else torch.int64
        found = torch.empty(self.num_unlabeled, dtype=dtype)
        done = 0
        for start in range(0, self.size, _BLOCK):
            block = self._is_unlabeled[start : start + _BLOCK].nonzero().squeeze(1)
            found[done : done + len(block)] = block.add_(start)
            done += len(block)
        return found

    def are_unlabeled(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Whether a query may pick each of these dataset indices ``(B,)``, bool; False for one out of range."""
        asked = torch.as_tensor(indices, dtype=torch.int64).flatten()
        inside = (asked >= 0) & (asked < self.size)
        return inside & self._is_unlabeled[asked.clamp(0, self.size - 1)]

    def status(self, index: int) -> Status | Literal["unlabeled"]:
        """Where a dataset index is."""
        return next((s for s in _STATUSES if bool((self._indices[s] == index).any())), "unlabeled")

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

    def correct(self, indices: Sequence[int] | Tensor, to: Literal["labeled", "rejected"], round: int) -> None:
        """Move labeled indices to rejected, or rejected ones to labeled: somebody has changed their mind.

        Args:
            indices: Dataset indices, each once, all of them on the other side.
            to: Where they belong.
            round: The round that first trains with them there.

        Raises:
            PoolError: An index is on neither side, or already there; nothing is moved then.

        Example:
            >>> pool = Pool(5)
            >>> pool.label([3, 0])
            >>> pool.correct([3], "rejected", round=2)
            >>> pool.labeled.tolist(), pool.rejected.tolist(), pool.rounds("rejected").tolist()
            ([0], [3], [2])
        """
        moved = torch.as_tensor(indices, dtype=torch.int64).flatten()
        held: Status = "rejected" if to == "labeled" else "labeled"
        stays = ~torch.isin(self._indices[held], moved)
        missing = moved[~torch.isin(moved, self._indices[held])]
        if len(missing) or len(moved.unique()) != len(moved):
            raise PoolError(f"Expected indices that are {held}, each once, but got {moved.tolist()[:10]}.")
        self._indices[held], self._rounds[held] = self._indices[held][stays], self._rounds[held][stays]
        self._indices[to] = torch.cat([self._indices[to], moved])
        self._rounds[to] = torch.cat([self._rounds[to], torch.full_like(moved, round)])

    def copy(self) -> Pool:
        """A pool that changes on its own from now on; nothing is copied until it does."""
        other = copy.copy(self)
        other._indices, other._rounds = dict(self._indices), dict(self._rounds)
        return other

    def _move(self, indices: Sequence[int] | Tensor, to: Status, round: int | None) -> None:
        given = torch.as_tensor(indices)
        if given.numel() == 0:
            return
        if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
            hint = " For a mask give `mask.nonzero().flatten()`." if given.dtype == torch.bool else ""
            raise PoolError(f"Expected dataset indices to be integers, but got {given.dtype}.{hint}")
        moved = given.to("cpu", torch.int64).flatten()
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
            raise PoolError(
                f"Index {int(outside[0])} is outside the dataset of {self.size} samples: expected 0 to {self.size - 1}."
            )
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
            content.update(self._indices[status].numpy().data)
            content.update(self._rounds[status].numpy().data)
            content.update(status.encode())
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
        except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise PoolError(f"The checkpoint's pool cannot be read ({error}): it was changed after saving.") from None
        if not agrees:
            raise PoolError("The checkpoint's pool does not match its own digest; it was changed after it was saved.")
        return pool
