"""Asking for labels: what is asked is recorded before it is asked, what is answered before it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from lightning_al.exceptions import ResumeError
from lightning_al.figures import contact_sheet
from lightning_al.ledger import REJECTED, Ledger, LedgerRow, encode_label
from lightning_al.oracles import Answers, Oracle, Query
from lightning_al.pool import Pool
from lightning_al.run_folder import RecordedQuery, RunFolder

INITIAL = "initial"
"""The ledger's strategy of the first labels, where no strategy picked them."""

BY_HAND = "by hand"
"""The ledger's strategy of what the datamodule's ``label`` and ``reject`` were called with."""

_ANSWERED: tuple[Literal["labeled", "rejected"], ...] = ("labeled", "rejected")


class Labeling:
    """Puts queries to an oracle and keeps both in the run's folder; runs on one process only.

    Args:
        oracle: Who answers.
        folder: Where queries and answers are kept; None keeps nothing.
        check_labels: Raises where labels by dataset index do not fit the data; None takes any.
    """

    def __init__(
        self,
        oracle: Oracle,
        folder: RunFolder | None,
        check_labels: Callable[[Mapping[int, Any]], None] | None = None,
    ) -> None:
        self.oracle = oracle
        self.folder = folder
        self.check_labels = check_labels
        self.ledger = None if folder is None else Ledger(folder.ledger_path)
        self._rows: list[LedgerRow] | None = None

    @property
    def rows(self) -> list[LedgerRow]:
        """All answers so far."""
        if self._rows is None:
            self._rows = [] if self.ledger is None else self.ledger.read()
        return self._rows

    def recorded(self, round: int) -> RecordedQuery | None:
        """What was asked for a round before this process was started, if anything.

        Raises:
            RunFolderError: The record was changed.
            ResumeError: The ledger answers what was not asked.
        """
        if self.folder is None:
            return None
        recorded = self.folder.read_query(round)
        answered = [row for row in self.rows if row.round == round]
        if recorded is None and answered and round > 0:
            raise ResumeError(
                f"The ledger {self.folder.ledger_path} has {len(answered)} answers for round {round}, and the record "
                f"of what was asked, {self.folder.query_path(round)}, is gone. Restore that file from a copy."
            )
        foreign = {row.dataset_index for row in answered} - set(recorded.dataset_indices if recorded else ())
        if recorded is not None and foreign:
            raise ResumeError(
                f"The ledger {self.folder.ledger_path} answers for dataset index {min(foreign)} in round {round}, "
                f"which {self.folder.query_path(round)} did not ask: they are not of the same run."
            )
        return recorded

    def ask(self, query: Query) -> Answers:
        """Record a query, ask what the ledger does not know yet, record the answers.

        Raises:
            ValueError: The oracle's answers do not belong to the query, or its labels not to the data; none is
                recorded.
            LedgerError: The ledger cannot be written, or was changed.
        """
        asked = query.dataset_indices.tolist()
        if self.folder is not None and self.recorded(query.round) is None:
            scores = None if query.scores is None else query.scores.tolist()
            self.folder.write_query(query.round, RecordedQuery(asked, scores, query.strategy))
        known = {row.dataset_index: row for row in self.rows if row.round == query.round}
        positions = [i for i, index in enumerate(asked) if index not in known]
        answers = Answers()
        if positions:
            rest = _part(query, positions)
            with isolate_rng():  # a replay does not ask: what the oracle draws must not reach the coming fit
                answers = self.oracle.label(rest)
            if not isinstance(answers, Answers):
                raise ValueError(
                    f"Expected {type(self.oracle).__name__}.label to return `Answers(labels={{index: label, ...}})`, "
                    f"but got a {type(answers).__name__}."
                )
            answers.check(rest)
            if self.check_labels is not None:
                self.check_labels(answers.labels)
            self._append(rest, answers)
        for index, row in known.items():
            if row.rejected:
                answers.rejected.append(index)
            else:
                answers.labels[index] = row.label
        return answers

    def record_initial(self, indices: Sequence[int], labels: Mapping[int, Any]) -> None:
        """Record the first labels, which nobody asked for.

        Raises:
            ResumeError: The ledger holds other first labels than these.
        """
        known = [row.dataset_index for row in self.rows if row.round == 0 and row.strategy == INITIAL]
        went_on = any(row.round > 0 for row in self.rows)  # else the first write may have been cut short
        if known != list(indices[: len(known)]) or (went_on and len(known) < len(indices)):
            raise ResumeError(
                "The ledger's initial labels are not those of this run: `initial` or `seed` differs. Set them as they "
                "were, or another `dirpath`, for a run of its own."
            )
        now = _now()
        self._write([LedgerRow(i, 0, INITIAL, None, _answer(i, labels), now) for i in indices[len(known) :]])

    def record_by_hand(self, pool: Pool, labels: Mapping[int, Any]) -> None:
        """Record what was labeled or rejected by the datamodule's own methods, past any query."""
        rows = self.rows
        if len(pool.labeled) + len(pool.rejected) <= len(rows):
            return
        known = {row.dataset_index for row in rows}
        added = [
            LedgerRow(i, n, BY_HAND, None, _answer(i, labels) if status == "labeled" else REJECTED, _now())
            for status in _ANSWERED
            for i, n in _answered(pool, status)
            if i not in known
        ]
        self._write(added)

    def check_covers(self, pool: Pool) -> None:
        """Raise where the ledger lacks answers that a restored pool holds, or holds others.

        Raises:
            ResumeError: Ledger and checkpoint contradict each other.
        """
        if self.ledger is None:
            return
        for status in _ANSWERED:
            rows = [r for r in self.rows if r.round <= pool.round and r.rejected == (status == "rejected")]
            held = _answered(pool, status)
            if sorted((r.dataset_index, r.round) for r in rows) != sorted(held):
                raise ResumeError(
                    f"The checkpoint has {len(held)} samples {status} up to round {pool.round} and the ledger "
                    f"{self.ledger.path} {len(rows)}{', but not the same ones' if len(rows) == len(held) else ''}. "
                    "They are not of the same run, or rows of the ledger are lost. Restore the ledger from a copy, "
                    "or set another `dirpath`."
                )

    def draw_sheet(self, query: Query) -> None:
        """A contact sheet of what was asked first, where the samples are images."""
        if self.folder is None or self.folder.query_path(query.round).with_suffix(".png").exists():
            return
        first = query.dataset_indices[:64].tolist()
        captions = [f"{i}" if query.scores is None else f"{i} | {query.scores[n]:.3f}" for n, i in enumerate(first)]
        shown = f"{len(query)} samples" if len(first) == len(query) else f"the first {len(first)} of {len(query)}"
        below = "dataset index" if query.scores is None else "dataset index | score"
        title = f"Round {query.round}: asked by {query.strategy}, {shown} ({below})"
        with telling_of_failures("the contact sheet"), isolate_rng():
            images = [query.preview(index) for index in first]
            contact_sheet(images, captions, self.folder.query_path(query.round).with_suffix(".png"), title)

    def _append(self, query: Query, answers: Answers) -> None:
        now = _now()
        rejected = set(answers.rejected)
        rows = []
        for position, index in enumerate(query.dataset_indices.tolist()):
            if index not in answers.labels and index not in rejected:
                continue
            score = None if query.scores is None else float(query.scores[position])
            label = answers.labels.get(index)
            answer = REJECTED if index in rejected else "" if label is None else encode_label(label)
            rows.append(LedgerRow(index, query.round, query.strategy, score, answer, now))
        self._write(rows)
        # As the ledger gives them back after a kill, and as a checkpoint may hold them: plain numbers, text and lists.
        answers.labels = {row.dataset_index: row.label for row in rows if not row.rejected}

    def _write(self, rows: list[LedgerRow]) -> None:
        known = self.rows
        if self.ledger is not None and rows:
            self.ledger.append(rows)
        self._rows = known + rows


def _answer(index: int, labels: Mapping[int, Any]) -> str:
    return encode_label(labels[index]) if index in labels else ""


def _answered(pool: Pool, status: Literal["labeled", "rejected"]) -> list[tuple[int, int]]:
    """Each dataset index of a status with its round."""
    indices = pool.labeled if status == "labeled" else pool.rejected
    return list(zip(indices.tolist(), pool.rounds(status).tolist(), strict=True))


def _part(query: Query, positions: list[int]) -> Query:
    def rows(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[positions]

    chosen = query.dataset_indices[positions]
    return Query(chosen, query.round, query.strategy, rows(query.scores), rows(query.probs), query.preview)


def as_query(round: int, recorded: RecordedQuery, preview: Callable[[int], Any]) -> Query:
    """A recorded query as a query again."""
    scores = None if recorded.scores is None else torch.tensor(recorded.scores, dtype=torch.float64)
    indices = torch.tensor(recorded.dataset_indices, dtype=torch.int64)
    return Query(indices, round, recorded.strategy, scores, None, preview)


@contextmanager
def telling_of_failures(what: str) -> Iterator[None]:
    """A picture that cannot be drawn is no reason to end a run: it becomes a warning."""
    try:
        yield
    except Exception as error:
        rank_zero_warn(f"{what[0].upper()}{what[1:]} could not be drawn: {error!r}. The run goes on.")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
