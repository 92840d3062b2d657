"""Asking for labels: what is asked is recorded before it is asked, what is answered before it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timezone
from typing import Any, Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng

from lightning_al import answer_sheet
from lightning_al.answered import answered
from lightning_al.exceptions import ResumeError
from lightning_al.figures import contact_sheet
from lightning_al.ledger import REJECTED, Ledger, LedgerRow, encode_label
from lightning_al.oracles import Answers, Oracle, Query
from lightning_al.pool import Pool
from lightning_al.query_records import as_record, part_of
from lightning_al.run_folder import RecordedQuery, RunFolder

INITIAL = "initial"
"""The ledger's strategy of the first labels, where no strategy picked them."""

BY_HAND = "by hand"
"""The ledger's strategy of what was labeled or rejected past any query."""

CONTROL = "control"
"""The ledger's strategy of samples that were drawn at random, to compare the strategy's with."""

_ANSWERED: tuple[Literal["labeled", "rejected"], ...] = ("labeled", "rejected")


class Labeling:
    """Puts queries to an oracle and keeps both in the run's folder; runs on one process only.

    Answers may also reach the ledger from outside, at any time: a round's are those of the rows that carry its number,
    and once a round is closed, what comes belongs to the next.

    Args:
        oracle: Who answers.
        folder: Where queries and answers are kept; None keeps nothing.
        check_labels: Raises where labels by dataset index do not fit the data; None takes any.
        classes: Names of the classes by index, for those who answer.
    """

    def __init__(
        self,
        oracle: Oracle,
        folder: RunFolder | None,
        check_labels: Callable[[Mapping[int, Any]], None] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.oracle = oracle
        self.folder = folder
        self.check_labels = check_labels
        self.classes = classes
        self.ledger = None if folder is None else Ledger(folder.ledger_path)
        self._rows: list[LedgerRow] | None = None

    @property
    def rows(self) -> list[LedgerRow]:
        """All answers so far, as they were when they were last read."""
        if self._rows is None:
            with self._alone():  # what a kill cut short is cut off, and another process may be writing
                self._read()
        return self._rows or []

    def begin(self) -> None:
        """Tell the oracle where the run is kept, before it is asked for anything."""
        self.oracle.begin(None if self.folder is None else self.folder.path, self.classes)
        self.classes = getattr(self.oracle, "classes", None) or self.classes

    # -- a round's queries
    def recorded(self, round: int, part: int = 1) -> RecordedQuery | None:
        """What was asked for a round before this process was started, if anything.

        Raises:
            RunFolderError: The record was changed.
            ResumeError: The ledger answers what was not asked.
        """
        if self.folder is None:
            return None
        recorded = self.folder.read_query(round, part)
        if part == 1:
            self._check_asked(round, recorded)
        return recorded

    def _check_asked(self, round: int, recorded: RecordedQuery | None) -> None:
        assert self.folder is not None
        mine = [row for row in self.rows if row.round == round and row.strategy not in (INITIAL, BY_HAND)]
        allowed = {row.dataset_index for row in self.rows if row.round < round}  # an answer that was corrected
        for asked in self.folder.asked():  # or came late
            query = self.folder.read_query(*asked) if asked[0] <= round else None
            allowed.update(query.dataset_indices if query else ())
        foreign = next((row.dataset_index for row in mine if row.dataset_index not in allowed), None)
        if foreign is None:
            return
        record = self.folder.record_path(round)
        if recorded is None:
            raise ResumeError(
                f"The ledger {self.folder.ledger_path} has {len(mine)} answers for round {round}, and the record of "
                f"what was asked, {record}, is gone. Restore that file from a copy."
            )
        raise ResumeError(
            f"The ledger {self.folder.ledger_path} answers for dataset index {foreign} in round {round}, which "
            f"{record} did not ask: they are not of the same run."
        )

    def is_closed(self, round: int) -> bool:
        """Whether a round has begun to train, so that no answer can belong to it any more."""
        return self.folder is not None and round < (self.folder.read_run() or {}).get("answers_for", 0)

    def ask(self, query: Query) -> Answers:
        """Record a query, ask what the ledger does not know yet, record the answers.

        Raises:
            ValueError: The oracle's answers do not belong to the query, or its labels not to the data; none is
                recorded.
            LedgerError: The ledger cannot be written, or was changed.
        """
        if self.folder is not None and self.folder.read_query(query.round, query.part) is None:
            if query.part == 1 and self.is_closed(query.round):  # by a run that went on from a later checkpoint
                with self._alone():
                    self.folder.update_run(answers_for=query.round)
            self.folder.write_query(query.round, as_record(query), query.part)
        self._show(query)
        with self._alone():
            known = self._known(query)
        positions = [i for i, index in enumerate(query.dataset_indices.tolist()) if index not in known]
        if positions and not self.is_closed(query.round):
            rest = part_of(query, positions)
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
            known |= self._append(rest, answers)
        self._check({index: row.label for index, row in known.items() if not row.rejected})
        asked = query.dataset_indices.tolist()
        return Answers(
            labels={index: known[index].label for index in asked if index in known and not known[index].rejected},
            rejected=[index for index in asked if index in known and known[index].rejected],
            pending=[index for index in asked if index not in known],
        )

    def close(self, round: int, taken: Answers) -> list[LedgerRow] | None:
        """Let a round begin: what is answered from now on belongs to the next.

        Args:
            round: The round.
            taken: What its queries asked, and the answers that the pool has.

        Returns:
            The round's answers to what earlier rounds asked, and what was changed by hand; None where other answers
            have come in between, and nothing is closed then.
        """
        asked = {*taken.labels, *taken.rejected, *taken.pending}
        with self._alone():
            rows = [row for row in self._read() if row.round == round and row.strategy != INITIAL]
            now = {row.dataset_index: row for row in rows if row.dataset_index in asked}
            labels = {index: row.label for index, row in now.items() if not row.rejected}
            if labels != taken.labels or len(now) != len(labels) + len(taken.rejected):
                return None
            # what came from outside too, before the round is closed: a correction still belongs to it
            self._check({row.dataset_index: row.label for row in rows if not row.rejected})
            if self.folder is not None and not self.is_closed(round):
                self.folder.update_run(answers_for=round + 1)
        return [row for row in rows if row.dataset_index not in asked]

    def _show(self, query: Query) -> None:
        """Write the table for people, unless they have it already and may have begun to fill it in."""
        if self.folder is None or (path := self.folder.query_path(query.round, query.part)).exists():
            return
        recorded = self.folder.read_query(query.round, query.part)
        assert recorded is not None
        to_fill = self.oracle.shows_guesses
        self.folder.write_sheet(path, answer_sheet.encode(recorded, self.classes, to_fill=to_fill))

    def record_initial(self, indices: Sequence[int], labels: Mapping[int, Any]) -> None:
        """Record the first labels, which nobody asked for.

        Raises:
            ResumeError: The ledger holds other first labels than these.
        """
        with self._alone():
            rows = self._read()
            known = [row.dataset_index for row in rows if row.round == 0 and row.strategy == INITIAL]
            went_on = any(row.round > 0 for row in rows)  # else the first write may have been cut short
            if known != list(indices[: len(known)]) or (went_on and len(known) < len(indices)):
                raise ResumeError(
                    "The ledger's initial labels are not those of this run: `initial` or `seed` differs. Set them as "
                    "they were, or another `dirpath`, for a run of its own."
                )
            now = _now()
            self._write([LedgerRow(i, 0, INITIAL, None, _answer(i, labels), now) for i in indices[len(known) :]])

    def record_by_hand(self, pool: Pool, labels: Mapping[int, Any]) -> None:
        """Record what was labeled or rejected by the datamodule's own methods, past any query."""
        with self._alone():
            known = answered(self._read())
            added = [
                LedgerRow(i, n, BY_HAND, None, _answer(i, labels) if status == "labeled" else REJECTED, _now())
                for status in _ANSWERED
                for i, n in _answered(pool, status)
                if i not in known
            ]
            self._write(added)

    def past_the_checkpoint(self, pool: Pool) -> list[LedgerRow]:
        """What was labeled or rejected by hand, and recorded, after the checkpoint of this pool was taken."""
        return [
            row
            for row in self.rows
            if row.strategy == BY_HAND
            and row.round <= pool.round
            and pool.status(row.dataset_index) in ("unlabeled", "pending")
        ]

    def check_covers(self, pool: Pool) -> None:
        """Raise where the ledger lacks answers that a restored pool holds, or holds others.

        Raises:
            ResumeError: Ledger and checkpoint contradict each other.
        """
        if self.ledger is None:
            return
        standing = answered(row for row in self.rows if row.round <= pool.round)
        for status in _ANSWERED:
            rows = [(i, its.since) for i, its in standing.items() if its.row.rejected == (status == "rejected")]
            held = _answered(pool, status)
            if sorted(rows) != sorted(held):
                raise ResumeError(
                    f"The checkpoint has {len(held)} samples {status} up to round {pool.round} and the ledger "
                    f"{self.ledger.path} {len(rows)}{', but not the same ones' if len(rows) == len(held) else ''}. "
                    "They are not of the same run, or rows of the ledger are lost. Restore the ledger from a copy, "
                    "or set another `dirpath`."
                )

    def draw_sheet(self, query: Query) -> None:
        """A contact sheet of what was asked first, where the samples are images."""
        if self.folder is None:
            return
        path = self.folder.query_path(query.round, query.part).with_suffix(".png")
        if path.exists():
            return
        first = query.dataset_indices[:64].tolist()
        captions = [f"{i}" if query.scores is None else f"{i} | {query.scores[n]:.3f}" for n, i in enumerate(first)]
        captions = [f"{i} | random" if i in query.control else told for i, told in zip(first, captions, strict=True)]
        shown = (
            f"{len(query)} sample{'s' if len(query) > 1 else ''}"
            if len(first) == len(query)
            else f"the first {len(first)} of {len(query)}"
        )
        below = "dataset index" if query.scores is None else "dataset index | score"
        title = f"Round {query.round}: asked by {query.strategy}, {shown} ({below})"
        with telling_of_failures("the contact sheet"), isolate_rng():
            images = [query.preview(index) for index in first]
            contact_sheet(images, captions, path, title)

    # -- the ledger
    def _check(self, labels: Mapping[int, Any]) -> None:
        if self.check_labels is not None and labels:
            self.check_labels(labels)

    def _alone(self) -> AbstractContextManager[object]:
        return nullcontext() if self.folder is None else self.folder.lock_answers()

    def _read(self) -> list[LedgerRow]:
        self._rows = self._rows or [] if self.ledger is None else self.ledger.read()
        return self._rows

    def _append(self, query: Query, answers: Answers) -> dict[int, LedgerRow]:
        """Record answers; where somebody has recorded one in the meantime, that one stays."""
        now = _now()
        rejected = set(answers.rejected)
        rows = []
        for position, index in enumerate(query.dataset_indices.tolist()):
            if index not in answers.labels and index not in rejected:
                continue
            score = None if query.scores is None or index in query.control else float(query.scores[position])
            label = answers.labels.get(index)
            answer = REJECTED if index in rejected else "" if label is None else encode_label(label)
            strategy = CONTROL if index in query.control else query.strategy
            rows.append(LedgerRow(index, query.round, strategy, score, answer, now))
        with self._alone():
            known = self._known(query)
            self._write([row for row in rows if row.dataset_index not in known])
        return {row.dataset_index: row for row in rows} | known

    def _known(self, query: Query) -> dict[int, LedgerRow]:
        """The last answer of each sample of a query, as the ledger is now."""
        asked = set(query.dataset_indices.tolist())
        return {r.dataset_index: r for r in self._read() if r.round == query.round and r.dataset_index in asked}

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


@contextmanager
def telling_of_failures(what: str) -> Iterator[None]:
    """A picture that cannot be drawn is no reason to end a run: it becomes a warning."""
    try:
        yield
    except Exception as error:
        rank_zero_warn(f"{what[0].upper()}{what[1:]} could not be drawn: {error!r}. The run goes on.")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
