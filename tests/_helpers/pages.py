"""Pages read strictly, and opened in a browser that tells what they wrote to its console and asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

VOID = {"meta", "link", "img", "br", "hr", "input"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Outline(HTMLParser):
    """Reads a page strictly: every tag must close what was opened last."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag in ("p", "dd", "li", "h2", "h3", "span", "td", "th"):
            self.texts.append(("", " "))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data.replace("\u00a0", " ")

    def text(self, *but: str) -> str:
        return " ".join("".join(data for tag, data in self.texts if tag not in (*but, "style")).split())

    def named(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in tags]

    def row(self, name: str, place: int = 0) -> list[str]:
        return [row[1:] for row in self.rows if row and row[0] == name][place]


@dataclass
class Seen:
    console: list[str]
    requests: set[str]
    dom: str


def browse(path: Path, profile: Path) -> Seen:
    """Opens a page in headless Chromium: what it wrote to the console, asked for over the network, and became."""
    log = profile / "net.json"
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
               f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND", f"--log-net-log={log}",
               "--enable-logging=stderr", "--v=0", "--dump-dom", path.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # the browser's own requests have no origin
    asked = {
        each["url"] for each in events if "url" in each and each.get("initiator", "not an origin") != "not an origin"
    }
    return Seen(console, asked, done.stdout)


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
