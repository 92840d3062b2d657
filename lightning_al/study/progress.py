"""Progress of a study with the time left: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS_BETWEEN_LINES = 30


Report = Callable[[int, int], None]
"""Told of fits that are finished: how many, and the labels that they trained on."""

_Count = Callable[[int, float], None]


@contextmanager
def progress(title: str, fits: int, labels: int) -> Iterator[Report]:
    """Show how far the fits are.

    The time left is reckoned in labels, since a fit on more of them takes longer, but not in proportion: every fit
    counts half of the mean besides.

    Args:
        title: What is under way.
        fits: Fits to make.
        labels: Labels that they train on together.

    Yields:
        The function to call after each fit.
    """
    each = labels / max(fits, 1) / 2
    whole = labels + fits * each
    if sys.stderr.isatty():
        with _bar(title, fits, whole) as count:
            yield lambda fits, labels: count(fits, labels + fits * each)
    else:
        count = _lines(title, fits, whole)
        yield lambda fits, labels: count(fits, labels + fits * each)


@contextmanager
def _bar(title: str, fits: int, effort: float) -> Iterator[_Count]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[fits]} of {task.fields[all]} fits"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=600) as bar:
        task = bar.add_task(title, total=effort, fits=0, all=fits)
        done = 0

        def count(fits: int, effort: float) -> None:
            nonlocal done
            done += fits
            bar.update(task, advance=effort, fits=done)

        yield count


def _lines(title: str, fits: int, effort: float) -> _Count:
    began = last = time.monotonic()
    done_fits, done = 0, 0.0

    def count(fits_more: int, effort_more: float) -> None:
        nonlocal last, done_fits, done
        done_fits, done = done_fits + fits_more, done + effort_more
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES or done_fits == fits:
            last = now
            left = (now - began) * (effort - done) / max(done, 1e-9)
            time_left = f", about {duration(left)} left" if done_fits < fits else f" in {duration(now - began)}"
            print(f"{title}: {done_fits:,} of {fits:,} fits{time_left}", file=sys.stderr, flush=True)

    return count


def duration(seconds: float) -> str:
    """A duration as people say it.

    Example:
        >>> duration(42), duration(600), duration(9000)
        ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
