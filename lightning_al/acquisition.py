"""A round's new labels: query, ask, and put the answers into the pool."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from functools import partial

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor

from lightning_al.control import count_controls, draw_controls
from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.exceptions import AnswersError, ResumeError
from lightning_al.labeling import Labeling
from lightning_al.oracles import Answers, Query
from lightning_al.query_records import as_query
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
        control_fraction: Share of each query that is drawn at random, to compare the strategy's picks with.
    """

    def __init__(
        self,
        trainer: Trainer,
        datamodule: ActiveLearningDataModule,
        querying: Querying,
        labeling: Labeling,
        control_fraction: float = 0.0,
    ) -> None:
        self.trainer, self.datamodule, self.querying, self.labeling = trainer, datamodule, querying, labeling
        self.control_fraction = control_fraction
        self._guesses: dict[int, Tensor | None] = {}  # of the round's queries by part: a run that waits asks often
        self._told = ""

    def acquire(self, strategy: QueryStrategy, round: int, size: int) -> list[Query] | None:
        """Query, ask and label: afterwards the pool is that of ``round``; on any error it is as before.

        What is rejected is replaced by what the strategy would pick next, in the same round.

        Returns:
            The queries; None where too few labels came back, and then the pool is as before too.
        """
        before, remembered = self.datamodule.pool_and_labels(), copy.deepcopy(strategy.state_dict())

        def start_over() -> None:
            self.datamodule.put_back(before)
            strategy.load_state_dict(copy.deepcopy(remembered))

        self._guesses.clear()
        try:
            while True:
                try:
                    queries, taken, enough = self._ask(strategy, round, size)
                except AnswersError as error:  # a table with a mistake in it, or half saved
                    if self.labeling.oracle.poll is None:
                        raise
                    rank_zero_warn(f"{error}\nThe run waits for it to be mended.")
                    enough = False
                if enough:
                    later = on_rank_zero(self.trainer, partial(self.labeling.close, round, taken))
                    if later is not None:
                        self.datamodule.take_later_answers(later, round)
                        self.datamodule.pool.round = round
                        return queries
                elif self.labeling.oracle.poll is None:
                    start_over()
                    return None
                else:
                    self._wait(self.labeling.oracle.poll)
                start_over()
        except BaseException:
            start_over()
            raise

    def _ask(self, strategy: QueryStrategy, round: int, size: int) -> tuple[list[Query], Answers, bool]:
        """Put the round's queries and their answers into the pool; whether these are enough to train on."""
        pool = self.datamodule.pool
        queries: list[Query] = []
        taken, wanted = Answers(), size
        while wanted:
            query = self._query(strategy, round, wanted, len(queries) + 1)
            answers = on_rank_zero(self.trainer, partial(self.labeling.ask, query))
            on_rank_zero(self.trainer, partial(self.labeling.draw_sheet, query))
            queries.append(query)
            asked, rejected, pending = query.dataset_indices.tolist(), set(answers.rejected), set(answers.pending)
            labeled = [index for index in asked if index in answers.labels]
            self.datamodule.label_in_round(labeled, [answers.labels[index] for index in labeled], round)
            pool.reject([index for index in asked if index in rejected], round)
            pool.hold([index for index in asked if index in pending], round)
            taken.labels |= answers.labels
            taken.rejected += answers.rejected
            taken.pending += answers.pending
            missing = len(taken.rejected) - sum(map(len, queries[1:]))  # earlier parts may have lost more since
            wanted = min(missing, len(self.querying.affordable())) if missing > 0 else 0
        least, labels = self.labeling.oracle.least_answers(len(queries[0])), len(taken.labels)
        closed = on_rank_zero(self.trainer, partial(self.labeling.is_closed, round))
        if not taken.pending or labels >= least or closed:
            return queries, taken, True
        told = on_rank_zero(self.trainer, partial(self.labeling.oracle.how_to_answer, len(taken.pending)))
        told = f"Round {round}: {labels} of {len(queries[0])} labels are there; {told}"
        if told != self._told:
            rank_zero_info(told)
        self._told = told
        return queries, taken, False

    def _query(self, strategy: QueryStrategy, round: int, size: int, part: int) -> Query:
        query = self._recorded(round, part)
        if query is None:
            query = self._pick(strategy, round, size, part)
        elif strategy.remembers:
            # The checkpoint is of before the query: what the strategy remembers of it comes by picking once more.
            self._pick(strategy, round, size if part == 1 else len(query), part)
        if not self.labeling.oracle.shows_guesses:
            return query
        if part not in self._guesses:
            self._guesses[part] = self.querying.probs(query.dataset_indices, round)
        return replace(query, probs=self._guesses[part])

    def _pick(self, strategy: QueryStrategy, round: int, size: int, part: int) -> Query:
        count = count_controls(size, self.control_fraction) if part == 1 and round > 0 else 0
        if not count:
            return self.querying.pick(strategy, round, size, part)
        controls = draw_controls(self.querying.affordable(), count, self.querying.seed * 7_368_787 + round)
        if not len(self.querying.affordable(without=controls)):  # the money is nearly spent
            return self.querying.pick(strategy, round, size, part)
        query = self.querying.pick(strategy, round, size - count, part, without=controls)
        scores = None if query.scores is None else torch.cat([query.scores, query.scores.new_full((count,), torch.nan)])
        indices = torch.cat([query.dataset_indices, controls])
        return replace(query, dataset_indices=indices, scores=scores, control=frozenset(controls.tolist()))

    def _recorded(self, round: int, part: int) -> Query | None:
        """The query of a round that a killed process recorded, and perhaps asked, already."""
        recorded = on_rank_zero(self.trainer, lambda: self.labeling.recorded(round, part))
        if recorded is None:
            return None
        query = as_query(round, recorded, self.datamodule.preview, part, self.datamodule.path)
        gone = query.dataset_indices[~self.datamodule.pool.are_unlabeled(query.dataset_indices)]
        if len(gone):
            raise ResumeError(
                f"The recorded query of round {round} asks for dataset index {int(gone[0])}, which is not "
                "unlabeled: record and pool are not of the same run. Set another `dirpath`, or restore the folder "
                "from a copy."
            )
        return query

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.trainer.received_sigterm:
                raise SIGTERMException
            time.sleep(min(left, 0.2))
