"""People answer in Label Studio."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lightning_al.exceptions import AnswersError, RunFolderError
from lightning_al.ledger import REJECTED, Ledger, LedgerRow, encode_label
from lightning_al.oracles import label_studio_tasks as tasks
from lightning_al.oracles.base import Answers, Query
from lightning_al.oracles.file import FileOracle
from lightning_al.oracles.label_studio_server import LabelStudioError, Server, UnreachableError, check_token, query_name
from lightning_al.recorded_query import RecordedQuery

_VERSION = "lightning-al"
"""What Label Studio calls the model whose guesses it shows."""


class _Open(NamedTuple):
    """A sample that waits: the round that asked, and its place in the query."""

    dataset_index: int
    round: int
    place: int
    query: RecordedQuery


class LabelStudioOracle(FileOracle):
    """Asks people in Label Studio, and ends the run until they have answered.

    A query is uploaded as tasks of a project, once, with the model's guess and the strategy's score. Annotations become
    labels and skipped tasks rejections, which are replaced in the same round. Then the same ``fit`` command with
    ``--ckpt_path last`` goes on. The query's table is there too, and ``lightning-al pool import`` takes answers from
    elsewhere.

    The access token is read from the environment's ``LABEL_STUDIO_API_KEY`` and kept nowhere. The extra
    ``label-studio`` installs what is needed: ``pip install 'lightning-al[label-studio]'``.

    Args:
        url: Where Label Studio is, ``http://localhost:8080`` say.
        project: Title of the project, which is made where there is none, or the id of one.
        classes: The names of the classes by index; by default the ``classes`` of datamodule or dataset.
        min_answers: With how many labels of a query the next round begins: a count, or a share in (0, 1]; by default
            all that were not rejected. What is late trains in the round after it came.
        annotators: How many people have to answer a sample; what most of them say counts.
        poll: Seconds between two looks, for a run that waits instead of ending; on one process only.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> oracle = LabelStudioOracle("http://localhost:8080", "Seedlings", ["crop", "weed"], annotators=2)
        >>> oracle.least_answers(20)
        20
    """

    def __init__(
        self,
        url: str,
        project: str | int,
        classes: list[str] | None = None,
        min_answers: int | float | None = None,
        annotators: int = 1,
        poll: float | None = None,
    ) -> None:
        super().__init__(min_answers, poll, classes)
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:  # not repeated: it would be in every log
            raise ValueError("Expected `url` to hold no user or password: the token is LABEL_STUDIO_API_KEY.")
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"Expected `url` to be like http://localhost:8080, but got {url!r}.")
        if isinstance(project, bool) or not isinstance(project, (str, int)) or not str(project).strip():
            raise ValueError(f"Expected `project` to be a project's title or id, but got {project!r}.")
        if isinstance(annotators, bool) or not isinstance(annotators, int) or annotators < 1:
            raise ValueError(f"Expected `annotators` to be a count of people, 1 or more, but got {annotators!r}.")
        self.url, self.project, self.annotators = url.rstrip("/"), project, annotators
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        """The call that makes it, without options."""
        return f"LabelStudioOracle({self.url!r}, {self.project!r})"

    def begin(self, folder: Path | None, classes: Sequence[str] | None) -> None:
        """See :meth:`Oracle.begin`; the server is asked now, so that no fit is paid for before an error is found.

        Raises:
            AnswersError: There is no run's folder, under ``fast_dev_run``; the classes have no names; or the project
                does not offer them.
            LabelStudioError: The server cannot be reached, takes no token, or the project is gone.
        """
        super().begin(folder, classes)
        if not self.classes:
            raise AnswersError(
                "LabelStudioOracle needs the names of the classes: give datamodule or dataset a list `classes`, or "
                "say LabelStudioOracle(..., classes=[...])."
            )
        check_token()
        with Server(self.url) as server:
            self._find(server)

    def how_to_answer(self, pending: int) -> str:
        """See :meth:`Oracle.how_to_answer`."""
        project = self._state().get("project")
        where = self.url if project is None else f"{self.url}/projects/{project}"
        return f"waiting for {pending} label{'s' if pending != 1 else ''}: annotate them at {where}"

    def label(self, query: Query) -> Answers:
        """Uploads what is not there yet, and takes what was annotated.

        Late answers to earlier queries are recorded too. A run that waits goes on waiting where the server is down.

        Raises:
            AnswersError: The project cannot show the samples, or does not offer the classes.
            LabelStudioError: The server does not do what it is asked. What was answered is kept there.
        """
        asked = query.dataset_indices.tolist()
        try:
            with Server(self.url) as server:
                found = self._exchange(server, query)
        except UnreachableError as error:
            if self.poll is None:
                raise
            self._warn(f"{error} The run looks again every {self.poll:g} s.")
            return Answers(pending=asked)
        self._record_late({index: each for index, each in found.items() if index not in set(asked)})
        mine = {index: found[index] for index in asked if index in found}
        return Answers(
            labels={index: each.label for index, each in mine.items() if each.label is not None},
            rejected=[index for index, each in mine.items() if each.rejected],
            pending=[index for index in asked if index not in mine or mine[index].pending],
        )

    # -- the project
    def _exchange(self, server: Server, query: Query) -> dict[int, tasks.Verdict]:
        """Upload what is not there yet; what the annotations of each of the run's samples say."""
        assert self.classes is not None
        run, asked = self._run(), query.dataset_indices.tolist()
        project = self._find(server) or self._make(server, query)
        form = tasks.form_of(project["parsed_label_config"], self.classes, _called(project))
        self._remember(project=project["id"], url=self.url)
        there = server.tasks(project["id"], run, query.round)
        missing = set(asked).difference(task["data"]["dataset_index"] for task in there)
        if missing:
            server.add(project["id"], self._tasks(query, missing, form, run))
            there = server.tasks(
                project["id"], run, query.round
            )  # an upload that timed out may have come through in between
        for round in sorted({asked.round for asked in self._open()} - {query.round}):
            there += server.tasks(project["id"], run, round)
        annotations: dict[int, list[Mapping[str, Any]]] = {}
        first: dict[int, int] = {}
        for task in sorted(there, key=lambda task: (not task["annotations"], task["id"])):
            index = task["data"]["dataset_index"]
            first.setdefault(index, task["id"])
            annotations.setdefault(index, []).extend(task["annotations"])
        server.delete(t["id"] for t in there if not t["annotations"] and first[t["data"]["dataset_index"]] != t["id"])
        found = {
            index: tasks.verdict(given, form.control, self.classes, self.annotators)
            for index, given in annotations.items()
        }
        for index, each in found.items():
            if each.problem is not None:
                self._warn(
                    f"{_called(project)}, task {first[index]} (dataset index {index}): {each.problem}. "
                    f"{'It waits for an answer still.' if each.pending else 'The other votes count.'}"
                )
        return found

    def _find(self, server: Server) -> dict[str, Any] | None:
        """The project; None where it has to be made."""
        known = self._state()
        assert self.classes is not None
        if known.get("project") is not None and known.get("url") == self.url:
            project = server.find(int(known["project"]))
            if project is None:
                raise LabelStudioError(
                    f"Label Studio at {self.url} has no project {known['project']} any more, to which this run's "
                    f"queries were uploaded, or the token may not see it. What was taken is in the ledger. Restore the "
                    f"project, or delete {self._state_path} to upload what is open to a new one."
                )
        else:
            project = server.find(self.project)
        if project is None and not isinstance(self.project, str):
            raise LabelStudioError(f"Label Studio at {self.url} has no project with the id {self.project}.")
        if project is not None:
            tasks.form_of(project["parsed_label_config"], self.classes, _called(project))
        return project

    def _make(self, server: Server, query: Query) -> dict[str, Any]:
        assert self.classes is not None
        kind = tasks.kind_of(query.preview(int(query.dataset_indices[0])))
        return server.create(str(self.project), tasks.label_config(self.classes, kind), self.annotators, _VERSION)

    def _tasks(self, query: Query, missing: set[int], form: tasks.Form, run: str) -> Iterator[dict[str, Any]]:
        """The tasks to upload, in the order picked; each is made when it is sent."""
        assert self.classes is not None
        for place, index in enumerate(query.dataset_indices.tolist()):
            if index not in missing:
                continue
            path = query.path(index)
            asked = {
                "run": run,
                "query": query_name(run, query.round),
                "round": query.round,
                "dataset_index": index,
                "caption": path or f"sample {index}",
                "score": None if query.scores is None else float(query.scores[place]),
            }
            guess = None
            if query.probs is not None and query.probs.shape[1] == len(self.classes):
                confidence, number = query.probs[place].double().max(dim=0)
                guess = str(self.classes[int(number)]), float(confidence)
            value = tasks.shown_value(query.preview(index), form.kind, path)
            yield tasks.task(form, value, asked, guess, _VERSION)

    # -- the run's folder
    @property
    def _state_path(self) -> Path:
        assert self._folder is not None
        return self._folder.path / "label-studio.json"

    def _state(self) -> dict[str, Any]:
        """What the run knows of its project: its own id in the tasks, the project's id and address."""
        try:
            state = json.loads(self._state_path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self._state_path} cannot be read: {error}. Restore it from a copy.") from error
        if not isinstance(state, dict):
            raise RunFolderError(f"{self._state_path} is not as it was written. Restore it from a copy.")
        return state

    def _remember(self, **changes: Any) -> None:
        assert self._folder is not None
        before = self._state()
        if before != before | changes:
            self._folder.write_sheet(self._state_path, (json.dumps(before | changes, indent=2) + "\n").encode())

    def _run(self) -> str:
        """The run's id, by which its tasks are known: made before the first is uploaded."""
        if "run" not in self._state():
            self._remember(run=uuid.uuid4().hex)
        return str(self._state()["run"])

    def _open(self) -> list[_Open]:
        """What was asked so far and the ledger does not answer."""
        assert self._folder is not None
        answered = {row.dataset_index for row in Ledger(self._folder.ledger_path).read(repair=False)}
        queries = [(round, self._folder.read_query(round, part)) for round, part in self._folder.asked()]
        return [
            _Open(index, round, place, query)
            for round, query in queries
            if query is not None
            for place, index in enumerate(query.dataset_indices)
            if index not in answered
        ]

    def _record_late(self, found: Mapping[int, tasks.Verdict]) -> None:
        """Append answers to what earlier rounds asked to the ledger; the round that is asked now trains on them."""
        from lightning_al.labeling import CONTROL  # which imports the oracles

        assert self._folder is not None
        now, rows = datetime.now(timezone.utc).isoformat(timespec="seconds"), []
        with self._folder.lock_answers():
            round = int((self._folder.read_run() or {}).get("answers_for", 0))
            for late in self._open():
                verdict, query = found.get(late.dataset_index), late.query
                if verdict is None or verdict.pending:
                    continue
                answer = REJECTED if verdict.rejected else encode_label(verdict.label)
                score = None if query.scores is None else query.scores[late.place]
                asker = CONTROL if late.dataset_index in query.control else query.strategy
                rows.append(LedgerRow(late.dataset_index, round, asker, score, answer, now))
            Ledger(self._folder.ledger_path).append(rows)

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            rank_zero_warn(text)


def _called(project: Mapping[str, Any]) -> str:
    return f"Label Studio's project {project['title']!r} ({project['id']})"
