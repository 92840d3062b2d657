"""Labels from Label Studio: the logic on a server in memory, and all of it on a real one that dies and comes back."""

from __future__ import annotations

import base64
import contextlib
import copy
import http.server
import io
import itertools
import json
import os
import pickle
import signal
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lightning_al import ActiveLearning, LabelStudioOracle
from lightning_al.cli import main
from lightning_al.exceptions import AnswersError
from lightning_al.ledger import Ledger
from lightning_al.oracles import Answers, Query, label_studio, label_studio_server
from lightning_al.oracles.label_studio_server import LabelStudioError, UnreachableError
from lightning_al.oracles.label_studio_tasks import form_of, shown_value, verdict
from lightning_al.query_records import as_record
from lightning_al.run_folder import RunFolder
from tests._helpers import processes
from tests._helpers.label_studio_server import LabelStudio, running
from tests.test_human_loop import NAMES, TRUTH, fit, sheet

PICTURE = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
TOKEN = "a-token-that-nobody-may-read"


def query_of(indices: list[int], round: int = 0, probs: list[list[float]] | None = None, sample: Any = None) -> Query:
    scores = torch.linspace(1, 0.5, len(indices))
    guesses = None if probs is None else torch.tensor(probs)
    preview = (lambda index: f"text {index}") if sample is None else (lambda index: sample)
    return Query(
        torch.tensor(indices), round, "Margin", scores, guesses, preview, path=lambda index: f"photos/{index}.png"
    )


def ask(oracle: LabelStudioOracle, folder: Path, query: Query) -> Answers:
    """As a run does: what is asked is recorded before."""
    RunFolder(folder).write_query(query.round, as_record(query), query.part)
    oracle.begin(folder, NAMES)
    answers = oracle.label(query)
    answers.check(query)
    return answers


# -- a server in memory
class Memory:
    """What `Server` asks, without one; ``broken`` is raised by the next upload after ``sent`` tasks."""

    def __init__(self) -> None:
        self.projects: dict[int, dict[str, Any]] = {}
        self.stored: list[dict[str, Any]] = []
        self.broken: Exception | None = None
        self.sent = 0

    def __call__(self, url: str) -> Memory:
        return self

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def find(self, project: str | int) -> dict[str, Any] | None:
        return next((found for found in self.projects.values() if project in (found["id"], found["title"])), None)

    def create(self, title: str, label_config: str, annotators: int, version: str) -> dict[str, Any]:
        kind = "Image" if "<Image" in label_config else "Text"
        tag = {"type": "Choices", "to_name": ["sample"], "inputs": [{"type": kind, "value": kind.lower()}]}
        made = {"id": 7, "title": title, "parsed_label_config": {"label": tag | {"labels": NAMES}}}
        self.projects[7] = made
        return made

    def tasks(self, project: int, run: str, round: int) -> list[dict[str, Any]]:
        mine = [task for task in self.stored if (task["data"]["run"], task["data"]["round"]) == (run, round)]
        return copy.deepcopy(mine)

    def add(self, project: int, tasks: Iterator[dict[str, Any]]) -> None:
        broken, self.broken = self.broken, None
        for task in itertools.islice(tasks, None if broken is None else self.sent):
            self.stored.append({"id": len(self.stored) + 1, "annotations": [], **copy.deepcopy(task)})
        if broken is not None:
            raise broken

    def delete(self, tasks: Iterator[int]) -> None:
        gone = set(tasks)
        self.stored = [task for task in self.stored if task["id"] not in gone]

    def annotate(self, index: int, *names: str, person: int = 1, skip: bool = False, which: int = 0) -> None:
        task = [task for task in self.stored if task["data"]["dataset_index"] == index][which]
        result = [{"from_name": "label", "value": {"choices": list(names)}}] if names else []
        number = 1 + sum(len(each["annotations"]) for each in self.stored)
        task["annotations"].append(
            {"id": number, "completed_by": {"id": person}, "was_cancelled": skip, "result": result}
        )


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    server = Memory()
    monkeypatch.setattr(label_studio, "Server", server)
    monkeypatch.setenv(label_studio_server.TOKEN, TOKEN)
    return server


def oracle_of(**arguments: Any) -> LabelStudioOracle:
    return LabelStudioOracle(**({"url": "http://127.0.0.1:8080", "project": "Points"} | arguments))


def test_a_query_is_uploaded_once_and_each_annotation_has_its_outcome(memory: Memory, tmp_path: Path) -> None:
    query = query_of([9, 4, 7, 2, 5], probs=[[0.2, 0.7, 0.1]] * 5)
    assert ask(oracle_of(), tmp_path, query) == Answers(pending=[9, 4, 7, 2, 5])
    first = memory.stored[0]
    run = json.loads((tmp_path / "label-studio.json").read_text())["run"]
    assert first["data"] == {
        "run": run,
        "query": f"{run}-000",
        "round": 0,
        "dataset_index": 9,
        "caption": "photos/9.png",
        "score": 1.0,
        "text": "text 9",
    }
    [guess] = first["predictions"]
    assert (guess["score"], guess["result"][0]["value"]) == (pytest.approx(0.7), {"choices": ["class 1"]})
    memory.annotate(9, "class 2")
    memory.annotate(4, skip=True)
    memory.annotate(7, "clas 1")
    memory.annotate(2)
    with pytest.warns(UserWarning, match=r"^Label Studio's project 'Points' \(7\), task \d") as told:
        answers = ask(oracle_of(), tmp_path, query)  # another process: nothing is uploaded again
    assert answers == Answers(labels={9: 2}, rejected=[4], pending=[7, 2, 5])
    texts = [str(each.message) for each in told]
    assert any("task 3 (dataset index 7): it was given the class 'clas 1', which is not known" in x for x in texts)
    assert any("task 4 (dataset index 2): an annotation has no classes, not one" in x for x in texts)
    assert len(memory.stored) == 5


def test_an_upload_that_breaks_off_goes_on_and_doubles_are_removed(memory: Memory, tmp_path: Path) -> None:
    query = query_of([9, 4, 7])
    memory.broken, memory.sent = UnreachableError("it timed out"), 2
    with pytest.raises(UnreachableError):
        ask(oracle_of(), tmp_path, query)
    ask(oracle_of(), tmp_path, query)
    assert [task["data"]["dataset_index"] for task in memory.stored] == [9, 4, 7]
    for task in memory.stored[:2]:  # an upload that a slow server did after all
        memory.stored.append(copy.deepcopy(task) | {"id": task["id"] + 10})
    memory.annotate(4, "class 0", which=1)
    assert ask(oracle_of(), tmp_path, query) == Answers(labels={4: 0}, pending=[9, 7])
    assert [task["id"] for task in memory.stored] == [1, 3, 12]  # the one that has the answer stays


def test_a_run_that_waits_outlasts_a_server_that_is_down(memory: Memory, tmp_path: Path) -> None:
    oracle = oracle_of(poll=0.1)
    memory.broken = UnreachableError("It is down.")
    with pytest.warns(UserWarning, match=r"It is down. The run looks again every 0.1 s."):
        assert ask(oracle, tmp_path, query_of([9])) == Answers(pending=[9])
    assert ask(oracle, tmp_path, query_of([9])) == Answers(pending=[9])
    memory.annotate(9, "class 1")
    assert ask(oracle, tmp_path, query_of([9])) == Answers(labels={9: 1})


def test_late_answers_reach_the_ledger_in_the_round_that_is_asked(memory: Memory, tmp_path: Path) -> None:
    ask(oracle_of(), tmp_path, query_of([9, 4, 7]))
    RunFolder(tmp_path).update_run(answers_for=1)
    memory.annotate(4, "class 2")
    memory.annotate(7, skip=True)
    for _ in range(2):
        assert ask(oracle_of(), tmp_path, query_of([1], round=1)) == Answers(pending=[1])
    rows = Ledger(tmp_path / "ledger.csv").read()
    assert [(row.dataset_index, row.round, row.strategy, row.answer) for row in rows] == [
        (4, 1, "Margin", "2"), (7, 1, "Margin", "rejected"),
    ]  # fmt: skip
    assert rows[0].score == pytest.approx(0.75)


def test_tasks_that_say_they_are_of_this_run_and_were_not_asked_change_nothing(memory: Memory, tmp_path: Path) -> None:
    ask(oracle_of(), tmp_path, query_of([9]))
    forged = copy.deepcopy(memory.stored[0])
    forged["id"], forged["data"]["dataset_index"] = 99, 10**6
    memory.stored.append(forged)
    memory.annotate(10**6, "class 1")
    assert ask(oracle_of(), tmp_path, query_of([9])) == Answers(pending=[9])
    assert Ledger(tmp_path / "ledger.csv").read() == []


def test_most_votes_count_and_each_person_has_one() -> None:
    def by(person: int, choice: str | None, number: int, when: str = "") -> dict[str, Any]:
        result = [] if choice is None else [{"from_name": "label", "value": {"choices": [choice]}}]
        return {
            "id": number, "completed_by": person, "result": result, "was_cancelled": choice is None, "updated_at": when,
        }  # fmt: skip

    def say(*votes: dict[str, Any], annotators: int) -> tuple[int | None, bool]:
        found = verdict(votes, "label", ["a", "b"], annotators)
        return found.label, found.rejected

    pending = None, False
    assert say(by(1, "a", 1), annotators=2) == pending
    assert say(by(1, "a", 1), by(1, "a", 2), annotators=2) == pending  # the same person
    assert say(by(1, "a", 1), by(2, "b", 2), annotators=2) == pending  # a tie
    assert say(by(1, "a", 1), by(2, "b", 2), annotators=1) == pending  # also where one would have been enough
    assert say(by(1, "a", 1), by(2, "b", 2), by(3, "b", 3), annotators=2) == (1, False)
    assert say(by(1, "a", 1), by(2, None, 2), by(3, None, 3), annotators=3) == (None, True)
    assert say(by(1, "a", 1, "2026-02-01"), by(1, "b", 2, "2026-01-01"), annotators=1) == (0, False)  # changed later
    assert say(by(1, "c", 1), by(2, "b", 2), annotators=2) == pending  # an unknown class is no vote


def test_pictures_and_texts_are_shown_as_they_are() -> None:
    head, data = shown_value((torch.from_numpy(PICTURE).float().div(255)[None], 3), "image", None).split(",")
    assert head == "data:image/png;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L")).astype(int)
    assert shown.shape == (256, 256)
    assert abs(shown[16::32, 16::32] - PICTURE.astype(int)).max() <= 1  # matplotlib rounds to its colour table
    wide = shown_value(np.zeros((1600, 200), dtype=np.uint8), "image", None).split(",")[1]
    assert Image.open(io.BytesIO(base64.b64decode(wide))).size == (67, 534)  # each third pixel
    assert shown_value({"words": "red <b>fox</b>", "label": 4}, "text", None) == "words: red <b>fox</b>"
    assert shown_value((torch.tensor([0.5, 2.0]), 1), "text", None) == "0.5, 2"
    assert shown_value(PICTURE, "text", "photos/9.png") == "photos/9.png"
    with pytest.raises(AnswersError, match="project shows images, and this sample is none: str"):
        shown_value("text", "image", None)


def test_a_project_that_does_not_offer_the_classes_is_refused(memory: Memory, tmp_path: Path) -> None:
    tag = {"type": "Choices", "to_name": ["sample"], "inputs": [{"type": "Text", "value": "text"}], "labels": NAMES[:2]}
    with pytest.raises(AnswersError, match="all 3 classes, but it lacks 'class 2'"):
        form_of({"other": {"type": "TextArea"}, "label": tag}, NAMES, "project 1")
    with pytest.raises(AnswersError, match="but it has none"):
        form_of({}, NAMES, "project 1")
    memory.projects[3] = {"id": 3, "title": "Points", "parsed_label_config": {"label": tag}}
    with pytest.raises(AnswersError, match=r"project 'Points' \(3\) to have .* lacks 'class 2'"):
        oracle_of().begin(tmp_path, NAMES)
    with pytest.raises(LabelStudioError, match="no project with the id 12"):
        oracle_of(project=12).begin(tmp_path, NAMES)
    with pytest.raises(AnswersError, match="needs the names of the classes"):
        oracle_of().begin(tmp_path, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "127.0.0.1:8080"}, "`url` to be like http://localhost:8080"),
        ({"url": "http://me:secret@host"}, "`url` to hold no user or password: "),
        ({"project": " "}, "`project` to be a project's title or id"),
        ({"project": True}, "`project`"),
        ({"annotators": 0}, "`annotators` to be a count of people, 1 or more, but got 0"),
        ({"min_answers": 0}, "`min_answers`"),
    ],
)
def test_arguments_out_of_range_raise(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        oracle_of(**arguments)
    assert "secret" not in str(raised.value)


# -- the real client
@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("label_studio_sdk", reason="label-studio-sdk is not installed: it is the extra `label-studio`")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(label_studio_server.TOKEN, TOKEN)


@contextlib.contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """The address of a server that says the same to everybody."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def all_variables(error: BaseException) -> str:
    """All that a debugger, or pytest with --showlocals, would show of an error and of those it came from."""
    told, seen = [], [error]
    while seen:
        each = seen.pop()
        told.append(repr(each))
        trace = each.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename != __file__:  # the test knows its token
                told += map(repr, trace.tb_frame.f_locals.values())
            trace = trace.tb_next
        seen += [other for other in (each.__cause__, each.__context__) if other is not None]
    return "\n".join(told)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (401, json.dumps({"detail": f"Invalid token {TOKEN}"}), LabelStudioError, r"does not take the token in LABEL_"),
        (403, '{"detail": "not yours"}', LabelStudioError, "refused with status 403 while .*: not yours"),
        (502, "<html>", UnreachableError, "failed with status 502"),
        (200, "<html>", LabelStudioError, "does not answer as Label Studio does .* check `url`"),
        (200, "{}", LabelStudioError, "does not answer as Label Studio does"),
        (0, "", UnreachableError, r"cannot be reached \(ConnectError, .*`--ckpt_path last`, when it is there"),
    ],
)
def test_each_failure_is_told_without_the_token(
    status: int, body: str, kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with answering(status or 200, body) as url:
        if not status:
            with socket.socket() as found:
                found.bind(("127.0.0.1", 0))
                url = f"http://127.0.0.1:{found.getsockname()[1]}"
        with pytest.raises(kind, match=message) as raised:
            oracle_of(url=url, project=5).begin(tmp_path, NAMES)
    assert TOKEN not in all_variables(raised.value)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("token", [None, "", "two words", "ends\n"])
def test_without_a_token_that_can_be_sent_nothing_is(
    token: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(label_studio_server.TOKEN)
    if token is not None:
        monkeypatch.setenv(label_studio_server.TOKEN, token)
    with pytest.raises(LabelStudioError, match=r"LABEL_STUDIO_API_KEY (is not set|holds a blank)") as raised:
        oracle_of().begin(tmp_path, NAMES)
    assert not token or token not in all_variables(raised.value)


def test_without_the_sdk_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(label_studio_server.TOKEN, TOKEN)
    monkeypatch.setitem(sys.modules, "label_studio_sdk", None)
    with pytest.raises(LabelStudioError, match=r"pip install 'lightning-al\[label-studio\]'"):
        oracle_of().begin(tmp_path, NAMES)


def test_the_configs_that_are_printed_and_saved_hold_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(label_studio_server.TOKEN, TOKEN)
    oracle = {"class_path": "LabelStudioOracle", "init_args": {"url": "http://localhost:8080", "project": "Digits"}}
    callback = {"class_path": "ActiveLearning", "init_args": {"budget": 60, "oracle": oracle}}
    config = {"trainer": {"callbacks": [callback]}, "model": "DigitsCNN", "data": "DigitsDataModule"}
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(sys, "argv", ["lightning-al"])
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(tmp_path / "fit.yaml"), "--print_config"])
    assert stopped.value.code == 0
    [printed] = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    arguments = printed["init_args"]["oracle"]["init_args"]
    assert sorted(arguments) == ["annotators", "classes", "min_answers", "poll", "project", "url"]
    assert TOKEN not in str(printed)


# -- a real server
@pytest.fixture(scope="session")
def studio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    if not request.config.getoption("--label-studio"):
        pytest.skip("asks for a server of 1 GB: run with --label-studio, as `.ci/run` does")
    pytest.importorskip("label_studio_sdk", reason="label-studio-sdk is not installed: it is the extra `label-studio`")
    with running(tmp_path_factory.mktemp("label-studio") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def made_token(studio: LabelStudio) -> str:
    """A personal access token: a person has one at a time."""
    return studio.personal_access_token()


@pytest.fixture
def token(made_token: str, client: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The token, which the environment has."""
    monkeypatch.setenv(label_studio_server.TOKEN, made_token)
    return made_token


def project_of(run: Path) -> int:
    return int(json.loads((run / "label-studio.json").read_text())["project"])


def answer(studio: LabelStudio, run: Path, skip: int | None = None) -> list[int]:
    """Somebody answers all that is open; the dataset indices."""
    open_ = {index: task for index, task in studio.tasks(project_of(run)).items() if not task["annotations"]}
    for index, task in open_.items():
        studio.annotate(task, None if index == skip else NAMES[TRUTH[index]])
    return list(open_)


def labeled(callback: ActiveLearning) -> list[int]:
    return [row["labeled"] for row in callback.history]


def test_two_rounds_with_a_skip_and_a_server_that_dies_and_returns(
    studio: LabelStudio, token: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "active_learning"

    def go_on() -> ActiveLearning:
        return fit(tmp_path, LabelStudioOracle(studio.url, "Two rounds"))

    assert labeled(go_on()) == []
    asked = studio.tasks(project_of(run))
    assert len(asked) == 8
    for row in sheet(tmp_path, "round-000.csv"):
        task = asked[int(row["dataset_index"])]
        assert (task["data"]["round"], task["data"]["caption"]) == (0, row["path"])
        assert task["predictions"][0]["result"][0]["value"] == {"choices": [row["guess"]]}
        assert task["predictions"][0]["score"] == pytest.approx(float(row["confidence"]), abs=1e-4)

    assert len(answer(studio, run)) == 8
    studio.kill()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "run.lock"}
    with pytest.raises(UnreachableError, match=r"cannot be reached \(ConnectError"):
        go_on()
    assert {path: path.read_bytes() for path in before} == before
    studio.start()

    second = go_on()
    assert labeled(second) == [8]
    query = [int(row["dataset_index"]) for row in sheet(tmp_path, "round-001.csv")]
    assert sorted(answer(studio, run, skip=query[2])) == sorted(query)
    third = go_on()  # the skipped one is replaced, in the same round
    assert labeled(third) == [8]
    [more] = [int(row["dataset_index"]) for row in sheet(tmp_path, "round-001-2.csv")]
    assert answer(studio, run) == [more]
    fourth = go_on()
    assert labeled(fourth) == [8, 14]
    assert fourth.pool.rejected.tolist() == [query[2]]
    taken = {row.dataset_index: row.label for row in Ledger(run / "ledger.csv").read() if not row.rejected}
    assert taken == {index: TRUTH[index] for index in [*asked, *query, more] if index != query[2]}
    assert len(studio.tasks(project_of(run))) == 8 + 6 + 1 + 6  # the next query is there

    oracle = fourth.oracle
    assert token not in repr(oracle) + str(vars(oracle)) + "".join(capfd.readouterr())
    assert token.encode() not in pickle.dumps(oracle)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    assert all(token.encode() not in archive.read(name) for name in archive.namelist()), path


def begin_and_be_killed(url: str, root: str) -> None:
    """A run whose process is killed when three tasks are uploaded."""
    ask_server, uploads = label_studio_server.Server._ask, []

    def asking(self: Any, doing: str, call: Any, **missing: Any) -> Any:
        answer = ask_server(self, doing, call, **missing)
        if doing.startswith("uploading"):
            uploads.append(doing)
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    label_studio_server._BATCH = 3
    label_studio_server.Server._ask = asking  # type: ignore[method-assign]  # a stand-in
    fit(Path(root), LabelStudioOracle(url, "Killed"))


def test_uploads_that_a_kill_of_either_side_cuts_short_make_no_doubles(
    studio: LabelStudio, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {label_studio_server.TOKEN: token, "NO_PROXY": "127.0.0.1"}
    child = processes.start(tmp_path, begin_and_be_killed, studio.url, str(tmp_path), **environment)
    assert child.wait() == -signal.SIGKILL, child.output
    assert token not in child.output
    [project] = [each for each in studio.request("GET", "/api/projects/")["results"] if each["title"] == "Killed"]
    assert len(studio.tasks(project["id"])) == 3

    ask_server = label_studio_server.Server._ask

    def dying(self: Any, doing: str, call: Any, **missing: Any) -> Any:
        found = ask_server(self, doing, call, **missing)
        if doing.startswith("uploading"):
            studio.kill()
        return found

    monkeypatch.setattr(label_studio_server, "_BATCH", 2)
    with monkeypatch.context() as patch:
        patch.setattr(label_studio_server.Server, "_ask", dying)
        with pytest.raises(UnreachableError):
            fit(tmp_path, LabelStudioOracle(studio.url, "Killed"))
    studio.start()
    assert len(studio.tasks(project["id"])) == 5
    fit(tmp_path, LabelStudioOracle(studio.url, "Killed"))
    asked = [int(row["dataset_index"]) for row in sheet(tmp_path, "round-000.csv")]
    assert sorted(studio.tasks(project["id"])) == sorted(asked)
    assert len(asked) == 8


def test_a_run_that_waits_goes_on_by_itself_also_past_a_death_of_the_server(
    studio: LabelStudio, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "active_learning"
    failed: list[BaseException] = []
    look = LabelStudioOracle.label

    def looking(self: LabelStudioOracle, query: Query) -> Answers:
        assert not failed  # else the run would wait for ever
        return look(self, query)

    monkeypatch.setattr(LabelStudioOracle, "label", looking)

    def person() -> None:
        try:
            wait_for(8)
            studio.kill()
            time.sleep(1)
            studio.start()
            answer(studio, run)
            wait_for(8 + 6)
            answer(studio, run)
        except BaseException as error:
            failed.append(error)
            raise

    def wait_for(count: int) -> None:
        until = time.monotonic() + 60
        while not is_uploaded(count):
            assert time.monotonic() < until
            time.sleep(0.2)

    def is_uploaded(count: int) -> bool:
        try:
            return len(studio.tasks(project_of(run))) == count
        except (FileNotFoundError, KeyError):  # there is no project yet
            return False

    thread = threading.Thread(target=person, daemon=True)
    thread.start()
    with pytest.warns(UserWarning, match=r"cannot be reached \(.*The run looks again every 0.3 s"):
        callback = fit(tmp_path, LabelStudioOracle(studio.url, "Waiting", poll=0.3), budget=14)
    thread.join(60)
    assert failed == []
    assert labeled(callback) == [8, 14]


def test_two_people_have_to_agree_and_a_deleted_project_is_told(
    studio: LabelStudio, token: str, tmp_path: Path
) -> None:
    second = studio.second_person()
    oracle = LabelStudioOracle(studio.url, "Two people", annotators=2)
    query = query_of([0, 1, 2, 3], sample=PICTURE)
    assert ask(oracle, tmp_path, query) == Answers(pending=[0, 1, 2, 3])
    project = project_of(tmp_path)
    assert studio.request("GET", f"/api/projects/{project}/")["maximum_annotations"] == 2
    asked = studio.tasks(project)
    assert asked[0]["data"]["image"] == shown_value(PICTURE, "image", None)
    for index, mine, theirs in [(0, "class 1", "class 1"), (1, "class 0", "class 2"), (2, None, None)]:
        studio.annotate(asked[index], mine)
        studio.annotate(asked[index], theirs, second)
    studio.annotate(asked[3], "class 0")
    told = rf"'Two people' \({project}\), task {asked[1]['id']} \(dataset index 1\): 2 people disagree \('class 0', 'cl"
    with pytest.warns(UserWarning, match=told):
        answers = ask(oracle, tmp_path, query)
    assert answers == Answers(labels={0: 1}, rejected=[2], pending=[1, 3])
    studio.annotate(studio.tasks(project)[1], "class 2")  # the first changes their mind
    assert ask(oracle, tmp_path, query).labels == {0: 1, 1: 2}

    studio.request("DELETE", f"/api/projects/{project}/")
    with pytest.raises(LabelStudioError, match=rf"has no project {project} any more, .*label-studio\.json to upload"):
        ask(oracle, tmp_path, query)
    (tmp_path / "label-studio.json").unlink()
    assert ask(oracle, tmp_path, query) == Answers(pending=[0, 1, 2, 3])
    assert sorted(studio.tasks(int(json.loads((tmp_path / "label-studio.json").read_text())["project"]))) == [
        0,
        1,
        2,
        3,
    ]
