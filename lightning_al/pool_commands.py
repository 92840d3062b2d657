"""What people do to a run from outside: look where it stands, take its query along, bring answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lightning_al import answer_sheet
from lightning_al.answer_sheet import Given
from lightning_al.answered import Answered, answered
from lightning_al.exceptions import AnswersError, RunFolderError
from lightning_al.labeling import BY_HAND, CONTROL
from lightning_al.ledger import REJECTED, Ledger, LedgerRow, encode_label
from lightning_al.recorded_query import RecordedQuery
from lightning_al.run_folder import RunFolder


@dataclass(frozen=True)
class Standing:
    """Where a run stands, as its folder tells.

    Args:
        folder: The run's folder.
        info: What run.json holds.
        queries: All that was asked, by round and part.
        standing: Each sample's answer by dataset index.
    """

    folder: RunFolder
    info: dict[str, Any]
    queries: dict[tuple[int, int], RecordedQuery]
    standing: dict[int, Answered]

    @property
    def answers_for(self) -> int:
        """The round that first trains on what is answered now."""
        return int(self.info.get("answers_for", 0))

    @property
    def waiting(self) -> dict[tuple[int, int], list[int]]:
        """The dataset indices without an answer, by round and part."""
        open_ = {
            asked: [index for index in query.dataset_indices if index not in self.standing]
            for asked, query in self.queries.items()
        }
        return {asked: indices for asked, indices in open_.items() if indices}

    @property
    def paths(self) -> dict[int, str]:
        """The file of each dataset index that was asked, where the dataset says."""
        return {
            index: path
            for query in self.queries.values()
            if query.paths
            for index, path in zip(query.dataset_indices, query.paths, strict=True)
        }

    def __str__(self) -> str:
        """What `lightning-al pool status` prints."""
        size = int(self.info.get("pool_size", 0))
        rejected = sum(each.row.rejected for each in self.standing.values())
        waiting = sum(map(len, self.waiting.values()))
        left = size - len(self.standing) - waiting
        lines = [
            f"{self.folder.path}: {'finished' if self.info.get('finished') else 'unfinished'}, {self.info['strategy']}",
            f"  {len(self.standing) - rejected:,} labeled, {waiting:,} waiting for an answer, {rejected:,} rejected, "
            f"{left:,} unlabeled, of {size:,}",
        ]
        for asked, indices in self.waiting.items():
            late = " (late: they train in the round after they come)" if asked[0] < self.answers_for else ""
            lines.append(f"  round {asked[0]}: {len(indices)} to answer in {self.folder.query_path(*asked)}{late}")
        if self.info.get("reason"):
            lines.append(f"  it ended: {self.info['reason']}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Imported:
    """What became of answers.

    Args:
        new: How many were taken.
        late: How many of these were for an earlier round than the one that waits.
        corrected: How many changed an answer that was there.
        known: How many were there already.
        waiting: How many samples still wait for an answer.
    """

    new: int
    late: int
    corrected: int
    known: int
    waiting: int

    def __str__(self) -> str:
        """What `lightning-al pool import` prints."""
        parts = [f"{self.new} answers taken"]
        parts += [f"{self.late} of them late"] if self.late else []
        parts += [f"{self.corrected} corrected"] if self.corrected else []
        parts += [f"{self.known} known already"] if self.known else []
        rest = f"{self.waiting} still wait for an answer" if self.waiting else "none waits for an answer"
        return f"{', '.join(parts)}; {rest}."


def status(run_dir: str | Path) -> Standing:
    """Tell where a run stands: what is labeled, and what waits for an answer where.

    Args:
        run_dir: The run's folder, ``active_learning`` say.

    Raises:
        RunFolderError: There is no run in it.
        LedgerError: Its ledger was changed.
    """
    return _read(_open(run_dir), repair=False)


def export(run_dir: str | Path, output: str | Path | None = None) -> list[Path]:
    """Write the tables to fill in anew, with what has no answer yet.

    Args:
        run_dir: The run's folder.
        output: A folder for them; by default new tables are written beside the run's own, as ``round-003-open.csv``. A
            file that is there stays, as it may have been filled in: the new one gets a number.

    Returns:
        The files, one a query that waits.

    Raises:
        RunFolderError: There is no run in it, or a file cannot be written.
    """
    now, written = status(run_dir), []
    for asked, indices in now.waiting.items():
        sheet = now.folder.query_path(*asked)
        path = sheet.with_stem(f"{sheet.stem}-open") if output is None else Path(output) / sheet.name
        base, number = path, 1
        while path.exists():  # it may have been filled in
            number += 1
            path = base.with_stem(f"{base.stem}-{number}")
        rest = _part(now.queries[asked], indices)
        now.folder.write_sheet(path, answer_sheet.encode(rest, now.info.get("classes"), to_fill=True))
        written.append(path)
    return written


def import_answers(
    run_dir: str | Path, labels: str | Path | Sequence[str | Path] | None = None, correct: bool = False
) -> Imported:
    """Bring answers to a run, all of them or none; also while it runs.

    Args:
        run_dir: The run's folder.
        labels: Tables with the columns ``dataset_index`` (or ``path``) and ``label`` (or ``reject``); by default those
            of the run that wait for answers.
        correct: Let answers that differ from those that are there take their place, from the next round on.

    Returns:
        What became of them.

    Raises:
        AnswersError: An answer cannot be taken; the message names the rows, and nothing is changed.
        RunFolderError: There is no run in the folder.
        LedgerError: Its ledger was changed, or cannot be written.
    """
    folder = _open(run_dir)
    with folder.lock_answers():
        now = _read(folder, repair=True)
        if labels is None:
            files = [path for asked in now.waiting if (path := folder.query_path(*asked)).exists()]
        else:
            files = [Path(labels)] if isinstance(labels, (str, Path)) else [Path(each) for each in labels]
        given: list[tuple[str, Given]] = []
        for path in files:
            try:
                content = path.read_bytes()
            except OSError as error:
                raise AnswersError(f"The answers in {path} cannot be read: {error}.") from None
            for answer in answer_sheet.decode(content, str(path), now.info.get("classes"), now.paths):
                given.append((str(path), answer))
        rows, known = _judge(given, now, correct)
        Ledger(folder.ledger_path).append(rows)
        after = _read(folder, repair=False)
    changed = [row for row in rows if row.dataset_index in now.standing]
    asked_in = {index: asked[0] for asked, indices in now.waiting.items() for index in indices}
    late = sum(asked_in.get(row.dataset_index, row.round) < row.round for row in rows)
    return Imported(len(rows) - len(changed), late, len(changed), known, sum(map(len, after.waiting.values())))


def reject(run_dir: str | Path, indices: Iterable[int]) -> int:
    """Take samples out of a run's pool for good, whether they were asked or not; the next round is without them.

    Args:
        run_dir: The run's folder.
        indices: Dataset indices.

    Returns:
        How many were not out of it already.

    Raises:
        AnswersError: An index is outside the dataset.
    """
    folder = _open(run_dir)
    with folder.lock_answers():
        now = _read(folder, repair=True)
        size = int(now.info.get("pool_size", 0))
        wanted = list(dict.fromkeys(indices))
        outside = [index for index in wanted if not 0 <= index < size]
        if outside:
            raise AnswersError(
                f"Dataset index {outside[0]} is outside the dataset of {size:,} samples. Nothing was changed."
            )
        new = [i for i in wanted if i not in now.standing or not now.standing[i].row.rejected]
        Ledger(folder.ledger_path).append(
            [LedgerRow(index, now.answers_for, BY_HAND, None, REJECTED, _now()) for index in new]
        )
    return len(new)


def _judge(given: Sequence[tuple[str, Given]], now: Standing, correct: bool) -> tuple[list[LedgerRow], int]:
    """The rows to append, and how many answers were there already.

    Raises:
        AnswersError: Some answer cannot be taken; all such are named.
    """
    asked = {
        index: (query, place) for query in now.queries.values() for place, index in enumerate(query.dataset_indices)
    }
    told: dict[int, tuple[str, Given]] = {}
    problems, rows, known = [], [], 0
    for source, answer in given:
        index = answer.dataset_index
        where = f"{source}, row {answer.row}"
        if index in told:
            first_source, first = told[index]
            if (first.label, first.rejected) != (answer.label, answer.rejected):
                other = f"row {first.row}" if first_source == source else f"{first_source}, row {first.row}"
                problems.append(f"{where}: dataset index {index} has another answer in {other}")
            continue
        told[index] = source, answer
        text = REJECTED if answer.rejected else encode_label(answer.label)
        before = now.standing.get(index)
        if before is None and index not in asked:
            problems.append(f"{where}: dataset index {index} was never asked for")
        elif before is not None and before.row.answer == text:
            known += 1
        elif before is not None and not correct:
            was = before.row.answer or "its dataset's own target"
            problems.append(
                f"{where}: dataset index {index} has the answer {was} already, and this one is {text}: `--correct` "
                "lets it take that one's place"
            )
        else:
            rows.append(_row(index, text, asked.get(index), now.answers_for))
    answer_sheet.refuse(problems, "The answers")
    return rows, known


def _row(index: int, answer: str, asked: tuple[RecordedQuery, int] | None, round: int) -> LedgerRow:
    if asked is None:
        return LedgerRow(index, round, BY_HAND, None, answer, _now())
    query, place = asked
    control = index in query.control
    score = None if query.scores is None or control else query.scores[place]
    return LedgerRow(index, round, CONTROL if control else query.strategy, score, answer, _now())


def _part(query: RecordedQuery, indices: Sequence[int]) -> RecordedQuery:
    wanted = set(indices)
    places = [place for place, index in enumerate(query.dataset_indices) if index in wanted]

    def pick(values: list[Any] | None) -> list[Any] | None:
        return None if values is None else [values[place] for place in places]

    return RecordedQuery(
        list(indices), pick(query.scores), query.strategy, query.control, pick(query.guesses), pick(query.paths)
    )


def _open(run_dir: str | Path) -> RunFolder:
    folder = RunFolder(run_dir)
    if not folder.run_json.exists():
        inside = Path(run_dir) / "active_learning"
        hint = f" Do you mean {inside}?" if (inside / "run.json").exists() else ""
        raise RunFolderError(f"Expected the folder of a run, but there is no {folder.run_json}.{hint}")
    return folder


def _read(folder: RunFolder, *, repair: bool) -> Standing:
    rows = Ledger(folder.ledger_path).read(repair=repair)
    queries = {asked: query for asked in folder.asked() if (query := folder.read_query(*asked)) is not None}
    return Standing(folder, folder.read_run() or {}, queries, answered(rows))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
