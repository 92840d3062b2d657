"""A real Label Studio on this machine: installed once into a virtual environment of its own, to be killed and started.

Its first start takes a minute, which goes to the tables of its database; an empty database is kept beside the
environment, and each server begins with a copy.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

VERSION = "1.23.0"
PEOPLE = ("ann@example.com", "bob@example.com")
_PASSWORD = "only-on-loopback-1"
_LEGACY = "5" * 40
_QUIET = {"COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}


class LabelStudio:
    """A server with its database in a folder; ``start`` after ``kill`` finds all that was acknowledged.

    Args:
        environment: The virtual environment.
        folder: Of the database; an empty one begins with no project.
    """

    def __init__(self, environment: Path, folder: Path) -> None:
        self.environment, self.folder = environment, folder
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 300) -> None:
        """Start, and wait until it answers."""
        import httpx

        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            self.environment / "bin" / "label-studio", "start", "--no-browser", "--port", str(self.port),
            "--internal-host", "127.0.0.1", "--data-dir", self.folder, "--username", PEOPLE[0],
            "--password", _PASSWORD, "--user-token", _LEGACY, "--enable-legacy-api-token",
        ]  # fmt: skip
        unwanted = ("PYTHONPATH", "PYTHONHOME", "LABEL_STUDIO_API_KEY")
        environment = {name: value for name, value in os.environ.items() if name not in unwanted}
        environment |= _QUIET | {
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.folder),
            "HOME": str(self.folder),
            "XDG_DATA_HOME": str(self.folder / "share"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            assert self._process.poll() is None, self.log.read_text(errors="replace")[-3000:]
            try:
                if httpx.get(f"{self.url}/health", timeout=30, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise AssertionError(f"No answer in {timeout:.0f} s:\n{self.log.read_text(errors='replace')[-3000:]}")

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        if self._process is not None:
            self._process.kill()  # it has no children
            self._process.wait()
            self._process = None

    def request(self, method: str, path: str, token: str = _LEGACY, **arguments: Any) -> Any:
        """Call its API past the SDK, as a browser does."""
        import httpx

        headers = {"Authorization": f"Token {token}"}
        answer = httpx.request(method, f"{self.url}{path}", headers=headers, timeout=60, trust_env=False, **arguments)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def personal_access_token(self) -> str:
        """The first person's, who may have one at a time."""
        return str(self.request("POST", "/api/token/")["token"])

    def second_person(self) -> str:
        """The legacy token of somebody else, who signs up."""
        import httpx

        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as browser:
            page = browser.get("/user/signup/").text
            found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
            assert found, page[:2000]
            form = {"csrfmiddlewaretoken": found[1], "email": PEOPLE[1], "password": _PASSWORD}
            browser.post("/user/signup/", data=form | {"allow_newsletters": "false"}, headers={"Referer": self.url})
            return str(browser.get("/api/current-user/token").json()["token"])

    def tasks(self, project: int) -> dict[int, dict[str, Any]]:
        """The tasks of a project by dataset index, with annotations and predictions; each index comes once."""
        query = {"project": project, "fields": "all", "page_size": 1000}
        listed = self.request("GET", "/api/tasks/", params=query)["tasks"]
        by_index = {task["data"]["dataset_index"]: task for task in listed}
        assert len(by_index) == len(listed), "a task was uploaded twice"
        return by_index

    def annotate(self, task: Mapping[str, Any], choice: str | None, token: str = _LEGACY) -> None:
        """Answer a task; without a choice, skip it."""
        value = {"from_name": "label", "to_name": "sample", "type": "choices", "value": {"choices": [choice]}}
        body = {"result": [], "was_cancelled": True} if choice is None else {"result": [value]}
        self.request("POST", f"/api/tasks/{task['id']}/annotations/", token, json=body)


@contextmanager
def running(folder: Path) -> Iterator[LabelStudio]:
    """A server that runs until the context is left; the test is skipped where pip cannot install one."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightning_al" / "label-studio"
    kept = cache / f"{VERSION}-python{sys.version_info.major}.{sys.version_info.minor}"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:  # two test processes install once
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment = _installed(kept)
        if not (kept / "database").exists():
            shutil.rmtree(kept / "making", ignore_errors=True)
            first = LabelStudio(environment, kept / "making")
            try:
                first.start()
            finally:
                first.kill()
            (kept / "making").rename(kept / "database")
    shutil.copytree(kept / "database", folder)
    server = LabelStudio(environment, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _installed(kept: Path) -> Path:
    environment, done = kept / "venv", kept / "installed"
    if not done.exists():
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", f"label-studio=={VERSION}"]
        told = subprocess.run(pip, env=variables, capture_output=True, text=True)
        if told.returncode:
            last = (told.stderr.strip().splitlines() or ["no message"])[-1]
            pytest.skip(f"pip cannot install label-studio=={VERSION} here: {last}")
        done.touch()
    return environment
