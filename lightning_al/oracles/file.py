"""People answer by filling in a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_al import answer_sheet
from lightning_al.exceptions import AnswersError
from lightning_al.oracles.base import Answers, Oracle, Query
from lightning_al.run_folder import RunFolder


class FileOracle(Oracle):
    """Asks people by a table, and ends the run until they have answered.

    At the end of a round ``RUN_DIR/queries/round-003.csv`` lists what is asked, with each sample's file, the model's
    guess and its confidence, beside a contact sheet where the samples are images. Labels come back by
    ``lightning-al pool import RUN_DIR labels.csv``, or in the table itself: the name or the index of the class in the
    column ``label``, or an x in ``reject`` where a sample is junk. Then the same ``fit`` command with
    ``--ckpt_path last`` goes on.

    Args:
        min_answers: With how many labels of a query the next round begins: a count, or a share in (0, 1]; by default
            all that were not rejected. What is late trains in the round after it came.
        poll: Seconds between two looks, for a run that waits instead of ending; on one process only.
        classes: The names of the classes by index; by default the ``classes`` of datamodule or dataset.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> FileOracle(min_answers=0.8).least_answers(20)
        16
    """

    shows_guesses = True

    def __init__(
        self, min_answers: int | float | None = None, poll: float | None = None, classes: list[str] | None = None
    ) -> None:
        share = isinstance(min_answers, float) and 0 < min_answers <= 1
        count = isinstance(min_answers, int) and not isinstance(min_answers, bool) and min_answers >= 1
        if min_answers is not None and not share and not count:
            raise ValueError(f"Expected `min_answers` to be a count or a share in (0, 1], but got {min_answers!r}.")
        if poll is not None and not poll > 0:
            raise ValueError(f"Expected `poll` to be seconds above 0, but got {poll!r}.")
        if classes is not None and (isinstance(classes, str) or len(set(classes)) < len(classes)):
            raise ValueError(f"Expected `classes` to list different names, but got {classes!r}.")
        self.min_answers, self.poll, self.classes = min_answers, poll, classes
        self._folder: RunFolder | None = None

    def begin(self, folder: Path | None, classes: Sequence[str] | None) -> None:
        """See :meth:`Oracle.begin`.

        Raises:
            AnswersError: The run keeps no folder, under ``fast_dev_run``, and so has no place for the table.
        """
        if folder is None:
            name = type(self).__name__
            raise AnswersError(f"{name} needs a run's folder, which `fast_dev_run` does not keep: leave it out.")
        self._folder = RunFolder(folder)
        self.classes = [*classes] if self.classes is None and classes is not None else self.classes

    def least_answers(self, asked: int) -> int:
        """See :meth:`Oracle.least_answers`."""
        if self.min_answers is None:
            return asked
        whole = isinstance(self.min_answers, int)
        return min(asked, int(self.min_answers) if whole else max(1, round(self.min_answers * asked)))

    def how_to_answer(self, pending: int) -> str:
        """See :meth:`Oracle.how_to_answer`."""
        assert self._folder is not None
        last = max((round for round, _ in self._folder.asked()), default=0)
        sheets = [str(self._folder.query_path(*asked)) for asked in self._folder.asked() if asked[0] == last]
        where = f"fill in {' and '.join(sheets)}, or run `lightning-al pool import {self._folder.path} labels.csv`"
        return f"waiting for {pending} label{'s' if pending != 1 else ''}: {where}"

    def label(self, query: Query) -> Answers:
        """Looks into the query's table.

        Raises:
            AnswersError: It holds what cannot be understood; the message names the rows.
        """
        assert self._folder is not None
        path = self._folder.query_path(query.round, query.part)
        asked = dict.fromkeys(query.dataset_indices.tolist())
        paths = {index: found for index in asked if (found := query.path(index)) is not None}
        content = path.read_bytes() if path.exists() else b"dataset_index,label\n"
        given = answer_sheet.decode(content, str(path), self.classes, paths)
        recorded = self._folder.read_query(query.round, query.part)
        known = set(asked if recorded is None else recorded.dataset_indices)
        by_index: dict[int, answer_sheet.Given] = {}
        problems = []
        for answer in given:
            index = answer.dataset_index
            other = by_index.setdefault(index, answer)
            if index not in known:
                problems.append(f"row {answer.row}: dataset index {index} was not asked for in this table")
            elif (other.label, other.rejected) != (answer.label, answer.rejected):
                problems.append(f"row {answer.row}: dataset index {index} has another answer in row {other.row}")
        answer_sheet.refuse(problems, str(path))
        answered = [by_index[index] for index in asked if index in by_index]
        return Answers(
            labels={each.dataset_index: each.label for each in answered if not each.rejected},
            rejected=[each.dataset_index for each in answered if each.rejected],
            pending=[index for index in asked if index not in by_index],
        )
