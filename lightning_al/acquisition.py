"""A round's new labels: query, ask, and put the answers into the pool."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.exceptions import ResumeError
from lightning_al.labeling import Labeling, as_query
from lightning_al.oracles import Query
from lightning_al.querying import Querying
from lightning_al.ranks import on_rank_zero
from lightning_al.strategies.base import QueryStrategy


class Acquisition:
    """Gets labels, called on every rank.

    Args:
        trainer: The running trainer.
        datamodule: The wrapped data.
        querying: Picks the samples.
        labeling: Has them labeled.
    """

    def __init__(
        self, trainer: Trainer, datamodule: ActiveLearningDataModule, querying: Querying, labeling: Labeling
    ) -> None:
        self.trainer, self.datamodule, self.querying, self.labeling = trainer, datamodule, querying, labeling

    def acquire(self, strategy: QueryStrategy, round: int, size: int) -> Query | None:
        """Query, ask and label: afterwards the pool is that of ``round``; on any error it is as before.

        Returns:
            The query; None where all of it is pending, and then the pool is as before too.
        """
        query = self._recorded(round)
        if query is None:
            query = self.querying.pick(strategy, round, size)
        elif strategy.remembers:
            # The checkpoint is of before the query: what the strategy remembers of it comes by picking once more.
            self.querying.pick(strategy, round, size)
        answers = on_rank_zero(self.trainer, lambda: self.labeling.ask(query))
        if answers.pending and not answers.labels:
            # A fit on the same labels would tell nothing. The run stays where its last checkpoint is: going on from
            # there asks for the pending ones again.
            folder = self.labeling.folder
            path = "the run's last-round.ckpt" if folder is None else folder.checkpoint
            rank_zero_info(f"No label came back: {len(answers.pending)} are pending. Go on later with ckpt_path={path}")
            return None
        pool, asked = self.datamodule.pool, query.dataset_indices.tolist()
        rejected, pending = set(answers.rejected), set(answers.pending)
        labeled = [index for index in asked if index in answers.labels]
        self.datamodule.label_in_round(labeled, [answers.labels[index] for index in labeled], round)
        pool.reject([index for index in asked if index in rejected], round)
        pool.hold([index for index in asked if index in pending], round)
        pool.round = round
        return query

    def _recorded(self, round: int) -> Query | None:
        """The query of a round that a killed process recorded, and perhaps asked, already."""
        recorded = on_rank_zero(self.trainer, lambda: self.labeling.recorded(round))
        if recorded is None:
            return None
        query = as_query(round, recorded, self.datamodule.preview)
        gone = query.dataset_indices[~self.datamodule.pool.are_unlabeled(query.dataset_indices)]
        if len(gone):
            raise ResumeError(
                f"The recorded query of round {round} asks for dataset index {int(gone[0])}, which is not "
                "unlabeled: record and pool are not of the same run. Set another `dirpath`, or restore the folder "
                "from a copy."
            )
        return query
