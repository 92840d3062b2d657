"""What is asked, what is answered, and who answers."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def no_path(index: int) -> str | None:
    """What stands for the file of a sample where nobody says."""
    return None


@dataclass
class Query:
    """The samples a strategy asks to be labeled, in the order picked.

    Args:
        dataset_indices: Which samples, indices into the training set: (B,), int64.
        round: The round that will train on the labels.
        strategy: The name of the strategy that asks.
        scores: Its scores (B,), higher is asked first; ``None`` where it gives none.
        probs: The model's class probabilities (B, C), to show a guess to people; ``None`` where there are none.
        preview: Gives the sample of a dataset index, with evaluation transforms.
        part: 1; 2 and more replace samples that were rejected in the same round.
        control: Those of the samples that were drawn at random, to compare the strategy's with.
        path: Gives the file of a dataset index, ``None`` where the dataset does not say.

    Raises:
        ValueError: If the indices are no (B,) int64 tensor, or scores or probs are of another length.

    Examples:
        >>> query = Query(torch.tensor([7, 2]), round=1, strategy="Margin", scores=None, probs=None, preview=str)
        >>> len(query), query.preview(7)
        (2, '7')
    """

    dataset_indices: Tensor
    round: int
    strategy: str
    scores: Tensor | None
    probs: Tensor | None
    preview: Callable[[int], Any]
    part: int = 1
    control: frozenset[int] = frozenset()
    path: Callable[[int], str | None] = no_path

    def __post_init__(self) -> None:
        """Checks shapes."""
        indices = self.dataset_indices
        if not isinstance(indices, Tensor) or indices.dim() != 1 or indices.dtype != torch.int64:
            got = f"{tuple(indices.shape)} {indices.dtype}" if isinstance(indices, Tensor) else repr(indices)
            raise ValueError(f"Expected `dataset_indices` to be an int64 tensor of shape (B,), but got {got}.")
        for name, values, dims in (("scores", self.scores, 1), ("probs", self.probs, 2)):
            if values is not None and (values.dim() != dims or len(values) != len(indices)):
                raise ValueError(
                    f"Expected `{name}` to have {dims} dimension(s) and {len(indices)} rows, one for each of "
                    f"`dataset_indices`, but got shape {tuple(values.shape)}."
                )

    def __len__(self) -> int:
        """How many samples are asked (B)."""
        return len(self.dataset_indices)


@dataclass
class Answers:
    """What came back. Each index that was asked stands in exactly one of the three.

    Args:
        labels: The label of each labeled dataset index; ``None`` for "the dataset's own target".
        rejected: Dataset indices that cannot be labeled (junk). They are never asked again.
        pending: Dataset indices without an answer yet. They are not asked in later rounds; where
            a whole query is pending the run ends, and asks for them again when it goes on.

    Raises:
        ValueError: If an index stands in two places.

    Examples:
        >>> Answers(labels={7: "weed"}, rejected=[2])
        Answers(labels={7: 'weed'}, rejected=[2], pending=[])
    """

    labels: dict[int, Any] = field(default_factory=dict)
    rejected: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Makes all indices plain integers and checks that none stands twice."""
        # indices taken from a tensor are tensors, and as keys of a dict two equal ones would be two keys
        self.labels = {operator.index(index): label for index, label in self.labels.items()}
        self.rejected = [operator.index(index) for index in self.rejected]
        self.pending = [operator.index(index) for index in self.pending]
        counts = Counter([*self.labels, *self.rejected, *self.pending])
        twice = sorted(index for index, count in counts.items() if count > 1)
        if twice:
            raise ValueError(
                "Expected each dataset index once in `labels`, `rejected` or `pending`, but these stand there more "
                f"than once: {twice[:10]}."
            )

    def check(self, query: Query) -> None:
        """Checks that the answers are to this query: all that was asked, nothing that was not.

        Args:
            query: What was asked.

        Raises:
            ValueError: If an index is missing, or was not asked.

        Examples:
            >>> query = Query(torch.tensor([7, 2]), round=1, strategy="Margin", scores=None, probs=None, preview=str)
            >>> Answers(labels={7: "weed"}, pending=[2]).check(query)
        """
        asked = set(query.dataset_indices.tolist())
        answered = {*self.labels, *self.rejected, *self.pending}
        for indices, what in ((answered - asked, "that were not asked"), (asked - answered, "missing")):
            if indices:
                raise ValueError(
                    f"Expected the oracle to answer the {len(asked)} dataset indices of round {query.round}'s query, "
                    f"but got {len(indices)} {what}: {sorted(indices)[:10]}. List what has no answer yet in `pending`."
                )


class Oracle(ABC):
    """Answers a query: a person, a program, or the dataset itself."""

    shows_guesses: bool = False
    """Whether queries shall come with the model's class probabilities: the samples asked are run once more for them."""

    poll: float | None = None
    """Seconds between two times that the run asks for what is pending; ``None``: it ends, and asks when it goes on."""

    def begin(self, folder: Path | None, classes: Sequence[str] | None) -> None:  # noqa: B027 - not all need it
        """Called before the first query.

        Args:
            folder: The run's folder, where whoever answers may find or leave files; ``None`` where none is kept.
            classes: The names of the classes by index, where datamodule or dataset have them as ``classes``.
        """

    def least_answers(self, asked: int) -> int:
        """With how many labels a round can begin while others are pending.

        Args:
            asked: How many samples were asked for.
        """
        return min(asked, 1)

    def how_to_answer(self, pending: int) -> str:
        """What somebody has to do so that the run can go on: the end of a sentence.

        Args:
            pending: How many samples wait for an answer.
        """
        return f"{pending} are pending"

    @abstractmethod
    def label(self, query: Query) -> Answers:
        """Answers a query.

        Args:
            query: What is asked.

        Returns:
            A label, a rejection or pending for each index asked.
        """
