"""What a Label Studio server is asked, through its SDK; every failure has one kind of error, without the token."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from lightning_al.exceptions import ActiveLearningError

TOKEN = "LABEL_STUDIO_API_KEY"
"""The environment's variable that holds the token, which is read where it is sent and kept nowhere."""

_SECONDS = 60
_BATCH = 20
"""Tasks sent at once: pictures are in them, and a server has a limit on a request's size."""

_ONCE = {"max_retries": 0}
"""Of each request: an upload that timed out may have been done, so what is there is looked up before the next."""

_T = TypeVar("_T")


class LabelStudioError(ActiveLearningError, RuntimeError):
    """Label Studio did not do what it was asked. No answer is lost: the same command goes on later."""


class UnreachableError(LabelStudioError):
    """The server is down or overloaded, and may come back."""


def check_token() -> None:
    """Check that the environment has a token, without telling it.

    Raises:
        LabelStudioError: There is none, or it cannot be sent.
    """
    if not os.environ.get(TOKEN):
        raise LabelStudioError(
            f"LabelStudioOracle takes its token from the environment only, and {TOKEN} is not set: copy an access "
            f"token from Label Studio's `Account & Settings` and run `export {TOKEN}=...`."
        )
    if not all("!" <= character <= "~" for character in os.environ[TOKEN]):
        raise LabelStudioError(f"{TOKEN} holds a blank, a line end or a letter that no token has: copy it again.")


class Server:
    """A connection to a server, to be used in a `with`.

    Args:
        url: Where it is.

    Raises:
        LabelStudioError: There is no SDK or token.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            import httpx
            from label_studio_sdk import LabelStudio
            from label_studio_sdk.core.api_error import ApiError
        except ImportError as error:
            raise LabelStudioError(
                f"LabelStudioOracle needs label-studio-sdk ({error}): pip install 'lightning-al[label-studio]'."
            ) from None
        check_token()
        self._errors: tuple[type[Exception], ...] = (ApiError, httpx.HTTPError, httpx.InvalidURL, ValueError)
        self._transport = httpx.TransportError
        self._http = httpx.Client(timeout=_SECONDS, follow_redirects=True)
        self._client: Any = self._ask(
            "connecting",
            lambda: LabelStudio(
                base_url=f"{self.url}/",
                api_key=os.environ[TOKEN],
                httpx_client=self._http,
                timeout=_SECONDS,
            ),
        )
        # what the SDK stumbles over in an answer that is not Label Studio's
        self._errors += (TypeError, LookupError, AttributeError)

    def __enter__(self) -> Server:
        """Itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connection."""
        self._http.close()

    def find(self, project: str | int) -> dict[str, Any] | None:
        """A project by its title, the oldest of several; or by its id.

        Returns:
            Its ``id``, ``title`` and ``parsed_label_config``; None where there is none.

        Raises:
            LabelStudioError: The server does not answer as it should.
        """
        number = project
        if isinstance(project, str):

            def with_title() -> list[int]:
                found = self._client.projects.list(title=project, page_size=100, request_options=_ONCE)
                return sorted(int(each.id) for each in found if each.title == project)

            numbers = self._ask(f"looking for the project {project!r}", with_title)
            if not numbers:
                return None
            number = numbers[0]

        def read() -> dict[str, Any]:
            found = self._client.projects.get(number, request_options=_ONCE)
            config = _plain(found.parsed_label_config) or {}
            return {"id": int(found.id), "title": str(found.title), "parsed_label_config": config}

        return self._ask(f"reading project {number}", read, missing=None)

    def create(self, title: str, label_config: str, annotators: int, version: str) -> dict[str, Any]:
        """Make a project, and return it as `find` does.

        Raises:
            LabelStudioError: The server does not answer as it should.
        """
        made = self._ask(
            f"making the project {title!r}",
            lambda: self._client.projects.create(
                title=title,
                label_config=label_config,
                maximum_annotations=annotators,
                show_collab_predictions=True,
                model_version=version,
                request_options=_ONCE,
            ),
        )
        found = self.find(int(made.id))
        if found is None:
            raise LabelStudioError(f"Label Studio at {self.url} made the project {title!r}, and has none such now.")
        return found

    def tasks(self, project: int, run: str, round: int) -> list[dict[str, Any]]:
        """The tasks of one of a run's rounds, with their annotations: pictures are in them, all rounds' would be many.

        Raises:
            LabelStudioError: The server does not answer as it should.
        """
        # by a text: numbers in a task's data are not found by a filter
        mine = {
            "filter": "filter:tasks:data.query",
            "operator": "equal",
            "type": "String",
            "value": query_name(run, round),
        }
        query = json.dumps({"filters": {"conjunction": "and", "items": [mine]}, "ordering": ["tasks:id"]})

        def listed() -> list[dict[str, Any]]:
            return [
                {"id": task.id, "data": _plain(task.data) or {}, "annotations": _plain(task.annotations) or []}
                for task in self._client.tasks.list(
                    project=project, fields="all", query=query, page_size=100, request_options=_ONCE
                )
            ]

        found = self._ask(f"reading the tasks of project {project}", listed)
        return [task for task in found if is_of(task, run, round)]

    def add(self, project: int, tasks: Iterable[dict[str, Any]]) -> None:
        """Upload tasks, some at a time.

        Raises:
            LabelStudioError: The server does not answer as it should; some may be there.
        """
        rest = iter(tasks)
        while batch := list(islice(rest, _BATCH)):
            send = partial(self._client.projects.import_tasks, id=project, request=batch, request_options=_ONCE)
            self._ask(f"uploading tasks to project {project}", send)

    def delete(self, tasks: Iterable[int]) -> None:
        """Take tasks away.

        Raises:
            LabelStudioError: The server does not answer as it should.
        """
        for task in tasks:
            self._ask(
                f"removing the double task {task}",
                partial(self._client.tasks.delete, id=str(task), request_options=_ONCE),
            )

    def _ask(self, doing: str, call: Callable[[], _T], **missing: Any) -> _T:
        """Call the SDK; ``missing`` is what a 404 gives instead of an error."""
        try:
            return call()
        except self._errors as error:
            status = getattr(error, "status_code", None)
            if status == 404 and missing:
                return missing["missing"]  # type: ignore[no-any-return]  # the caller knows its type
            problem = self._explained(error, status, doing)
        # Out of the `except`: the SDK's frames, whose variables hold the token, hang on no error of ours.
        raise problem

    def _explained(self, error: Exception, status: int | None, doing: str) -> LabelStudioError:
        where = f"Label Studio at {self.url}"
        later = "Nothing is lost: run the same command again, with `--ckpt_path last`, when it is there."
        if isinstance(error, self._transport):  # a protocol's error could quote what was sent, its name cannot
            return UnreachableError(f"{where} cannot be reached ({type(error).__name__}, while {doing}). {later}")
        if status is None or status < 400:  # another program, or a proxy's page
            return LabelStudioError(
                f"{where} does not answer as Label Studio does ({type(error).__name__}, while {doing}): check `url`."
            )
        body = getattr(error, "body", None)
        known = isinstance(body, dict) and (body.get("validation_errors") or body.get("detail"))
        detail = str(known or body)
        detail = " ".join(detail.replace(os.environ.get(TOKEN) or "\0", "***").split())[:300]
        if status == 401:
            return LabelStudioError(
                f"{where} does not take the token in {TOKEN} ({detail}). Copy a new one from `Account & Settings` "
                "there; a legacy token works only where the organization allows them."
            )
        if status >= 500 or status in (408, 429):
            return UnreachableError(f"{where} failed with status {status} while {doing} ({detail}). {later}")
        return LabelStudioError(f"{where} refused with status {status} while {doing}: {detail}")


def query_name(run: str, round: int) -> str:
    """What the tasks of a run's round have in common, as their data's ``query``."""
    return f"{run}-{round:03d}"


def is_of(task: dict[str, Any], run: str, round: int) -> bool:
    """Whether a task is of a run's round, and says which sample it is."""
    data = task["data"]
    return data.get("query") == query_name(run, round) and type(data.get("dataset_index")) is int


def _plain(value: Any) -> Any:
    """The SDK's models as dicts and lists."""
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
