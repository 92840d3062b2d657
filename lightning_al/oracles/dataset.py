"""The dataset answers: for simulation, and where all labels exist."""

from __future__ import annotations

from lightning_al.oracles.base import Answers, Oracle, Query


class DatasetOracle(Oracle):
    """Labels every sample with the dataset's own target: the default, for simulated active learning.

    Examples:
        >>> import torch
        >>> query = Query(torch.tensor([7, 2]), round=1, strategy="Margin", scores=None, probs=None, preview=str)
        >>> DatasetOracle().label(query)
        Answers(labels={7: None, 2: None}, rejected=[], pending=[])
    """

    def label(self, query: Query) -> Answers:
        """Answers every index with ``None``: the dataset's own target.

        Args:
            query: What is asked.

        Returns:
            A label for each index asked, in the order asked.
        """
        return Answers(labels=dict.fromkeys(query.dataset_indices.tolist()))
